"""The columns of a manifest: which of them mean something, and which are not used."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from mld_core.errors import DataError

RESERVED_COLUMNS = ("id", "label", "split")
"""Columns of a manifest that describe the row; every other column is a modality's."""

MIN_MISSPELT_LENGTH = 4
"""Length from which a name with a letter more or less is a misspelling, not another name."""


def unused_columns(path: Path, columns: Collection[str], modalities: Collection[str]) -> list[str]:
    """Columns of a table at a path that are neither reserved nor modalities.

    DataError if the name of one is close to that of a modality or reserved column that is absent:
    equal but for case and punctuation, misspelt by one letter, or with one of another alphabet.
    """
    used = (*modalities, *RESERVED_COLUMNS)
    unused = [column for column in columns if column not in used]
    absent = [name for name in used if name not in columns]
    errors = [
        f"{path}: unknown column {column!r}; did you mean {name!r}? Rename or remove it"
        for column in unused
        for name in absent
        if _is_close(_fold(column), _fold(name))
    ]
    if errors:
        raise DataError("\n".join(errors))
    return unused


def _fold(name: str) -> str:
    """A name without differences of case, punctuation, white space and invisible characters."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


def _is_close(a: str, b: str) -> bool:
    if a == b:
        return True
    if max(len(a), len(b)) < MIN_MISSPELT_LENGTH:
        return False
    differing = [{x, y} for x, y in zip(a, b, strict=False) if x != y]
    if len(a) == len(b) and len(differing) == 1:
        return len(list(filter(str.isascii, differing[0]))) == 1
    return b in _misspellings(a) or a in _misspellings(b)


def _misspellings(name: str) -> Iterator[str]:
    """The name without one of its letters, and with two neighbours swapped."""
    for i in range(len(name)):
        yield name[:i] + name[i + 1 :]
        yield name[:i] + name[i + 1 : i + 2] + name[i : i + 1] + name[i + 2 :]
