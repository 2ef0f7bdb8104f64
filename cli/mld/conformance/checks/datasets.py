"""Checks of a dataset: its columns, its splits, its rows and their items."""

from __future__ import annotations

from itertools import combinations

import torch

from mld.conformance.check import Broken, check, demand
from mld.conformance.fixtures import DatasetSubject, form
from mld_core import MLDError, Split

LOOKED_AT = 20
"""Rows of each split whose items are read."""


@check("dataset")
def columns_of_known_kinds(subject: DatasetSubject) -> None:
    """The dataset has columns, and each names a kind of modality that is installed."""
    columns = dict(subject.dataset.columns)
    demand(bool(columns), "columns is empty: name each column and the kind of its modality")
    for name, kind in columns.items():
        demand(
            subject.knows(kind),
            f"column {name!r} is of kind {kind!r}, and no such modality is installed: correct the "
            "kind, or install its plugin",
        )
    for name, modality in subject.modalities.items():
        demand(
            columns.get(name) == modality.kind,
            f"the modality {name!r} of kind {modality.kind!r} was given, and columns says "
            f"{columns.get(name)!r}",
        )


@check("dataset")
def splits_serve_columns(subject: DatasetSubject) -> None:
    """Each of the three splits is a Split that serves every column."""
    for name, split in subject.splits.items():
        demand(isinstance(split, Split), f"split({name!r}) gave a {type(split).__name__}")
        absent = sorted(subject.modalities.keys() - split.items.keys())
        demand(not absent, f"the {name} split serves no column {', '.join(absent)}")
    demand(len(subject.splits["train"].ids) > 0, "the train split has no rows")


@check("dataset")
def lengths_agree(subject: DatasetSubject) -> None:
    """A split has as many items in every column, and as many labels, as it has ids."""
    for name, split in subject.splits.items():
        lengths = {column: len(split.items[column]) for column in subject.modalities}
        if split.labels is not None:
            lengths["labels"] = len(split.labels)
        wrong = {told: length for told, length in lengths.items() if length != len(split.ids)}
        demand(not wrong, f"the {name} split has {len(split.ids)} ids, and {wrong}")


@check("dataset")
def ids_are_unique(subject: DatasetSubject) -> None:
    """Within a split no id, which is a str, names two rows."""
    for name, split in subject.splits.items():
        others = [told for told in split.ids if not isinstance(told, str)]
        demand(not others, f"the {name} split has the id {others[:1]}: ids are str")
        twice = len(split.ids) - len(set(split.ids))
        demand(not twice, f"{twice} rows of the {name} split bear the id of an earlier one")


@check("dataset")
def splits_share_no_id(subject: DatasetSubject) -> None:
    """No id of one split is in another, so that held-out rows are unseen."""
    for one, other in combinations(subject.splits, 2):
        shared = set(subject.splits[one].ids) & set(subject.splits[other].ids)
        demand(
            not shared,
            f"{len(shared)} ids are in both {one} and {other}, such as {min(shared, default='')!r}",
        )


@check("dataset")
def labels_are_classes(subject: DatasetSubject) -> None:
    """Labels are indices of classes, or −1; the classes have names, each its own."""
    classes = list(subject.dataset.classes)
    demand(all(isinstance(name, str) for name in classes), f"classes are str, not {classes[:3]}")
    demand(len(set(classes)) == len(classes), "two classes have the same name")
    for name, split in subject.splits.items():
        labels = [] if split.labels is None else list(split.labels)
        wrong = [label for label in labels if not -1 <= label < len(classes)]
        demand(not wrong, f"the {name} split has the label {wrong[:1]} of {len(classes)} classes")


@check("dataset")
def same_seed_same_rows(subject: DatasetSubject) -> None:
    """The same seed serves the same rows, from the same instance and from another."""
    for other in (subject.dataset, subject.build()):
        for name, split in subject.splits.items():
            again = other.split(name)
            for told, one, two in (
                ("ids", split.ids, again.ids),
                ("labels", split.labels or (), again.labels or ()),
            ):
                demand(
                    list(one) == list(two),
                    f"the {name} split has other {told} the second time: draw from the seed alone",
                )
            for column in subject.modalities:
                _demand_alike(subject, name, column, split, again)


@check("dataset")
def items_read_twice_alike(subject: DatasetSubject) -> None:
    """An item is the same each time that it is read."""
    for name, split in subject.splits.items():
        for column in subject.modalities:
            _demand_alike(subject, name, column, split, split)


@check("dataset")
def items_fit_their_modality(subject: DatasetSubject) -> None:
    """Items are what their modality takes, all of one form; a missing one is None."""
    forms: dict[str, str] = {}
    for name, split in subject.splits.items():
        for column in subject.modalities:
            for row in range(min(LOOKED_AT, len(split.ids))):
                try:
                    x = subject.item(split, column, row)
                except (ValueError, OSError, MLDError) as error:
                    told = f"row {split.ids[row]!r} of {name}, column {column!r}"
                    raise Broken(f"{told}: {error}") from error
                if x is None:
                    continue
                wanted = forms.setdefault(column, form(x))
                demand(form(x) == wanted, f"column {column!r} holds {wanted} and {form(x)}")
    empty = sorted(subject.modalities.keys() - forms.keys())
    demand(not empty, f"no item of {', '.join(empty)} in the first {LOOKED_AT} rows of any split")


@check("dataset")
def fingerprint_follows_what_is_served(subject: DatasetSubject) -> None:
    """The fingerprint is the same for the same config and seed, and another for another seed."""
    own, again, other = (
        subject.build(seed).fingerprint() for seed in (subject.seed, subject.seed, subject.seed + 1)
    )
    demand(own == again, "two instances of one config and seed have different fingerprints")
    demand(own != other, "another seed leaves the fingerprint: a run would take old rows for new")


def _demand_alike(
    subject: DatasetSubject, name: str, column: str, one: Split, other: Split
) -> None:
    for row in range(min(LOOKED_AT, len(one.ids))):
        first, again = (subject.item(split, column, row) for split in (one, other))
        same = first is again if first is None or again is None else torch.equal(first, again)
        demand(
            same,
            f"row {one.ids[row]!r} of {name} has another item in column {column!r} the second "
            "time: a row's items may depend on config, seed and row alone",
        )
