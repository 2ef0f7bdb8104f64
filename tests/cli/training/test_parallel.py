from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread
from types import SimpleNamespace

import cloudpickle
import pytest
import torch
from torch import Generator, Tensor, nn

from mld.runtime.compute import Compute
from mld.runtime.context import RunContext
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld.training.checkpoint import TrainingEnd
from mld.training.flat_parameters import flatten_parameters
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.loop import learning_rate
from mld.training.modality_networks import train_all
from mld.training.parallel import TrainingPool, parallel_trainings, shared_training
from mld.training.train import train
from mld_core.errors import NumericalError

# Workers cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

TWO_THREADS = Compute("cpu", 1, "32-true", 2)
CONFIG = TrainConfig(steps=30, batch_size=8, learning_rate=0.01)


class Regression(Objective):
    def __init__(self, nan: bool = False, seconds: float = 0.0, dropout: float = 0.2) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Linear(3, 8), nn.SiLU(), nn.Dropout(dropout), nn.Linear(8, 1)
            )
        self.nan, self.seconds = nan, seconds

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        time.sleep(self.seconds)
        error = (self.net(batch["x"]) - batch["label"][:, None]).square().mean()
        return error * (float("nan") if self.nan else 1.0), {"y": error}


class FailsOnce(Regression):
    """Fails in the first process that computes its loss."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            self.marker.touch(exist_ok=False)
        except FileExistsError:
            return super().forward(batch, generator)
        raise OSError("only one of the processes")


def job(name: str, objective: Objective | None = None, steps: int = CONFIG.steps) -> TrainJob:
    # In a file, "label" comes before "x".
    x = torch.randn(40, 3, generator=Generator().manual_seed(len(name)))
    rows = {"x": x, "label": x.sum(1)}
    objective, config = objective or Regression(), replace(CONFIG, steps=steps)
    return TrainJob(f"autoencode/{name}", objective, rows, rows, config, {"name": name})


def context(path: Path, compute: Compute = TWO_THREADS) -> RunContext:
    return RunContext(RunDir(path), WeightStore(path / "store"), compute, seed=3)


@pytest.fixture(scope="module")
def pool() -> Iterator[TrainingPool]:
    """Two processes that have trained before; not to be interrupted."""
    with TrainingPool(2) as pool:
        yield pool


def steps_of(path: Path, name: str) -> list[int]:
    events = RunDir(path).read_events()
    return [event["step"] for event in events if event.get("job") == f"autoencode/{name}"]


@pytest.mark.parametrize(
    ("jobs", "compute", "workers", "threads"),
    [
        (4, Compute("cpu", 1, "32-true", 2), 2, 1),
        (4, Compute("cpu", 1, "32-true", 1), 1, 1),
        (1, Compute("cpu", 1, "32-true", 8), 1, 8),
        (2, Compute("cpu", 1, "32-true", 8), 2, 4),
        (3, Compute("cpu", 1, "32-true", 8), 3, 2),
        (0, Compute("cpu", 1, "32-true", 8), 1, 8),
        (4, Compute("cuda", 1, "bf16-mixed", 8), 1, 8),
    ],
)
def test_shares_of_threads(jobs: int, compute: Compute, workers: int, threads: int) -> None:
    assert parallel_trainings(jobs, compute) == (workers, replace(compute, threads=threads))


def test_several_trainings_have_a_process_each_and_a_single_one_has_all() -> None:
    two_processes = replace(TWO_THREADS, devices=2)
    share = replace(TWO_THREADS, threads=1)
    assert parallel_trainings(3, two_processes) == (2, share)
    assert parallel_trainings(1, two_processes) == (1, two_processes)


def test_parallel_trainings_equal_single_ones(
    pool: TrainingPool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a", "bb", "ccc")
    jobs = [job(name) for name in names]
    train_all(jobs[:1], context(tmp_path / "parallel"), pool)
    train_all(jobs[1:], context(tmp_path / "parallel"), pool)
    printed, deadline = "", time.monotonic() + 60
    while "autoencode/bb: 30 of 30 steps" not in printed and time.monotonic() < deadline:
        time.sleep(0.01)
        printed += capsys.readouterr().err
    assert "autoencode/bb: 30 of 30 steps" in printed
    one_thread = context(tmp_path / "single", replace(TWO_THREADS, threads=1))
    for name, each in zip(names[1:], jobs[1:], strict=True):
        weights = train(job(name), one_thread).weights
        state = each.objective.state_dict()
        assert all(torch.equal(state[key], weights[key]) for key in weights)
        # Trained once: the weights of the worker are taken, not computed again.
        assert steps_of(tmp_path / "parallel", name) == [*range(1, CONFIG.steps + 1)]


def test_a_job_that_cannot_be_pickled_is_trained_in_this_process(
    pool: TrainingPool, tmp_path: Path
) -> None:
    unpicklable = Regression()
    unpicklable.lock = Lock()  # type: ignore[assignment]
    unpicklable.__dict__["__deepcopy__"] = lambda _: Regression()
    weights = pool.train(job("a", unpicklable), context(tmp_path / "pool")).weights
    expected = train(job("a"), context(tmp_path / "single")).weights
    assert all(torch.equal(expected[key], weights[key]) for key in expected)


def test_a_batch_is_shared_where_each_process_has_enough_rows() -> None:
    pool = SimpleNamespace(workers=4)
    eight = replace(TWO_THREADS, threads=8)
    shared = replace(eight, processes=2, threads=4)
    assert shared_training(512, eight, pool) == shared  # type: ignore[arg-type]
    for batch_size, compute in [(511, eight), (513, eight), (512, replace(eight, devices=2))]:
        assert shared_training(batch_size, compute, pool) == compute  # type: ignore[arg-type]
    assert shared_training(512, eight, None) == eight


def test_processes_that_share_batches_train_on_the_mean_of_their_gradients(
    pool: TrainingPool, tmp_path: Path
) -> None:
    shared = context(tmp_path, replace(TWO_THREADS, threads=1, processes=2))
    steps = 20
    trained = pool.train_together(job("a", Regression(dropout=0.0), steps), shared).weights
    with pytest.raises(NumericalError, match="autoencode/b, step 1: the loss"):
        pool.train_together(job("b", Regression(nan=True)), shared)
    marker = tmp_path / "failed"
    with pytest.raises(OSError, match="only one of the processes"):
        pool.train_together(job("c", FailsOnce(marker)), shared)
    objective, expected = Regression(dropout=0.0), job("a", steps=steps)
    (vector,) = flatten_parameters(objective.parameters())
    adam = torch.optim.Adam([vector], fused=True)
    for step in range(steps):
        adam.zero_grad(set_to_none=False)
        for rank in range(2):
            seed = derive(shared.seed, "autoencode/a", step, rank, "draws")
            generator = Generator().manual_seed(seed)
            chosen = torch.randint(40, (CONFIG.batch_size // 2,), generator=generator)
            batch = {name: x[chosen] for name, x in expected.rows.items()}
            (objective(batch, generator)[0] / 2).backward()
        nn.utils.clip_grad_norm_([vector], 1.0)
        adam.param_groups[0]["lr"] = learning_rate(expected.config, step)
        adam.step()
    for name, tensor in objective.state_dict().items():
        torch.testing.assert_close(trained[name], tensor)


@pytest.mark.slow
def test_processes_that_share_batches_end_at_the_same_step(
    pool: TrainingPool, tmp_path: Path
) -> None:
    shared = context(tmp_path, replace(TWO_THREADS, threads=1, processes=2))
    still = replace(CONFIG, batch_size=200, learning_rate=0.0, patience=2)
    end = pool.train_together(replace(job("still"), config=still), shared).end
    assert end is not None
    assert end.reason == "patience"
    assert end.step == steps_of(tmp_path, "still")[-1] < CONFIG.steps
    limited = replace(job("limited"), config=replace(CONFIG, time_limit=1e-9))
    end = pool.train_together(limited, shared).end
    assert end == TrainingEnd("time limit", 1, CONFIG.steps)


@pytest.mark.slow
@pytest.mark.long
def test_interrupted_processes_that_share_batches_resume_to_the_same_bits(tmp_path: Path) -> None:
    compute = replace(TWO_THREADS, threads=1, processes=2)
    parts, long = context(tmp_path / "parts", compute), Regression(seconds=0.02)

    def interrupt_later(pool: TrainingPool) -> None:
        while not steps_of(tmp_path / "parts", "long"):
            time.sleep(0.1)
        pool.interrupt()

    with TrainingPool(2) as pool:
        Thread(target=interrupt_later, args=(pool,)).start()
        with pytest.raises(KeyboardInterrupt):
            pool.train_together(job("long", long, steps=2000), parts)
    interrupted_at = len(steps_of(tmp_path / "parts", "long"))
    assert 0 < interrupted_at < 2000
    with TrainingPool(2) as pool:
        resumed, uninterrupted = (
            pool.train_together(job("long", steps=2000), context(tmp_path / name, compute)).weights
            for name in ("parts", "whole")
        )
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in uninterrupted)


@pytest.mark.slow
def test_an_error_interrupts_the_other_training_which_resumes(tmp_path: Path) -> None:
    long = job("long", Regression(seconds=0.05), steps=200)
    jobs = [long, job("nan", Regression(nan=True))]
    message = "autoencode/nan, step 1: the loss"
    with TrainingPool(2) as pool, pytest.raises(NumericalError, match=message):
        train_all(jobs, context(tmp_path / "parts"), pool)
    interrupted_at = len(steps_of(tmp_path / "parts", "long"))
    assert interrupted_at < 50
    one_thread = replace(TWO_THREADS, threads=1)
    weights = train(job("long", steps=200), context(tmp_path / "parts", one_thread)).weights
    uninterrupted = train(job("long", steps=200), context(tmp_path / "whole", one_thread)).weights
    assert all(torch.equal(weights[name], uninterrupted[name]) for name in uninterrupted)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 60
    while not steps_of(tmp_path, "long") and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))
    assert len(steps_of(tmp_path, "long")) < 600


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.is_file() and ") Z " not in status.read_text()


if __name__ == "__main__":
    with TrainingPool(1) as pool:
        long_job = job("long", Regression(seconds=0.1), steps=600)
        pool.train(long_job, context(Path(sys.argv[1])))
