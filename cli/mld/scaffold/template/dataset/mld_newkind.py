"""The dataset `newkind`: measurements of materials in a CSV file.

The module works as it is; replace each part with your own. `mld check newkind` tests whether it
fulfils mld's plugin contract.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field

from mld_core import (
    Dataset,
    DatasetConfig,
    SpecPath,
    Split,
    SplitName,
    content_digest,
    hookimpl,
)

MLD_API = 1  # version of mld's plugin contract


class NewKindConfig(DatasetConfig):
    """Settings in a spec beside `kind`; each has a description, and a range if it is a number."""

    path: SpecPath = Field(description="the CSV file; relative to the spec's folder")
    held_out: int = Field(
        default=10, ge=1, le=40, description="per cent of rows in each test split"
    )


class NewKind(Dataset):
    """Materials with hardness and density; the material is also the class."""

    kind = "newkind"  # the name in specs, and of the entry point in pyproject.toml
    Config = NewKindConfig
    config: NewKindConfig

    @property
    def columns(self) -> Mapping[str, str]:
        """The kind of the modality of each column."""
        return {"material": "category", "hardness": "number", "density": "number"}

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes; empty without labels."""
        return sorted({row["material"] for row in self._rows if row["material"]})

    def split(self, name: SplitName) -> Split:
        """The rows of a split, the same at every call. An empty cell is None."""
        rows = [row for row in self._rows if self._split_of(row["id"]) == name]
        classes = list(self.classes)
        items: dict[str, list[Any]] = {
            "material": [row["material"] or None for row in rows],
            "hardness": [_number(row["hardness"]) for row in rows],
            "density": [_number(row["density"]) for row in rows],
        }
        labels = [classes.index(row["material"]) if row["material"] else -1 for row in rows]
        return Split([row["id"] for row in rows], items, labels)

    def fingerprint(self) -> str:
        """A digest that changes with the settings, the seed and the file."""
        return content_digest(super().fingerprint(), [self.config.path])

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        with self.config.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        missing = {"id", *self.columns} - set(rows[0] if rows else ())
        if missing:
            raise ValueError(f"{self.config.path}: has no column {sorted(missing)[0]!r}")
        return rows

    def _split_of(self, row_id: str) -> SplitName:
        """Drawn from the seed, and the same whatever other rows there are."""
        draw = hashlib.sha256(f"{self.seed} {row_id}".encode()).digest()[0] * 100 // 256
        if draw < self.config.held_out:
            return "test"
        return "validation" if draw < 2 * self.config.held_out else "train"


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """Return the dataset to mld, which finds this module by its entry point."""
    return [NewKind]
