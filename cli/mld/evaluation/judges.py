"""Which judges of samples are trained: decided once, by all rows of the training split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from mld.config.sections import EvaluateSpec
from mld.data.coverage import SplitCoverage
from mld_core import Modality

MIN_PAIRED_ROWS = 2
"""Training rows with both items of a pair that is judged."""
MANY_CLASSES = 20
FEW_ITEMS = 50
"""Labels are many and rare with more than so many classes, most of them with fewer items."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Judges:
    """The judges of samples that a run trains.

    A run takes them from all of its rows, and so does its rehearsal, whose few rows may look
    different.

    Args:
        classified: modalities that have a classifier.
        pairs: of modalities, in the order of the spec, that the judge of pairs is trained on; there
            is none without any.
    """

    classified: Sequence[str]
    pairs: Sequence[Pair]

    def paired(self, modalities: Mapping[str, Modality]) -> dict[str, Modality]:
        """Those that are in a pair."""
        names = {name for pair in self.pairs for name in pair}
        return {name: modality for name, modality in modalities.items() if name in names}


def judges_of(spec: EvaluateSpec, train: SplitCoverage) -> Judges:
    """The judges that the training split has the labels and the pairs for."""
    labelled = train.labelled
    classified = [name for name in labelled if sum(labelled[name])]
    pairs: Iterable[Pair] = combinations(labelled, 2) if judges_pairs(spec, labelled) else ()
    return Judges(
        classified if spec.judges_by_class else [],
        [pair for pair in pairs if train.rows_with(pair) >= MIN_PAIRED_ROWS],
    )


def judges_pairs(spec: EvaluateSpec, labelled: Mapping[str, Sequence[int]]) -> bool:
    """Whether samples are judged by retrieval.

    Args:
        labelled: of each modality, the number of its training items by class.
    """
    if len(labelled) < 2 or spec.judge == "classes":
        return False
    return spec.judge != "auto" or any(map(_is_hard_to_classify, labelled.values()))


def _is_hard_to_classify(items: Sequence[int]) -> bool:
    """Whether a modality has no labelled items, or few of most of many classes."""
    used = [count for count in items if count]
    rare = sum(count < FEW_ITEMS for count in used)
    return not used or (len(used) > MANY_CLASSES and 2 * rare > len(used))
