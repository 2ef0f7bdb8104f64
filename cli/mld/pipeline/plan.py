"""Plan of a run: networks, steps, evaluations and disk, from a look at a few items."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mld.config.sections import DiffuseSpec, TrainingSpec
from mld.config.spec import Spec
from mld.data.columns import PEEK_ITEMS, Column, declared_faults, open_split
from mld.data.coverage import declared_coverage
from mld.data.faults import Fault, InvalidItemsError
from mld.data.item_memory import ItemBytes, check_item_memory
from mld.data.item_places import item_places
from mld.data.loading import (
    INVALID_ADVICE,
    fit_columns,
    layout_of,
    modalities_of,
    open_dataset,
)
from mld.data.modality_columns import Fit
from mld.data.quality import label_warnings
from mld.data.types import subset_key, subsets_of
from mld.evaluation.matching import UNUSED_CLASSES, judges_pairs
from mld.pipeline.demands import check_demands
from mld.pipeline.diffuse import select_method
from mld.pipeline.generate import draws_per_row
from mld.runtime.compute import Compute, resolve
from mld.runtime.memory import available_memory
from mld.storage.stages import AUTOENCODE, DIFFUSE, EVALUATE, MATCH_JOB
from mld.storage.weight_store import WeightStore
from mld.training.autoencoders import build_autoencoder
from mld.training.job import count_parameters, is_trainable
from mld_core import SPLITS, DataError, Dataset, Modality, Registry

BYTES_PER_NUMBER = 4


@dataclass(frozen=True)
class PlannedJob:
    """One training: its network's parameters, its steps and rows per step.

    Args:
        is_exact: False if the network depends on facts of the training split, such as a vocabulary:
            its parameters are then those for the few items that were read. False also of the judge
            of pairs, whose projections are not counted.
    """

    name: str
    parameters: int
    is_exact: bool
    steps: int
    batch_size: int


@dataclass(frozen=True)
class Plan:
    """The work ahead.

    Args:
        rows: per split, including those in which every cell turns out to be missing.
        jobs: the trainings in order.
        nfe: network evaluations per sample, by conditioning subset.
        num_samples: of each subset, at most.
        draws: of each row that a sample is conditioned on.
        item_bytes: that the packed items of all splits take.
        megabytes: approximate size of the run directory.
    """

    compute: Compute
    rows: dict[str, int]
    jobs: list[PlannedJob]
    nfe: dict[str, float]
    num_samples: int
    draws: int
    item_bytes: ItemBytes
    megabytes: float


def plan(spec: Spec, registry: Registry, store: WeightStore | None = None) -> Plan:
    """The plan of a spec; reads a few items of each modality, and writes nothing.

    Warns of what the run goes on without, as far as the dataset tells without being read.

    DataError if one of these cannot be read, or the data lack what the run needs.

    Args:
        store: beside whose weights items are kept; by default, in the user's cache folder.
    """
    dataset = open_dataset(spec, registry)
    coverage = declared_coverage(dataset, spec.modalities)
    shortfalls = check_demands(spec, registry, coverage)
    labels = {name: open_split(dataset, name, spec.modalities).labels for name in SPLITS}
    for message in [
        *label_warnings(dataset.classes, labels),
        *(message for _, message in shortfalls),
    ]:
        warnings.warn(message, stacklevel=2)
    rows: dict[str, int] = {name: coverage.splits[name].count for name in SPLITS}
    fits = fit_columns(spec, dataset, registry, PEEK_ITEMS)
    modalities = modalities_of(spec, registry, fits)
    _check_items(spec, dataset, modalities, fits)
    places = item_places(spec.compute.items, dataset.fingerprint(), coverage.count, store)
    item_bytes = check_item_memory(dataset, modalities, places, available_memory())
    method, layout = select_method(spec, registry, modalities), layout_of(modalities)
    saw_all = rows["train"] <= PEEK_ITEMS
    is_exact = {name: saw_all or not modality.facts for name, modality in modalities.items()}

    jobs, frozen_parameters = [], 0
    for name, modality in modalities.items():
        job, training = f"{AUTOENCODE.job}/{name}", spec.autoencode.of(name)
        autoencoder = build_autoencoder(name, modality)
        if is_trainable(autoencoder):
            jobs.append(_planned(job, autoencoder, is_exact[name], training))
        elif autoencoder.reference is None:
            frozen_parameters += count_parameters(autoencoder)
    # A model of latents depends on their shapes alone, a model of items on all facts.
    joint, joint_is_exact = method.network(), all(is_exact.values())
    if method.on_latents:
        joint_is_exact = all(
            is_exact[name] or modality.latent_shape == (modality.config.latent_dim,)
            for name, modality in modalities.items()
        )
    if is_trainable(joint):
        jobs.append(_planned(DIFFUSE.job, joint, joint_is_exact, spec.diffuse))
    labelled = coverage.splits["train"].labelled
    for name, modality in modalities.items():
        if not sum(labelled[name]) or spec.evaluate.judge == "retrieval":
            continue
        job, classifier = f"{EVALUATE.job}/{name}", modality.classifier(len(dataset.classes))
        jobs.append(_planned(job, classifier, is_exact[name], spec.evaluate))
    if judges_pairs(spec.evaluate, labelled):
        # The widths of the features, and so of the projections, are those of items not read yet.
        towers = nn.ModuleList(each.classifier(UNUSED_CLASSES) for each in modalities.values())
        jobs.append(_planned(MATCH_JOB, towers, False, spec.evaluate))

    nfe = {
        subset_key(given): method.evaluations_per_sample(given)
        for given in subsets_of(spec.generate, layout.names)
        if not given or coverage.splits[spec.generate.split].rows_with(given)
    }
    draws = draws_per_row(spec.generate, modalities)
    # The joint model's weights are written twice, with and without averaging.
    numbers = sum(job.parameters for job in jobs) + count_parameters(joint) + frozen_parameters
    num_samples = spec.generate.num_samples
    numbers += layout.joint_dim * (sum(rows.values()) + num_samples * draws * len(nfe))
    megabytes = BYTES_PER_NUMBER * numbers / 1e6
    return Plan(resolve(spec.compute), rows, jobs, nfe, num_samples, draws, item_bytes, megabytes)


def _planned(
    name: str, network: nn.Module, is_exact: bool, training: TrainingSpec | DiffuseSpec
) -> PlannedJob:
    parameters = count_parameters(network)
    return PlannedJob(name, parameters, is_exact, training.steps, training.batch_size)


def _check_items(
    spec: Spec, dataset: Dataset, modalities: Mapping[str, Modality], fits: Mapping[str, Fit]
) -> None:
    """Read and preprocess a few training items.

    InvalidItemsError with those that cannot be used, and with all that the dataset knows without
    reading them, unless the run goes on without them.
    """
    split = open_split(dataset, "train", modalities, PEEK_ITEMS)
    faults: dict[tuple[str, str], Fault] = {}
    for name, modality in modalities.items():
        read: list[Fault] = []
        rejected = fits[name].rejected
        column = Column(split, "train", name, dataset.kind, PEEK_ITEMS, rejected)
        items = list(column.items(modality, read, f"read train {name}"))
        if not items and not read:
            raise DataError(f"the train split has no item of modality {name!r}")
        faults |= {(name, fault.row): fault for fault in read}
    for each in SPLITS:
        declared = declared_faults(open_split(dataset, each, modalities), each, modalities)
        faults |= {(fault.modality, fault.row): fault for fault in declared}
    if faults and spec.data.on_invalid == "error":
        raise InvalidItemsError([*faults.values()], {}, INVALID_ADVICE)
