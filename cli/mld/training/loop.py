"""One process's share of a training: steps until done, each a function of the seed alone."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from mld.runtime.compute import Compute
from mld.runtime.progress import progress
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.training.checkpoint import Checkpoint, optimiser_state, read_checkpoint, restore_optimiser
from mld.training.loss_meter import LossMeter
from mld_core.diffusion.ema import EMA
from mld_core.errors import NumericalError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOGS = 50
"""How often a training is validated and logged."""
VALIDATION_ROWS = 1024
MAX_GRAD_NORM = 1.0
"""Gradients with a larger norm are scaled down to it."""


@dataclass(frozen=True)
class Settings:
    """How one job is trained; `ema` is the decay of the averaged weights, None for no average."""

    steps: int
    batch_size: int
    learning_rate: float
    ema: float | None
    seed: int


class Objective(nn.Module, ABC):
    """A loss to minimise, which owns the network to train as a submodule.

    Buffers must change in place: the average of the weights follows the tensors of the beginning.
    """

    @abstractmethod
    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss of a batch, and its parts by modality: the same names every time.

        Draws come from `generator`, which lives on the batch's device; dropout and its like may
        use torch's global one.
        """

    def sampling_weights(self, rows: Mapping[str, Tensor]) -> Float[Tensor, " row"] | None:
        """How often each training row is drawn, relative to the others; None: all alike."""
        return None


@dataclass(frozen=True)
class Work:
    """What every process of a training is given."""

    job: str
    objective: Objective
    rows: Mapping[str, Tensor]
    validation: Mapping[str, Tensor] | None
    settings: Settings
    compute: Compute
    run_dir: RunDir
    making: str
    interval: float


def train_loop(work: Work, fabric: Fabric, asked_to_stop: Callable[[], bool]) -> None:
    """Update until done; the first process logs, shows and saves. KeyboardInterrupt if asked to."""
    training = _Training(work, fabric)
    steps, first = work.settings.steps, fabric.is_global_zero
    every = max(1, steps // LOGS)
    # To look at a loss is to wait for the GPU; a processor has nothing to wait for.
    patience = 1 if fabric.device.type == "cpu" else 20
    meter = LossMeter(work.job, work.settings.batch_size, training.objective)
    saved = time.monotonic()
    with progress(work.job, training.update, steps) if first else nullcontext() as show:
        while training.update < steps:
            meter.add(*training.find_gradients(asked_to_stop()))
            number = training.update + 1
            due = number % every == 0 or number == steps
            looked = due or number % patience == 0
            stopped = looked and meter.look(number)
            training.apply_gradients()
            if first and looked:
                told = meter.log() if due else meter.summary()
                show(number, told.loss, told.rate)
                if due:
                    training.log(told.loss, told.parts, told.rate)
                overdue = time.monotonic() - saved >= work.interval
                if overdue or stopped or number == steps:
                    training.save()
                    saved = time.monotonic()
            if stopped:
                raise KeyboardInterrupt


class _Step(nn.Module):
    """The objective as Fabric sees it: a batch in plain sight it would round to half precision."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(
        self, batch: Callable[[], Mapping[str, Tensor]], generator: Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.objective(batch(), generator)


class _Training:
    """A training between two steps."""

    def __init__(self, work: Work, fabric: Fabric) -> None:
        self.work = work
        self.fabric = fabric
        self.objective = copy.deepcopy(work.objective).train()
        self.update = 0
        kept = read_checkpoint(work.run_dir, work.job, work.making)
        if kept:
            self.update = kept.update
            self.objective.load_state_dict(kept.weights)
        self.trained = [p for p in self.objective.parameters() if p.requires_grad]
        scaled = work.compute.precision == "16-mixed"
        # Fused Adam would unscale by itself, after the clipping.
        self.adam = torch.optim.Adam(self.trained, work.settings.learning_rate, fused=not scaled)
        self.step, self.optimiser = fabric.setup(_Step(self.objective), self.adam)
        self.precision = fabric.strategy.precision
        if kept:
            restore_optimiser(self.adam, kept.optimiser)
            self.precision.load_state_dict(dict(kept.scaler))
        self.state = self.objective.state_dict()
        self.ema = self._average(kept)
        self.rows = self._on_device(work.rows)
        self.count = len(next(iter(self.rows.values())))
        self.shares = self._cumulative(self.objective.sampling_weights(work.rows))
        self.held_out = self._validation_rows()
        self.generator = Generator(fabric.device)

    def _average(self, kept: Checkpoint | None) -> EMA | None:
        if self.work.settings.ema is None:
            return None
        source = self._on_device(kept.ema) if kept and kept.ema else self.state
        return EMA(source, self.work.settings.ema)

    def _on_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.fabric.device) for name, tensor in tensors.items()}

    def _cumulative(
        self, sampling_weights: Float[Tensor, " row"] | None
    ) -> Float[Tensor, " row"] | None:
        if sampling_weights is None:
            return None
        shares = (sampling_weights.double() / sampling_weights.double().sum()).cumsum(0)
        # Apple's GPUs have no float64.
        kind = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        return shares.to(kind).to(self.fabric.device)

    def _validation_rows(self) -> dict[str, Tensor] | None:
        if self.work.validation is None:
            return None
        count = len(next(iter(self.work.validation.values())))
        seed = derive(self.work.settings.seed, self.work.job, "validation rows")
        chosen = torch.randperm(count, generator=Generator().manual_seed(seed))[:VALIDATION_ROWS]
        return self._on_device({name: t[chosen] for name, t in self.work.validation.items()})

    def find_gradients(self, stop: bool) -> tuple[Float[Tensor, " value"], list[str]]:
        """A row for the ledger; the gradients of the next update stay with the parameters."""
        settings = self.work.settings
        seed = partial(derive, settings.seed, self.work.job, self.update, self.fabric.global_rank)
        self.generator.manual_seed(seed("draws"))
        self._reseed(seed("dropout"))
        chosen = self._draw(settings.batch_size // self.fabric.world_size)
        batch = {name: tensor.index_select(0, chosen) for name, tensor in self.rows.items()}
        loss, parts = self.step(lambda: batch, self.generator)
        self.adam.zero_grad()
        self.fabric.backward(loss)
        self.precision.unscale_gradients(self.adam)
        self.norm = nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])
        # Scaled gradients do overflow now and then: their optimiser skips that update.
        norm = torch.zeros_like(loss) if self.work.compute.precision == "16-mixed" else self.norm
        row = [torch.full_like(loss, float(stop)), norm, loss, *parts.values()]
        values = torch.stack([value.detach().float() for value in row])
        if self.fabric.world_size > 1:
            values = self.fabric.all_reduce(values, reduce_op="mean")
        return values, list(parts)

    def _reseed(self, seed: int) -> None:
        """Seed torch's global generator."""
        # Torch's own `manual_seed` is dear on a processor: it speaks to every kind of device.
        on_cpu = self.fabric.device.type == "cpu"
        (torch.default_generator.manual_seed if on_cpu else torch.manual_seed)(seed)

    def _draw(self, count: int) -> Int64[Tensor, " row"]:
        """Rows with replacement."""
        told = {"generator": self.generator, "device": self.fabric.device}
        if self.shares is None:
            return torch.randint(self.count, (count,), **told)
        u = torch.rand(count, dtype=self.shares.dtype, **told)
        return torch.searchsorted(self.shares, u, right=True).clamp(max=self.count - 1)

    def apply_gradients(self) -> None:
        """Make the update whose gradients were found."""
        nn.utils.clip_grads_with_norm_(self.trained, MAX_GRAD_NORM, self.norm)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.work.settings, self.update)
        self.optimiser.step()
        self.update += 1
        if self.ema:
            self.ema.update(self.state, self.update)

    @torch.no_grad()
    def validate(self) -> float | None:
        """The loss on the held-out rows, of the averaged weights if there are any.

        The same rows and draws every time, so that a curve shows the weights alone.
        NumericalError if it is not finite.
        """
        if self.held_out is None:
            return None
        seed = derive(self.work.settings.seed, self.work.job, "validation draws")
        self.generator.manual_seed(seed)
        self._reseed(seed)
        state = self.ema.state if self.ema else self.state
        held_out = {n: t.split(self.work.settings.batch_size) for n, t in self.held_out.items()}
        total = rows = 0.0
        self.objective.eval()
        for pieces in zip(*held_out.values(), strict=True):
            batch = dict(zip(held_out, pieces, strict=True))
            with self.fabric.autocast():
                loss, _ = torch.func.functional_call(self.objective, state, (batch, self.generator))
            total, rows = total + float(loss) * len(pieces[0]), rows + len(pieces[0])
        self.objective.train()
        if not math.isfinite(total):
            raise NumericalError(
                f"{self.work.job}, update {self.update}: the loss of the held-out rows "
                f"({total / rows}) is not finite, though that of the training rows is"
            )
        return total / rows

    def log(self, loss: float, parts: Mapping[str, float], rate: float) -> None:
        """Tell events.jsonl how far the training is."""
        self.work.run_dir.log(
            "train",
            job=self.work.job,
            step=self.update,
            steps=self.work.settings.steps,
            loss=loss,
            parts=dict(parts),
            validation=self.validate(),
            rate=round(rate, 1),
        )

    def save(self) -> None:
        """Write a checkpoint."""
        Checkpoint(
            making=self.work.making,
            update=self.update,
            weights=self.state,
            ema=self.ema.state if self.ema else None,
            optimiser=optimiser_state(self.adam),
            scaler=self.precision.state_dict(),
        ).write(self.work.run_dir, self.work.job)


def learning_rate(settings: Settings, update: int) -> float:
    """The rate of an update, counted from 0: a linear rise over 2 %, then a cosine down to 1 %."""
    rise = max(1, settings.steps // 50)
    if update < rise:
        return settings.learning_rate * (update + 1) / rise
    fall = (update - rise) / max(1, settings.steps - 1 - rise)
    return settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2)
