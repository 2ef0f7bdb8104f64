"""Warnings of labels and rows that make scores mislead."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mld.data.loading import SplitRows
from mld.data.packed_items import Items
from mld.data.quality import label_warnings, repeated_row_warnings


def sentences(classes: list[str], train: list[int], test: list[int] | None = None) -> list[str]:
    labels = {"train": train, "validation": None, "test": test}
    return list(label_warnings(classes, labels))


def test_good_labels_are_not_suspicious() -> None:
    assert sentences([], [], []) == []
    assert sentences(["a", "b"], [0, 1, -1], [1, 0]) == []
    assert sentences(["C", "C++", "C#"], [0, 1, 2]) == []
    assert sentences(["-1", "1", "nano"], [0, 1, 2]) == []
    # A class of which no row is in use, as of a dataset with fixed classes.
    assert sentences(["a", "b", "c"], [0, 1], [0]) == []


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "N/A", "<NA>"])
def test_words_for_no_label(word: str) -> None:
    (sentence,) = sentences(["a", "b", word], [0, 1, 2], [2])
    assert sentence.startswith(f"the label {word!r} (rows: 2) is a class like any other")


@pytest.mark.parametrize(
    "similar",
    [("Cat", "cat"), ("cat", "cat\u200b"), ("1", "1.0", "01"), ("a b", "a  b"), ("ﬁsh", "fish")],
)
def test_classes_that_look_alike(similar: tuple[str, ...]) -> None:
    (sentence,) = sentences([*similar, "other"], list(range(len(similar) + 1)))
    names = " and ".join(map(repr, similar))
    assert sentence == f"the classes {names} look alike, but are different classes"


def test_a_single_class() -> None:
    (sentence,) = sentences(["a", "b"], [0, -1], [0])
    assert sentence.startswith("all labels are 'a'")


def test_classes_without_training_rows() -> None:
    (sentence,) = sentences(["a", "b", "c", "d"], [0, 1, 0], [2, 2, 3, 1])
    assert sentence == (
        "no training row has the label 'c', 'd', which samples cannot show: the validation and "
        "test rows that have it (3) lower coherence"
    )
    names = [str(i) for i in range(14)]
    (sentence,) = sentences(names, [0, 1], list(range(14)))
    assert "'11' and 2 more, which" in sentence


def test_coherence_is_not_spoken_of_where_it_is_not_measured() -> None:
    labels = {"train": [0, 1], "validation": [2], "test": [3]}
    assert not [*label_warnings(["a", "b", "c", "d"], labels, measures_coherence=False)]
    (sentence,) = label_warnings(["a", "b", "c", "nan"], labels, measures_coherence=False)
    assert sentence.startswith("the label 'nan'")
    single = {"train": [0], "validation": None, "test": [0]}
    assert not [*label_warnings(["a"], single, measures_coherence=False)]


UNUSED: Any = None
"""In the place of a modality."""


class Rows:
    """The three splits of some rows; a row is a pair of numbers, of which each may be None."""

    def __init__(self, **splits: list[tuple[float | None, float | None]]) -> None:
        self._splits = splits
        self.train = self.split("train")

    def split(self, name: str) -> SplitRows:
        rows = self._splits.get(name, [])
        recorded = [[value is not None for value in row] for row in rows]
        present = torch.tensor(recorded, dtype=torch.bool).reshape(-1, 2)
        return SplitRows(
            ids=tuple(f"{name}-{row}" for row in range(len(rows))),
            items={
                side: Items.of(
                    UNUSED,
                    torch.tensor([[row[column]] for row in rows if row[column] is not None]),
                    present[:, column],
                )
                for column, side in enumerate(("left", "right"))
            },
            present=present,
            labels=None,
        )


def test_rows_that_are_in_training_and_in_another_split() -> None:
    rows = Rows(train=[(1, 2), (1, 0), (3, None)], validation=[(1, 3), (3, 0)])
    assert list(repeated_row_warnings(rows)) == []
    rows = Rows(train=[(1, 2), (3, None)], validation=[(3, None)], test=[(2, 1), (1, 2), (1, 2)])
    validation, test = repeated_row_warnings(rows)
    assert validation.startswith(
        "1 of 1 validation rows equal a training row in every cell, such as 'validation-0' and "
        "'train-1'"
    )
    assert test.startswith("2 of 3 test rows equal a training row in every cell, such as 'test-1'")
