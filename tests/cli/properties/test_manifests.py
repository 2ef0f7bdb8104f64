"""Any bytes as a manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from PIL import Image

SPEC = """\
name: mine
data: {{kind: manifest, path: rows.{suffix}}}
modalities:
  word: {{kind: text, latent_dim: 2, max_bytes: 8}}
  picture: {{kind: image, latent_dim: 2, size: 8, channels: 1}}
diffuse: {{network: {{kind: residual-mlp, width: 8, depth: 1}}}}
compute: {{accelerator: cpu, threads: 1}}
"""
CELLS = st.sampled_from(
    ["", "a.png", "bad.png", "missing.png", ".", "pipe.png", "one", "train", "validation", "test",
     "0", "1", "nan", "x" * 300, "../a.png", "a.png\0", "\ufeff", " a.png", "\ud800"]
) | st.text(max_size=10)  # fmt: skip
COLUMNS = st.sampled_from(
    ["word", "picture", "id", "label", "split", " label", "Split", "", "other"]
) | st.text(max_size=6)
SEPARATORS = st.sampled_from([",", ",", ",", ",", ";", "\t"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])


@st.composite
def tables(draw: Any, suffix: str) -> bytes:
    """A table whose rows mostly have as many cells as its header."""
    columns = draw(
        st.just(["word", "picture", "label", "split"]) | st.lists(COLUMNS, min_size=1, max_size=6)
    )
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        width = draw(st.just(len(columns)) | st.integers(0, 7))
        rows.append(draw(st.lists(CELLS, min_size=width, max_size=width)))
    if suffix == "jsonl":
        values = st.none() | st.booleans() | st.integers() | st.floats() | CELLS | st.just([[]])
        cells = [{name: draw(values) for name in columns[: len(row)]} for row in rows]
        lines = [json.dumps(row or draw(values)) for row in cells]
    else:
        separator = draw(SEPARATORS)
        quote = draw(st.sampled_from(["", "", '"']))
        rows = [[f"{quote}{cell}{quote}" for cell in row] for row in [columns, *rows]]
        lines = [separator.join(row) for row in rows]
    text = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).join(lines)
    return text.encode(draw(ENCODINGS), "replace")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_any_manifest(suffix: str, for_any: Any, outcome: Any, make_files: None) -> None:
    path = Path(f"rows.{suffix}")
    Path("spec.yaml").write_text(SPEC.format(suffix=suffix))

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert outcome("run", Path("spec.yaml"), "--dry-run").exit_code in (0, 5)
        assert path.read_bytes() == content

    lines = "word,picture,split\n" + "one,a.png,train\n" * 2 + "one,a.png,test\n" * 2
    check(lines.encode() if suffix == "csv" else b'{"word": "one", "picture": "a.png"}\n' * 9)
    for_any(20, tables(suffix) | st.binary() | st.text().map(str.encode), check)


def test_any_manifest_of_a_run(
    for_any: Any, small_outcome: Any, finished_run: Path, make_files: None
) -> None:
    path = Path("rows.csv")

    def check(content: bytes) -> None:
        path.write_bytes(content)
        words = ["score", finished_run, path, "--out", "scores.csv"]
        assert small_outcome(*words).exit_code in (0, 2, 5)
        assert path.read_bytes() == content

    for_any(10, tables("csv") | st.binary(), check)


@pytest.fixture
def make_files(tmp_path: Path) -> None:
    """The files that cells name: a picture, one that is none, a pipe."""
    Image.new("L", (8, 8), 128).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    os.mkfifo(tmp_path / "pipe.png")
