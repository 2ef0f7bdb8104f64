"""Cells of items in JSONL files."""

from types import SimpleNamespace
from typing import Any

import pytest

from mld.data.items import json_cell
from mld_core import PluginError


@pytest.mark.parametrize(
    ("raw", "cell", "expected"),
    [
        ([1.5], "1.5", 1.5),
        (3.0, "3", 3),
        ([1.0, 2.0], "1 2", "1 2"),
        ("12", "12", "12"),
        ("true", "true", "true"),
        ("NaN or so", "NaN or so", "NaN or so"),
    ],
)
def test_a_cell_is_a_number_where_its_datum_is(raw: Any, cell: str, expected: Any) -> None:
    modality: Any = SimpleNamespace(kind="any", read=lambda source: raw)
    value = json_cell(modality, cell)
    assert value == expected
    assert type(value) is type(expected)


def test_a_plugin_that_does_not_read_its_own_cell_is_named() -> None:
    modality: Any = SimpleNamespace(kind="any", read=lambda source: 1 / 0)
    with pytest.raises(PluginError, match="kind 'any': read of '12'"):
        json_cell(modality, "12")
