"""Checks of a dataset: columns, splits, rows and items."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import torch

from mld.conformance.check import CheckFailed, check, describe, require
from mld.conformance.file_changes import changed_file, linked_copy, recorded_opens
from mld.conformance.fixtures import SEED, DatasetUnderTest
from mld_core import DatasetConfig, MLDError, Split

ROWS_READ = 20
"""Rows of each split whose items are read."""

MAX_FILES_CHANGED = 5
"""Files that are changed, of those that were read."""


@check("dataset")
def columns_have_installed_kinds(plugin: DatasetUnderTest) -> None:
    """The dataset has columns, and the modality of each is installed."""
    columns = dict(plugin.dataset.columns)
    require(bool(columns), "columns is empty: name each column and the kind of its modality")
    kinds = {modality.kind for modality in plugin.modalities.values()}
    for name, kind in columns.items():
        require(
            kind in kinds or plugin.is_installed(kind),
            f"column {name!r} has kind {kind!r}, but no such modality is installed: correct the "
            "kind, or install its plugin",
        )
    for name, modality in plugin.modalities.items():
        require(
            columns.get(name) == modality.kind,
            f"the modality given for {name!r} has kind {modality.kind!r}, but columns says "
            f"{columns.get(name)!r}",
        )


@check("dataset")
def splits_have_all_columns(plugin: DatasetUnderTest) -> None:
    """Each of the three splits is a Split with every column, and the train split has rows."""
    for name, split in plugin.splits.items():
        require(isinstance(split, Split), f"split({name!r}) gave a {type(split).__name__}")
        absent = sorted(plugin.modalities.keys() - split.items.keys())
        require(not absent, f"the {name} split has no column {', '.join(absent)}")
    require(len(plugin.splits["train"].ids) > 0, "the train split has no rows")


@check("dataset")
def lengths_agree(plugin: DatasetUnderTest) -> None:
    """A split has as many items per column, and as many labels, as ids."""
    for name, split in plugin.splits.items():
        lengths = {column: len(split.items[column]) for column in plugin.modalities}
        if split.labels is not None:
            lengths["labels"] = len(split.labels)
        unequal = {key: length for key, length in lengths.items() if length != len(split.ids)}
        require(not unequal, f"the {name} split has {len(split.ids)} ids, but {unequal}")


@check("dataset")
def ids_are_unique(plugin: DatasetUnderTest) -> None:
    """The ids of a split are distinct strings."""
    for name, split in plugin.splits.items():
        others = [row_id for row_id in split.ids if not isinstance(row_id, str)]
        require(not others, f"the {name} split has the id {others[:1]}: ids are str")
        repeated = len(split.ids) - len(set(split.ids))
        require(not repeated, f"{repeated} rows of the {name} split have the id of an earlier row")


@check("dataset")
def splits_share_no_id(plugin: DatasetUnderTest) -> None:
    """No id occurs in two splits, so that held-out rows are unseen in training."""
    for a, b in combinations(plugin.splits, 2):
        shared = set(plugin.splits[a].ids) & set(plugin.splits[b].ids)
        example = min(shared, default="")
        require(not shared, f"{len(shared)} ids are in both {a} and {b}, such as {example!r}")


@check("dataset")
def labels_index_classes(plugin: DatasetUnderTest) -> None:
    """Labels are indices of classes, or −1; class names are distinct strings."""
    classes = list(plugin.dataset.classes)
    require(all(isinstance(name, str) for name in classes), f"classes are str, not {classes[:3]}")
    require(len(set(classes)) == len(classes), "two classes have the same name")
    for name, split in plugin.splits.items():
        labels = [] if split.labels is None else list(split.labels)
        bad = [label for label in labels if not -1 <= label < len(classes)]
        require(not bad, f"the {name} split has the label {bad[:1]} of {len(classes)} classes")


@check("dataset")
def same_seed_same_rows(plugin: DatasetUnderTest) -> None:
    """The same seed gives the same rows, from the same instance and from a new one."""
    for dataset in (plugin.dataset, plugin.build()):
        for name, split in plugin.splits.items():
            other = dataset.split(name)
            require(list(split.ids) == list(other.ids), _changed(name, "ids"))
            require(list(split.labels or ()) == list(other.labels or ()), _changed(name, "labels"))
            _check_same_items(plugin, name, split, other)


@check("dataset")
def items_are_repeatable(plugin: DatasetUnderTest) -> None:
    """An item is the same every time that it is read."""
    for name, split in plugin.splits.items():
        _check_same_items(plugin, name, split, split)


@check("dataset")
def items_fit_their_modality(plugin: DatasetUnderTest) -> None:
    """The modality of a column accepts its items, all of one shape; a missing item is None."""
    shapes: dict[str, str] = {}
    for name, split in plugin.splits.items():
        for column, row in product(plugin.modalities, range(min(ROWS_READ, len(split.ids)))):
            try:
                x = plugin.item(split, column, row)
            except (ValueError, OSError, MLDError) as error:
                cell = f"row {split.ids[row]!r} of {name}, column {column!r}"
                raise CheckFailed(f"{cell}: {error}") from error
            if x is not None:
                shape = describe(x)
                first = shapes.setdefault(column, shape)
                require(shape == first, f"column {column!r} has items {first} and {shape}")
    empty = sorted(plugin.modalities.keys() - shapes.keys())
    require(not empty, f"no item of {', '.join(empty)} in the first {ROWS_READ} rows of any split")


@check("dataset")
def fingerprint_follows_seed(plugin: DatasetUnderTest) -> None:
    """The fingerprint is the same for the same config and seed, and changes with the seed."""
    first, second, other = (plugin.build(seed).fingerprint() for seed in (SEED, SEED, SEED + 1))
    require(first == second, "two instances with one config and seed have different fingerprints")
    require(
        first != other,
        "the fingerprint does not change with the seed: a run would reuse rows of another seed",
    )


@check("dataset")
def fingerprint_follows_files(plugin: DatasetUnderTest) -> None:
    """The fingerprint changes with a file that is read by a path of the Config."""
    for name, path in dict(plugin.config).items():
        if not isinstance(path, Path) or not path.exists():
            continue
        folder = plugin.folder / name
        config = plugin.config.model_copy(update={name: linked_copy(path, folder)})
        with recorded_opens(folder) as opened:
            _read_some(plugin, config)
        read = opened or ({folder / path.name} if path.is_file() else set())
        before = plugin.build(config=config).fingerprint()
        for file in sorted(read)[:MAX_FILES_CHANGED]:
            with changed_file(file, folder):
                try:
                    after = plugin.build(config=config).fingerprint()
                except (ValueError, OSError, MLDError):
                    continue  # that the file is not as it was is found out in another way
            require(
                after != before,
                f"the fingerprint stays the same when {path.name if path.is_file() else file.name} "
                f"({name}) changes: a run would reuse old rows; return "
                "content_digest(super().fingerprint(), files)",
            )


def _read_some(plugin: DatasetUnderTest, config: DatasetConfig) -> None:
    """Read the first rows of every split."""
    dataset = plugin.build(config=config)
    for name in plugin.splits:
        split = dataset.split(name)
        for column, row in product(plugin.modalities, range(min(ROWS_READ, len(split.ids)))):
            split.items[column][row]


def _changed(split: str, values: str) -> str:
    return f"the {split} split has other {values} the second time: draw from the seed only"


def _check_same_items(plugin: DatasetUnderTest, name: str, split: Split, other: Split) -> None:
    for column, row in product(plugin.modalities, range(min(ROWS_READ, len(split.ids)))):
        first, second = (plugin.item(each, column, row) for each in (split, other))
        equal = first is second if first is None or second is None else torch.equal(first, second)
        require(
            equal,
            f"row {split.ids[row]!r} of {name} has another item in column {column!r} the second "
            "time: a row's items may depend on config, seed and row only",
        )
