"""The contract of a dataset: rows whose columns are modalities, and whose cells may be missing."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from mld_core.contracts.modality import Modality, SplitName


class DatasetConfig(BaseModel):
    """Settings of a dataset in a spec, in addition to its kind; plugins subclass it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Args:
        ids: one per row, unique; they name rows in errors, scores and manifests.
        items: raw data by column, read when indexed; None where a cell is missing.
        labels: class index per row, −1 for a row without one; None without labels.
        present: by column, whether each row has an item, where that is known without reading any:
            False means that the item is None. None if only reading tells.
        invalid: by column, the index of each row whose item is known, without reading it, to be
            unusable, and why; such items are never indexed. None if only reading tells.
    """

    ids: Sequence[str]
    items: Mapping[str, Sequence[Any]]
    labels: Sequence[int] | None = None
    present: Mapping[str, Sequence[bool]] | None = None
    invalid: Mapping[str, Mapping[int, str]] | None = None


class Dataset(ABC):
    """Paired rows over named columns.

    Each modality name of a spec is a column name. Reading an item may raise ValueError or OSError
    with the reason; the caller adds the row and the modality.

    Args:
        config: an instance of this class's `Config`.
        modalities: the spec's modalities by name, not fitted; a dataset may use their `read`,
            `inline` and `examples`.
        seed: of all random draws (splits, pairings).
    """

    kind: ClassVar[str]
    Config: ClassVar[type[DatasetConfig]]

    def __init__(
        self, config: DatasetConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        self.config = config
        self.modalities = dict(modalities)
        self.seed = seed

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """Kind of modality by column name."""

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """Class names by class index; empty without labels."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """Rows of a split; equal at every call."""

    def peek(self, name: SplitName, rows: int) -> Split:
        """Rows like those of a split, of which the first `rows` are read for a quick look.

        By default the split itself. A dataset in which reading one item makes all of a split
        returns that many rows, or all if there are fewer; they may differ from those of the split.
        """
        return self.split(name)

    def fingerprint(self) -> str:
        """Digest that changes when the rows do, cheap to compute.

        By default of the kind, the config and the seed; a dataset that reads files returns
        `content_digest(super().fingerprint(), files)`.
        """
        content = f"{self.kind} {self.config.model_dump_json()} {self.seed}"
        return hashlib.sha256(content.encode()).hexdigest()
