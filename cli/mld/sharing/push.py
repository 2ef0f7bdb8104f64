"""Sharing of a finished run on the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from mld.pipeline.starting_run import trained_spec
from mld.sharing.model_card import CardFacts, model_card
from mld.sharing.shared_files import shown_cells, write_shared_files
from mld.storage.files import write_text
from mld.storage.hub import (
    PREFIX,
    RUN_FILES,
    HubAddress,
    check_repository,
    hub_reason,
    quiet_unless_terminal,
    require_hub,
)
from mld.storage.outputs import MARK, create_folder
from mld.storage.run_dir import RunDir
from mld.storage.stages import EVALUATE, PIPELINE
from mld_core import OutputError, Registry

CARD = "README.md"
_WRITTEN = (*RUN_FILES, "samples/*", CARD)
"""The files of a repository that mld writes, as patterns; those of an earlier push are deleted."""
_OF_THE_HUB = (".gitattributes", CARD)
"""Files that a new repository may have."""


def push(
    run: Path | str,
    repository: str,
    registry: Registry | None = None,
    *,
    private: bool = False,
    revision: str | None = None,
    license: str | None = None,
    data: str | None = None,
    datasets: Sequence[str] = (),
    with_latents: bool = False,
) -> str:
    """Upload a finished run to the Hugging Face Hub, with a model card; returns its address.

    Neither rows of its data nor samples that were given any are uploaded. RunDirError if the run is
    not finished or not intact, OutputError if the hub refuses or cannot be reached, or if the
    repository holds anything but a run.

    Args:
        run: its directory.
        repository: "owner/name"; it is created if there is none.
        private: whether a new repository is private.
        revision: the branch, which is created if there is none; by default the main branch.
        license: as of `CardFacts`; the card says if it is not stated.
        data: likewise.
        datasets: likewise.
        with_latents: also the latents of validation and test rows, without which the run cannot
            score, impute or estimate information; rows can be guessed from them.
    """
    address = HubAddress(repository, revision)
    facts = CardFacts(license, data, datasets)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        write_repository(run, folder, address, registry or Registry(), facts, with_latents)
        return _upload(folder, address, private)


def write_repository(
    run: Path | str,
    folder: Path,
    address: HubAddress,
    registry: Registry,
    facts: CardFacts,
    with_latents: bool,
) -> None:
    """Write what `push` uploads into a new folder. OutputError if there is something."""
    check_repository(address.repository)
    require_hub()
    run_dir = RunDir(Path(run))
    spec = trained_spec(run_dir, registry)
    for stage in PIPELINE[: PIPELINE.index(EVALUATE) + 1]:
        run_dir.verify_stage(stage.name)
    with create_folder(folder) as partial:
        shared = write_shared_files(run_dir, spec, partial, with_latents)
        with run_dir.content_of(run_dir.metrics):
            card = model_card(shared, shown_cells(run_dir), spec, registry, address, facts)
        write_text(partial / CARD, card)


def _upload(folder: Path, address: HubAddress, private: bool) -> str:
    """Upload a folder as one commit; returns the address of the commit."""
    hub = require_hub()
    api, repository = hub.HfApi(), address.repository
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    files = {name: path for name, path in paths.items() if path.is_file()}
    try:
        with quiet_unless_terminal():
            api.create_repo(repository, private=private or None, exist_ok=True)
            if address.revision:
                api.create_branch(repository, branch=address.revision, exist_ok=True)
            names = api.list_repo_files(repository, revision=address.revision)
            _check_content(names, repository)
            # One commit, so that nobody downloads the half of two runs.
            commit = api.create_commit(
                repository,
                [
                    *(hub.CommitOperationAdd(name, path) for name, path in files.items()),
                    *(hub.CommitOperationDelete(name) for name in _stale(names, files)),
                ],
                commit_message="A run of mld",
                revision=address.revision,
            )
    except OutputError:
        raise
    except Exception as error:
        reason = hub_reason(error)
        raise OutputError(f"{PREFIX}{repository} cannot be written: {reason}") from error
    return str(HubAddress(repository, commit.oid))


def _stale(names: Iterable[str], files: Container[str]) -> list[str]:
    """The files of an earlier push that are not in the present one."""
    written = (name for name in names if any(fnmatch(name, pattern) for pattern in _WRITTEN))
    return [name for name in written if name not in files]


def _check_content(names: Sequence[str], repository: str) -> None:
    """OutputError if a repository holds anything but a run."""
    others = sorted({*names} - {*_OF_THE_HUB})
    if others and MARK not in names:
        raise OutputError(
            f"{PREFIX}{repository} holds {others[0]!r} and no run: choose another repository"
        )
