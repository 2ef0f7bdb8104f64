"""Items that cannot be used: what is told about them, and what a run does with them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields

from mld_core import DataError, LimitError, ReadError
from mld_core.errors import MAX_ERRORS_SHOWN, describe_reason, first_errors

MOST = 95
"""Percentage of the items that a recommended limit lets pass, beside the limit for all."""


@dataclass(frozen=True)
class Fault:
    """Why an item cannot be used.

    Args:
        split: of the dataset.
        row: the row's id.
        modality: the modality's name in the spec.
        value: the datum or the file's name; "" if it is not known.
        reason: what is wrong with it.
        setting: of the modality, a larger value of which would accept it; "" if there is none.
        needed: the least such value.
    """

    split: str
    row: str
    modality: str
    value: str
    reason: str
    setting: str = ""
    needed: int | float = 0

    @classmethod
    def of(cls, error: ValueError | OSError, split: str, row: str, modality: str) -> Fault:
        """The fault of an item that has raised an error."""
        value = ""
        if isinstance(error, ReadError):
            value, error = error.source, error.reason
        limit = (error.setting, error.needed) if isinstance(error, LimitError) else ()
        return cls(split, row, modality, value, describe_reason(error), *limit)

    @property
    def message(self) -> str:
        """The value, if it is known, and what is wrong with it."""
        return f"{self.value}: {self.reason}" if self.value else self.reason

    @property
    def kind(self) -> tuple[str, str]:
        """What faults that differ in the datum alone have in common."""
        if self.setting:
            return self.modality, self.setting
        datum = re.escape(self.value.strip("'\"")) or r"\Z"
        return self.modality, re.sub(rf"{datum}|'[^']*'|\d+(\.\d+)?", "…", self.reason)


class InvalidItemsError(DataError):
    """Items that cannot be used, all of a dataset.

    Args:
        faults: in the order of the splits and of the spec's modalities.
        items: the number of items of each modality, of which these are a part.
        advice: end of the message: what to do with such items; "" if nothing can be done.
    """

    def __init__(self, faults: Sequence[Fault], items: Mapping[str, int], advice: str = "") -> None:
        super().__init__(faults, items, advice)
        self.faults, self.items, self.advice = faults, items, advice

    def __str__(self) -> str:
        count = "1 item" if len(self.faults) == 1 else f"{len(self.faults):,} items"
        head = f"{count} cannot be used ({count_splits(self.faults)})"
        listed = list_faults(head, self.faults, self.items)
        return listed + (f"\n{self.advice}" if self.advice else "")


def count_splits(faults: Sequence[Fault]) -> str:
    """The number of faults in each split: "train 10, test 2"."""
    counts = Counter(fault.split for fault in faults)
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def list_faults(head: str, faults: Sequence[Fault], items: Mapping[str, int]) -> str:
    """A sentence about faults, and below it the first kinds of them; as of `describe_faults`."""
    return "\n  ".join([f"{head}:", *first_errors([*describe_faults(faults, items)])])


def describe_faults(faults: Sequence[Fault], items: Mapping[str, int]) -> Iterator[str]:
    """A line for each kind of fault, with its first rows and, for a limit, the value for all.

    Args:
        items: the number of items of each modality.
    """
    kinds: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    for group in kinds.values():
        first = group[0]
        rows = ", ".join(repr(fault.row) for fault in group[:MAX_ERRORS_SHOWN])
        hidden = len(group) - MAX_ERRORS_SHOWN
        more = f" and {hidden:,} more" if hidden > 0 else ""
        limit = _limit(group, items.get(first.modality, len(group))) if first.setting else ""
        yield (
            f"row{'s' * (len(group) > 1)} {rows}{more}, modality {first.modality!r}: "
            f"{first.message}{limit}"
        )


def _limit(faults: Sequence[Fault], items: int) -> str:
    """The value of a setting that would accept all of the items, and that for most of them."""
    needed = sorted((fault.needed for fault in faults), reverse=True)
    setting = f"modalities.{faults[0].modality}.{faults[0].setting}"
    beyond = items * (100 - MOST) // 100
    if beyond < len(needed) and needed[beyond] < needed[0]:
        most = f"{MOST} % fit {needed[beyond]:g}"
    else:
        most = f"{100 * (1 - len(needed) / items):.3g} % fit now"
    return f" ({setting}: {needed[0]:g} fits all, {most})"


def table_of_faults(faults: Sequence[Fault]) -> str:
    """All faults as the text of a CSV file."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field.name for field in fields(Fault)])
    writer.writerows(
        [("" if value == 0 else value) for value in astuple(fault)] for fault in faults
    )
    return buffer.getvalue()
