"""Weights & Biases offline and Trackio's local database, read back."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

LOG_TWICE = Path(__file__).parent / "log_twice.py"
LOSSES = {step: step / 3 for step in (1, 2, 3, 4)}

pytestmark = pytest.mark.slow


def log_twice(kind: str, folder: Path) -> None:
    """In a process of its own: such libraries start threads and processes."""
    from PIL import Image

    Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "x.png")
    with wave.open(str(folder / "x.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(800))
    environment = {**os.environ, "TRACKIO_DIR": str(folder / "trackio"), "WANDB_API_KEY": ""}
    command = [sys.executable, LOG_TWICE, kind, folder]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_trackio(tmp_path: Path) -> None:
    log_twice("trackio", tmp_path)
    database = sqlite3.connect(tmp_path / "trackio" / "mld.db")
    rows = [
        (name, step, json.loads(metrics))
        for name, step, metrics in database.execute("select run_name, step, metrics from metrics")
    ]
    assert {name for name, _, _ in rows} == {"digits-k1"}
    losses = [(step, row["a/b/loss"]) for _, step, row in rows if "a/b/loss" in row]
    assert losses == [*LOSSES.items()]
    once = {name: value for _, step, row in rows if step == 0 for name, value in row.items()}
    assert once["run/joint_coherence"] == 0.5
    assert once["samples/joint/digit/0000"]["_type"] == "trackio.image"
    assert once["samples/joint/tone/0000"]["_type"] == "trackio.audio"


def test_wandb(tmp_path: Path) -> None:
    log_twice("wandb", tmp_path)
    files = sorted((tmp_path / "run").rglob("run-k1.wandb"))
    assert len(files) == 2  # of the same run
    rows = [row for file in files for row in history(file)]
    losses = {row["a/b/step"]: row["a/b/loss"] for row in rows if "a/b/loss" in row}
    assert losses == LOSSES
    assert sum("a/b/loss" in row for row in rows) == len(LOSSES)
    assert [row["run/joint_coherence"] for row in rows if "run/joint_coherence" in row] == [0.5]
    names = {path.name.partition("_")[0] for path in (tmp_path / "run").rglob("media/*/**/0000_*")}
    assert names == {"0000"}


def history(path: Path) -> Iterator[dict[str, object]]:
    """The rows of an offline run's file: 7 bytes, then records in the format of LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, content = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # no header fits into the rest of a block
            place += 32768 - place % 32768
            continue
        length, part = struct.unpack_from("<HB", data, place + 4)
        content += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # whole, or the last part
            record = Record.FromString(content)
            content = b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in items
                }
