"""The dataset `captioned-molecules`: molecules and what is said of them, in ChEBI-20's layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from mld_core import DataError, Dataset, Modality, SpecPath, Split, SplitName, hookimpl
from mld_datasets.download import Source, content_digest, read_content, resolve_gz
from mld_datasets.pairing import LimitedConfig

SOURCE = Source(
    name="ChEBI-20",
    address="https://github.com/blender-nlp/MolT5 (ChEBI-20_data)",
    layout="train.txt, validation.txt and test.txt, plain or .gz, in the folder or in its "
    "subfolder chebi20 or ChEBI-20_data",
)
_HOMES = ("", "chebi20", "ChEBI-20_data")
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
HELD = 10
"""With `train_from: validation` one of so many rows stays for validation: the last ones."""
_HEADER = ("CID", "SMILES", "description")


class CaptionedMoleculesConfig(LimitedConfig):
    """Where the captions are, and what is done with rows that do not fit.

    The folder holds `train.txt`, `validation.txt` and `test.txt` (plain or .gz), itself or in its
    subfolder `chebi20` or `ChEBI-20_data`: tab-separated, with the header CID, SMILES,
    description.
    """

    folder: SpecPath = Field(description="holds the files of ChEBI-20, or of data laid out so")
    train_from: Literal["train", "validation"] = Field(
        "train",
        description="validation: the first nine tenths of validation.txt train, and no "
        "train.txt is needed",
    )
    unfit: Literal["error", "leave_out"] = Field(
        "error", description="rows that a modality refuses: an error, or left out and counted"
    )


class CaptionedMolecules(Dataset):
    """Molecules with captions, in the layout of ChEBI-20 (Edwards et al. 2021); no labels.

    With `unfit: leave_out`, a row that one of the spec's modalities refuses is served with empty
    cells: the run leaves it out, and counts it. Such are a caption longer than `max_bytes`, or a
    molecule with a symbol that no molecule of training has. What `data.missing` takes away is not
    known here: a symbol that only such molecules have is still an error, which more rows of
    training or another seed mends.
    """

    kind = "captioned-molecules"
    Config = CaptionedMoleculesConfig
    config: CaptionedMoleculesConfig
    columns = MappingProxyType({"molecule": "molecule", "caption": "text"})
    classes = ()

    def __init__(
        self, config: CaptionedMoleculesConfig, modalities: Mapping[str, Modality], seed: int
    ) -> None:
        super().__init__(config, modalities, seed)
        self._files = _found(config.folder)
        lacks = [name for name in dict.fromkeys(self._sources.values()) if name not in self._files]
        if not self._files:
            raise SOURCE.missing(config.folder)
        if lacks:
            told = f"holds no {', '.join(f'{name}.txt' for name in lacks)} of {SOURCE.name}"
            advice = "; or set train_from: validation" if lacks == ["train"] else ""
            raise SOURCE.missing(config.folder, told, advice)

    @property
    def _sources(self) -> dict[SplitName, SplitName]:
        """The file of each split."""
        return {"train": self.config.train_from, "validation": "validation", "test": "test"}

    def split(self, name: SplitName) -> Split:
        """The rows of a split, in the order of its file."""
        rows = self._rows(name)
        if self.config.unfit == "leave_out":
            fitted = self._fitted
            rows = [row if _accepts(fitted, row) else row.emptied() for row in rows]
        return Split(
            ids=[row.name for row in rows],
            items={column: [row.cells[column] for row in rows] for column in self.columns},
        )

    def _rows(self, name: SplitName) -> list[Row]:
        """The rows that the files have for a split."""
        rows = _read(self._files[self._sources[name]])
        if self.config.train_from == "validation" and name != "test":
            kept = len(rows) - len(rows) // HELD
            rows = rows[:kept] if name == "train" else rows[kept:]
        return rows[: self.config.limit(name)]

    @cached_property
    def _fitted(self) -> dict[str, Modality]:
        """The modalities as a run fits them: on the training rows that they accept."""
        rows = [row for row in self._rows("train") if _is_readable(self.modalities, row)]
        first = self._fit(rows)
        return self._fit([row for row in rows if _accepts(first, row)])

    def _fit(self, rows: Sequence[Row]) -> dict[str, Modality]:
        if not rows:
            raise DataError(
                f"{self._files[self._sources['train']]}: a modality refuses every row of training; "
                "set unfit: error to see why"
            )
        return {name: _fitted(own, name, rows) for name, own in self.modalities.items()}

    def fingerprint(self) -> str:
        """Also of the files' contents."""
        return content_digest(super().fingerprint(), self._files.values())


@dataclass(frozen=True)
class Row:
    """A molecule and its caption; None where a cell is empty."""

    name: str
    cells: Mapping[str, str | None]

    def emptied(self) -> Row:
        """The same row with nothing recorded."""
        return Row(self.name, dict.fromkeys(self.cells))


def _fitted(modality: Modality, name: str, rows: Sequence[Row]) -> Modality:
    recorded = (cell for row in rows if (cell := row.cells[name]) is not None)
    return type(modality)(modality.config, modality.fit(modality.config, recorded))


def _is_readable(modalities: Mapping[str, Modality], row: Row) -> bool:
    """Whether every modality could learn from a row."""
    try:
        for name, modality in modalities.items():
            if row.cells[name] is not None:
                _fitted(modality, name, [row])
    except ValueError:
        return False
    return True


def _accepts(fitted: Mapping[str, Modality], row: Row) -> bool:
    """Whether every fitted modality makes an item of a row."""
    try:
        for name, modality in fitted.items():
            if row.cells[name] is not None:
                modality.preprocess(row.cells[name])
    except ValueError:
        return False
    return True


def _found(folder: Path) -> dict[SplitName, Path]:
    """The files by split, in the first place that has some."""
    for home in (folder / name for name in _HOMES):
        files = {name: resolve_gz(home / f"{name}.txt") for name in SPLITS}
        there = {name: path for name, path in files.items() if path.is_file()}
        if there:
            return there
    return {}


def _read(path: Path) -> list[Row]:
    """The rows of a file. DataError says in which line something is wrong."""
    content = read_content(path)
    try:
        header, *lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: is not UTF-8 text: {error.reason}") from error
    if tuple(header.strip().split("\t")) != _HEADER:
        raise DataError(f"{path}:1: the header must be {', '.join(_HEADER)}, tab-separated")
    told = enumerate((line.rstrip("\r") for line in lines), 2)
    rows = [_row(path, number, line) for number, line in told if line]
    if not rows:
        raise DataError(f"{path}: has no rows")
    return rows


def _row(path: Path, number: int, line: str) -> Row:
    cells = line.split("\t")
    if len(cells) != len(_HEADER):
        raise DataError(f"{path}:{number}: has {len(cells)} cells, and 3 are wanted")
    compound, smiles, caption = cells
    # The published files write every backslash of a SMILES twice.
    smiles = smiles.replace("\\\\", "\\")
    name = f"{path.name}:{number} CID {compound}"
    return Row(name, {"molecule": smiles or None, "caption": caption or None})


@hookimpl
def register_datasets() -> list[type[Dataset]]:
    """The dataset of this module, for mld."""
    return [CaptionedMolecules]
