"""Regular files alone are read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mld_core.data.regular_file import read_regular_file


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_fifo, "it is a named pipe, not a regular file"),
        (make_socket, "it is a socket, not a regular file"),
        (link_to_device, "it is a device, not a regular file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"12345"), "it has 5 bytes, and at most 4 are read"),
    ],
)
def test_what_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, message) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x")
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_regular_file(tmp_path / "x", 4)
    assert caught.value.strerror == message
    assert caught.value.filename == str(tmp_path / "x")


def test_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("x")
    assert read_regular_file(tmp_path / "link", 4) == read_regular_file(tmp_path / "x") == b"1234"
