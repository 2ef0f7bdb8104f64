"""Modalities that read a column of another name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mld.config.spec import Spec, dump_spec, load_spec
from mld.data.loading import Data, fit_modalities, open_dataset
from mld_core import Registry, SpecError

MARKS = "{kind: marks, latent_dim: 2, column: '%s'}"


@pytest.fixture
def registry(small_run: Any) -> Registry:
    return small_run.registry()


@pytest.fixture
def make_spec(tmp_path: Path, registry: Registry) -> Callable[..., Spec]:
    def make_spec(left: str, right: str, data: str = "{kind: manifest, path: rows.csv}") -> Spec:
        path = tmp_path / "spec.yaml"
        path.write_text(
            f"name: small\ndata: {data}\nmodalities:\n"
            f"  left: {MARKS % left}\n  right: {MARKS % right}\n"
        )
        return load_spec(path, registry)

    return make_spec


ROWS = """\
Left (mm);right;label;split
1 1 1 1 1 1;2 2 2 2 2 2;a;train
3 3 3 3 3 3;;b;train
;4 4 4;a;dev
"""


def test_a_modality_reads_the_column_that_it_names(
    make_spec: Callable[..., Spec], registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    spec = make_spec("Left (mm)", "right")
    dataset = open_dataset(spec, registry)
    data = Data(dataset, fit_modalities(spec, dataset, registry), on_invalid="empty")
    assert data.train.present.tolist() == [[True, True], [True, False]]
    assert list(data.train.items) == ["left", "right"]
    assert dataset.split("train").present == {"left": [True, True], "right": [True, False]}
    assert [fault.modality for fault in data.validation.faults] == ["right"]
    assert dataset.columns == {"left": "marks", "right": "marks"}


def test_any_dataset_has_columns_to_rename(
    make_spec: Callable[..., Spec], registry: Registry
) -> None:
    spec = make_spec("a", "right", "{kind: examples, train: 20, missing: {rate: {left: 0.5}}}")
    dataset = open_dataset(spec, registry)
    assert dataset.columns == {"left": "marks", "right": "marks"}
    present = dataset.split("train").present
    assert present is not None
    assert 0 < sum(present["left"]) < 20
    assert len(dataset.peek("train", 3).items["left"]) == 3


def test_the_resolved_spec_names_the_column(
    make_spec: Callable[..., Spec], registry: Registry, tmp_path: Path
) -> None:
    spec = make_spec("Left (mm)", "right")
    (tmp_path / "again.yaml").write_text(dump_spec(spec))
    assert load_spec(tmp_path / "again.yaml", registry) == spec
    assert yaml.safe_load(dump_spec(spec))["modalities"]["left"]["column"] == "Left (mm)"


def test_two_modalities_cannot_read_one_column(make_spec: Callable[..., Spec]) -> None:
    with pytest.raises(SpecError, match="'left' is the column of modality 'left' too"):
        make_spec("left", "left")
    with pytest.raises(SpecError, match="column"):
        make_spec("", "right")
