"""The training loop, shared by all networks; each process (rank) runs it once.

Adam (0.9, 0.999), linear warm-up over the first 2 % of the steps and cosine decay to 1 % of the
learning rate, gradients clipped at norm 1, optionally a moving average of the weights, of which the
best on the validation rows may be kept. A training that patience or a time limit ends before its
last step leaves out the rest of the decay. Every batch and every random draw derives from (seed,
job, step, rank), so that a resumed training gives the same bits as an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from mld.data.latent_rows import LatentRows
from mld.data.stored_rows import StoredRows, rows_on, select_rows
from mld.runtime.context import RunContext
from mld.runtime.memory import free_gpu_memory
from mld.runtime.progress import training_progress
from mld.runtime.seeds import derive
from mld.storage.stages import stage_of_job
from mld.training.checkpoint import (
    BestWeights,
    Checkpoint,
    Ending,
    optimizer_state,
    read_checkpoint,
    restore_optimizer,
)
from mld.training.compilation import compile_method, compiler_errors, uncompiled
from mld.training.flat_parameters import flatten_parameters
from mld.training.job import Objective, TrainConfig, TrainJob
from mld.training.loss_meter import LossMeter, Requests
from mld.training.ranks import Ranks
from mld_core.diffusion.ema import EMA
from mld_core.errors import NumericalError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOG_POINTS = 50
"""How often a training is logged."""
VALIDATION_SHARE = 0.05
"""Rows validated in a training, as a share of those trained on, which cost three times as much."""
VALIDATION_POINTS = 10
"""How often a training is validated, unless that is too many rows or too few."""
MIN_VALIDATION_ROWS, MAX_VALIDATION_ROWS = 64, 1024
REPEATED_VALIDATION_ROWS = 256
"""Fewer rows are validated several times with other draws, up to about this number."""
GPU_SYNC_STEPS = 20
"""Steps between reads of the loss on a GPU."""
GPU_ROWS_SHARE = 0.1
"""Of a GPU's free memory, that latents may take there; more of them are copied batch by batch."""
MAX_GRAD_NORM = 1.0


def fit(
    job: TrainJob,
    context: RunContext,
    fabric: Fabric,
    ranks: Ranks,
    should_stop: Callable[[], bool],
    checkpoint_seconds: float,
) -> None:
    """Train until the training ends, from the last checkpoint if there is one.

    Rank 0 logs, shows progress and saves. KeyboardInterrupt, after saving, once `should_stop()` is
    true on any rank. NumericalError if a loss or a gradient is not finite.
    """
    trainer = Trainer(job, context, fabric, ranks)
    steps, is_first = job.config.steps, ranks.rank == 0
    log_every = _log_every(steps)
    if is_first and job.config.patience and not trainer.validation_plan.rows:
        message = f"{job.name}: patience has no effect, because there are no validation rows for it"
        context.run_dir.warn(stage_of_job(job.name), message)
    # Reading a loss synchronises with the GPU; on a CPU there is nothing to wait for.
    sync_every = 1 if fabric.device.type == "cpu" else GPU_SYNC_STEPS
    meter = LossMeter(job.name, job.config.batch_size, trainer.objective)
    saved_at = time.monotonic()
    progress = training_progress(job.name, trainer.step, steps) if is_first else nullcontext()
    with progress as show:
        while not trainer.ended:
            meter.update(*trainer.forward_backward(should_stop()))
            step = trainer.step + 1
            should_log = step % log_every == 0 or step == steps
            should_sync = should_log or step % sync_every == 0
            requests = meter.sync_and_check(step) if should_sync else Requests(False, False)
            trainer.optimizer_step()
            if show is not None and should_sync:
                means = meter.means()
                show(step, means.loss, means.rows_per_second)
                if should_log or requests.end:
                    meter.reset()
                    trainer.log(means.loss, means.parts, means.rows_per_second, requests.end)
            trainer.check_end(requests.end)
            is_overdue = should_sync and time.monotonic() - saved_at >= checkpoint_seconds
            if is_first and (is_overdue or requests.stop or trainer.ended):
                trainer.save()
                saved_at = time.monotonic()
            if requests.stop:
                raise KeyboardInterrupt


class Trainer:
    """The state of a training job on one rank, and the parts of a step."""

    def __init__(self, job: TrainJob, context: RunContext, fabric: Fabric, ranks: Ranks) -> None:
        self.job = job
        self.context = context
        self.fabric = fabric
        self.ranks = ranks
        self.objective = copy.deepcopy(job.objective).train()
        self.step = 0
        self.ended: Ending | None = None
        checkpoint = read_checkpoint(context.run_dir, job.name, job.fingerprint(context))
        if checkpoint:
            self.step = checkpoint.step
            self.objective.load_state_dict(checkpoint.weights)
        self.module = fabric.setup_module(_DeferredBatch(self.objective))
        trained = (p for p in self.objective.parameters() if p.requires_grad)
        self.parameters = flatten_parameters(trained)
        if context.compute.compile:
            compile_method(self.objective, self.objective.compiled)
        self.scales_gradients = context.compute.precision == "16-mixed"
        # With 16-mixed, gradients are unscaled before clipping; fused Adam would do it after.
        fused = not self.scales_gradients
        self.adam = torch.optim.Adam(self.parameters, job.config.learning_rate, fused=fused)
        self.optimizer: Any = fabric.setup_optimizers(self.adam)
        self.precision: Any = fabric.strategy.precision
        if checkpoint:
            restore_optimizer(self.adam, checkpoint.optimizer)
            self.precision.load_state_dict(dict(checkpoint.scaler))
        self.state = self.objective.state_dict()
        self.ema = self._make_ema(checkpoint)
        self.best = checkpoint.best if checkpoint else None
        self.rows = {name: self._placed(x) for name, x in job.rows.items()}
        self.row_count = len(next(iter(self.rows.values())))
        self.row_cdf = self._row_cdf(self.objective.sampling_weights(job.rows))
        held_out = len(next(iter(job.validation.values())))
        self.validation_plan = plan_validation(job.config, held_out)
        self.validation = self._validation_rows(held_out)
        self.generator = Generator(fabric.device)
        self._start = time.monotonic() - (checkpoint.seconds if checkpoint else 0.0)

    @property
    def seconds(self) -> float:
        """That the training has taken, summed over resumes."""
        return time.monotonic() - self._start

    def check_end(self, end: bool) -> None:
        """Set `ended` if the training ends after this step, on all ranks at the same one.

        Args:
            end: whether any rank has requested it.
        """
        config, plan = self.job.config, self.validation_plan
        if self.step == config.steps:
            self.ended = "steps"
        elif end:
            self.ended = "time limit"
        elif config.patience and plan.rows and self.step % plan.every == 0:
            # Only rank 0 validates.
            best = self.best or BestWeights(self.step, math.inf, {})
            is_stale = self.step - best.step >= config.patience * plan.every
            flag = torch.full((1,), float(is_stale), device=self.fabric.device)
            self.ended = "patience" if self.ranks.mean(flag).item() else None

    def _make_ema(self, checkpoint: Checkpoint | None) -> EMA | None:
        if self.job.config.ema_decay is None:
            return None
        saved = checkpoint.ema if checkpoint else None
        return EMA(self._to_device(saved) if saved else self.state, self.job.config.ema_decay)

    def _to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.fabric.device) for name, tensor in tensors.items()}

    def _placed(self, x: Tensor | StoredRows) -> Tensor | StoredRows:
        """Rows where batches are taken from: on the device, or where stored ones are kept.

        Latents are on a GPU where they take a small part of its memory.
        """
        device = self.fabric.device
        if isinstance(x, LatentRows) and x.nbytes <= GPU_ROWS_SHARE * free_gpu_memory(device):
            return x.all_on(device)
        return x if isinstance(x, StoredRows) else x.to(device)

    def _take(self, x: Tensor | StoredRows, rows: Int64[Tensor, " row"]) -> Tensor:
        """Some rows, on the device."""
        return rows_on(x, rows, self.fabric.device)

    def _row_cdf(self, weights: Float[Tensor, " row"] | None) -> Float[Tensor, " row"] | None:
        """Cumulative probability of drawing each training row; None for uniform sampling."""
        if weights is None:
            return None
        cdf = (weights.double() / weights.double().sum()).cumsum(0)
        # Apple's GPUs have no float64.
        dtype = torch.float32 if self.fabric.device.type == "mps" else torch.float64
        return cdf.to(dtype).to(self.fabric.device)

    def _validation_rows(self, count: int) -> dict[str, Tensor | StoredRows]:
        """The planned number of the `count` validation rows, the same ones every time."""
        seed = derive(self.context.seed, self.job.name, "validation rows")
        chosen = torch.randperm(count, generator=Generator().manual_seed(seed))
        chosen = chosen.repeat(self.validation_plan.copies)[: self.validation_plan.rows]
        return {
            name: self._placed(select_rows(x, chosen)) for name, x in self.job.validation.items()
        }

    def forward_backward(self, stop: bool) -> tuple[Float[Tensor, " value"], list[str]]:
        """Draw a batch and compute its gradients; returns values and part names for the meter.

        Args:
            stop: whether to request to stop.
        """
        seed = partial(derive, self.context.seed, self.job.name, self.step, self.ranks.rank)
        self.generator.manual_seed(seed("draws"))
        self._seed_global(seed("dropout"))
        chosen = self._draw_rows(self.job.config.batch_size // self.ranks.size)
        # In place, because the gradients are views.
        self.adam.zero_grad(set_to_none=False)
        losses, names = self._accumulate_gradients(chosen)
        self.ranks.average_gradients(self.parameters)
        self.precision.unscale_gradients(self.adam)
        self.grad_norm = nn.utils.get_total_norm([p.grad for p in self.parameters])
        # With 16-mixed an overflow is normal (the scaler skips the step), so it is not checked.
        norm = torch.zeros_like(losses[0]) if self.scales_gradients else self.grad_norm
        # Requests travel with the losses, so that all ranks stop or end at the same step.
        limit = self.job.config.time_limit
        requests = (stop, limit is not None and self.seconds >= limit)
        flags = [torch.full_like(losses[0], float(request)) for request in requests]
        values = torch.stack([*flags, norm.detach().float(), *losses])
        return self.ranks.mean(values), names

    def _accumulate_gradients(
        self, chosen: Int64[Tensor, " row"]
    ) -> tuple[Float[Tensor, " value"], list[str]]:
        """Add up the gradients of a batch's mean loss, a micro-batch after the other.

        Returns that loss and its parts, and the names of the parts.
        """
        micro_batches = chosen.split(self.job.config.micro_batch_size or len(chosen))
        weighted: list[Float[Tensor, " value"]] = []
        for index, rows in enumerate(micro_batches, start=1):
            batch = {name: self._take(x, rows) for name, x in self.rows.items()}
            share, is_last = len(rows) / len(chosen), index == len(micro_batches)
            # Devices average their gradients once, after the last one.
            with (
                self.fabric.no_backward_sync(self.module, enabled=not is_last),
                compiler_errors(self.job.name, self.context.compute.compile),
            ):
                loss, parts = self.module(lambda batch=batch: batch, self.generator)
                self.fabric.backward(loss if share == 1 else share * loss)
            losses = torch.stack([value.detach().float() for value in (loss, *parts.values())])
            weighted.append(share * losses)
        return torch.stack(weighted).sum(0), [*parts]

    def _seed_global(self, seed: int) -> None:
        """Seed torch's global generator."""
        # torch.manual_seed is slow on a CPU, because it seeds every backend.
        if self.fabric.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _draw_rows(self, count: int) -> Int64[Tensor, " row"]:
        """Indices of training rows, with replacement."""
        device = self.fabric.device
        if self.row_cdf is None:
            return torch.randint(self.row_count, (count,), generator=self.generator, device=device)
        u = torch.rand(count, dtype=self.row_cdf.dtype, generator=self.generator, device=device)
        return torch.searchsorted(self.row_cdf, u, right=True).clamp(max=self.row_count - 1)

    def optimizer_step(self) -> None:
        """Clip the gradients and update the weights and their average."""
        nn.utils.clip_grads_with_norm_(self.parameters, MAX_GRAD_NORM, self.grad_norm)
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.job.config, self.step)
        self.optimizer.step()
        self.step += 1
        if self.ema:
            self.ema.update(self.state, self.step)

    @torch.no_grad()
    def validate(self) -> float:
        """The loss on the validation rows, of the averaged weights if there are any.

        The same rows and draws every time, so that a curve shows the weights alone.
        NumericalError if it is not finite.
        """
        seed = derive(self.context.seed, self.job.name, "validation draws")
        self.generator.manual_seed(seed)
        self._seed_global(seed)
        state = self.ema.state if self.ema else self.state
        total = rows = 0.0
        self.objective.eval()
        size = self.job.config.micro_batch_size or self.job.config.batch_size
        for part in torch.arange(self.validation_plan.rows).split(size):
            batch = {name: self._take(x, part) for name, x in self.validation.items()}
            with self.fabric.autocast(), uncompiled(self.context.compute.compile):
                loss, _ = torch.func.functional_call(self.objective, state, (batch, self.generator))
            total, rows = total + float(loss) * len(part), rows + len(part)
        self.objective.train()
        if not math.isfinite(total):
            raise NumericalError(
                f"{self.job.name}, step {self.step}: the loss of the held-out rows "
                f"({total / rows}) is not finite, though that of the training rows is"
            )
        return total / rows

    def log(
        self, loss: float, parts: Mapping[str, float], rows_per_second: float, end: bool
    ) -> None:
        """Add an event to the run's log, with the validation loss at the steps planned for it.

        Args:
            end: whether the training ends early after this step.
        """
        plan, config = self.validation_plan, self.job.config
        is_planned = self.step % plan.every == 0 or self.step == config.steps or end
        validation = self.validate() if plan.rows and is_planned else None
        if validation is not None and (config.keep == "best" or config.patience):
            self._keep_if_best(validation)
        self.context.run_dir.log(
            "train",
            job=self.job.name,
            step=self.step,
            steps=config.steps,
            loss=loss,
            parts=dict(parts),
            validation=validation,
            rate=round(rows_per_second, 1),
        )

    def _keep_if_best(self, loss: float) -> None:
        """Keep a copy of the weights that were validated if no earlier ones were as good."""
        if self.best is None or loss < self.best.loss:
            state = self.ema.state if self.ema else self.state
            copied = {name: tensor.detach().clone() for name, tensor in state.items()}
            self.best = BestWeights(self.step, loss, copied)

    def save(self) -> None:
        """Write a checkpoint."""
        Checkpoint(
            fingerprint=self.job.fingerprint(self.context),
            step=self.step,
            weights=self.state,
            ema=self.ema.state if self.ema else None,
            optimizer=optimizer_state(self.adam),
            scaler=self.precision.state_dict(),
            best=self.best,
            ended=self.ended,
            seconds=self.seconds,
        ).write(self.context.run_dir, self.job.name)


class _DeferredBatch(nn.Module):
    """Takes the batch as a callable, because Fabric casts tensor arguments to half precision."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(
        self, batch: Callable[[], Mapping[str, Tensor]], generator: Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.objective(batch(), generator)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ValidationPlan:
    """Steps between validations, the rows of each, and how often it has each row at most."""

    every: int
    rows: int
    copies: int = 1


def plan_validation(config: TrainConfig, count: int) -> ValidationPlan:
    """When to validate, and on how many of `count` rows; at the last step in any case.

    Ten times, on as many rows as `VALIDATION_SHARE` allows. If these are fewer than 64, less often;
    if there are not so many, or more than 1,024, more often, at most as often as the training logs.
    Few rows are repeated, since a loss of few draws says little.
    """
    allowed = int(VALIDATION_SHARE * config.steps * config.batch_size)
    rows = max(allowed // VALIDATION_POINTS, MIN_VALIDATION_ROWS)
    rows = min(rows, MAX_VALIDATION_ROWS)
    copies = max(1, min(rows, REPEATED_VALIDATION_ROWS) // max(1, count))
    rows = min(rows, copies * count)
    points = max(1, allowed // max(1, rows))
    log_every = _log_every(config.steps)
    every = log_every * math.ceil(config.steps / log_every / points)
    return ValidationPlan(every, rows, copies)


def _log_every(steps: int) -> int:
    return max(1, steps // LOG_POINTS)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then cosine decay to 1 %."""
    warmup_steps = max(1, config.steps // 50)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, config.steps - 1 - warmup_steps)
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
