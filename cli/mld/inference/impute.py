"""Fill the empty cells of a manifest with samples conditioned on the rest of each row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from mld.config.sections import GuidanceSpec
from mld.data.encoding import decode
from mld.data.items import write_item
from mld.data.recorded import rows_by_modalities
from mld.inference.manifest import (
    ManifestRows,
    encode_manifest,
    read_manifest,
)
from mld.inference.trained_run import TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator, guidance_of
from mld.pipeline.joint_method import Conditioning
from mld.reporting.gallery import GalleryCell, GalleryPage, GalleryRow, item_media, write_gallery
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld.storage.digests import digest, file_digest
from mld.storage.files import append_line, read_lines
from mld.storage.outputs import HIDDEN_FILES, claimed, copy_file, is_occupied
from mld.storage.table_file import write_table
from mld_core import DataError, Modality, NumericalError, OutputError, SpecError
from mld_core.diffusion.sampling import ScoreModel, check_settings

BATCH_SIZE = 64
"""Rows filled at once; an interruption loses at most one batch."""

CONTENT = "an imputation"
"""What the mark of an imputation's folder says that it holds."""
PROGRESS_FILE = "imputed.jsonl"
"""The fingerprint of the request, then the filled cells of each row."""
ALTERNATIVES_FILE = "alternatives.jsonl"
"""The alternatives of each filled cell, in the manifest's order."""
PAGE_FILE = "report.html"
GENERATED_FOLDER = "generated"
"""The folder of the samples' files, with a number if a given file is in one of that name."""


def impute(
    run: TrainedRun,
    manifest: Path | str | ManifestRows,
    out: Path | str,
    n: int = 1,
    *,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | GuidanceSpec = 0.0,
) -> Path:
    """Write a copy of the manifest in which every empty cell is filled, and return its path.

    Each cell gets `n` alternatives; the first fills it, and all are listed in alternatives.jsonl.
    Without guidance, the default, they are draws from what the network has learnt; guidance makes
    them more alike than the truth is certain. Sampler and steps default to the run's spec.

    Call it again with the same arguments to resume. DataError if the manifest does not fit the
    run, OutputError if `out` holds anything else, SpecError if the run has no score network or a
    setting is invalid.
    """
    rows = read_manifest(run, manifest)
    model, generator = run.score_model, run.generator_with(sampler, steps, guidance)
    assert isinstance(generator, DiffusionGenerator)
    sampling, is_conditional = generator.sampling, bool(rows.present.any())
    try:
        check_settings(model, sampling.sampler, guidance_of(sampling.guidance), is_conditional)
    except ValueError as error:
        raise SpecError(f"{run.run_dir.path}: {error}") from error
    return _Imputer(run, model, generator, rows, Path(out), n, seed).fill()


def read_filled(out: Path) -> list[dict[str, Any]]:
    """The filled cells in a folder written by `impute`, in the manifest's order.

    Each has `id` and `modality`, its `alternatives`, `latent_agreement` and `class_agreement` of
    these, and `joint`: whether nothing else was given in its row.
    """
    return read_lines(out / ALTERNATIVES_FILE)


@dataclass(frozen=True)
class _Imputer:
    """One request to fill a manifest, with `n` alternatives for each empty cell."""

    run: TrainedRun
    model: ScoreModel
    generator: DiffusionGenerator
    rows: ManifestRows
    out: Path
    n: int
    seed: int

    def fill(self) -> Path:
        """Fill the rows that are not filled yet, and write the new manifest."""
        if os.path.realpath(self.out) == os.path.realpath(self.rows.path.parent):
            raise OutputError(f"{self.out} is the manifest's own folder: choose another with --out")
        incomplete = int((~self.rows.present.all(1)).sum())
        with claimed(self.out, CONTENT):
            filled = self._load_progress()
            self._copy_given_files()
            latents = encode_manifest(self.run, self.rows)
            with counting("impute", incomplete) as show:
                show(len(filled))
                for batch, given in self._batches():
                    unfilled = [row for row in batch if row not in filled]
                    if not unfilled:
                        continue
                    for row, cells in self._fill_batch(batch, given, latents, unfilled).items():
                        line: dict[str, Any] = {
                            "row": row,
                            "id": self.rows.ids[row],
                            "cells": cells,
                        }
                        append_line(self.out / PROGRESS_FILE, line)
                        filled[row] = cells
                    show(len(filled))
            return self._write_outputs(filled)

    def _load_progress(self) -> dict[int, dict[str, Any]]:
        """The cells filled by earlier calls, by row; starts the progress file of a new request.

        OutputError if the folder holds anything but an earlier call of the same request.
        """
        spec = self.generator.sampling
        fingerprint = digest(
            {
                "manifest": file_digest(self.rows.path),
                "run": file_digest(self.run.run_dir.ema),
                "sampler": [spec.sampler, spec.steps, *astuple(guidance_of(spec.guidance))],
                "alternatives": self.n,
                "seed": self.seed,
            }
        )
        path = self.out / PROGRESS_FILE
        if not path.exists() and not is_occupied(self.out):
            append_line(path, {"fingerprint": fingerprint})
        lines = read_lines(path)
        if not lines or lines[0].get("fingerprint") != fingerprint:
            raise OutputError(
                f"{self.out} holds results of another manifest, run or setting: choose another "
                "folder with --out"
            )
        return {line["row"]: line["cells"] for line in lines[1:]}

    def _batches(self) -> Iterator[tuple[list[int], list[str]]]:
        """A batch of incomplete rows, and the names of the modalities that are given in them."""
        names = list(self.run.modalities)
        for given, indices in rows_by_modalities(self.rows.present, names):
            for batch in indices.split(BATCH_SIZE) if given != names else ():
                yield batch.tolist(), given

    def _fill_batch(
        self,
        batch: list[int],
        given: Sequence[str],
        latents: Mapping[str, Tensor],
        unfilled: Sequence[int],
    ) -> dict[int, dict[str, Any]]:
        """The filled cells of the unfilled rows of a batch, by modality; writes their files.

        The last bits of a sample depend on the size of its batch: so the first alternatives of all
        rows are drawn together, then the second ones. They are the same however many there are, and
        whichever rows are filled.
        """
        wanted = [name for name in self.run.modalities if name not in given]
        observed = Conditioning({}, {name: latents[name][batch] for name in given})
        draws = [self._draw(batch, observed, wanted, k) for k in range(self.n)]
        cells: dict[int, dict[str, Any]] = {row: {} for row in unfilled}
        for name in wanted:
            # "row * alternative", the alternatives of a row one after the other
            z = torch.stack([draw[name] for draw in draws], 1).flatten(0, 1)
            items = [decode(self.run.autoencoders[name], draw[name], name) for draw in draws]
            latent_agreement = self._latent_agreement(name, z)
            class_agreement = self._class_agreement(name, torch.stack(items, 1).flatten(0, 1))
            for i, row in enumerate(batch):
                if row in cells:
                    cells[row][name] = {
                        "alternatives": [
                            self._write_alternative(name, items[k][i], row, k)
                            for k in range(self.n)
                        ],
                        "joint": not given,
                        "latent_agreement": latent_agreement[i],
                        "class_agreement": class_agreement[i],
                    }
        return cells

    def _draw(
        self, batch: Sequence[int], observed: Conditioning, wanted: Sequence[str], k: int
    ) -> Mapping[str, Tensor]:
        """The latents of alternative `k` of each row of a batch, by modality."""
        ids = [self.rows.ids[row] for row in batch]
        seeds = [derive(self.seed, "impute", row_id, k) for row_id in ids]
        try:
            return self.generator.sample(observed, wanted, seeds).latents
        except NumericalError as error:
            raise NumericalError(f"rows {ids[0]!r} to {ids[-1]!r}: {error}") from error

    def _latent_agreement(self, name: str, z: Tensor) -> Sequence[float | None]:
        """1 less the variance of a cell's alternatives over that of the data, at least 0.

        None with a single alternative.
        """
        if self.n < 2:
            return [None] * len(z)
        layout = self.model.layout
        dims = layout.modality_index == layout.names.index(name)
        scaled = (z / self.model.standardiser.std[dims]).reshape(-1, self.n, z.shape[1])
        return _rounded((1 - scaled.var(1).mean(1)).clamp(0, 1))

    @torch.no_grad()
    def _class_agreement(self, name: str, items: Tensor) -> Sequence[float | None]:
        """The proportion of a cell's alternatives that the classifier gives the commonest class.

        None with a single alternative or without a classifier.
        """
        classifier = self.run.classifiers.get(name)
        if self.n < 2 or classifier is None:
            return [None] * len(items)
        classes = classifier(items).argmax(1).reshape(-1, self.n)
        commonest = classes.mode(1).values[:, None]
        return _rounded((classes == commonest).double().mean(1))

    def _write_alternative(self, name: str, x: Tensor, row: int, k: int) -> str:
        """Write an alternative's files; returns its cell of the manifest."""
        stem = self.out / self.generated_folder / name / f"{row:05d}-{k}"
        cell, files = write_item(self.run.modalities[name], x, stem)
        return files[0].relative_to(self.out).as_posix() if cell is None else cell

    def _write_outputs(self, filled: Mapping[int, Mapping[str, Any]]) -> Path:
        """Write the new manifest and the table of filled cells."""
        added = [name for name in self.run.modalities if name not in self.rows.columns]
        rows, filled_cells = [], []
        for index, cells in enumerate(self.rows.cells):
            row = dict(cells)
            for name, modality in self.run.modalities.items():
                if entry := filled.get(index, {}).get(name):
                    row[name] = entry["alternatives"][0]
                    filled_cells.append({"id": self.rows.ids[index], "modality": name, **entry})
                elif not modality.inline and row.get(name):
                    row[name] = self._cell_of_copy(str(row[name]))
            rows.append(row)
        manifest = self.out / self.rows.path.name
        write_table(manifest, [*self.rows.columns, *added], rows)
        alternatives = self.out / ALTERNATIVES_FILE
        write_table(alternatives, (), filled_cells)
        return manifest

    @cached_property
    def given_files(self) -> set[PurePosixPath]:
        """The given files in the manifest's folder, relative to it."""
        cells = (
            str(cells[name])
            for name, modality in self.run.modalities.items()
            for cells in self.rows.cells
            if not modality.inline and cells.get(name)
        )
        return {PurePosixPath(cell) for cell in cells if self._is_in_folder(cell)}

    @cached_property
    def generated_folder(self) -> str:
        """The name of the folder of the samples' files, which holds no given file."""
        taken = {path.parts[0].casefold() for path in self.given_files}
        names = (f"{GENERATED_FOLDER}-{number}" for number in count(2))
        return next(name for name in chain([GENERATED_FOLDER], names) if name not in taken)

    def _copy_given_files(self) -> None:
        """Copy the given files, byte for byte, to the same relative paths.

        OutputError if one has the name of a file that is written beside them, or has changed.
        """
        taken = (self.rows.path.name, ALTERNATIVES_FILE, PROGRESS_FILE, PAGE_FILE, *HIDDEN_FILES)
        names = {name.casefold() for name in taken}
        for path in sorted(self.given_files):
            if path.parts[0].casefold() in names:
                raise OutputError(
                    f"{self.rows.path}: the given file {str(path)!r} has a name that is needed in "
                    f"{self.out}: rename it"
                )
            source = self.rows.path.parent / path
            try:
                copy_file(source, self.out / path)
            except OSError as error:
                raise DataError(f"{source}: {error.strerror}") from error

    def _cell_of_copy(self, cell: str) -> str:
        """The new manifest's cell for a given file: the same, or absolute if it is not copied."""
        if PurePosixPath(cell).is_absolute() or self._is_in_folder(cell):
            return cell
        return os.path.abspath(self.rows.path.parent / cell)

    def _is_in_folder(self, cell: str) -> bool:
        """Whether a cell's path does not lead out of the manifest's folder."""
        path = PurePosixPath(cell)
        return not path.is_absolute() and ".." not in path.parts


def _rounded(values: Tensor) -> list[float | None]:
    return [round(value, 4) for value in values.tolist()]


def write_page(
    path: Path, run: TrainedRun, filled: Sequence[Mapping[str, Any]], rows: ManifestRows, limit: int
) -> None:
    """Write the page of at most `limit` filled rows, evenly spaced; given cells are tinted."""
    filled_rows: dict[str, dict[str, Any]] = {}
    for entry in filled:
        filled_rows.setdefault(entry["id"], {})[entry["modality"]] = entry
    step = max(1, len(filled_rows) // max(1, limit))
    gallery_rows = []
    for row_id in list(filled_rows)[::step][:limit]:
        index, entries = rows.ids.index(row_id), filled_rows[row_id]
        cells = {}
        for column, (name, modality) in enumerate(run.modalities.items()):
            if name in entries:
                cells[name] = _filled_cell(modality, entries[name], path.parent)
            elif bool(rows.present[index, column]):
                media = item_media(modality, rows.items[name][index])
                cells[name] = GalleryCell(media, "given", given=True)
        joint = any(entry["joint"] for entry in entries.values())
        notes = ["nothing given: generated jointly"] if joint else []
        gallery_rows.append(GalleryRow(row_id, notes, cells))
    page = GalleryPage(
        title="Filled cells",
        lede=(
            f"{len(filled):,} empty cells in {len(filled_rows):,} of {len(rows.ids):,} rows of "
            f"{rows.path.name}, filled with samples conditioned on the rest of each row."
        ),
        names=list(run.modalities),
        about=(
            "Tinted cells were given. Class agreement is the proportion of a cell's alternatives "
            "in their commonest class; latent agreement is 1 less their variance relative to that "
            "of the data. Both are 1 where all alternatives agree."
        ),
        rows=gallery_rows,
    )
    write_gallery(path, page)


def _filled_cell(modality: Modality, entry: Mapping[str, Any], folder: Path) -> GalleryCell:
    cell = entry["alternatives"][0]
    x = modality.preprocess(modality.read(cell if modality.inline else folder / cell))
    agreements = [
        f"{kind} agreement {entry[f'{kind}_agreement']:.2f}"
        for kind in ("class", "latent")
        if entry[f"{kind}_agreement"] is not None
    ]
    return GalleryCell(item_media(modality, x), ", ".join(agreements))
