"""Runs on the Hugging Face Hub: their addresses, and their files in the cache of the hub.

What a repository may bring to this machine is named here: JSON, safetensors, arrays without pickles
and the spec, in the places where a run has them. Anything else in it is not downloaded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mld.storage.run_dir import RunDir
from mld_core.errors import RunDirError, SpecError, describe_exception

PREFIX = "hub:"
RUN_FILES = (
    *(".mld.json", "spec.yaml", "provenance.json", "metrics.json"),
    *("stages/*.json", "modalities/*.json", "autoencoders/*.safetensors"),
    *("diffusion/*.safetensors", "latents/present.safetensors", "latents/*.npy"),
)
"""The files of a run that are shared, as patterns."""
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
_ADDRESS = re.compile(rf"({_NAME}/{_NAME})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


@dataclass(frozen=True)
class HubAddress:
    """A run on the hub, written hub:owner/name or hub:owner/name@revision.

    Args:
        repository: "owner/name".
        revision: a branch, a tag or a commit; None for the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """The address in a text that begins with `PREFIX`. SpecError if it is none."""
        match = _ADDRESS.fullmatch(text.removeprefix(PREFIX))
        if match is None or ".." in text:
            raise SpecError(f"{text!r} is not written as hub:owner/name or hub:owner/name@revision")
        return cls(*match.groups())


def check_repository(name: str) -> None:
    """SpecError unless a text can be the name of a repository, "owner/name"."""
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise SpecError(f"{name!r} is not a repository of the hub, which is written owner/name")


def open_run_dir(run: Path | str) -> RunDir:
    """The directory of a run: that folder, or for an address on the hub its downloaded files.

    RunDirError if they cannot be downloaded and no earlier download is there.
    """
    # A path on Windows, which a command line makes of an address, has other slashes.
    text = run.as_posix() if isinstance(run, Path) else run
    return download(HubAddress.parse(text)) if text.startswith(PREFIX) else RunDir(Path(run))


def download(address: HubAddress) -> RunDir:
    """The files of a run in the hub's cache, downloaded where they are not there.

    Without a network, those that were downloaded last are used. RunDirError if there are none, or
    the repository holds no run.
    """
    hub = require_hub()
    try:
        with quiet_unless_terminal():
            folder = hub.snapshot_download(
                address.repository, revision=address.revision, allow_patterns=[*RUN_FILES]
            )
    except Exception as error:
        raise RunDirError(f"{address} cannot be downloaded: {hub_reason(error)}") from error
    snapshot = Path(folder)
    if not (snapshot / "spec.yaml").is_file():
        raise RunDirError(f"{address} holds no run of mld")
    # A snapshot consists of links into the repository's folder of the cache.
    return RunDir(snapshot, linked=snapshot.parent.parent)


def require_hub() -> ModuleType:
    """The library huggingface_hub. SpecError if it is not installed, with the extra's name."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise SpecError("the hub needs huggingface_hub: pip install 'mld-toolkit[hub]'") from error
    module: ModuleType = huggingface_hub
    return module


def hub_reason(error: Exception) -> str:
    """Why the hub refused a request or could not be reached, and what to do."""
    errors = require_hub().errors
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            "there is no such repository, or you may not use it: log in with `hf auth login`, or "
            "set HF_TOKEN"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the hub cannot be reached, and no earlier download is on this machine"
    if isinstance(error, errors.OfflineModeIsEnabled) or "Connect" in type(error).__name__:
        return f"the hub cannot be reached ({_first_line(error)})"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return describe_exception(error).partition("\n")[0]


@contextmanager
def quiet_unless_terminal() -> Iterator[None]:
    """Show the progress bars of the library where a user sees them, and only there."""
    utils = require_hub().utils
    hides = not (sys.stderr.isatty() or utils.are_progress_bars_disabled())
    if hides:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if hides:
            utils.enable_progress_bars()
