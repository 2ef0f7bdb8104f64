"""The index of a folder of samples: its lines stay on disk, and only their places in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mld.storage.files import append_line

INDEX_FILE = "samples.jsonl"
"""The files and cells of each sample of a folder."""
_MISSING = -1


class SampleIndex:
    """The samples of a folder, as far as they are written; iterates over them.

    Each is a mapping of its `row`, its number `sample`, its `files` by modality, relative to the
    folder, its `cells` by inline modality, and `nfe`. They come by row, then by number.

    Args:
        folder: of the samples.
        rows, n: the samples of interest, the first `n` of each row.
        with_files: the modalities of which a sample needs a file.
    """

    def __init__(self, folder: Path, rows: int, n: int, with_files: Collection[str]) -> None:
        self._folder, self._path = folder, folder / INDEX_FILE
        self._with_files = with_files
        self._places = np.full((rows, n), _MISSING, dtype=np.int64)
        if self._path.exists():
            self._load()

    def __contains__(self, key: tuple[int, int]) -> bool:
        """Whether a sample is written: a row and a number."""
        return bool(self._places[key] != _MISSING)

    def __len__(self) -> int:
        return int((self._places != _MISSING).sum())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not len(self):
            return
        with self._path.open("rb") as file:
            for place in self._places[self._places != _MISSING].tolist():
                file.seek(place)
                yield json.loads(file.readline())

    def append(self, entry: dict[str, Any]) -> None:
        """Add a sample whose files are written."""
        self._places[entry["row"], entry["sample"]] = append_line(self._path, entry)

    def _load(self) -> None:
        """Find the lines of samples whose files exist; a later line of a sample is valid."""
        with self._path.open("rb") as file:
            place = 0
            for line in file:
                try:
                    entry = json.loads(line)
                    row, sample, files = entry["row"], entry["sample"], entry["files"]
                    if self._is_of_interest(row, sample) and self._has_files(files):
                        self._places[row, sample] = place
                except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                    pass  # a killed process has left the line unfinished
                place += len(line)

    def _is_of_interest(self, row: int, sample: int) -> bool:
        rows, n = self._places.shape
        return 0 <= row < rows and 0 <= sample < n

    def _has_files(self, files: dict[str, str]) -> bool:
        return all((self._folder / files[name]).is_file() for name in self._with_files)
