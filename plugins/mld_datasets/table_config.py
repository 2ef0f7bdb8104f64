"""Settings of datasets that are tables: how rows are divided, and which columns are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from mld_core import DatasetConfig, SpecPath, SplitName
from mld_datasets.random_split import HeldOutShares

DEFAULT_SHARE = 0.1
"""The share of rows in the validation split, and in the test split."""

Share = Annotated[float, Field(ge=0, lt=1)]


def _check_has_train(paths: dict[SplitName, Path]) -> dict[SplitName, Path]:
    if "train" not in paths:
        raise ValueError("names no path for train")
    return paths


def _form(path: Any) -> str:
    return "splits" if isinstance(path, dict) else "path"


TablePath = Annotated[
    Annotated[SpecPath, Tag("path")]
    | Annotated[dict[SplitName, SpecPath], AfterValidator(_check_has_train), Tag("splits")],
    Discriminator(_form),
]
"""A path in a dataset's Config, or one for each split, of which it has at least train."""


class TableConfig(DatasetConfig):
    """Settings of a dataset of rows in a table."""

    path: TablePath | None = Field(description="where the rows are; relative to the spec's folder")
    split_by: str | None = Field(
        None,
        description="a column: rows with the same cell are in one split; of a modality that has "
        "split keys, such as scaffolds of molecules, rows with the same key",
    )
    validation: Share | None = Field(
        None, description=f"share of rows in the validation split; default: {DEFAULT_SHARE:g}"
    )
    test: Share | None = Field(
        None, description=f"share of rows in the test split; default: {DEFAULT_SHARE:g}"
    )
    ignore: list[str] = Field(
        [], description="columns that are not modalities, of which no warning is needed"
    )

    @property
    def shares(self) -> HeldOutShares:
        """The shares of the rows that are held out."""
        shares: dict[SplitName, float | None] = {"validation": self.validation, "test": self.test}
        return {name: DEFAULT_SHARE if x is None else x for name, x in shares.items()}

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if sum(self.shares.values()) >= 1:
            raise ValueError("validation and test must leave rows for training: lower their shares")
        return self
