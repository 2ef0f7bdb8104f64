"""Latents that are standardised when they are used, and the files in which they are kept."""

from __future__ import annotations

import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mld.data import latent_rows
from mld.data.latent_files import load_latents
from mld.data.latent_rows import LatentRows
from mld.data.stored_rows import MappedTensor
from mld.storage.digests import tensor_digest
from mld.storage.files import new_array
from mld.storage.run_dir import RunDir
from mld_core import SPLITS, OutputError, RunDirError
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser

LAYOUT = LatentLayout({"a": (3,), "b": (2, 2)})
NAMES = (None, "a", "b")


@pytest.fixture
def rows() -> LatentRows:
    """Every second of 40 rows, in memory, with gaps."""
    z = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
    present = torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) < 0.7
    standardiser = Standardiser.fit(z, present, LAYOUT)
    return LatentRows(z, torch.arange(40), present, LAYOUT, standardiser).select(slice(0, 40, 2))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_rows, "CHUNK_NUMBERS", 3 * 7)


def in_memory(rows: LatentRows) -> Tensor:
    """All of them, standardised at once."""
    z = rows.raw[::2]
    assert isinstance(z, Tensor)
    z = torch.where(LAYOUT.expand(rows.present), rows.standardiser.standardise(z), 0.0)
    return z if rows.name is None else LAYOUT.split(z)[rows.name]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_tensor_in_memory(
    rows: LatentRows, tmp_path: Path, name: str | None
) -> None:
    rows = replace(rows, name=name)
    expected = in_memory(rows)
    some = torch.tensor([4, 4, 0, 19])
    for each in (rows, rows.in_file(tmp_path / "z.bin")):
        assert torch.equal(each[:], expected)
        assert torch.equal(each[some], expected[some])
        assert torch.equal(each.select(some)[1:], expected[some][1:])
        assert torch.equal(each.on(some, torch.device("cpu")), expected[some])
        assert torch.equal(each.all_on(torch.device("cpu")), expected)
        assert (len(each), each.nbytes) == (20, expected.nbytes)


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_is_that_of_the_tensor(rows: LatentRows, name: str | None) -> None:
    rows = replace(rows, name=name)
    expected = in_memory(rows)
    assert rows.digest == tensor_digest(expected)
    assert rows.select(slice(0, 0)).digest == tensor_digest(expected[:0])
    assert rows.select(slice(1, 20)).digest != rows.digest


def test_mapped_rows_are_sent_to_other_processes_by_name(rows: LatentRows, tmp_path: Path) -> None:
    mapped = rows.in_file(tmp_path / "z.bin")
    assert mapped.in_file(tmp_path / "again.bin") is mapped
    assert (rows.file, mapped.file) == (None, tmp_path / "z.bin")
    received = pickle.loads(pickle.dumps(mapped))
    assert isinstance(received.raw, MappedTensor)
    assert torch.equal(received[:], rows[:])


@pytest.fixture
def run_dir(rows: LatentRows, tmp_path: Path) -> RunDir:
    """With the latents of 40, 3 and no rows."""
    run_dir = RunDir(tmp_path / "run")
    z, present = rows.raw, torch.ones(40, 2, dtype=torch.bool)
    assert isinstance(z, Tensor)
    counts = dict(zip(SPLITS, (40, 3, 0), strict=True))
    for split, count in counts.items():
        with new_array(run_dir.latents(split), (count, 7)) as array:
            array[:] = z[:count].numpy()
    run_dir.write_tensors(
        run_dir.present, {split: present[:count].clone() for split, count in counts.items()}
    )
    run_dir.write_tensors(run_dir.standardiser, vars(rows.standardiser))
    return run_dir


def test_latents_are_mapped_from_their_files(run_dir: RunDir, rows: LatentRows) -> None:
    latents = load_latents(LAYOUT, run_dir)
    for split, count in zip(SPLITS, (40, 3, 0), strict=True):
        assert isinstance(latents.split(split).stored, MappedTensor)
        assert torch.equal(latents.split(split).z, torch.as_tensor(rows.raw[:count]))
        assert latents.split(split).present.shape == (count, 2)
    for name, values in vars(rows.standardiser).items():
        assert torch.equal(getattr(latents.standardiser, name), values)


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((39, 7), np.float32),
        np.zeros((40, 7)),
        np.zeros((40, 7), np.float32, order="F"),
        np.zeros(40, np.float32),
        np.array([{}]),
        b"",
        b"\x93NUMPY\x01\x00",
        None,
    ],
)
def test_what_is_no_array_of_latents_is_named(run_dir: RunDir, content: Any) -> None:
    path = run_dir.latents("train")
    if isinstance(content, np.ndarray):
        np.save(path, content)
    elif content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(RunDirError, match=r"train\.npy (is|does not).*--from-stage encode"):
        load_latents(LAYOUT, run_dir)


def test_a_truncated_array_is_named(run_dir: RunDir) -> None:
    path = run_dir.latents("train")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunDirError, match=r"train\.npy is corrupt.*--from-stage encode"):
        load_latents(LAYOUT, run_dir)


def test_an_array_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "z.npy"
    (tmp_path / ".z.npy.partial").write_text("left by a killed process")
    with suppress(KeyboardInterrupt), new_array(path, (4, 2)) as array:
        array[:2] = 1
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]
    with new_array(path, (4, 2)) as array:
        array[:2] = 1
        assert not path.exists()
    assert np.load(path).tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]


def test_an_array_that_does_not_fit_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with (
        pytest.raises(OutputError, match=r"z\.npy cannot be written: No space left on device"),
        new_array(tmp_path / "z.npy", (4, 2)),
    ):
        pytest.fail("the block ran")
    assert not [*tmp_path.iterdir()]
