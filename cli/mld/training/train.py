"""Launch and resume of a training, on one device or several."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from pydantic import JsonValue
from torch import Tensor

from mld.runtime.compute import Compute, torch_threads
from mld.runtime.context import RunContext
from mld.runtime.fabric import import_fabric
from mld.runtime.progress import note
from mld.storage.run_dir import RunDir
from mld.storage.stages import stage_of_job
from mld.training.checkpoint import TrainingEnd, read_checkpoint
from mld.training.job import TrainJob
from mld.training.loop import fit
from mld.training.ranks import DeviceRanks, Ranks
from mld.training.shared_files import SharedFiles
from mld_core.errors import NumericalError, SpecError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


CHECKPOINT_SECONDS = 10.0
"""The usual time between checkpoints."""
EARLY_SHARE = 0.5
"""Of the steps; best weights from earlier ones are told as a sign of overfitting."""


@dataclass(frozen=True)
class TrainedWeights:
    """The state dict of a trained objective, and that of its averaged weights if any.

    Of a training that keeps the best weights, `ema` are those, or `weights` without an average.

    Args:
        end: how the training has ended; None if nothing was to be trained.
    """

    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    end: TrainingEnd | None = None

    def end_of(self, job: str) -> dict[str, JsonValue]:
        """How the training has ended, by its name, as a stage records it."""
        return {job: asdict(self.end)} if self.end else {}


def _never() -> bool:
    return False


def train(
    job: TrainJob,
    context: RunContext,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    should_stop: Callable[[], bool] = _never,
) -> TrainedWeights:
    """Train a copy of the job's objective, resuming from its checkpoint if there is one.

    A finished training leaves its checkpoint, from which the next call returns at once; delete it
    when the stage is complete. SIGINT and SIGTERM save a checkpoint, then raise KeyboardInterrupt.
    NumericalError if a loss or a gradient is not finite: the last checkpoint stays.

    Args:
        checkpoint_seconds: time between checkpoints.
        should_stop: asked at every step whether to do as on SIGINT.
    """
    return train_by(partial(launch, job, context, checkpoint_seconds, should_stop), job, context)


def train_by(launched: Callable[[], None], job: TrainJob, context: RunContext) -> TrainedWeights:
    """The weights that `launched` trains, unless there is a finished checkpoint.

    SpecError if the batch cannot be shared by the devices.
    """
    run_dir, devices = context.run_dir, context.compute.devices
    if job.config.batch_size % devices:
        raise SpecError(
            f"{job.name}: a batch of {job.config.batch_size} rows cannot be shared evenly by "
            f"{devices} devices"
        )
    fingerprint = job.fingerprint(context)
    checkpoint = read_checkpoint(run_dir, job.name, fingerprint)
    if checkpoint is None and run_dir.checkpoint(job.name).is_file():
        message = f"{job.name} starts anew: its checkpoint belongs to other settings or data"
        run_dir.warn(stage_of_job(job.name), message)
    if checkpoint is None or not checkpoint.ended:
        launched()
    return finished_weights(job, context)


def is_finished(job: TrainJob, context: RunContext) -> bool:
    """Whether the run holds the checkpoint of the finished training."""
    checkpoint = read_checkpoint(context.run_dir, job.name, job.fingerprint(context))
    return checkpoint is not None and checkpoint.ended is not None


def finished_weights(job: TrainJob, context: RunContext) -> TrainedWeights:
    """The weights of a finished training, from the checkpoint that it has left."""
    checkpoint = read_checkpoint(context.run_dir, job.name, job.fingerprint(context))
    assert checkpoint is not None, "a finished training leaves its checkpoint"
    assert checkpoint.ended
    best = checkpoint.best if job.config.keep == "best" else None
    end = TrainingEnd(
        checkpoint.ended, checkpoint.step, job.config.steps, best.step if best else None
    )
    if best is None:
        return TrainedWeights(checkpoint.weights, checkpoint.ema, end)
    if checkpoint.ema is None:
        return TrainedWeights(best.state, None, end)
    return TrainedWeights(checkpoint.weights, best.state, end)


def report_end(job: TrainJob, end: TrainingEnd, context: RunContext) -> None:
    """Say on stderr that a training has ended early, and warn of weights that may do better."""
    stage = stage_of_job(job.name)
    progress = f"{end.step:,} of {end.steps:,} steps"
    if end.reason == "patience":
        best = "" if end.best is None else f"; those of step {end.best:,} are kept"
        note(f"{job.name}: ended after {progress}, as the validation loss fell no more{best}")
    elif end.reason == "time limit":
        context.run_dir.warn(
            stage,
            f"{job.name} was cut short after {progress} by time_limit: "
            f"{job.config.time_limit:g} seconds, while its learning rate was still high; "
            "fewer steps in the same time do better",
        )
    elif (
        job.objective.warns_if_early
        and end.best is not None
        and end.best <= end.steps * EARLY_SHARE
    ):
        context.run_dir.warn(
            stage,
            f"{job.name}: the validation loss was lowest at step {end.best:,} of "
            f"{end.steps:,}, whose weights are kept: the network then began to memorise the "
            "training rows; fewer steps, a smaller network or dropout may do better",
        )


def launch(
    job: TrainJob,
    context: RunContext,
    checkpoint_seconds: float,
    should_stop: Callable[[], bool],
    ranks: Ranks | None = None,
) -> None:
    """Train up to the last checkpoint; arguments and errors as of `train`.

    On several devices there is a process for each: those that a launcher has started, if it has,
    or new ones.

    Args:
        ranks: of which this process is one, if it is not alone and connects with them itself.
    """
    followers = context.followers
    if followers is None or context.compute.devices == 1:
        _launch(job, context, checkpoint_seconds, should_stop, ranks)
        return
    # The working directories of the nodes may differ.
    context = replace(context, run_dir=RunDir(context.run_dir.path.resolve()))
    files = SharedFiles.of(job, context)
    followers.call(_launch_together, job, context, checkpoint_seconds, should_stop, files)


def _launch_together(
    job: TrainJob,
    context: RunContext,
    checkpoint_seconds: float,
    should_stop: Callable[[], bool],
    files: SharedFiles,
) -> None:
    """In every process of the run: train once this process sees the leader's files."""
    files.wait(job, context)
    _launch(job, context, checkpoint_seconds, should_stop, is_together=True)


def _launch(
    job: TrainJob,
    context: RunContext,
    checkpoint_seconds: float,
    should_stop: Callable[[], bool],
    ranks: Ranks | None = None,
    is_together: bool = False,
) -> None:
    """As `launch`; if `is_together`, every process of the run does this."""
    compute = context.compute
    strategy = "ddp" if is_together else "auto"
    train_rank: Callable[..., BaseException | None] = _train_rank
    if compute.devices > 1 and not is_together:
        strategy, train_rank = "ddp_spawn", _train_spawned_rank
    fabric = training_fabric(compute, strategy, is_together)
    earlier, port = set(multiprocessing.active_children()), os.environ.get("MASTER_PORT")
    with _on_signal(_interrupt):
        try:
            rank = partial(train_rank, job, context, checkpoint_seconds, should_stop, ranks)
            stopped = fabric.launch(rank)
        except KeyboardInterrupt:
            # Workers save and exit, or are terminated; the caller holds the run's lock until then.
            for child in set(multiprocessing.active_children()) - earlier:
                child.terminate()
                child.join()
            raise
        finally:
            # Fabric sets it, for the next launch and for every later child process.
            if port is None:
                os.environ.pop("MASTER_PORT", None)
    if stopped is not None:
        raise stopped


def training_fabric(compute: Compute, strategy: str = "auto", is_together: bool = False) -> Fabric:
    """What puts a training on its devices.

    Args:
        is_together: whether a launcher has started the processes of the training.
    """
    import_fabric()
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(
        accelerator=compute.accelerator,
        devices=compute.devices // compute.nodes,
        num_nodes=compute.nodes,
        strategy=strategy,
        precision=compute.precision,
        # Another training does not mind a launcher.
        plugins=None if is_together else LightningEnvironment(),
    )


def _train_spawned_rank(*args: Any) -> BaseException | None:
    """As `_train_rank`, in a process that has been started for this."""
    try:
        return _train_rank(*args)
    finally:
        # Threads of a process group that outlive the interpreter abort the process.
        torch.distributed.destroy_process_group()


def _train_rank(
    job: TrainJob,
    context: RunContext,
    checkpoint_seconds: float,
    should_stop: Callable[[], bool],
    ranks: Ranks | None,
    fabric: Fabric,
) -> BaseException | None:
    """One process's part of a training; what stopped it is returned, to cross processes."""
    threads = max(1, context.compute.threads // context.compute.devices)
    device = fabric.device
    forked = [] if device.type == "cpu" else [device]
    stop = threading.Event()
    with (
        torch_threads(replace(context.compute, threads=threads)),
        torch.random.fork_rng(forked, device_type=device.type),
        _on_signal(lambda *_: stop.set()),
    ):
        try:
            fit(
                job,
                context,
                fabric,
                ranks or DeviceRanks(fabric),
                lambda: stop.is_set() or should_stop(),
                checkpoint_seconds,
            )
        except (NumericalError, KeyboardInterrupt) as error:
            return error
        # A signal in the last step ends the run as any other does.
        return KeyboardInterrupt() if stop.is_set() else None


@contextmanager
def _on_signal(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM until the block ends; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A second signal must not cut short the wait for workers that save.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    raise KeyboardInterrupt
