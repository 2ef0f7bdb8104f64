"""The benchmark of faults: its own parts, and that it notices what is lost."""

from __future__ import annotations

import importlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("faults")


@pytest.fixture
def injection(faults: ModuleType) -> ModuleType:
    return importlib.import_module("injection")


def _write_run(folder: Path, seconds: float = 1.0, loss: float = 2.0, final: str = "a") -> Path:
    folder.mkdir()
    event = {"event": "train", "job": "diffuse", "step": 1, "loss": loss, "time": str(seconds)}
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    marker = {"seconds": seconds, "files": {"report.html": str(seconds), "a.png": final}}
    (folder / "marker.json").write_text(json.dumps(marker))
    (folder / "report.html").write_text(f"<p>loss {loss}; diffuse took {seconds:.3g} s; 8 rows</p>")
    (folder / "table.csv").write_text(f"training_seconds,value\n{seconds},{final}\n")
    return folder


def test_contents_are_compared_without_times(injection: ModuleType, tmp_path: Path) -> None:
    one = injection.contents(_write_run(tmp_path / "one"))
    slower = _write_run(tmp_path / "slower", seconds=9)
    assert injection.differences(one, injection.contents(slower)) == []
    other = _write_run(tmp_path / "other", loss=2.5)
    assert injection.differences(one, injection.contents(other)) == ["events.jsonl", "report.html"]
    final = _write_run(tmp_path / "final", final="b")
    assert injection.differences(one, injection.contents(final)) == ["marker.json", "table.csv"]
    (slower / ".report.html.partial").touch()
    (slower / "table.csv").unlink()
    expected = [".report.html.partial", "table.csv"]
    assert injection.differences(one, injection.contents(slower)) == expected


def test_repeated_steps_of_a_log_count_once(injection: ModuleType, tmp_path: Path) -> None:
    one, other = _write_run(tmp_path / "one"), _write_run(tmp_path / "other")
    line = (other / "events.jsonl").read_text()
    (other / "events.jsonl").write_text(line.replace("2.0", "7.0") + line[:9] + "\n" + line)
    assert injection.contents(one) == injection.contents(other)


def test_moments_are_drawn_from_every_stage_in_order(
    faults: ModuleType, injection: ModuleType
) -> None:
    moments = [
        injection.Moment(stage, str(number))
        for stage, count in (("data", 4), ("diffuse", 90), ("report", 9))
        for number in range(count)
    ]
    chosen = faults.choose(moments, 40, least=5, rng=Random(0))
    assert len(chosen) == 40
    assert chosen == sorted(chosen, key=moments.index)
    counts = {stage: sum(each.stage == stage for each in chosen) for stage in ("data", "report")}
    assert counts["data"] == 4
    assert counts["report"] >= 5


@pytest.mark.parametrize("action", ["kill", "terminate"])
def test_a_kill_leaves_half_a_file_and_a_signal_none(
    injection: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    class Killed(BaseException):
        pass

    def kill(pid: int, number: int) -> None:
        if number == signal.SIGKILL:
            raise Killed

    monkeypatch.setattr(injection.os, "kill", kill)
    path = tmp_path / "stages" / "data.json"
    path.parent.mkdir()
    moment = injection.Moment("data", "stages/data.json, half")
    work = injection.Work(injection.Fault(moment, action), "data")
    work.open_log(tmp_path / "log")
    partial = path.with_name("partial")
    partial.write_text("0123456789")
    if action == "kill":
        with pytest.raises(Killed):
            work.rename(Path.replace, partial, path)
        assert partial.read_text() == "01234"
        assert not path.exists()
    else:
        work.rename(Path.replace, partial, path)
        assert path.read_text() == "0123456789"


def test_flip_changes_one_bit(faults: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    faults.flip(path, 0.999, 7)
    assert path.read_bytes() == bytes(99) + b"\x80"


class _Bench:
    """A command of two moments whose result is wrong after a resume."""

    rng = Random(0)

    def __init__(self, moments: Sequence[Any], folder: Path, problems: list[str]) -> None:
        self._moments, self._folder, self._problems = moments, folder, problems

    def moments(self, command: str, action: str) -> Sequence[Any]:
        return self._moments

    def victim(self) -> Path:
        return self._folder

    def problems(self, command: str, folder: Path, outcome: Any) -> list[str]:
        return self._problems


@pytest.mark.parametrize(
    ("code", "problems", "lost"), [(-9, [], 0), (-9, ["out/a differs"], 1), (0, [], 1)]
)
def test_what_is_lost_is_counted_and_fails(
    faults: ModuleType,
    injection: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    problems: list[str],
    lost: int,
) -> None:
    """Other bits than the reference's are a loss, and so is a kill that is survived."""
    moments = [injection.Moment("sample", name) for name in ("samples from 0, evaluation 1",)]
    outcome = injection.Outcome(code, "", "", moments)
    monkeypatch.setattr(faults, "run_mld", lambda *_: outcome)
    bench = _Bench(moments, tmp_path, problems)
    monkeypatch.setattr(faults, "Bench", lambda *_: bench)
    monkeypatch.setattr(faults, "all_rows", lambda *_: faults.interrupt(bench, "sample", "kill", 1))
    monkeypatch.setattr(faults, "parse_args", lambda: SimpleNamespace(kills=1, flips=1, seed=0))
    assert faults.main() == bool(lost)
    row = f"| SIGKILL | mld sample | 1 | {1 - lost} | {lost} | samples from 0, evaluation 1 |"
    assert row in capsys.readouterr().out
