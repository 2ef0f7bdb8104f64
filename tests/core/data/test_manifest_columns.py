"""Columns that mean something, that are misspelt, and that are not used."""

from __future__ import annotations

from pathlib import Path

import pytest

from mld_core import DataError, read_table, unused_columns


@pytest.fixture
def unused(tmp_path: Path):
    """The unused columns of a table with a header, for some modalities."""

    def unused(header: str, *modalities: str) -> list[str]:
        path = tmp_path / "rows.csv"
        path.write_text(f"{header}\n" + "," * header.count(",") + "x\n")
        return unused_columns(path, read_table(path).columns, modalities)

    return unused


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("photo, split , label,id", []),
        ("photo,source,,year", ["source", "", "year"]),
        ("photo,grid,idx,kid,note,lapel", ["grid", "idx", "kid", "note", "lapel"]),
        ("photo,label,Label,labels,split,Split", ["Label", "labels", "Split"]),
        ("photo,photo2", ["photo2"]),
        ("photo,#,?", ["#", "?"]),
    ],
)
def test_unused_columns(unused, header: str, expected: list[str]) -> None:
    assert unused(header, "photo") == expected


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("Split", "split"),
        ("split:", "split"),
        ("spilt", "split"),
        ("SPLITS", "split"),
        ("Label", "label"),
        ("labels", "label"),
        ("lable", "label"),
        ("lab\u200bel", "label"),
        ("l\u0430bel", "label"),  # a Cyrillic a
        ("\ufeffid", "id"),
        ("ID", "id"),
        ("i d", "id"),
        ("photos", "photo"),
        ("PHOTO", "photo"),
    ],
)
def test_misspelt_columns(unused, column: str, name: str) -> None:
    with pytest.raises(DataError) as caught:
        unused(f"other,{column}", "photo")
    assert f"unknown column {column!r}; did you mean {name!r}?" in str(caught.value)


def test_one_letter_more_is_another_name_if_both_are_there(unused) -> None:
    assert unused("view1,view2", "view1") == ["view2"]
    assert unused("view2", "view1") == ["view2"]
