"""Files of pretrained models: found in the cache of the Hub or in a folder, digested and loaded."""

from __future__ import annotations

import hashlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import JsonValue

from mld_core import DataError, describe_exception
from mld_pretrained.config import PretrainedConfig

DIFFUSERS_FILES = (
    "config.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model-*.safetensors",
)
"""The files of a model in the format of diffusers, as patterns."""
TRANSFORMERS_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)
"""The files of a model in the format of transformers, as patterns."""
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model"),
)
"""The files of a tokenizer, as patterns."""

LOADING = {"local_files_only": True, "trust_remote_code": False}
"""How everything is loaded: without the network, and without code of the weights' author."""

_LIBRARIES = ("diffusers", "transformers")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class PretrainedFiles:
    """The files of a pretrained model, on this machine.

    Args:
        folder: that holds them.
        config: that names them.
        patterns: of their names.
    """

    folder: Path
    config: PretrainedConfig
    patterns: Sequence[str]

    @property
    def paths(self) -> list[Path]:
        """The files, in order of their names."""
        return sorted(path for pattern in self.patterns for path in self.folder.glob(pattern))

    @property
    def are_complete(self) -> bool:
        """Whether a configuration and weights are among them."""
        names = {path.name for path in self.paths}
        return "config.json" in names and any(name.endswith(".safetensors") for name in names)

    def reference(self) -> dict[str, JsonValue]:
        """Name, revision and the sha256 of each file."""
        digests: dict[str, JsonValue] = {}
        for path in self.paths:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return {**self.config.model_dump(include={"weights", "revision"}), "files": digests}

    def load(self, load: Callable[..., Loaded], **options: Any) -> Loaded:
        """What a library loads from the folder. DataError if it cannot."""
        try:
            with _quiet():
                return load(self.folder, **LOADING, **options)
        except MemoryError:
            raise
        except Exception as error:
            # Of files that are damaged, the libraries raise errors of any kind.
            reason = describe_exception(error)
            raise DataError(f"{self.folder} cannot be loaded as a model: {reason}") from error


def find_files(config: PretrainedConfig, patterns: Sequence[str]) -> PretrainedFiles:
    """The files of the weights that a spec names; those on the Hub are downloaded once.

    DataError if they are not there, with the command that downloads them.
    """
    if config.is_local:
        files = PretrainedFiles(Path(config.weights) / config.subfolder, config, patterns)
        if not files.are_complete:
            names = " and ".join(pattern for pattern in patterns[:3] if "index" not in pattern)
            raise DataError(f"{files.folder}: needs {names}")
        return files
    reason = ""
    for local_files_only in (True, False):
        try:
            files = _files_of_hub(config, patterns, local_files_only)
        except Exception as error:
            # Without a network, or for a wrong name, errors come from several libraries.
            reason = describe_exception(error).splitlines()[0]
        else:
            if files.are_complete:
                return files
            reason = "the repository has no weights as safetensors there"
    include = " ".join(f"'{pattern}'" for pattern in _in_repository(config, patterns))
    command = f"hf download {config.weights} --revision {config.revision} --include {include}"
    raise DataError(
        f"the weights {config.weights} are not on this machine and cannot be downloaded "
        f"({reason}): where there is a network, run `{command}`, or set weights to a local folder"
    )


def _files_of_hub(
    config: PretrainedConfig, patterns: Sequence[str], local_files_only: bool
) -> PretrainedFiles:
    from huggingface_hub import snapshot_download

    snapshot = snapshot_download(
        config.weights,
        revision=config.revision,
        allow_patterns=_in_repository(config, patterns),
        local_files_only=local_files_only,
    )
    return PretrainedFiles(Path(snapshot) / config.subfolder, config, patterns)


def _in_repository(config: PretrainedConfig, patterns: Sequence[str]) -> list[str]:
    return [(Path(config.subfolder) / pattern).as_posix() for pattern in patterns]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from printing, and torch's global generator as it is."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    levels = [logger.level for logger in loggers]
    modules: list[Any] = [sys.modules.get(f"{name}.utils.logging") for name in _LIBRARIES]
    bars = [each for each in modules if each and each.is_progress_bar_enabled()]
    with warnings.catch_warnings(), torch.random.fork_rng([]):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            for bar in bars:
                bar.disable_progress_bar()
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            for bar in bars:
                bar.enable_progress_bar()
