"""The contract of a dataset: rows whose columns are modalities, with cells that may be missing."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from mld_core.contracts.modality import Modality, SplitName


def _beside_the_spec(path: Path, info: Any) -> Path:
    # pydantic's ValidationInfo is a protocol that cannot be checked at run time.
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path.expanduser()


SpecPath = Annotated[Path, AfterValidator(_beside_the_spec)]
"""A path in a dataset's Config: a relative one is meant relative to the spec's file."""


class DatasetConfig(BaseModel):
    """What a spec may say about a dataset, beside its kind; plugins subclass it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Split:
    """The rows of one split.

    Args:
        ids: one per row, unique; names the row in errors, scores and manifests.
        items: column to raw data, read when indexed; None where the cell is missing.
        labels: class index per row, −1 where a row has none; None without labels.
    """

    ids: Sequence[str]
    items: Mapping[str, Sequence[Any]]
    labels: Sequence[int] | None = None


class Dataset(ABC):
    """Paired rows over named columns.

    A spec's modality name is a column's name. Reading an item may raise ValueError or OSError
    saying what is wrong with it; the caller adds the row and the modality.

    Args:
        config: an instance of this class's `Config`.
        modalities: the spec's modalities by name, not fitted: a dataset may use their `read`,
            `inline` and `examples`.
        seed: of every draw (splits, pairings).
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
        """Each column's name and the kind of its modality."""

    @property
    @abstractmethod
    def classes(self) -> Sequence[str]:
        """The name of each class index; empty without labels."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """The rows of a split; the same at every call."""

    def fingerprint(self) -> str:
        """A digest of what `split` would serve, cheap to compute.

        Here of the kind, the config and the seed; a dataset that reads files adds their state.
        """
        told = f"{self.kind} {self.config.model_dump_json()} {self.seed}"
        return hashlib.sha256(told.encode()).hexdigest()
