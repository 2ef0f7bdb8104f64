"""Plan of a run: networks, steps, evaluations and disk, from a look at a few items."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from mld.config.sections import DiffuseSpec, TrainingSpec
from mld.config.spec import Spec
from mld.data.columns import PEEK_ITEMS, open_split
from mld.data.coverage import Coverage, declared_coverage
from mld.data.item_memory import ItemBytes, check_item_memory
from mld.data.item_places import item_places
from mld.data.loading import layout_of, open_dataset
from mld.data.quality import label_warnings
from mld.data.types import subset_key, subsets_of
from mld.evaluation.judges import Judges, judges_of
from mld.evaluation.matching import UNUSED_CLASSES
from mld.pipeline.demands import check_demands
from mld.pipeline.diffuse import select_method
from mld.pipeline.generate import draws_per_row
from mld.pipeline.peek import Peek, peek
from mld.pipeline.stage_costs import FLOAT_BYTES, PlannedJob, Workload
from mld.pipeline.starting_run import StartingRun, open_starting_run
from mld.runtime.compute import Compute, resolve
from mld.runtime.memory import available_memory
from mld.storage.run_dir import RunDir
from mld.storage.stages import AUTOENCODE, DIFFUSE, EVALUATE, MATCH_JOB
from mld.storage.weight_store import WeightStore
from mld.training.autoencoders import build_autoencoder
from mld.training.job import count_parameters, is_trainable
from mld.training.parallel import parallel_trainings, shared_compute
from mld_core import SPLITS, Dataset, Registry


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
    return look(spec, registry, store).plan


@dataclass(frozen=True)
class Look:
    """A spec, and what a look at its data tells.

    Args:
        item_bytes: that the packed items of all splits take.
        start: the run from which this one starts, whose autoencoders are not trained.
    """

    spec: Spec
    registry: Registry
    coverage: Coverage
    peek: Peek
    item_bytes: ItemBytes
    start: StartingRun | None

    @property
    def taken(self) -> frozenset[str]:
        """Modalities of the run from which this one starts."""
        return frozenset(self.start.modalities if self.start else ())

    @cached_property
    def plan(self) -> Plan:
        """The work ahead."""
        spec, layout = self.spec, layout_of(self.peek.modalities)
        jobs, joint = self._jobs()
        # The joint model's weights are written twice, with and without averaging.
        numbers = sum(job.parameters for job in jobs) + count_parameters(joint)
        built = {
            name: build_autoencoder(name, modality)
            for name, modality in self.peek.modalities.items()
        }
        frozen = (
            each for name, each in built.items() if name in self.taken or not is_trainable(each)
        )
        numbers += sum(count_parameters(each) for each in frozen if each.reference is None)
        rows: dict[str, int] = {name: self.coverage.splits[name].count for name in SPLITS}
        nfe, draws = self._nfe(), draws_per_row(spec.generate, self.peek.modalities)
        samples = spec.generate.num_samples * draws * len(nfe)
        numbers += layout.joint_dim * (sum(rows.values()) + samples)
        return Plan(
            resolve(spec.compute),
            rows,
            jobs,
            nfe,
            spec.generate.num_samples,
            draws,
            self.item_bytes,
            FLOAT_BYTES * numbers / 1e6,
        )

    def workload(self) -> Workload:
        """How much there is to do."""
        spec, modalities, planned = self.spec, self.peek.modalities, self.plan
        evaluated = self.coverage.splits[spec.generate.split]
        subsets = {subset_key(given): given for given in self.subsets}
        workers, _ = parallel_trainings(len(modalities), planned.compute)
        shared = shared_compute(spec.diffuse.batch_size, planned.compute, workers)
        return Workload(
            rows=self.coverage.count,
            items={
                name: (
                    self.coverage.splits["train"].rows_with([name]),
                    sum(split.rows_with([name]) for split in self.coverage.splits.values()),
                )
                for name in modalities
            },
            item_bytes={name: items[:1].nbytes for name, items in self.peek.items.items()},
            kept_bytes=self.item_bytes.memory,
            joint_dim=layout_of(modalities).joint_dim,
            jobs=planned.jobs,
            nfe=planned.nfe,
            samples={
                key: min(planned.num_samples, evaluated.rows_with(given))
                if given
                else planned.num_samples
                for key, given in subsets.items()
            },
            targets={
                key: [name for name in modalities if name not in given]
                for key, given in subsets.items()
            },
            evaluated_rows=evaluated.count,
            draws=planned.draws,
            previews=min(spec.generate.num_previews, planned.num_samples),
            workers=workers,
            devices=planned.compute.devices,
            shares=shared.processes,
            on_device=planned.compute.accelerator != "cpu",
        )

    def _jobs(self) -> tuple[list[PlannedJob], nn.Module]:
        """The trainings in order, and the joint model."""
        spec, modalities = self.spec, self.peek.modalities
        saw_all = self.peek.is_fitted or self.coverage.splits["train"].count <= PEEK_ITEMS
        is_exact = {
            name: saw_all or name in self.taken or not modality.facts
            for name, modality in modalities.items()
        }
        jobs = []
        for name, modality in modalities.items():
            autoencoder = build_autoencoder(name, modality)
            if is_trainable(autoencoder) and name not in self.taken:
                job, training = f"{AUTOENCODE.job}/{name}", spec.autoencode.of(name)
                jobs.append(_planned(job, autoencoder, is_exact[name], training))
        # A model of latents depends on their shapes alone, a model of items on all facts.
        method = select_method(spec, self.registry, modalities)
        joint, joint_is_exact = method.network(), all(is_exact.values())
        if method.on_latents:
            joint_is_exact = all(
                is_exact[name] or modality.latent_shape == (modality.config.latent_dim,)
                for name, modality in modalities.items()
            )
        if is_trainable(joint):
            jobs.append(_planned(DIFFUSE.job, joint, joint_is_exact, spec.diffuse))
        for name in self.judges.classified:
            classifier = modalities[name].classifier(len(self.peek.dataset.classes))
            job = f"{EVALUATE.job}/{name}"
            jobs.append(_planned(job, classifier, is_exact[name], spec.evaluate))
        if self.judges.pairs:
            # The widths of the features, and so of the projections, are of items not read yet.
            paired = self.judges.paired(modalities).values()
            towers = nn.ModuleList(each.classifier(UNUSED_CLASSES) for each in paired)
            jobs.append(_planned(MATCH_JOB, towers, False, spec.evaluate))
        return jobs, joint

    @property
    def judges(self) -> Judges:
        """The judges of samples that the run trains."""
        return judges_of(self.spec.evaluate, self.coverage.splits["train"])

    @property
    def subsets(self) -> list[tuple[str, ...]]:
        """The observed subsets that rows have."""
        evaluated = self.coverage.splits[self.spec.generate.split]
        subsets = subsets_of(self.spec.generate, list(self.peek.modalities))
        return [given for given in subsets if not given or evaluated.rows_with(given)]

    def _nfe(self) -> dict[str, float]:
        """Network evaluations of a sample, by subset."""
        method = select_method(self.spec, self.registry, self.peek.modalities)
        return {subset_key(given): method.evaluations_per_sample(given) for given in self.subsets}


def look(
    spec: Spec,
    registry: Registry,
    store: WeightStore | None = None,
    fitted_by: RunDir | None = None,
) -> Look:
    """A look at the data of a spec; warnings and errors as of `plan`.

    Args:
        fitted_by: a run that has fitted the modalities to all rows.
    """
    dataset, start = open_dataset(spec, registry), open_starting_run(spec, registry)
    return look_at(spec, registry, dataset, start, store, fitted_by)


def look_at(
    spec: Spec,
    registry: Registry,
    dataset: Dataset,
    start: StartingRun | None,
    store: WeightStore | None = None,
    fitted_by: RunDir | None = None,
) -> Look:
    """As `look`, at a dataset and a starting run that are open."""
    coverage = declared_coverage(dataset, spec.modalities)
    shortfalls = check_demands(spec, registry, coverage)
    labels = {name: open_split(dataset, name, spec.modalities).labels for name in SPLITS}
    for message in [
        *label_warnings(dataset.classes, labels, spec.evaluate.judges_by_class),
        *(message for _, message in shortfalls),
    ]:
        warnings.warn(message, stacklevel=2)
    few = peek(spec, registry, dataset, fitted_by, start.fits if start else {})
    places = item_places(spec.compute.items, dataset.fingerprint(), coverage.count, store)
    item_bytes = check_item_memory(dataset, few.modalities, places, available_memory())
    return Look(spec, registry, coverage, few, item_bytes, start)


def _planned(
    name: str, network: nn.Module, is_exact: bool, training: TrainingSpec | DiffuseSpec
) -> PlannedJob:
    averages = int(isinstance(training, DiffuseSpec))
    return PlannedJob(
        name,
        count_parameters(network),
        is_exact,
        training.steps,
        training.batch_size,
        averages,
        training.time_limit,
    )
