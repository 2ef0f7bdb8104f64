"""What a run would do: networks, steps, evaluations and disk, before anything is done."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mld.config.sections import DiffuseSpec, MethodSpec
from mld.config.spec import Spec
from mld.data.loading import Data, fit_modalities, open_dataset
from mld.data.types import subset_key
from mld.pipeline.diffuse import build_network
from mld.pipeline.generate import subsets_of
from mld.pipeline.generative import Diffusion, Given
from mld.pipeline.train_method import build_model
from mld.runtime.compute import Compute, resolve
from mld_core import Registry
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.sampling import ScoreModel
from mld_core.diffusion.schedule import VPSchedule
from mld_core.diffusion.standardiser import Standardiser


@dataclass(frozen=True)
class Job:
    """One training: its network's parameters, its steps and rows per update."""

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
        nfe: network evaluations per sample, by observed subset.
        samples: of each subset, at most.
        megabytes: what the run directory will hold, about.
    """

    compute: Compute
    rows: dict[str, int]
    jobs: list[Job]
    nfe: dict[str, float]
    samples: int
    megabytes: float


def plan(spec: Spec, registry: Registry) -> Plan:
    """The plan of a spec; reads the data, and writes nothing."""
    dataset = open_dataset(spec, registry)
    modalities = fit_modalities(spec, dataset, registry)
    data = Data(dataset, modalities)
    rows = {"train": data.train, "validation": data.validation, "test": data.test}
    layout = LatentLayout({name: m.config.latent_dim for name, m in modalities.items()})

    jobs = []
    for name, modality in modalities.items():
        told = spec.autoencode.of(name)
        count = _parameters(modality.autoencoder())
        jobs.append(Job(f"autoencode/{name}", count, told.steps, told.batch_size))
    if isinstance(spec.diffuse, MethodSpec):
        network = _parameters(build_model(spec.diffuse, registry, modalities)[1])
    else:
        network = _parameters(build_network(spec.diffuse, layout, _schedule(spec.diffuse)))
    jobs.append(Job("diffuse", network, spec.diffuse.steps, spec.diffuse.batch_size))
    for name, modality in modalities.items() if data.classes else ():
        count = _parameters(modality.classifier(len(data.classes)))
        jobs.append(Job(f"classify/{name}", count, spec.evaluate.steps, spec.evaluate.batch_size))

    counts = {split: len(own.ids) for split, own in rows.items()}
    subsets = subsets_of(spec.generate, layout.names)
    nfe = {subset_key(given): _nfe(spec, layout, given) for given in subsets}
    numbers = (
        sum(job.parameters for job in jobs) + network + layout.joint_dim * sum(counts.values())
    )
    numbers += layout.joint_dim * spec.generate.num_samples * len(nfe)
    return Plan(
        resolve(spec.compute), counts, jobs, nfe, spec.generate.num_samples, 4 * numbers / 1e6
    )


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _schedule(spec: DiffuseSpec) -> VPSchedule:
    return VPSchedule(spec.beta_min, spec.beta_max)


def _nfe(spec: Spec, layout: LatentLayout, given: tuple[str, ...]) -> float:
    """What one sample costs, counted on a network that does nothing; 1 of another method."""
    if isinstance(spec.diffuse, MethodSpec):
        return 1.0

    def echo(z: Tensor, times: Tensor, roles: Tensor) -> Tensor:
        return z

    width = layout.joint_dim
    plain = Standardiser(torch.zeros(width), torch.ones(width), torch.zeros(width).bool())
    roles, cpu = spec.diffuse.roles, torch.device("cpu")
    model = ScoreModel(echo, layout, _schedule(spec.diffuse), plain, roles, cpu)
    known = Given({}, {name: torch.zeros(1, layout.dims[name]) for name in given})
    wanted = [name for name in layout.names if name not in given]
    return Diffusion(model, {}, spec.generate).draw(known, wanted, [0]).nfe
