"""The guard of outputs: what lies in their place stays, and what cannot be written is named."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mld.storage.files import append_line, read_lines, save_tensors, write_text
from mld.storage.locks import locked
from mld.storage.outputs import (
    HEAD_BYTES,
    MARK,
    check_file,
    check_folder,
    claimed,
    copy_file,
    create_folder,
    create_text,
)
from mld.storage.weight_store import WeightStore
from mld_core import OutputError


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def snapshot(folder: Path) -> dict[str, str | None]:
    """Every path in a folder, with the text of files."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_text() if path.is_file() else None for path in paths}


def test_a_claimed_folder_bears_a_mark(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    check_folder(out, "samples")
    assert not snapshot(tmp_path)
    with claimed(out, "samples"):
        (out / "one.txt").write_text("1")
    with claimed(out, "samples"):
        pass
    with pytest.raises(OutputError, match="out holds samples: choose another folder with --out"):
        check_folder(out, "a run")
    with pytest.raises(OutputError, match="out holds samples"):
        check_folder(out)
    mark = (out / MARK).read_text()
    for damaged in ("[]", "{}", mark.replace("samples", "a suite"), mark[: len(mark) // 2]):
        (out / MARK).write_text(damaged)
        with pytest.raises(OutputError, match=r"mld.json is corrupt: .*choose another folder"):
            check_folder(out, "samples")


def test_hidden_files_of_the_user_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    with claimed(tmp_path, "samples"):
        pass


def occupied(path: Path) -> None:
    path.mkdir()
    (path / "spec.yaml").write_text("mine")


def parent_is_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("mine")


HOSTILE_PLACES: dict[str, Callable[[Path], None]] = {
    "is not empty and not made by this command": occupied,
    "is not a folder": lambda path: path.write_text("mine") and None,
    "Not a directory": parent_is_a_file,
    r"out is not a folder": lambda path: path.symlink_to("nowhere"),
    "symbolic links": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("message", HOSTILE_PLACES)
def test_a_folder_that_is_not_for_us(tmp_path: Path, message: str) -> None:
    out = tmp_path / "parent" / "out"
    out.parent.mkdir()
    HOSTILE_PLACES[message](out)
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match=f"{message}.*: choose another.* with --out"):
        check_folder(out, "samples")
    with pytest.raises(OutputError), claimed(out, "samples"):
        pass
    assert snapshot(tmp_path) == before


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        check_folder(tmp_path / ("x" * 300), "samples")
    # It fits, but not as a temporary file.
    with pytest.raises(OutputError, match="File name too long"):
        check_file(tmp_path / ("x" * 250 + ".csv"), [], [])
    assert not snapshot(tmp_path)


def test_a_file_that_is_read_or_the_users_is_not_overwritten(tmp_path: Path) -> None:
    manifest, scores = tmp_path / "rows.csv", tmp_path / "scores.csv"
    manifest.write_text("left,right,pmi\n")
    os.link(manifest, tmp_path / "hard.csv")
    (tmp_path / "link.csv").symlink_to("rows.csv")
    for name in ("rows.csv", "hard.csv", "link.csv", "../" + tmp_path.name + "/rows.csv"):
        with pytest.raises(OutputError, match="is what the command reads"):
            check_file(tmp_path / name, [manifest], ["pmi"])
    check_file(scores, [manifest, tmp_path / "absent"], ["pmi"])
    assert not scores.exists()
    scores.write_text("id,pmi\n")
    check_file(scores, [manifest], ["pmi"])
    for content in ("notes", ""):
        scores.write_text(content)
        with pytest.raises(OutputError, match="exists and is not overwritten: choose another"):
            check_file(scores, [manifest], ["pmi"])
    scores.unlink()
    scores.mkdir()
    with pytest.raises(OutputError, match=r"scores.csv cannot be written: Is a directory"):
        check_file(scores, [manifest], ["pmi"])


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Reading one waits for ever, or takes what was meant for another process."""
    pipe = tmp_path / "scores.csv"
    os.mkfifo(pipe)
    both_ends = os.open(pipe, os.O_RDWR)
    try:
        os.write(both_ends, b"pmi," * HEAD_BYTES)
        with pytest.raises(OutputError, match=r"scores.csv cannot be written: it is a named pipe"):
            check_file(pipe, [], ["pmi"])
    finally:
        os.close(both_ends)


def test_what_is_created_is_complete_or_not_there(tmp_path: Path) -> None:
    create_text(tmp_path / "a.yaml", "a: 1\n")
    (tmp_path / "link.yaml").symlink_to("elsewhere.yaml")
    for name in ("a.yaml", "link.yaml"):
        with pytest.raises(OutputError, match="exists and is not overwritten"):
            create_text(tmp_path / name, "")
    with create_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
    assert (tmp_path / "new" / "file").exists()
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="exists and"), create_folder(tmp_path / "new"):
        pass
    with pytest.raises(OutputError, match="Is a dir"), create_folder(tmp_path / "h") as folder:
        folder.write_text("")
    assert snapshot(tmp_path) == before


def test_a_file_is_copied_once(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "deep" / "b"
    source.write_bytes(b"\r\n\0")
    copy_file(source, target)
    copy_file(source, target)
    assert target.read_bytes() == b"\r\n\0"
    source.write_bytes(b"other")
    with pytest.raises(OutputError, match="b is no copy of"):
        copy_file(source, target)
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "absent", tmp_path / "c")


def test_a_full_disk_keeps_what_there_was(tmp_path: Path) -> None:
    text, lines, tensors = (tmp_path / name for name in ("a.txt", "a.jsonl", "a.safetensors"))
    write_text(text, "old")
    append_line(lines, {"old": 1})
    save_tensors(tensors, {"x": torch.zeros(3)}, {})
    intact = tensors.read_bytes()
    with full_disk():
        for path, write in [
            (text, lambda: write_text(text, "new")),
            (lines, lambda: append_line(lines, {"new": 1})),
            (tensors, lambda: save_tensors(tensors, {"x": torch.ones(3)}, {})),
        ]:
            with pytest.raises(OutputError, match=f"{path.name} cannot be written: .*too large"):
                write()
        message = "new cannot be written"
        with pytest.raises(OutputError, match=message), create_folder(tmp_path / "new") as folder:
            (folder / "file").write_text("new")
        with pytest.raises(OutputError, match="cannot be written"):
            check_folder(tmp_path / "folder", "samples")
        with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "locked"):
            pass
    assert text.read_text() == "old"
    assert read_lines(lines) == [{"old": 1}]
    assert tensors.read_bytes() == intact
    assert not list(tmp_path.rglob("*.partial"))


def test_a_full_store_does_not_lose_a_training(tmp_path: Path) -> None:
    with WeightStore(tmp_path).entry({"a": 1}) as entry:
        with full_disk(), pytest.warns(UserWarning, match="are not stored for other runs"):
            entry.write({"x": torch.zeros(3)}, {})
        assert entry.read() is None
