"""The one training loop: of autoencoders, of classifiers and of the score network.

Adam (0.9, 0.999) with a linear warm-up over the first 2 % of the steps and a cosine decay to 1 %
of the learning rate, gradients clipped at norm 1, an average of the weights where wanted.
A training that is interrupted, or killed, goes on from its checkpoint to the same bits.
"""

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
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mld.runtime.compute import Compute, using
from mld.storage.digests import digest
from mld.storage.run_dir import RunDir
from mld.training.checkpoint import read_checkpoint
from mld.training.loop import Objective, Settings, Work, train_loop
from mld_core.errors import NumericalError, SpecError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Trained:
    """The state dict of a trained objective, and of its averaged weights if there are any."""

    weights: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None


def train(
    job: str,
    objective: Objective,
    rows: Mapping[str, Tensor],
    validation: Mapping[str, Tensor] | None,
    settings: Settings,
    compute: Compute,
    run_dir: RunDir,
    fingerprint: str = "",
    interval: float = 10.0,
) -> Trained:
    """Train a copy of the objective, going on from its checkpoint if there is one.

    A finished training leaves its checkpoint, from which the next call returns at once; delete it
    when the stage is done. SIGINT and SIGTERM save a checkpoint, then raise KeyboardInterrupt.
    NumericalError if a loss or a gradient is not finite: the last checkpoint stays.

    Args:
        job: names the training in checkpoints, events and errors: "diffuse", "autoencode/digit".
        rows: tensors with the training rows along their first axis, drawn with replacement.
        validation: the same for held-out rows, of which a fixed 1,024 at most are used.
        made_from: a digest of the data and whatever else should make a checkpoint another's.
        interval: seconds between checkpoints.
    """
    if settings.batch_size % compute.devices:
        raise SpecError(
            f"{job}: a batch of {settings.batch_size} rows cannot be shared evenly by "
            f"compute.devices: {compute.devices}"
        )
    making = _making(job, objective, settings, compute, fingerprint)
    kept = read_checkpoint(run_dir, job, making)
    if kept is None and run_dir.checkpoint(job).is_file():
        told = f"{job} begins anew: its checkpoint belongs to other settings or data"
        run_dir.log("warning", stage=job.partition("/")[0], message=told)
    if kept is None or kept.update < settings.steps:
        _launch(
            Work(job, objective, rows, validation, settings, compute, run_dir, making, interval)
        )
        kept = read_checkpoint(run_dir, job, making)
    assert kept is not None, "a finished training leaves its checkpoint"
    return Trained(kept.weights, kept.ema)


def _making(
    job: str, objective: Objective, settings: Settings, compute: Compute, fingerprint: str
) -> str:
    """The digest of what shapes a training: a checkpoint of another cannot be gone on from."""
    return digest(
        {
            "job": job,
            "settings": asdict(settings),
            "shapes": {name: list(t.shape) for name, t in objective.state_dict().items()},
            "compute": [compute.precision, compute.threads, compute.devices],
            "made_from": fingerprint,
        }
    )


def _launch(work: Work) -> None:
    """Train on every device, each in its own process if there are several."""
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    several = work.compute.devices > 1
    fabric = Fabric(
        accelerator=work.compute.accelerator,
        devices=work.compute.devices,
        strategy="ddp_spawn" if several else "auto",
        precision=work.compute.precision,
    )
    others, port = set(multiprocessing.active_children()), os.environ.get("MASTER_PORT")
    with _on_signal(_interrupt):
        try:
            stopped = fabric.launch(partial(_train_rank, work))
        except KeyboardInterrupt:
            # They save and end, or die young; the caller's lock on the run must outlive them.
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
                child.join()
            raise
        finally:
            # Fabric would leave it for the next launch, and for every process begun from here.
            if port is None:
                os.environ.pop("MASTER_PORT", None)
    if stopped is not None:
        raise stopped


def _train_rank(work: Work, fabric: Fabric) -> BaseException | None:
    """One process's share of a training; what stopped it is returned, to cross processes."""
    threads = max(1, work.compute.threads // work.compute.devices)
    device = fabric.device
    forked = [] if device.type == "cpu" else [device]
    stop = threading.Event()
    with (
        using(replace(work.compute, threads=threads)),
        torch.random.fork_rng(forked, device_type=device.type),
        _on_signal(lambda *_: stop.set()),
    ):
        try:
            train_loop(work, fabric, stop.is_set)
        except (NumericalError, KeyboardInterrupt) as stopped:
            return stopped
        finally:
            # Threads of a process group that outlive the interpreter abort the process.
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
    return None


@contextmanager
def _on_signal(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so until the block ends; only the main thread can."""
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
    # A second signal must not cut short the wait for those who save.
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    raise KeyboardInterrupt
