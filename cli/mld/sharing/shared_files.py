"""The files of a finished run that are shared: what loading it needs, and nothing of its data.

Weights are copied byte for byte. JSON and the spec are written again without the folders of this
machine; neither rows nor latents of rows are among the files, nor samples that were given rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from mld.config.spec import Spec
from mld.config.yaml_document import dump_yaml
from mld.data.types import subset_key
from mld.storage.files import writing
from mld.storage.hub import RUN_FILES
from mld.storage.outputs import mark
from mld.storage.run_dir import CONTENT, FORMAT, RunDir
from mld.storage.stages import AUTOENCODE, DATA, DIFFUSE, ENCODE
from mld.training.autoencoders import REFERENCES
from mld_core import SpecError

SHOWN_SAMPLES = 4
"""Joint samples that are shared, to be shown on the model card."""
_LATENT_SPLITS = ("validation", "test")
"""Of the training rows, nothing needs the latents of a finished run."""
_OF_THIS_MACHINE: Final[Mapping[str, Any]] = {
    "start_from": True,
    "compute": {"accelerator", "devices", "nodes", "items", "compile"},
}
"""Settings that say where a run was made."""


def write_shared_files(run_dir: RunDir, spec: Spec, folder: Path, with_latents: bool) -> RunDir:
    """Write the shared files of a finished run into an empty folder, itself a run that loads.

    SpecError if an autoencoder has its weights in a folder of this machine.

    Args:
        with_latents: also those of validation and test rows.
    """
    shared = RunDir(folder)
    _check_references(run_dir)
    mark(folder, CONTENT, FORMAT)
    # A run that continues another one is complete without it, and other machines compute it.
    settings = without_folders(spec.model_dump(mode="json", exclude={**_OF_THIS_MACHINE}))
    shared.write_spec(dump_yaml(settings))
    _write_json(run_dir, shared, run_dir.metrics)
    _write_json(run_dir, shared, run_dir.provenance, without=("command",))
    for stage in (DATA, AUTOENCODE, DIFFUSE, *([ENCODE] if with_latents else [])):
        _share_stage(run_dir, shared, stage.name)
    for path in shown_files(run_dir):
        _copy(path, folder / path.relative_to(run_dir.path))
    return shared


def shown_cells(run_dir: RunDir) -> list[dict[str, Any]]:
    """The cells of the joint samples that a model card shows, by modality."""
    index = run_dir.samples(subset_key(())) / "index.json"
    if not index.is_file():
        return []
    with run_dir.content_of(index):
        return [row["cells"] for row in run_dir.read_json(index)["rows"][:SHOWN_SAMPLES]]


def shown_files(run_dir: RunDir) -> Iterator[Path]:
    """The files of the joint samples that a model card shows."""
    folder = run_dir.samples(subset_key(()))
    for cells in shown_cells(run_dir):
        for cell in cells.values():
            yield from (run_dir.inside(folder / name) for name in (cell["file"], *cell["previews"]))


def without_folders(value: Any) -> Any:
    """A value of JSON in which absolute paths have become the names of their files."""
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    for path_class in (PurePosixPath, PureWindowsPath):
        if isinstance(value, str) and path_class(value).is_absolute():
            return path_class(value).name
    return value


def _share_stage(run_dir: RunDir, shared: RunDir, stage: str) -> None:
    """Copy the files of a stage that are shared, and mark it as complete with these."""
    paths = []
    for path in run_dir.stage_files(stage):
        name = path.relative_to(run_dir.path).as_posix()
        is_shared = any(fnmatch(name, pattern) for pattern in RUN_FILES)
        if stage == ENCODE.name:
            is_shared = path in (run_dir.present, *map(run_dir.latents, _LATENT_SPLITS))
        if is_shared:
            paths.append(shared.path / name)
            _copy(path, paths[-1])
    shared.mark_complete(
        stage,
        without_folders(run_dir.stage_fingerprint(stage)),
        paths,
        run_dir.stage_seconds(stage),
        without_folders(run_dir.stage_metadata(stage)),
    )


def _write_json(run_dir: RunDir, shared: RunDir, path: Path, without: tuple[str, ...] = ()) -> None:
    content = run_dir.read_json(path)
    shared_content = {key: value for key, value in content.items() if key not in without}
    shared.write_json(shared.path / path.name, without_folders(shared_content))


def _copy(source: Path, target: Path) -> None:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _check_references(run_dir: RunDir) -> None:
    """SpecError if weights to which the run refers lie in a folder of this machine."""
    references: Mapping[str, Any] = run_dir.stage_metadata(AUTOENCODE.name).get(REFERENCES, {})
    for name, reference in references.items():
        if reference != without_folders(reference):
            raise SpecError(
                f"modality {name!r} has pretrained weights in a folder of this machine, which are "
                "no part of the run: train it with weights from the hub"
            )
