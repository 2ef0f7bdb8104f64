"""One column of a split: the raw data of one modality, read and checked row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from rich.console import Console
from rich.progress import track
from torch import Tensor

from mld_core import DataError, Dataset, MLDError, Modality, PluginError, Split, SplitName

SHOWN = 10
"""How many unusable items of a split one error shows."""

SLOW = 1000
"""From this many rows on, reading them shows its progress."""


@dataclass(frozen=True)
class Column:
    """One modality's column of a split, read and turned into tensors row by row."""

    split: Split
    name: str
    dataset: str
    modality: Modality

    def load(self, present: Bool[Tensor, " row"], faults: list[str], told: str) -> Tensor | None:
        """The items, zeros where missing; marks those present; None where there is none.

        Adds to `faults` what is wrong with an item, and goes on.
        """
        items: Tensor | None = None
        for row in _tracked(len(self.split.ids), told):
            try:
                x = self._item(row)
            except (ValueError, OSError) as error:
                faults.append(f"row {self.split.ids[row]!r}, modality {self.name!r}: {error}")
                continue
            if x is None:
                continue
            if items is None:
                items = x.new_zeros((len(self.split.ids), *x.shape))
            self._check_form(x, items, row)
            items[row] = x
            present[row] = True
        return items

    def _item(self, row: int) -> Tensor | None:
        raw = _read(self.split, self.name, self.dataset, row)
        if raw is None:
            return None
        try:
            with plugin_call(self.modality.kind, "preprocess", self._at(row)):
                x = self.modality.preprocess(raw)
                if not isinstance(x, Tensor):
                    raise TypeError(f"returned {type(x).__name__}, not a Tensor")
            if x.is_floating_point() and not x.isfinite().all():
                raise ValueError("holds NaN or infinity")
        except (ValueError, OSError) as error:
            seen = f"{raw!r:.80}: " if isinstance(raw, str | Path) else ""
            raise ValueError(f"{seen}{error}") from error
        return x

    def _check_form(self, x: Tensor, items: Tensor, row: int) -> None:
        first = items[0]
        if x.shape != first.shape or x.dtype != first.dtype:
            form, wanted = (f"{tuple(it.shape)} {it.dtype}" for it in (x, first))
            raise PluginError(
                f"kind {self.modality.kind!r}: preprocess gives {form}{self._at(row)}, and gave "
                f"{wanted} before: the form of an item may depend on config and facts alone"
            )

    def _at(self, row: int) -> str:
        return f" on row {self.split.ids[row]!r}, modality {self.name!r}"


@dataclass(frozen=True)
class PresentItems:
    """The raw data of one column where not missing, for `Modality.fit`."""

    split: Split
    name: str
    dataset: str

    def __iter__(self) -> Iterator[Any]:
        for row, told in enumerate(self.split.ids):
            try:
                raw = _read(self.split, self.name, self.dataset, row)
            except (ValueError, OSError) as error:
                fault = f"row {told!r}, modality {self.name!r}: {error}"
                raise DataError(format_item_errors("the train split", [fault])) from error
            if raw is not None:
                yield raw


def _read(split: Split, name: str, dataset: str, row: int) -> Any:
    at = f" on row {split.ids[row]!r}, modality {name!r}"
    with plugin_call(dataset, "reading an item", at):
        return split.items[name][row]


def open_split(dataset: Dataset, name: SplitName, modalities: Iterable[str]) -> Split:
    """A dataset's split, checked against the contract."""
    call = f"split({name!r})"
    try:
        with plugin_call(dataset.kind, call):
            split = dataset.split(name)
    except (ValueError, OSError) as error:
        raise DataError(f"dataset {dataset.kind!r}: {call}: {error}") from error
    broken = _broken(split, len(dataset.classes), list(modalities))
    if broken:
        raise PluginError(f"kind {dataset.kind!r}: {call} {broken}")
    return split


def _broken(split: Split, classes: int, modalities: list[str]) -> str:
    """How a split breaks the contract, if it does."""
    rows = len(split.ids)
    if len(set(split.ids)) < rows:
        return "repeats an id"
    for name in modalities:
        if name not in split.items:
            return f"serves no column {name!r}"
        if len(split.items[name]) != rows:
            return f"has {rows} ids, but {len(split.items[name])} items in column {name!r}"
    if split.labels is None:
        return ""
    if len(split.labels) != rows:
        return f"has {rows} ids, but {len(split.labels)} labels"
    outside = [label for label in split.labels if not -1 <= label < classes]
    return f"has the label {outside[0]}, but there are {classes} classes" if outside else ""


@contextmanager
def plugin_call(kind: str, method: str, at: str = "") -> Iterator[None]:
    """Turns what a plugin may not raise into a PluginError; what it may passes."""
    try:
        yield
    except (MLDError, ValueError, OSError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise PluginError(f"kind {kind!r}: {method} failed{at}: {said}") from error


def format_item_errors(place: str, faults: list[str]) -> str:
    """The message about what is wrong with items of a place, the first ten of them."""
    count = "1 item" if len(faults) == 1 else f"{len(faults)} items"
    lines = [f"{count} of {place} cannot be used:", *faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"... and {len(faults) - SHOWN} more")
    return "\n  ".join(lines)


def _tracked(rows: int, told: str) -> Iterable[int]:
    """The row numbers, with a progress bar on a terminal's stderr where they are many."""
    console = Console(stderr=True)
    quiet = rows < SLOW or not console.is_terminal
    return track(range(rows), told, console=console, transient=True, disable=quiet)
