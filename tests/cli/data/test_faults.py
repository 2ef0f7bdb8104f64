"""Messages about items that cannot be used."""

from __future__ import annotations

import csv

import pytest

from mld.data.faults import Fault, InvalidItemsError, describe_faults, table_of_faults
from mld_core import LimitError, ReadError


def fault(row: int, error: ValueError | OSError, split: str = "train") -> Fault:
    return Fault.of(error, split, f"r{row}", "caption")


def too_long(row: int, needed: int) -> Fault:
    message = f"the text has {needed} bytes, more than max_bytes = 32"
    return fault(row, ReadError(repr("x" * needed), LimitError(message, "max_bytes", needed)))


def test_an_error_of_reading_says_what_was_read() -> None:
    missing = FileNotFoundError(2, "No such file or directory", "a.txt")
    assert fault(1, ReadError("a.txt", missing)).message == "a.txt: No such file or directory"
    assert fault(1, missing).message == "No such file or directory"
    assert fault(1, ValueError("is odd")).message == "is odd"
    assert str(ReadError("a.txt", missing)) == "a.txt: No such file or directory"


def test_each_kind_of_fault_is_described_once() -> None:
    words = ["abc", "1.2.3", "n/a", "5 kg"]
    faults = [
        fault(row, ReadError(repr(word), ValueError(f"{word} is not a number: leave it empty")))
        for row, word in enumerate(words)
    ]
    faults += [fault(row, ValueError(f"{row} is above the maximum 3")) for row in (7, 8)]
    assert [*describe_faults(faults, {})] == [
        "rows 'r0', 'r1', 'r2', 'r3', modality 'caption': 'abc': abc is not a number: leave it "
        "empty",
        "rows 'r7', 'r8', modality 'caption': 7 is above the maximum 3",
    ]


@pytest.mark.parametrize(
    ("needed", "items", "expected"),
    [
        ([40, 80, 56], 1000, "modalities.caption.max_bytes: 80 fits all, 99.7 % fit now"),
        # Two of 40 are 5 %.
        ([40, 80, 56], 40, "modalities.caption.max_bytes: 80 fits all, 95 % fit 40"),
        ([40, 80, 56], 20, "modalities.caption.max_bytes: 80 fits all, 95 % fit 56"),
        ([80, 80, 40], 20, "modalities.caption.max_bytes: 80 fits all, 85 % fit now"),
    ],
)
def test_a_limit_names_the_value_for_all(needed: list[int], items: int, expected: str) -> None:
    faults = [too_long(row, length) for row, length in enumerate(needed)]
    (line,) = describe_faults(faults, {"caption": items})
    assert line.endswith(f"more than max_bytes = 32 ({expected})")
    assert line.startswith("rows 'r0', 'r1', 'r2', modality 'caption': 'xxx")


def test_at_most_ten_kinds_and_ten_rows_are_shown() -> None:
    faults = [fault(row, ValueError("is odd")) for row in range(12)]
    faults += [fault(row, ValueError(f"is {chr(97 + row)}"), "test") for row in range(11)]
    lines = str(InvalidItemsError(faults, {}, "correct them")).splitlines()
    assert lines[0] == "23 items cannot be used (train 12, test 11):"
    assert "'r9' and 2 more, modality" in lines[1]
    assert "'r10'" not in lines[1]
    assert lines[11:] == ["  ... and 2 more", "correct them"]


def test_the_table_has_every_fault() -> None:
    faults = [too_long(row, 33 + row) for row in range(30)] + [fault(30, ValueError('a "b", c'))]
    rows = [*csv.DictReader(table_of_faults(faults).splitlines())]
    assert [row["row"] for row in rows] == [f"r{row}" for row in range(31)]
    assert rows[3]["setting"] == "max_bytes"
    assert rows[3]["needed"] == "36"
    assert rows[30] == {
        "split": "train",
        "row": "r30",
        "modality": "caption",
        "value": "",
        "reason": 'a "b", c',
        "setting": "",
        "needed": "",
    }
