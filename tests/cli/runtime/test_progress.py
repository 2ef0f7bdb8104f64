from __future__ import annotations

import re
import sys

import pytest
import torch
from torch import nn

from mld.runtime import progress
from mld.runtime.progress import RecentRate, counting, training_progress, with_progress
from mld.training.loss_meter import LossMeter


class FakeClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make stderr a terminal; called in a test, since pytest replaces stderr after the fixtures."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")


def test_the_rate_is_that_of_the_last_half_minute(clock: FakeClock) -> None:
    recent = RecentRate(clock)
    assert recent.per_second is None
    clock.now += 500
    recent.update(1)
    assert recent.per_second is None
    for done in range(2, 1000):
        clock.now += 1.0 if done < 500 else 0.25
        recent.update(done)
        if done == 499:
            assert recent.per_second == pytest.approx(1)
        if done == 500 + 60:
            # 61 parts in 15.25 s, and the 15 s before at one a second.
            assert recent.per_second == pytest.approx((61 + 15) / (15.25 + 15))
    assert recent.per_second == pytest.approx(4)


def test_parts_longer_than_the_period_have_a_rate(clock: FakeClock) -> None:
    recent = RecentRate(clock)
    for done in range(4):
        recent.update(done)
        clock.now += 50
    assert recent.per_second == pytest.approx(1 / 50)


def test_frequent_updates_keep_few_samples(clock: FakeClock) -> None:
    recent = RecentRate(clock)
    for done in range(100_000):
        clock.now += 0.001
        recent.update(done)
    assert recent.per_second == pytest.approx(1000, rel=0.01)
    assert len(recent._samples) <= progress.RATE_SECONDS / progress.SAMPLE_SECONDS + 3


def test_the_time_left_agrees_with_the_rate_beside_it(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    steps, batch_size, seconds = 1000, 64, 0.25
    meter = LossMeter("diffuse", batch_size, nn.Identity(), clock)
    with training_progress("diffuse", 0, steps, clock) as show:
        # The first step takes 100 times as long as the others; at steady speed 250 s are needed.
        for step in range(1, steps + 1):
            clock.now += 100 * seconds if step == 1 else seconds
            meter.update(torch.tensor([0.0, 0.0, 1.0, 0.5]), [])
            meter.sync_and_check(step)
            show(step, 0.5, meter.means().rows_per_second)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "diffuse: 41 of 1,000 steps, loss 0.5, 256 rows/s, 0:04:00 left"
    assert lines[1] == "diffuse: 100 of 1,000 steps, loss 0.5, 256 rows/s, 0:03:45 left"
    assert lines[-1] == "diffuse: 1,000 of 1,000 steps, loss 0.5, 256 rows/s"
    assert len(lines) == 11


def test_a_slower_machine_shows_within_the_period(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_progress("diffuse", 0, 1000, clock) as show:
        for step in range(1, 501):
            clock.now += 0.1 if step <= 400 else 1.0
            show(step, 0.5, 1.0)
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "diffuse: 400 of 1,000 steps, loss 0.5, 1 rows/s, 0:01:00 left",
        "diffuse: 500 of 1,000 steps, loss 0.5, 1 rows/s, 0:08:20 left",
    ]


def test_a_resumed_training_counts_from_where_it_resumes(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_progress("diffuse", 50, 100, clock) as show:
        for step in range(51, 61):
            clock.now += 1
            show(step, 0.5, 1.0)
    line = "diffuse: 60 of 100 steps, loss 0.5, 1 rows/s, 0:00:40 left\n"
    assert capsys.readouterr().err == line


def test_the_rate_of_the_first_step_is_over_all_its_time(clock: FakeClock) -> None:
    meter = LossMeter("diffuse", 10, nn.Identity(), clock)
    for step, seconds in enumerate([4.0, 1.0, 1.0], start=1):
        clock.now += seconds
        meter.update(torch.tensor([0.0, 0.0, 1.0, 0.5]), [])
        meter.sync_and_check(step)
        assert meter.means().rows_per_second == pytest.approx(2.5 if step == 1 else 10)


def test_short_work_shows_nothing_on_a_terminal(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(monkeypatch)
    with counting("encode digit", 10, clock=clock) as show:
        for done in range(1, 11):
            clock.now += 0.19
            show(done)
    assert capsys.readouterr().err == ""


def test_lines_of_counted_work(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    with counting("encode digit", 10, clock=clock) as show:
        for done in range(1, 11):
            clock.now += 0.19
            show(done)
    assert capsys.readouterr().err == ""
    with counting("encode digit", 100, "items", clock=clock) as show:
        show(0)
        for done in range(1, 101):
            clock.now += 0.1
            show(done)
    assert capsys.readouterr().err.splitlines() == [
        f"encode digit: {done} of 100 items, 10 items/s, 0:00:{left:02} left"
        for done, left in [(20, 8), (40, 6), (60, 4), (80, 2)]
    ] + ["encode digit: 100 of 100 items, 10 items/s"]


def test_counted_work_is_timed_from_the_first_call(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with counting("impute", 100, clock=clock) as show:
        clock.now += 60
        show(90)
        clock.now += 4
        show(92)
    line = "impute: 92 of 100 rows, 0.5 rows/s, 0:00:16 left\n"
    assert capsys.readouterr().err == line


def test_bars_share_one_display(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(monkeypatch)
    with (
        training_progress("autoencode/left", 0, 100, clock) as left,
        training_progress("autoencode/right", 0, 200, clock) as right,
        counting("encode", 10, clock=clock) as encode,
    ):
        left(1, 0.25, 12345.6)
        right(2, 0.5, 1.0)
        clock.now += 10
        encode(5)
        right(20, 0.5, 1.0)
        capsys.readouterr()
        left(100, 0.125, 12345.6)
        drawn = capsys.readouterr().err
        for words in (
            "left",
            "100/100",
            " steps loss 0.125",
            "loss 0.125",
            "right",
            " 20/200",
            "0:01:40 left",
            "5/10",
        ):
            assert words in drawn
        assert re.search(r" 5/10\S* +\S* rows", drawn)
    last = capsys.readouterr().err.rpartition("autoencode/left")[2]
    assert "autoencode/right" in last
    assert "encode " not in last
    # The display is closed, so that the next one starts with no bars.
    with training_progress("diffuse", 0, 100, clock) as show:
        show(1, 0.5, 1.0)
    assert "autoencode" not in capsys.readouterr().err


def test_the_display_closes_after_an_error(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_terminal(monkeypatch)

    def interrupt() -> None:
        with (
            training_progress("left", 0, 9, clock) as left,
            training_progress("right", 0, 9, clock) as right,
        ):
            left(1, 1.0, 1.0)
            right(1, 1.0, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert progress._BARS._progress is None
    assert "\x1b[?25h" in capsys.readouterr().err


def test_a_training_without_steps_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress("diffuse", 0, 10), counting("encode", 0):
        pass
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_parts_come_in_order_with_their_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "SHORT_SECONDS", 0)
    assert list(with_progress("decode", "abc", "subsets")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"decode: {done} of 3 subsets" for done in range(1, 4)
    ]
    assert list(with_progress("decode", [])) == []
