"""The dataset `captioned-molecules`: molecules and their descriptions, in ChEBI-20's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from mld_core import (
    SPLITS,
    DataError,
    Dataset,
    Modality,
    SpecPath,
    Split,
    SplitName,
    content_digest,
    hookimpl,
)
from mld_datasets.download import Source, read_content, resolve_gz
from mld_datasets.pairing import LimitedConfig

SOURCE = Source(
    name="ChEBI-20",
    address="https://github.com/blender-nlp/MolT5 (ChEBI-20_data)",
    layout="train.txt, validation.txt and test.txt, plain or .gz, in the folder or in its "
    "subfolder chebi20 or ChEBI-20_data",
)
_SUBFOLDERS = ("", "chebi20", "ChEBI-20_data")
VALIDATION_DIVISOR = 10
"""With `train_from: validation`, the last 1/10 of validation.txt is the validation split."""
_HEADER = ("CID", "SMILES", "description")


class CaptionedMoleculesConfig(LimitedConfig):
    """Where the data are.

    The folder has `train.txt`, `validation.txt` and `test.txt` (plain or .gz), itself or in its
    subfolder `chebi20` or `ChEBI-20_data`: tab-separated, with the header CID, SMILES,
    description.
    """

    folder: SpecPath = Field(description="folder of ChEBI-20, or of data in the same layout")
    train_from: Literal["train", "validation"] = Field(
        "train",
        description="validation: train on the first nine tenths of validation.txt; no train.txt "
        "is needed",
    )


class CaptionedMolecules(Dataset):
    """Molecules with captions, in the layout of ChEBI-20 (Edwards et al. 2021); no labels."""

    kind = "captioned-molecules"
    Config = CaptionedMoleculesConfig
    config: CaptionedMoleculesConfig
    columns = MappingProxyType({"molecule": "molecule", "caption": "text"})
    classes = ()

    def __init__(
        self, config: CaptionedMoleculesConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        self._files = _find_files(config.folder)
        if not self._files:
            raise SOURCE.missing_error(config.folder)
        needed = dict.fromkeys(self._file_of.values())
        if missing := [name for name in needed if name not in self._files]:
            problem = f"lacks {', '.join(f'{name}.txt' for name in missing)} of {SOURCE.name}"
            advice = "; or set train_from: validation" if missing == ["train"] else ""
            raise SOURCE.missing_error(config.folder, problem, advice)

    @property
    def _file_of(self) -> dict[SplitName, SplitName]:
        """The file that each split is read from."""
        return {"train": self.config.train_from, "validation": "validation", "test": "test"}

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in the order of its file."""
        rows = self._rows(name)
        return Split(
            ids=[row.id for row in rows],
            items={column: [row.cells[column] for row in rows] for column in self.columns},
        )

    def _rows(self, name: SplitName) -> list[Row]:
        """The rows of a split."""
        rows = _read(self._files[self._file_of[name]])
        if self.config.train_from == "validation" and name != "test":
            train = len(rows) - len(rows) // VALIDATION_DIVISOR
            rows = rows[:train] if name == "train" else rows[train:]
        return rows[: self.config.limit(name)]

    def fingerprint(self) -> str:
        """Includes the contents of the files."""
        return content_digest(super().fingerprint(), self._files.values())


@dataclass(frozen=True)
class Row:
    """A molecule and its caption; None where a cell is empty."""

    id: str
    cells: Mapping[str, str | None]


def _find_files(folder: Path) -> dict[SplitName, Path]:
    """The existing files by name, in the first location that has some."""
    for location in (folder / name for name in _SUBFOLDERS):
        paths = {name: resolve_gz(location / f"{name}.txt") for name in SPLITS}
        if files := {name: path for name, path in paths.items() if path.is_file()}:
            return files
    return {}


def _read(path: Path) -> list[Row]:
    """The rows of a file. DataError names the line of an error."""
    content = read_content(path)
    try:
        header, *lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        line_number = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line_number}: is not UTF-8 text: {error.reason}") from error
    if tuple(header.strip().split("\t")) != _HEADER:
        raise DataError(f"{path}:1: the header must be {', '.join(_HEADER)}, tab-separated")
    rows = []
    for line_number, line in enumerate(lines, 2):
        if text := line.rstrip("\r"):
            rows.append(_row(path, line_number, text))
    if not rows:
        raise DataError(f"{path}: has no rows")
    return rows


def _row(path: Path, line_number: int, line: str) -> Row:
    cells = line.split("\t")
    if len(cells) != len(_HEADER):
        raise DataError(f"{path}:{line_number}: has {len(cells)} cells, expected {len(_HEADER)}")
    compound, smiles, caption = cells
    # The published files double every backslash of a SMILES.
    smiles = smiles.replace("\\\\", "\\")
    row_id = f"{path.name}:{line_number} CID {compound}"
    return Row(row_id, {"molecule": smiles or None, "caption": caption or None})


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The datasets of this module."""
    return [CaptionedMolecules]
