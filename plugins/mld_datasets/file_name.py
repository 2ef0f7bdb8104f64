"""Hints for names of files that do not exist."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


def other_spelling(folder: Path, name: str) -> str:
    """End of an error about a file that does not exist in a folder: one whose name looks alike.

    "" if there is none.
    """
    for candidate, difference in _candidates(name):
        if candidate != name and (folder / candidate).exists():
            return f"; {candidate!r} exists, {difference}"
    file = folder / name
    existing = _names_by_case(file.parent).get(file.name.casefold())
    return f"; {existing!r} exists, in other capitals" if existing else ""


def _candidates(name: str) -> Iterator[tuple[str, str]]:
    yield name.strip(), "without white space around its name"
    slashes = name.strip().replace("\\", "/")
    yield slashes, "with / in place of \\ in its path"
    yield unicodedata.normalize("NFC", slashes), "with composed letters (Unicode NFC)"
    yield unicodedata.normalize("NFD", slashes), "with decomposed letters (Unicode NFD)"


@lru_cache(maxsize=64)
def _names_by_case(folder: Path) -> dict[str, str]:
    """The names in a folder, by the same name without differences of case."""
    try:
        return {child.name.casefold(): child.name for child in folder.iterdir()}
    except OSError:
        return {}
