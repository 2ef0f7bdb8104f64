"""The section `track` of a spec, which is no part of what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mld.config.json_schema import spec_schema
from mld.config.spec import dump_spec, load_spec
from mld.pipeline.starting_run import sections_of
from mld_core import Registry, SpecError


def test_a_tracker_changes_nothing_of_a_run(
    small_run: Any, tmp_path: Path, registry: Registry
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(small_run.SPEC)
    plain = load_spec(path, registry)
    tracked = load_spec(path, registry, ["track.kind=tensorboard", "track.folder=curves"])
    assert tracked.track is not None
    assert tracked.track.model_dump()["folder"] == str(tmp_path / "curves")
    assert sections_of(tracked, None) == sections_of(plain, None)
    assert dump_spec(tracked) == dump_spec(plain)
    assert plain.track is None


def test_errors_of_a_tracker(small_run: Any, tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "small.yaml"
    for section, message in {
        "track: {kind: tensorbord}": "no plugin of kind 'tensorbord'.*did you mean 'tensorboard'",
        "track: {kind: points}": "kind 'points' is a modality, but a tracker is required here",
        "track: {kind: mlflow, url: x}": "track.url",
        "track: tensorboard": "track",
    }.items():
        path.write_text(f"{small_run.SPEC}{section}\n")
        with pytest.raises(SpecError, match=message):
            load_spec(path, registry)


def test_the_schema_has_the_trackers(registry: Registry) -> None:
    track = spec_schema(registry)["properties"]["track"]
    assert track["properties"]["kind"]["enum"] == ["mlflow", "tensorboard"]
    assert "$defs" not in track
