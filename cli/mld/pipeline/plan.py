"""Plan of a run: networks, steps, evaluations and disk, without running anything."""

from __future__ import annotations

from dataclasses import dataclass

from mld.config.spec import Spec
from mld.data.loading import Data, fit_modalities, layout_of, open_dataset
from mld.data.types import subset_key
from mld.pipeline.diffuse import select_method
from mld.pipeline.generate import subsets_of
from mld.runtime.compute import Compute, resolve
from mld.storage.stages import AUTOENCODE, DIFFUSE, EVALUATE
from mld.training.job import count_parameters
from mld_core import SPLITS, Registry

BYTES_PER_NUMBER = 4


@dataclass(frozen=True)
class PlannedJob:
    """One training: its network's parameters, its steps and rows per step."""

    name: str
    parameters: int
    steps: int
    batch_size: int


@dataclass(frozen=True)
class Plan:
    """The work ahead.

    Args:
        rows: per split.
        jobs: the trainings in order.
        nfe: network evaluations per sample, by conditioning subset.
        num_samples: of each subset, at most.
        megabytes: approximate size of the run directory.
    """

    compute: Compute
    rows: dict[str, int]
    jobs: list[PlannedJob]
    nfe: dict[str, float]
    num_samples: int
    megabytes: float


def plan(spec: Spec, registry: Registry) -> Plan:
    """The plan of a spec; reads the data, and writes nothing."""
    dataset = open_dataset(spec, registry)
    modalities = fit_modalities(spec, dataset, registry)
    data = Data(dataset, modalities)
    method, layout = select_method(spec, registry, modalities), layout_of(modalities)

    jobs = []
    for name, modality in modalities.items():
        training = spec.autoencode.of(name)
        parameters = count_parameters(modality.autoencoder())
        jobs.append(
            PlannedJob(f"{AUTOENCODE.job}/{name}", parameters, training.steps, training.batch_size)
        )
    joint_parameters = count_parameters(method.network())
    diffuse = spec.diffuse
    jobs.append(PlannedJob(DIFFUSE.job, joint_parameters, diffuse.steps, diffuse.batch_size))
    for name, modality in modalities.items() if data.classes else ():
        parameters = count_parameters(modality.classifier(len(data.classes)))
        evaluate = spec.evaluate
        jobs.append(
            PlannedJob(f"{EVALUATE.job}/{name}", parameters, evaluate.steps, evaluate.batch_size)
        )

    rows: dict[str, int] = {split: len(data.split(split).ids) for split in SPLITS}
    nfe = {
        subset_key(given): method.evaluations_per_sample(given)
        for given in subsets_of(spec.generate, layout.names)
    }
    # The joint model's weights are written twice, with and without averaging.
    numbers = sum(job.parameters for job in jobs) + joint_parameters
    numbers += layout.joint_dim * (sum(rows.values()) + spec.generate.num_samples * len(nfe))
    megabytes = BYTES_PER_NUMBER * numbers / 1e6
    num_samples = spec.generate.num_samples
    return Plan(resolve(spec.compute), rows, jobs, nfe, num_samples, megabytes)
