"""Warnings about labels and rows that make a run's scores mislead."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mld.data.loading import Data, SplitRows
from mld_core import SPLITS, SplitName

NO_LABEL_WORDS = ("nan", "none", "null", "na", "n/a", "<na>")
"""What programs write in place of an empty cell, in lower case."""
NO_ITEM = bytes(16)
"""In the place of the digest of a missing item."""
MAX_NAMES = 10
"""How many classes a warning names."""


def label_warnings(
    classes: Sequence[str],
    labels: Mapping[SplitName, Sequence[int] | None],
    measures_coherence: bool = True,
) -> Iterator[str]:
    """What is suspicious about classes and the labels of each split, in sentences.

    Args:
        labels: the class index of each row, −1 without one; None without labels.
        measures_coherence: whether samples are judged by classes.
    """
    counts = {name: Counter(labels[name] or ()) for name in SPLITS}
    used = [index for index in range(len(classes)) if any(c[index] for c in counts.values())]
    for index in used:
        if classes[index].casefold() in NO_LABEL_WORDS:
            rows = sum(count[index] for count in counts.values())
            yield (
                f"the label {classes[index]!r} (rows: {rows}) is a class like any other: leave the "
                "cell empty if it means that there is no label"
            )
    for similar in _similar_names([classes[index] for index in used]):
        names = " and ".join(map(repr, similar))
        yield f"the classes {names} look alike, but are different classes"
    if not measures_coherence:
        return
    if len(used) == 1:
        yield f"all labels are {classes[used[0]]!r}: coherence says nothing about a single class"
    absent = [repr(classes[index]) for index in used if not counts["train"][index]]
    if absent and len(absent) < len(used):
        rows = sum(counts[name][i] for name in SPLITS for i in used if not counts["train"][i])
        more = f" and {len(absent) - MAX_NAMES} more" if len(absent) > MAX_NAMES else ""
        yield (
            f"no training row has the label {', '.join(absent[:MAX_NAMES])}{more}, which samples "
            f"cannot show: the validation and test rows that have it ({rows}) lower coherence"
        )


def _similar_names(names: Sequence[str]) -> Iterator[list[str]]:
    """Names that differ only in case, white space, invisible characters or the form of a number."""
    groups: dict[object, list[str]] = defaultdict(list)
    for name in names:
        groups[_look(name)].append(name)
    return (group for group in groups.values() if len(group) > 1)


def _look(name: str) -> object:
    try:
        return float(name)
    except ValueError:
        visible = (
            c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf"
        )
        return " ".join("".join(visible).casefold().split())


def repeated_row_warnings(data: Data) -> Iterator[str]:
    """A sentence for each held-out split that repeats rows of training, equal in every cell."""
    first = {digest: row_id for row_id, digest in row_digests(data.train)}
    for name in SPLITS[1:]:
        rows = data.split(name)
        repeated = [(row, first[digest]) for row, digest in row_digests(rows) if digest in first]
        if repeated:
            row, original = repeated[0]
            yield (
                f"{len(repeated)} of {len(rows.ids)} {name} rows equal a training row in every "
                f"cell, such as {row!r} and {original!r}: scores on them measure memory, so put "
                "equal rows into one split"
            )


def row_digests(rows: SplitRows) -> Iterator[tuple[str, bytes]]:
    """The id of each row, and a digest of which items it has and of these."""
    columns = [items.item_digests() for items in rows.items.values()]
    for row_id, *digests in zip(rows.ids, *columns, strict=True):
        yield row_id, b"".join(digest or NO_ITEM for digest in digests)
