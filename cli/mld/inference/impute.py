"""Fills the empty cells of a manifest with what a network makes of the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from mld.data.encoding import decode
from mld.data.items import write_item
from mld.inference.manifest import ManifestRows, write_table
from mld.reporting.gallery import GalleryCell, GalleryPage, Row, exhibits, write_gallery
from mld.runtime.seeds import derive
from mld.storage.digests import digest, file_digest
from mld.storage.files import append_line, atomic_write, read_lines
from mld_core import Autoencoder, Classifier, DataError, Modality, NumericalError, RunDirError
from mld_core.diffusion.guidance import Guidance
from mld_core.diffusion.sampling import ScoreModel, sample_latents

BATCH = 64
"""Rows filled at once; what a stop may cost."""

DONE = "imputed.jsonl"
ALTERNATIVES = "alternatives.jsonl"
FOLDER = "generated"


@dataclass(frozen=True)
class Imputer:
    """What fills cells: a run's network and decoders, and how many alternatives it gives.

    Args:
        classifiers: by modality; none without labels.
        sampler, steps, guidance: as `sample_latents` takes them.
        alternatives: for each cell; the first is the one that fills it.
        run: a digest of the network's weights.
    """

    model: ScoreModel
    modalities: Mapping[str, Modality]
    autoencoders: Mapping[str, Autoencoder]
    classifiers: Mapping[str, Classifier]
    sampler: str
    steps: int
    guidance: Guidance
    alternatives: int
    seed: int
    run: str

    def fill(
        self,
        manifest_rows: ManifestRows,
        latents: Mapping[str, Tensor],
        out: Path,
        told: Callable[[int], None],
    ) -> Path:
        """Fill a manifest's cells into a folder, and return the new manifest.

        The same call goes on where an earlier one was stopped. RunDirError if the folder holds
        something else.
        """
        _demand_apart(manifest_rows, out)
        done = self._done(manifest_rows, out)
        whole = manifest_rows.present.all(1).tolist()
        waiting = [row for row, own in enumerate(whole) if not own and str(row) not in done]
        by_pattern: dict[tuple[bool, ...], list[int]] = {}
        for row in waiting:
            by_pattern.setdefault(tuple(manifest_rows.present[row].tolist()), []).append(row)
        finished = len(done)
        for rows in by_pattern.values():
            for first in range(0, len(rows), BATCH):
                part = rows[first : first + BATCH]
                for row, cells in self._batch(manifest_rows, latents, part, out).items():
                    append_line(
                        out / DONE, {"row": row, "id": manifest_rows.ids[row], "cells": cells}
                    )
                    done[str(row)] = cells
                finished += len(part)
                told(finished)
        return self._conclude(manifest_rows, done, out)

    def _done(self, manifest_rows: ManifestRows, out: Path) -> dict[str, Any]:
        """The cells of the rows that an earlier call has filled, by place."""
        strength = list(astuple(self.guidance))
        key = digest(
            {
                "manifest": file_digest(manifest_rows.path),
                "run": self.run,
                "sampler": [self.sampler, self.steps, *strength],
                "alternatives": self.alternatives,
                "seed": self.seed,
            }
        )
        record = out / DONE
        if not record.exists():
            if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
                raise RunDirError(f"{out} is not empty: choose another folder with --out")
            out.mkdir(parents=True, exist_ok=True)
            append_line(record, {"made_from": key})
        lines = read_lines(record)
        if not lines or lines[0].get("made_from") != key:
            raise RunDirError(
                f"{out} holds what another manifest, run or setting has made: choose another "
                "folder with --out"
            )
        return {str(line["row"]): line["cells"] for line in lines[1:]}

    def _batch(
        self, manifest_rows: ManifestRows, latents: Mapping[str, Tensor], rows: list[int], out: Path
    ) -> dict[int, dict[str, Any]]:
        """The filled cells of rows that lack the same."""
        has = manifest_rows.present[rows[0]].tolist()
        given = [name for name, own in zip(self.modalities, has, strict=True) if own]
        wanted = [name for name in self.modalities if name not in given]
        count = self.alternatives
        seeds = [
            derive(self.seed, "impute", manifest_rows.ids[row], k)
            for row in rows
            for k in range(count)
        ]
        samples = sample_latents(
            self.model,
            {name: latents[name][rows].repeat_interleave(count, 0) for name in given},
            wanted,
            seeds,
            self.sampler,
            self.steps,
            self.guidance,
        ).latents
        cells: dict[int, dict[str, Any]] = {row: {} for row in rows}
        for name in wanted:
            z = samples[name]
            if not bool(z.isfinite().all()):
                raise NumericalError(
                    f"row {manifest_rows.ids[rows[0]]!r}: a sample of {name!r} is not finite"
                )
            items = decode(self.autoencoders[name], z)
            alike = self._agreement(name, z, items)
            for place, row in enumerate(rows):
                made = [
                    _written(self.modalities[name], items[place * count + k], name, row, k, out)
                    for k in range(count)
                ]
                cells[row][name] = {"alternatives": made, "joint": not given, **alike[place]}
        return cells

    @torch.no_grad()
    def _agreement(self, name: str, z: Tensor, items: Tensor) -> list[dict[str, float | None]]:
        """How alike each cell's alternatives are: 1 is the same, 0 as different as any data.

        In latent space, 1 less their variance over that of the data; by the classifier, the share
        that shows the commonest class.
        """
        count = self.alternatives
        if count < 2:
            return [{"latent_agreement": None, "class_agreement": None}] * (len(z) // count)
        at = self.model.layout.modality_index == self.model.layout.names.index(name)
        spread = (z / self.model.standardiser.std[at]).reshape(-1, count, z.shape[1]).var(1)
        near = (1 - spread.mean(1)).clamp(0, 1).tolist()
        same: list[float | None] = [None] * len(near)
        if name in self.classifiers:
            shown = self.classifiers[name](items).argmax(1).reshape(-1, count)
            commonest = shown.mode(1).values[:, None]
            same = (shown == commonest).double().mean(1).tolist()
        return [
            {"latent_agreement": round(a, 4), "class_agreement": None if b is None else round(b, 4)}
            for a, b in zip(near, same, strict=True)
        ]

    def _conclude(self, manifest_rows: ManifestRows, done: Mapping[str, Any], out: Path) -> Path:
        """The new manifest and the table of its filled cells."""
        columns = (
            *manifest_rows.columns,
            *(n for n in self.modalities if n not in manifest_rows.columns),
        )
        rows, filled = [], []
        for place, cells in enumerate(manifest_rows.cells):
            row = dict(cells)
            for name, modality in self.modalities.items():
                if told := done.get(str(place), {}).get(name):
                    row[name] = told["alternatives"][0]
                    filled.append({"id": manifest_rows.ids[place], "modality": name, **told})
                elif not modality.inline and row.get(name):
                    row[name] = _kept(manifest_rows.path.parent, str(row[name]), out)
            rows.append(row)
        manifest = out / manifest_rows.path.name
        for path, content in (
            (manifest, write_table(manifest, columns, rows)),
            (out / ALTERNATIVES, write_table(Path(ALTERNATIVES), (), filled)),
        ):
            with atomic_write(path) as partial:
                partial.write_text(content, encoding="utf-8", newline="")
        return manifest


def _demand_apart(manifest_rows: ManifestRows, out: Path) -> None:
    if out.resolve() == manifest_rows.path.parent.resolve():
        raise DataError(f"{out} is the manifest's own folder: choose another with --out")


def _written(modality: Modality, x: Tensor, name: str, row: int, k: int, out: Path) -> str:
    """Write one alternative; what the manifest holds for it."""
    cell, files = write_item(modality, x, out / FOLDER / name / f"{row:05d}-{k}")
    return files[0].relative_to(out).as_posix() if cell is None else cell


def _kept(home: Path, cell: str, out: Path) -> str:
    """A given file beside the new manifest, byte for byte, under the cell's own words.

    A path that leads out of the manifest's folder cannot be: it becomes absolute.
    """
    path = PurePosixPath(cell)
    if path.is_absolute():
        return cell
    if ".." in path.parts:
        return os.path.abspath(home / cell)
    target = out / cell
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as partial:
            shutil.copyfile(home / cell, partial)
    return cell


def read_filled(out: Path) -> list[dict[str, Any]]:
    """The filled cells of a folder, in the manifest's order."""
    return read_lines(out / ALTERNATIVES)


def write_page(
    path: Path,
    filled: Sequence[Mapping[str, Any]],
    manifest_rows: ManifestRows,
    modalities: Mapping[str, Modality],
    shown: int,
) -> None:
    """The page of filled rows, an even selection: what was given is tinted."""
    by_row: dict[str, dict[str, Any]] = {}
    for told in filled:
        by_row.setdefault(told["id"], {})[told["modality"]] = told
    step = max(1, len(by_row) // shown)
    rows = []
    for own in list(by_row)[::step][:shown]:
        place = manifest_rows.ids.index(own)
        cells = {}
        for index, (name, modality) in enumerate(modalities.items()):
            if told := by_row[own].get(name):
                cells[name] = _shown(modality, told, path.parent)
            elif bool(manifest_rows.present[place, index]):
                cells[name] = GalleryCell(
                    exhibits(modality, manifest_rows.items[name][place]), "given", True
                )
        joint = any(told["joint"] for told in by_row[own].values())
        rows.append(Row(own, ["nothing given: generated jointly"] if joint else [], cells))
    lede = (
        f"{len(filled):,} empty cells in {len(by_row):,} of {len(manifest_rows.ids):,} rows of "
        f"{manifest_rows.path.name}, filled from what each row has."
    )
    about = "Tinted cells were given. Agreement is how alike a cell's alternatives are, up to 1."
    names = list(modalities)
    write_gallery(path, GalleryPage("Filled cells", lede, names, about, rows))


def _shown(modality: Modality, told: Mapping[str, Any], home: Path) -> GalleryCell:
    cell = told["alternatives"][0]
    x = modality.preprocess(modality.read(cell if modality.inline else home / cell))
    marks = [
        f"{word} agreement {told[f'{word}_agreement']:.2f}"
        for word in ("class", "latent")
        if told[f"{word}_agreement"] is not None
    ]
    return GalleryCell(exhibits(modality, x), ", ".join(marks))
