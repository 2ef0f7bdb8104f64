"""The files that a manifest names, copied beside the manifest that is filled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path, PurePosixPath

from mld.inference.manifest import ManifestRows
from mld.storage.outputs import copy_file
from mld_core import DataError, OutputError


@dataclass(frozen=True)
class GivenFiles:
    """The given files of a manifest, of which those in its folder are copied to another.

    Args:
        columns: names of the columns whose cells are files.
        out: the folder that they are copied to.
        reserved: names that files there must not have.
    """

    rows: ManifestRows
    columns: Sequence[str]
    out: Path
    reserved: Sequence[str]

    @cached_property
    def paths(self) -> set[PurePosixPath]:
        """The files in the manifest's folder, relative to it."""
        cells = (
            str(cells[name])
            for name in self.columns
            for cells in self.rows.cells
            if cells.get(name)
        )
        return {PurePosixPath(cell) for cell in cells if _is_below(cell)}

    def free_name(self, name: str) -> str:
        """The name of a folder that holds no given file: with a number if one has this name."""
        taken = {path.parts[0].casefold() for path in self.paths}
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        return next(name for name in names if name not in taken)

    def copy(self) -> None:
        """Copy the files, byte for byte, to the same relative paths.

        OutputError if one has a reserved name, or differs from a copy that is already there.
        """
        reserved = {name.casefold() for name in self.reserved}
        for path in sorted(self.paths):
            if path.parts[0].casefold() in reserved:
                raise OutputError(
                    f"{self.rows.path}: the given file {str(path)!r} has a name that is needed in "
                    f"{self.out}: rename it"
                )
            source = self.rows.path.parent / path
            try:
                copy_file(source, self.out / path)
            except OSError as error:
                raise DataError(f"{source}: {error.strerror}") from error

    def cell_of_copy(self, cell: str) -> str:
        """The new manifest's cell for a given file: the same, or absolute if it is not copied."""
        if PurePosixPath(cell).is_absolute() or _is_below(cell):
            return cell
        return os.path.abspath(self.rows.path.parent / cell)


def _is_below(cell: str) -> bool:
    """Whether a path does not lead out of the manifest's folder."""
    path = PurePosixPath(cell)
    return not path.is_absolute() and ".." not in path.parts
