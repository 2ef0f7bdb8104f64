"""Training of per-modality networks: autoencoders and classifiers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from jaxtyping import Float, Shaped
from torch import Generator, Tensor, nn

from mld.config.sections import TrainingSpec
from mld.runtime.context import RunContext
from mld.storage.digests import code_digest
from mld.training.cached import Train, is_in_progress, train_cached
from mld.training.job import Objective, Rows, TrainConfig, TrainJob
from mld.training.parallel import Trainers, parallel_trainings
from mld.training.train import train
from mld_core import Modality

if TYPE_CHECKING:
    from pydantic import JsonValue


class ModalityObjective(Objective):
    """Loss of one modality's network; augments its items in training mode.

    Args:
        name: the modality's name in the spec.
    """

    compiled = "loss"

    def __init__(self, name: str, modality: Modality, network: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.modality = modality
        self.network = network

    @abstractmethod
    def loss(
        self, x: Shaped[Tensor, " row *item"], batch: Mapping[str, Tensor]
    ) -> Float[Tensor, " row"]:
        """In nats, of the items `x`, which may be augmented; `batch` holds all else."""

    def forward(
        self, batch: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The mean over the items "x" of a batch, in nats."""
        x = batch["x"]
        if self.training:
            x = self.modality.augment(x, generator)
        loss = self.loss(x, batch).float().mean()
        return loss, {self.name: loss}


def modality_job(
    stage_job: str,
    objective: ModalityObjective,
    rows: Rows,
    validation: Rows,
    spec: TrainingSpec,
    key: Mapping[str, JsonValue],
) -> TrainJob:
    """The training of a modality's network.

    Args:
        stage_job: "autoencode" or "classify".
        rows: the items "x", and what else the loss needs.
        validation: likewise, held out.
        key: what the modality decides, as `autoencoder_key` or `classifier_key`.
    """
    named = {**key, "name": objective.name}
    config = TrainConfig.of_network(spec)
    return TrainJob(f"{stage_job}/{objective.name}", objective, rows, validation, config, named)


def autoencoder_key(modality: Modality) -> dict[str, JsonValue]:
    """What decides the autoencoder of a modality, beside the items."""
    return {
        "kind": modality.kind,
        "config": modality.config.model_dump(mode="json"),
        "facts": dict(modality.facts),
        "plugin": code_digest(type(modality).__module__),
    }


def classifier_key(modality: Modality) -> dict[str, JsonValue]:
    """What decides the classifier of a modality, and its tower in the judge of pairs."""
    config, only_autoencoder = modality.config, modality.config.autoencoder_settings
    return {
        **autoencoder_key(modality),
        "config": config.model_dump(mode="json", exclude=set(only_autoencoder)),
    }


def train_all(
    jobs: Sequence[TrainJob], context: RunContext, pool: Trainers | None
) -> dict[str, JsonValue]:
    """Train each job's objective in place, first those that no other run is training now.

    Several are trained at once, on equal shares of the threads, by a pool for at least so many.
    Returns how each training has ended, by name.
    """
    workers, compute = parallel_trainings(len(jobs), context.compute)
    context = replace(context, compute=compute)
    pending, lock = list(jobs), Lock()
    ends: dict[str, JsonValue] = {}

    def train_pending(train: Train) -> None:
        while True:
            with lock:
                if not pending:
                    return
                free = (job for job in pending if not is_in_progress(job, context))
                job = next(free, pending[0])
                pending.remove(job)
            trained = train_cached(job, context, train)
            job.objective.load_state_dict(trained.weights)
            job.objective.eval()
            ends.update(trained.end_of(job.name))

    if workers == 1 or pool is None:
        train_pending(train)
        return ends
    # The longest first, so that the last ones end at about the same time.
    pending.sort(key=lambda job: -job.config.steps * job.config.batch_size)
    with ThreadPoolExecutor(workers) as threads:
        trainings = [threads.submit(train_pending, pool.train) for _ in range(workers)]
        try:
            for training in as_completed(trainings):
                training.result()
        except BaseException:
            pending.clear()
            pool.interrupt()
            raise
    return ends
