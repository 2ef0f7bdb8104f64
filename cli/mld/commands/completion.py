"""What a shell completes: kinds, stages, samplers and run folders; fast, so without plugins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

RUNS = Path("runs")
"""Where `mld run` makes its folders by default."""


def complete_kind(incomplete: str) -> list[str]:
    """The installed kinds of any role, or of the modality in a word NAME=KIND."""
    from mld_core.plugins.discovery import installed_points

    name, equals, beginning = incomplete.rpartition("=")
    kinds = {point.name for point in installed_points()}
    return [f"{name}{equals}{kind}" for kind in _starting(kinds, beginning)]


def complete_stage(incomplete: str) -> list[str]:
    """The stages of `mld run`, in their order."""
    from mld.storage.stages import STAGE_NAMES

    return [name for name in STAGE_NAMES if name.startswith(incomplete)]


def complete_sampler(incomplete: str) -> list[str]:
    """The samplers that a spec may name."""
    from mld.config.sections import GenerateSpec

    return _starting(get_args(GenerateSpec.model_fields["sampler"].annotation), incomplete)


def complete_run(incomplete: str) -> list[str]:
    """Run directories, and folders that may hold some."""
    return _starting({*_folders(Path(os.path.dirname(incomplete))), *_folders(RUNS)}, incomplete)


def _folders(parent: Path) -> Iterator[str]:
    """The folders in a folder; one that is no run ends with a slash, to be completed further."""
    for child in parent.glob("[!.]*"):
        if child.is_dir():
            yield f"{child}" if (child / "spec.yaml").is_file() else f"{child}/"


def _starting(words: Iterable[str], beginning: str) -> list[str]:
    return sorted(word for word in words if word.startswith(beginning))
