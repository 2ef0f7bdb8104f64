from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
import torch
from torch import Generator, Tensor, nn

from mld.runtime.compute import Compute, resolve, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.progress import training_progress
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training import train as loop
from mld.training.cached import train_cached
from mld.training.checkpoint import read_checkpoint
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.loop import Trainer, learning_rate, plan_validation
from mld.training.ranks import DeviceRanks
from mld.training.train import TrainedWeights, is_finished, train, training_fabric
from mld_core.diffusion.ema import EMA
from mld_core.errors import NumericalError, RunDirError, SpecError

JOB = "autoencode/digit"
ONE = Compute("cpu", 1, "32-true", 1)
CONFIG = TrainConfig(steps=30, batch_size=16, learning_rate=0.01, ema_decay=0.9)
SEED = 3


class Regression(Objective):
    """Learns y = x A from noisy rows, with everything that could make two trainings differ."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(4, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Dropout(dropout)
            )
            self.head = nn.Linear(16, 2)
        self.calls = 0

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += self.training
        x = batch["x"] + 0.01 * torch.randn(batch["x"].shape, generator=generator)
        error = (self.head(self.net(x)) - batch["y"]).square().mean(0)
        return error.mean(), {"left": error[0], "right": error[1]}


class SendsSignal(Regression):
    """Sends a process, its own if none is named, a signal in the middle of one step."""

    def __init__(self, call: int, number: int = signal.SIGINT, process: int | None = None) -> None:
        super().__init__()
        self.call, self.number, self.process = call, number, process

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        message = super().forward(batch, generator)
        if self.calls == self.call:
            os.kill(self.process or os.getpid(), self.number)
        return message


DRAWN: list[Tensor] = []
"""What the last Leaning was given; a training works on a copy of its objective."""


class WeightedRows(Regression):
    """Draws the second half of its rows three times as often as the first, the last never."""

    def __init__(self) -> None:
        super().__init__()
        DRAWN.clear()

    def sampling_weights(self, rows: Mapping[str, Tensor]) -> Tensor:
        count = len(rows["x"])
        return torch.where(torch.arange(count) < count // 2, 1.0, 3.0).index_fill(
            0, torch.tensor([count - 1]), 0.0
        )

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.training:
            DRAWN.append(batch["x"])
        return super().forward(batch, generator)


def rows(count: int = 200) -> dict[str, Tensor]:
    generator = Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=generator)
    return {"x": x, "y": x @ torch.tensor([[0.3, -0.6], [0, 0.3], [0.6, 0], [-0.3, 0.3]])}


def context(path: Path, compute: Compute = ONE, seed: int = SEED) -> RunContext:
    return RunContext(RunDir(path), WeightStore(path / "store"), compute, seed)


def fit(
    path: Path,
    objective: Objective | None = None,
    config: TrainConfig = CONFIG,
    compute: Compute = ONE,
    seed: int = SEED,
    checkpoint_seconds: float = 1e9,
) -> TrainedWeights:
    job = TrainJob(JOB, objective or Regression(), rows(), rows(50), config, {})
    return train(job, context(path, compute, seed), checkpoint_seconds)


def same(one: TrainedWeights, other: TrainedWeights) -> bool:
    """Whether two trainings agree in every bit."""
    pairs = [(one.weights, other.weights), (one.ema or {}, other.ema or {})]
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )


def trained_events(path: Path) -> list[dict]:
    return [event for event in RunDir(path).read_events() if event["event"] == "train"]


def validation_curve(path: Path) -> list[float]:
    losses = [event["validation"] for event in trained_events(path)]
    return [loss for loss in losses if loss is not None]


def test_seeds_depend_on_every_part_and_its_type() -> None:
    uses = [(0,), (1,), (0, "a"), (0, "a", 1), (0, "a", "1"), (0, "a1"), (0, 1, "a")]
    seeds = {derive(*use) for use in uses}
    assert len(seeds) == len(uses)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(7, "diffuse", 12) == 5580903375886130952


def test_adam_with_warm_up_cosine_clipping_and_ema(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=60)
    message = fit(tmp_path, Regression(dropout=0.0), config)
    objective, data = Regression(dropout=0.0), rows()
    adam = torch.optim.Adam(objective.parameters(), betas=(0.9, 0.999), fused=True)
    ema = EMA(objective.state_dict(), 0.9)
    clipped = 0
    with torch_threads(ONE):  # Adam makes much of the last bits, which more threads would change
        for update in range(60):
            generator = Generator().manual_seed(derive(3, JOB, update, 0, "draws"))
            chosen = torch.randint(200, (16,), generator=generator)
            batch = {name: tensor[chosen] for name, tensor in data.items()}
            adam.zero_grad()
            objective(batch, generator)[0].backward()
            norm = torch.cat([p.grad.flatten() for p in objective.parameters()]).norm()
            nn.utils.clip_grads_with_norm_(objective.parameters(), 1.0, norm)
            clipped += norm > 1
            rate = (
                (0.01 + 0.99 * (1 + math.cos(math.pi * (update - 1) / 58)) / 2) if update else 1.0
            )
            adam.param_groups[0]["lr"] = 0.01 * rate
            adam.step()
            ema.update(objective.state_dict(), update + 1)
    assert 0 < clipped < 60
    for name, tensor in objective.state_dict().items():
        torch.testing.assert_close(message.weights[name], tensor)
        torch.testing.assert_close(message.ema[name], ema.state[name])


def test_learning_rate_schedule() -> None:
    config = replace(CONFIG, steps=1000, learning_rate=1.0)
    rates = [learning_rate(config, update) for update in range(1000)]
    assert rates[:20] == pytest.approx([(update + 1) / 20 for update in range(20)])
    assert rates[20] == 1.0
    assert rates[999] == pytest.approx(0.01)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert learning_rate(replace(config, steps=1), 0) == 1.0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_resumes_to_the_same_bits(
    tmp_path: Path, precision: str, number: int
) -> None:
    compute = replace(ONE, precision=precision)
    uninterrupted = fit(tmp_path / "whole", compute=compute)
    for call in (5, 1, 17, 4):  # steps 5, 7, 25 and the last one, 30
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", SendsSignal(call, number), compute=compute)
    interrupted = fit(tmp_path / "parts", compute=compute)
    assert same(uninterrupted, interrupted)
    assert all(tensor.dtype != torch.bfloat16 for tensor in interrupted.weights.values())
    steps = [event["step"] for event in trained_events(tmp_path / "parts")]
    assert steps == list(range(1, 31))
    assert validation_curve(tmp_path / "parts") == validation_curve(tmp_path / "whole")


def test_rows_are_drawn_by_their_sampling_weights(tmp_path: Path) -> None:
    fit(tmp_path, WeightedRows(), replace(CONFIG, steps=300))
    drawn, x = torch.cat(DRAWN), rows()["x"]
    counts = (drawn[:, None] == x).all(2).sum(0)
    assert counts.sum() == len(drawn) == 300 * CONFIG.batch_size
    assert counts[-1] == 0
    assert counts[:100].sum() / len(drawn) == pytest.approx(100 / 397, abs=0.02)
    assert int(counts[:-1].min()) > 0


def test_training_restores_threads_rng_and_signal_handlers(tmp_path: Path) -> None:
    class Threaded(Regression):
        def forward(
            self, batch: Mapping[str, Tensor], generator: Generator
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert torch.get_num_threads() == 1
            return super().forward(batch, generator)

    objective = Threaded()
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    torch.rand(1)  # not the state in which another test's training ended
    state = torch.get_rng_state()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with torch_threads(replace(ONE, threads=3)):
        fit(tmp_path, objective)
        assert torch.get_num_threads() == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())


def test_batches_stay_float32_in_mixed_precision(tmp_path: Path) -> None:
    class Watching(Regression):
        def forward(
            self, batch: Mapping[str, Tensor], generator: Generator
        ) -> tuple[Tensor, dict[str, Tensor]]:
            assert batch["x"].dtype == torch.float32
            assert self.head(torch.zeros(1, 16)).dtype == torch.bfloat16
            return super().forward(batch, generator)

    fit(tmp_path, Watching(), compute=replace(ONE, precision="bf16-mixed"))


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(tmp_path)
    monkeypatch.setattr(loop, "launch", lambda *_: pytest.fail("trained again"))
    assert same(fit(tmp_path), first)


def test_only_weights_of_another_run_are_logged_as_reused(tmp_path: Path) -> None:
    job = TrainJob(JOB, Regression(), rows(), rows(50), CONFIG, {})
    one, other = (replace(context(tmp_path), run_dir=RunDir(tmp_path / name)) for name in "ab")
    # The second call is that of a run killed after it had stored the weights.
    assert same(train_cached(job, one), train_cached(job, one))
    assert not [event for event in one.run_dir.read_events() if event["event"] == "store"]
    train_cached(job, other)
    assert [event["event"] for event in other.run_dir.read_events()] == ["store"]


def test_a_checkpoint_says_whether_the_training_has_ended(tmp_path: Path) -> None:
    run = context(tmp_path)
    job = TrainJob(JOB, Regression(), rows(), rows(50), CONFIG, {})
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, SendsSignal(5))
    stopped = read_checkpoint(run.run_dir, JOB, job.fingerprint(run))
    assert stopped is not None
    assert stopped.ended is None
    assert not is_finished(job, run)
    # The mark alone decides, and not the number of steps.
    replace(stopped, ended="steps").write(run.run_dir, JOB)
    assert is_finished(job, run)
    ended = fit(tmp_path)
    assert all(torch.equal(ended.weights[name], x) for name, x in stopped.weights.items())


@pytest.mark.parametrize(
    ("seed", "change"), [(4, {}), (SEED, {"learning_rate": 0.02}), (SEED, {"ema_decay": None})]
)
def test_a_checkpoint_of_another_training_is_replaced(
    tmp_path: Path, seed: int, change: dict[str, float | None]
) -> None:
    config = replace(CONFIG, **change)
    fit(tmp_path / "used")
    with pytest.warns(UserWarning, match="autoencode/digit starts anew: its checkpoint belongs to"):
        again = fit(tmp_path / "used", config=config, seed=seed)
    assert same(again, fit(tmp_path / "new", config=config, seed=seed))
    (warning,) = [e for e in RunDir(tmp_path / "used").read_events() if e["event"] == "warning"]
    assert warning["stage"] == "autoencode"
    assert "autoencode/digit starts anew" in warning["message"]


def test_a_corrupt_checkpoint_is_named(tmp_path: Path) -> None:
    fit(tmp_path)
    path = RunDir(tmp_path).checkpoint(JOB)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(
        RunDirError, match=r"autoencode\.digit\.safetensors is corrupt.*--from-stage"
    ):
        fit(tmp_path)


class Failing(Regression):
    """From one call on, a part of the loss, the loss or a gradient is not finite."""

    def __init__(self, call: int, what: str) -> None:
        super().__init__()
        self.call, self.what = call, what

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, interrupted = super().forward(batch, generator)
        if self.calls < self.call:
            return loss, interrupted
        if self.what == "large gradient":
            return loss + 1e30 * self.head.bias.sum(), interrupted
        if self.what == "gradient":
            return loss + (0 * self.head.bias).sum().sqrt(), interrupted
        if self.what == "loss":
            return loss / 0, interrupted
        return loss + math.nan, {**interrupted, self.what: interrupted[self.what] * math.nan}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("right", "the loss of right (nan)"),
        ("loss", "the loss (inf)"),
        ("gradient", "the gradient of head.bias (nan)"),
        ("large gradient", "the norm of the gradients (inf; that of head.bias reaches 1e+30)"),
    ],
)
def test_a_non_finite_value_stops_the_training(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, SendsSignal(5))
    path = RunDir(tmp_path).checkpoint(JOB)
    good = path.read_bytes()
    with pytest.raises(NumericalError) as error:
        fit(tmp_path, Failing(5, what))
    last = trained_events(tmp_path)[-1]
    assert str(error.value).startswith(
        f"autoencode/digit, step {last['step'] + 1}: {message} is not finite "
        f"(last finite loss: {last['loss']:.6g}, at step {last['step']})"
    )
    assert path.read_bytes() == good


def test_a_non_finite_first_loss(tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match=r"step 1: .* \(last finite loss: none\)"):
        fit(tmp_path, Failing(1, "left"))
    assert not RunDir(tmp_path).checkpoint(JOB).exists()


def test_a_non_finite_validation_loss_stops_the_training(tmp_path: Path) -> None:
    held_out = {name: torch.full_like(tensor, math.inf) for name, tensor in rows(50).items()}
    with pytest.raises(NumericalError, match=r"digit, step 30: .* held-out rows \(nan\)"):
        train(TrainJob(JOB, Regression(), rows(), held_out, CONFIG, {}), context(tmp_path))


def test_events_hold_losses_parts_and_validation(
    tmp_path: Path,
) -> None:
    class Frozen(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.net.requires_grad_(False)
            self.net[1].momentum = 0.0

        def forward(
            self, batch: Mapping[str, Tensor], generator: Generator
        ) -> tuple[Tensor, dict[str, Tensor]]:
            # A plugin's model draws from torch's global generator.
            loss, interrupted = super().forward(batch, generator)
            shift = 0.1 * torch.rand(())
            return loss + shift, {name: part + shift for name, part in interrupted.items()}

    frozen = replace(CONFIG, steps=120, batch_size=100, learning_rate=0.0, ema_decay=None)
    fit(tmp_path / "still", Frozen(), frozen)
    events = trained_events(tmp_path / "still")
    assert [event["step"] for event in events] == list(range(2, 121, 2))
    validated = [event for event in events if event["validation"] is not None]
    assert [event["step"] for event in validated] == list(range(10, 121, 10))
    assert len({event["validation"] for event in validated}) == 1
    assert len({event["loss"] for event in events}) == len(events)
    for event in events:
        assert (event["job"], event["steps"]) == (JOB, 120)
        assert sum(event["parts"].values()) / 2 == pytest.approx(event["loss"], rel=1e-5)
        assert event["rate"] > 0
    fit(tmp_path / "learning", config=replace(CONFIG, steps=120, batch_size=100))
    curve = validation_curve(tmp_path / "learning")
    assert curve[-1] < 0.5 * curve[0]


@pytest.mark.parametrize(
    ("steps", "batch_size", "count", "expected"),
    [
        (1500, 128, 500, (90, 500)),  # all rows, more often than ten times
        (100_000, 512, 5000, (2000, 1024)),  # the most rows, at every log
        (2000, 32, 500, (200, 320)),  # ten times
        (20, 128, 800, (10, 64)),  # the fewest rows, less often
        (1, 16, 500, (1, 64)),
        (30, 16, 5, (30, 60)),  # few rows several times
        (3000, 128, 40, (60, 240)),
        (30, 16, 0, (2, 0)),
    ],
)
def test_validation_is_a_small_share_of_a_training(
    steps: int, batch_size: int, count: int, expected: tuple[int, int]
) -> None:
    plan = plan_validation(replace(CONFIG, steps=steps, batch_size=batch_size), count)
    assert (plan.every, plan.rows) == expected
    allowed = max(0.05 * steps * batch_size, plan.rows)
    assert steps // plan.every * plan.rows <= allowed


def test_the_best_weights_are_kept_and_survive_an_interruption(tmp_path: Path) -> None:
    """On validation rows of which the loss soon rises again."""
    held_out = rows(50)
    held_out["y"] = -held_out["y"]

    def fit_and_validate(
        name: str, keep: Literal["last", "best"], objective: Objective
    ) -> TrainedWeights:
        config = replace(CONFIG, steps=100, batch_size=200, keep=keep)
        job = TrainJob(JOB, objective, rows(), held_out, config, {})
        return train_cached(job, context(tmp_path / name))

    with pytest.warns(UserWarning, match="the validation loss was lowest at step"):
        best = fit_and_validate("best", "best", Regression())
    last = fit_and_validate("last", "last", Regression())
    losses = {
        event["step"]: event["validation"]
        for event in trained_events(tmp_path / "best")
        if event["validation"] is not None
    }
    step = min(losses, key=lambda step: losses[step])
    assert 0 < step < 50
    assert same(replace(best, ema=last.ema), last)
    with pytest.raises(KeyboardInterrupt):
        fit_and_validate("stopped", "best", SendsSignal(call=step - 1))
    averaged = RunDir(tmp_path / "stopped").read_tensors(
        RunDir(tmp_path / "stopped").checkpoint(JOB)
    )
    assert best.ema is not None
    assert all(torch.equal(averaged[f"ema/{name}"], x) for name, x in best.ema.items())
    with pytest.raises(KeyboardInterrupt):
        fit_and_validate("resumed", "best", SendsSignal(call=step + 20))
    with pytest.warns(UserWarning, match="the validation loss was lowest at step"):
        assert same(fit_and_validate("resumed", "best", Regression()), best)
    (warning,) = (e for e in RunDir(tmp_path / "best").read_events() if e["event"] == "warning")
    assert f"lowest at step {step} of 100" in warning["message"]


def test_validation_is_of_the_averaged_weights(tmp_path: Path) -> None:
    averaged = fit(tmp_path / "averaged", Regression(dropout=0.0))
    plain = fit(tmp_path / "plain", Regression(dropout=0.0), replace(CONFIG, ema_decay=None))
    assert all(torch.equal(averaged.weights[name], plain.weights[name]) for name in plain.weights)
    curves = [validation_curve(tmp_path / name) for name in ("averaged", "plain")]
    assert curves[0][-1] != curves[1][-1]


def test_progress_lines_every_tenth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"autoencode/digit: {process} of 30 steps" for process in range(3, 31, 3)
    ]


def test_progress_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with training_progress("diffuse", 0, 100) as show:
        show(100, 0.25, 12345.6)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "diffuse" in captured.err
    assert "100/100" in captured.err
    assert "loss 0.25" in captured.err


def test_devices_must_divide_the_batch_size(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"batch of 16 rows .* by 3 devices"):
        fit(tmp_path, compute=replace(ONE, devices=3))


AUTO = dict.fromkeys(("accelerator", "devices", "precision", "threads"), "auto") | {
    "nodes": 1,
    "compile": False,
}


def test_auto_resolves_to_the_machine() -> None:
    on_cpu = resolve(SimpleNamespace(**{**AUTO, "accelerator": "cpu"}))
    assert (on_cpu.accelerator, on_cpu.devices) == ("cpu", 1)
    assert on_cpu.precision in ("32-true", "bf16-mixed")
    assert on_cpu.threads == torch.get_num_threads()
    request = {**AUTO, "accelerator": "cpu", "devices": 2, "precision": "32-true", "threads": 4}
    assert resolve(SimpleNamespace(**request)) == Compute("cpu", 2, "32-true", 4)
    on_three = resolve(SimpleNamespace(**{**request, "nodes": 3}))
    assert on_three == Compute("cpu", 6, "32-true", 4, nodes=3)
    assert resolve(SimpleNamespace(**{**request, "compile": True})).compile
    before = torch.get_num_threads()
    with torch_threads(Compute("cpu", 1, "32-true", before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accelerator": "tpu"}, r"compute\.accelerator: 'tpu' .* \(available: cpu\)"),
        ({"accelerator": "cpu", "precision": "16-mixed"}, r"compute\.precision: .* bf16-mixed"),
    ],
)
def test_unavailable_compute_is_an_error(settings: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        resolve(SimpleNamespace(**{**AUTO, **settings}))


def child(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run this file as a program."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_killed_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    compute = replace(ONE, precision="bf16-mixed")
    uninterrupted = fit(tmp_path / "whole", compute=compute)
    process = child("killed", tmp_path / "killed")
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 3
    assert same(fit(tmp_path / "killed", compute=compute), uninterrupted)


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_train_and_stop_together(tmp_path: Path) -> None:
    process = child("two", tmp_path)
    assert process.stdout.splitlines() == [
        "KeyboardInterrupt after a checkpoint",
        "KeyboardInterrupt after a checkpoint",
        "NumericalError after a checkpoint",
    ], process.stderr
    assert "the loss of right (nan) is not finite" in process.stderr
    config, two = replace(CONFIG, steps=200), replace(ONE, devices=2)
    one = fit(tmp_path / "one", config=config)
    uninterrupted = fit(tmp_path / "whole", config=config, compute=two)
    interrupted = fit(tmp_path / "parts", config=config, compute=two)
    assert same(uninterrupted, interrupted)
    assert not same(uninterrupted, one)
    curves = [trained_events(tmp_path / name) for name in ("one", "whole")]
    for curve in curves:
        assert len(curve) == 50
        assert curve[-1]["loss"] < 0.3 * curve[0]["loss"]
        assert curve[-1]["validation"] is not None


def killed(path: Path) -> None:
    """Fork trainings and kill each after a few checkpoints, until one ends by itself."""
    import lightning_fabric  # noqa: F401  (once, before the forks)

    checkpoint, kills = RunDir(path).checkpoint(JOB), 0
    while True:
        process = os.fork()
        if not process:
            fit(path, compute=replace(ONE, precision="bf16-mixed"), checkpoint_seconds=0.0)
            os._exit(0)
        seen: set[int] = set()
        while len(seen) < 3 + kills and os.waitpid(process, os.WNOHANG) == (0, 0):
            if checkpoint.is_file():
                seen.add(checkpoint.stat().st_mtime_ns)
            time.sleep(0.0005)
        time.sleep(0.0007 * kills)
        try:
            os.kill(process, signal.SIGKILL)
            ended = os.waitpid(process, 0)[1]
        except (ChildProcessError, ProcessLookupError):
            break
        if not os.WIFSIGNALED(ended):
            break
        kills += 1
    sys.stdout.write(str(kills))


def two(path: Path) -> None:
    """Train on two processes: whole, stopped from within and from without, and with a NaN."""
    config, compute = replace(CONFIG, steps=200), replace(ONE, devices=2)
    fit(path / "whole", None, config, compute)
    stops = [
        SendsSignal(60, signal.SIGINT),
        SendsSignal(60, signal.SIGTERM, os.getpid()),
        Failing(30, "right"),
    ]
    for objective in stops:
        try:
            fit(path / "parts", objective, config, compute)
        except (KeyboardInterrupt, NumericalError) as stopped:
            saved = RunDir(path / "parts").checkpoint(JOB).is_file()
            sys.stdout.write(
                f"{type(stopped).__name__} {'after a' if saved else 'without'} checkpoint\n"
            )
            sys.stderr.write(f"{stopped}\n")
    fit(path / "parts", None, config, compute)


if __name__ == "__main__":
    {"killed": killed, "two": two}[sys.argv[1]](Path(sys.argv[2]))


class Float64Regression(Objective):
    """Without draws, of rows that weigh alike; keeps the rows and the gradient of every batch."""

    seen: ClassVar[list[Tensor]] = []

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 2)).double()

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.training:
            self.seen.append(batch["x"])
        error = (self.net(batch["x"].double()) - batch["y"]).square().mean(0)
        return error.mean(), {"left": error[0], "right": error[1]}


@pytest.mark.parametrize("micro_batch_size", [1, 5, 16, 100])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(
    tmp_path: Path, micro_batch_size: int
) -> None:
    def gradient_and_losses(size: int | None) -> tuple[Tensor, Tensor, Tensor]:
        config = replace(CONFIG, steps=1, micro_batch_size=size)
        job = TrainJob(JOB, Float64Regression(), rows(), rows(50), config, {})
        Float64Regression.seen.clear()
        fabric = training_fabric(ONE)
        trainer = Trainer(job, context(tmp_path), fabric, DeviceRanks(fabric))
        values, _ = trainer.forward_backward(stop=False)
        (vector,) = trainer.parameters
        assert vector.grad is not None
        return vector.grad.clone(), values, torch.cat(Float64Regression.seen)

    expected, parts = gradient_and_losses(None), gradient_and_losses(micro_batch_size)
    assert len(Float64Regression.seen) == math.ceil(CONFIG.batch_size / micro_batch_size)
    assert max(map(len, Float64Regression.seen)) <= micro_batch_size
    torch.testing.assert_close(parts[0], expected[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(parts[1], expected[1])
    assert torch.equal(parts[2], expected[2])


class Compiled(Regression):
    compiled = "net.forward"


@pytest.mark.slow
def test_a_compiled_network_trains_like_one_that_is_not(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=5)
    compiled = replace(ONE, compile=True)
    expected = fit(tmp_path / "plain", Regression(dropout=0.0), config)
    trained = fit(tmp_path / "compiled", Compiled(dropout=0.0), config, compiled)
    # A bias before a batch normalisation has no gradient but rounding, which Adam scales up.
    without_effect = {"net.0.bias", "net.1.running_mean"}
    for name in expected.weights.keys() - without_effect:
        torch.testing.assert_close(trained.weights[name], expected.weights[name])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    job = TrainJob(JOB, Compiled(), rows(), rows(50), config, {})
    plain, other = (job.cache_key(context(tmp_path, compute)) for compute in (ONE, compiled))
    assert "compile" not in plain
    assert other == {**plain, "compile": True}


@pytest.mark.slow
@pytest.mark.long
def test_a_compiled_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    class CompiledSendsSignal(SendsSignal):
        compiled = "net.forward"

    compiled = replace(ONE, compile=True)
    uninterrupted = fit(tmp_path / "whole", Compiled(), compute=compiled)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", CompiledSendsSignal(7, signal.SIGTERM), compute=compiled)
    torch.compiler.reset()  # as in another process
    assert same(uninterrupted, fit(tmp_path / "parts", Compiled(), compute=compiled))


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(*args: object) -> None:
        raise TorchDynamoException("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    message = r"compute\.compile: autoencode/digit cannot be compiled here \(No working C\+\+"
    with pytest.raises(SpecError, match=message):
        fit(tmp_path, Compiled(), compute=replace(ONE, compile=True))
