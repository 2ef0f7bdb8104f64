"""Any bytes as a file of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

COMMANDS = [["report"], ["sample", "-n", "1", "--out", "samples"]]


@st.composite
def damages(draw: Any, files: list[str]) -> tuple[str, int, int, bytes]:
    """A file, a part of it in thousandths, and what replaces the part."""
    start = draw(st.integers(0, 1000))
    stop = draw(st.just(start) | st.just(1000) | st.integers(start, 1000))
    pieces = st.sampled_from([b"{", b"[]", b"null", b"1e999", b"\xff", b"/"])
    return draw(st.sampled_from(files)), start, stop, draw(pieces | st.binary(max_size=20))


def test_any_run_file(for_any: Any, small_outcome: Any, finished_run: Path, tmp_path: Path) -> None:
    files = sorted(
        file.relative_to(finished_run).as_posix()
        for file in finished_run.rglob("*")
        if file.is_file()
    )

    def check(damage: tuple[str, int, int, bytes]) -> None:
        name, start, stop, piece = damage
        run, samples = tmp_path / "run", tmp_path / "samples"
        for folder in (run, samples):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(finished_run, run)
        content = (run / name).read_bytes()
        first, last = (len(content) * share // 1000 for share in (start, stop))
        (run / name).write_bytes(content[:first] + piece + content[last + 1 :])
        for command, *options in COMMANDS:
            small_outcome(command, run, *options)

    for_any(15, damages(files), check)
