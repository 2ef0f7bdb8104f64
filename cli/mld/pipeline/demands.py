"""What a run demands of its data: one table, checked in a dry run and before any training.

A demand that a stage cannot do without is an error. One that it can do without is a warning of
what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from mld.config.sections import MethodSpec
from mld.config.spec import Spec
from mld.data.coverage import Coverage, SplitCoverage
from mld.data.types import subset_key, subsets_of
from mld.evaluation.judges import MIN_PAIRED_ROWS, judges_pairs
from mld.storage.stages import AUTOENCODE, EVALUATE, GENERATE, Stage
from mld_core import DataError, Registry
from mld_core.errors import first_errors

MIN_TRAINING_ITEMS = 2
"""Items of each modality in the training split; one has no standard deviation."""
MIN_COMPARED_ITEMS = 2
"""Items that a Frechet distance needs."""


class Shortfall(NamedTuple):
    """A demand that is not met, and the stage that goes on with less."""

    stage: Stage
    message: str


@dataclass(frozen=True)
class Request:
    """What a spec wants of its data, and what the data have.

    Args:
        needs_complete: what trains on complete rows alone, as in "roles: paper"; "" if nothing.
    """

    spec: Spec
    coverage: Coverage
    needs_complete: str

    @property
    def train(self) -> SplitCoverage:
        """The training split."""
        return self.coverage.splits["train"]

    @property
    def evaluated(self) -> SplitCoverage:
        """The split that samples are conditioned on and evaluated against."""
        return self.coverage.splits[self.spec.generate.split]

    @property
    def subsets_without_rows(self) -> list[tuple[str, ...]]:
        """The observed subsets that no row of the evaluated split has."""
        subsets = subsets_of(self.spec.generate, self.coverage.names)
        return [given for given in subsets if given and not self.evaluated.rows_with(given)]

    @property
    def has_class_judges(self) -> bool:
        """Whether classifiers are trained where there are labels."""
        return bool(self.coverage.classes) and self.spec.evaluate.judges_by_class

    @property
    def unlabelled(self) -> list[str]:
        """The modalities without any labelled item in the training split."""
        return [name for name in self.coverage.names if not sum(self.train.labelled[name])]


def check_demands(spec: Spec, registry: Registry, coverage: Coverage) -> list[Shortfall]:
    """What the run goes on without. DataError with all demands that it cannot do without."""
    request = Request(spec, coverage, _needs_complete(spec, registry))
    errors = [message for demand in _REQUIRED for message in demand(request)]
    if errors:
        listed = "\n  ".join(first_errors(errors))
        raise DataError(f"dataset {spec.data.kind!r}: {listed}")
    return [Shortfall(stage, message) for demand, stage in _WANTED for message in demand(request)]


def _needs_complete(spec: Spec, registry: Registry) -> str:
    if isinstance(spec.diffuse, MethodSpec):
        method = registry.method(spec.diffuse.method)
        return f"method {method.kind!r}" if method.needs_complete else ""
    return "roles: paper" if spec.diffuse.roles == "paper" else ""


def _evaluated_rows(request: Request) -> Iterator[str]:
    """Rows to condition samples on and to evaluate them against."""
    if not request.evaluated.count:
        yield (
            f"the {request.spec.generate.split} split has no rows, but samples are evaluated on "
            "it: add some"
        )


def _training_items(request: Request) -> Iterator[str]:
    """Items of each modality to train its autoencoder on, and to standardise its latents by."""
    for name in request.coverage.names:
        count = request.train.rows_with([name])
        if count < MIN_TRAINING_ITEMS:
            items = "1 item" if count == 1 else "no item" if not count else f"{count} items"
            yield (
                f"the train split has {items} of modality {name!r}, but at least "
                f"{MIN_TRAINING_ITEMS} are needed"
            )


def _complete_rows(request: Request) -> Iterator[str]:
    """Complete rows, for a method that trains on nothing else."""
    if request.needs_complete and not request.train.rows_with(request.coverage.names):
        yield f"{request.needs_complete} needs complete rows, and the train split has none"


def _any_subset(request: Request) -> Iterator[str]:
    """A row for one of the observed subsets."""
    subsets = subsets_of(request.spec.generate, request.coverage.names)
    if request.evaluated.count and request.subsets_without_rows == subsets:
        yield (
            f"generate.subsets: no row of the {request.spec.generate.split} split has all "
            "modalities of any of them"
        )


def _subset_rows(request: Request) -> Iterator[str]:
    """Rows for each of the observed subsets."""
    if lacking := request.subsets_without_rows:
        listed = ", ".join(map(subset_key, lacking))
        yield (
            f"samples given {listed} are left out: no row of the {request.spec.generate.split} "
            "split has all that is given"
        )


def _compared_items(request: Request) -> Iterator[str]:
    """Real items of each modality to compare samples with."""
    for name in request.coverage.names:
        count = request.evaluated.rows_with([name])
        if count < MIN_COMPARED_ITEMS:
            yield (
                f"samples of {name} are not compared with real ones: the "
                f"{request.spec.generate.split} split has {count or 'none'} of them, and "
                f"{MIN_COMPARED_ITEMS} are needed"
            )


def _labelled_items(request: Request) -> Iterator[str]:
    """Labelled items of each modality to train its classifier on."""
    if request.has_class_judges and (unlabelled := request.unlabelled):
        yield (
            f"{', '.join(unlabelled)}: no item of the train split has a label, so there is no "
            "classifier and no coherence, and Frechet distances are computed on latents"
        )


def _labelled_rows(request: Request) -> Iterator[str]:
    """Labelled rows to compare the classes of conditional samples with."""
    has_classifiers = request.has_class_judges and len(request.unlabelled) < len(
        request.coverage.names
    )
    if has_classifiers and not any(map(sum, request.evaluated.labelled.values())):
        yield (
            f"no row of the {request.spec.generate.split} split has a label: the coherence of "
            "conditional samples is not measured"
        )


def _items_of_each_class(request: Request) -> Iterator[str]:
    """Items of each modality of every class that training rows have, so that it is recognised."""
    classifying = [name for name in request.coverage.names if name not in request.unlabelled]
    classes = request.coverage.classes if request.has_class_judges else ()
    for index, label in enumerate(classes):
        lacking = [name for name in classifying if not request.train.labelled[name][index]]
        if lacking and lacking != classifying:
            yield (
                f"class {label!r} has no item of {', '.join(lacking)} in the train split: the "
                "classifier cannot recognise it, so its samples count as incoherent"
            )


def _paired_items(request: Request) -> Iterator[str]:
    """Rows of both modalities of each pair, to train the judge of pairs on."""
    if not judges_pairs(request.spec.evaluate, request.train.labelled):
        return
    for pair in combinations(request.coverage.names, 2):
        count = request.train.rows_with(pair)
        if count < MIN_PAIRED_ROWS:
            yield (
                f"retrieval of {' and '.join(pair)} by each other is not measured: the train split "
                f"has {count or 'no'} row with both, and {MIN_PAIRED_ROWS} are needed"
            )


def _validation_items(request: Request) -> Iterator[str]:
    """Held-out items of each modality, for the validation curves."""
    validation = request.coverage.splits["validation"]
    if not validation.count:
        yield "the validation split has no rows: overfitting will not show in the curves"
        return
    for name in request.coverage.names:
        if not validation.rows_with([name]):
            yield (
                f"the validation split has no item of modality {name!r}: overfitting of its "
                "autoencoder will not show in the curves"
            )


Demand = Callable[[Request], Iterator[str]]

_REQUIRED: tuple[Demand, ...] = (_evaluated_rows, _training_items, _complete_rows, _any_subset)
_WANTED: tuple[tuple[Demand, Stage], ...] = (
    (_validation_items, AUTOENCODE),
    (_subset_rows, GENERATE),
    (_compared_items, EVALUATE),
    (_labelled_items, EVALUATE),
    (_labelled_rows, EVALUATE),
    (_items_of_each_class, EVALUATE),
    (_paired_items, EVALUATE),
)
