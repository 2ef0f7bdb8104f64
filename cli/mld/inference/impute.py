"""Fill the empty cells of a manifest with estimates from samples given the rest of each row."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int64
from pydantic import JsonValue
from torch import Tensor

from mld.config.sections import GuidanceSpec
from mld.data.estimates import Estimate
from mld.data.items import JSON_NUMBERS, item_cell, json_cell, write_item
from mld.evaluation.evaluator import predicted_classes
from mld.inference.cell_sampler import CellSampler, Rows
from mld.inference.given_files import GivenFiles
from mld.inference.held_out_cells import check_held_out_cells
from mld.inference.manifest import ManifestRows, encode_manifest, read_manifest
from mld.inference.trained_run import TrainedRun
from mld.pipeline.diffusion_method import DiffusionGenerator, guidance_of
from mld.pipeline.joint_method import Conditioning
from mld.runtime.progress import counting
from mld.storage.digests import digest, file_digest
from mld.storage.files import append_line, read_lines, write_json, writing
from mld.storage.outputs import HIDDEN_FILES, claimed, is_occupied
from mld.storage.table_file import is_json_lines, write_table
from mld_core import OutputError, SpecError
from mld_core.diffusion.latent_layout import Present
from mld_core.diffusion.sampling import check_settings

BATCH_SIZE = 64
"""Rows filled at once; an interruption loses at most one batch."""
DEFAULT_DRAWS = 16
"""Samples for each empty cell."""
DEFAULT_HELD_OUT = 200
"""Held-out rows by which the estimates are checked."""

Fill = Literal["best", "draw"]
"""What is written into an empty cell: the best estimate, or the first sample."""

CONTENT = "an imputation"
"""What the mark of an imputation's folder says that it holds."""
PROGRESS_FILE = "imputed.jsonl"
"""The fingerprint of the request, then the filled cells of each row."""
ALTERNATIVES_FILE = "alternatives.jsonl"
"""The filled cells with all samples, in the manifest's order."""
ESTIMATES_FILE = "estimates.csv"
"""The filled cells as a table: the estimate, and the figures about it."""
HELD_OUT_FILE = "held_out.json"
"""How well cells of held-out rows were estimated."""
PAGE_FILE = "report.html"
GENERATED_FOLDER = "generated"
"""The folder of the samples' files, with a number if a given file is in one of that name."""


def impute(
    run: TrainedRun,
    manifest: Path | str | ManifestRows,
    out: Path | str,
    n: int = DEFAULT_DRAWS,
    *,
    want: Sequence[str] | None = None,
    fill: Fill = "best",
    held_out: int = DEFAULT_HELD_OUT,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | GuidanceSpec = 0.0,
) -> Path:
    """Write a copy of the manifest in which empty cells are filled, and return its path.

    Each cell gets `n` samples given the recorded cells of its row, all listed in
    alternatives.jsonl, and is filled with the best estimate from them, or with the first of them.
    estimates.csv holds the estimates with the figures of `Modality.summarise`, and their `spread`:
    the standard deviation of the samples' latents relative to that of all data. held_out.json tells
    how well the same cells of up to `held_out` rows of the run's test split are estimated.

    `want` names the modalities to fill, which become columns if they are none; by default all that
    are columns of the manifest. Without guidance, the default, samples are draws from what the
    network has learnt; guidance makes them more alike than the truth is certain, and guidance from
    −1 to 0 wider. Sampler and steps default to the run's spec.

    Call it again with the same arguments to resume. DataError if the manifest does not fit the
    run, OutputError if `out` holds anything else, SpecError if the run has no model of latents or a
    setting is invalid.
    """
    rows, names = read_manifest(run, manifest), list(run.modalities)
    is_guidable = isinstance(run.generator, DiffusionGenerator)
    generator = run.generator_with(sampler, steps, guidance if is_guidable or guidance else None)
    if isinstance(generator, DiffusionGenerator):
        sampling, is_conditional = generator.sampling, bool(rows.present.any())
        try:
            weights = guidance_of(sampling.guidance)
            check_settings(generator.model, sampling.sampler, weights, is_conditional)
        except ValueError as error:
            raise SpecError(f"{run.run_dir.path}: {error}") from error
    elif not generator.scales:
        raise SpecError(
            f"{run.run_dir.path}: impute needs a model of the autoencoders' latents, which method "
            f"{run.spec.diffuse.method} is not"
        )
    wanted = wanted_modalities(run, rows, want)
    if bool(rows.present[:, [names.index(name) for name in wanted]].all()):
        warnings.warn(
            f"{rows.path}: no cell of {', '.join(wanted)} is empty: name columns to add with "
            "--want",
            stacklevel=2,
        )
    cell_sampler = CellSampler(run.modalities, generator, n, seed, "impute")
    return _Imputer(run, cell_sampler, rows, wanted, Path(out), fill, held_out).fill()


def wanted_modalities(run: TrainedRun, rows: ManifestRows, want: Sequence[str] | None) -> list[str]:
    """The modalities to fill, in the run's order; `want` and SpecError as of `impute`."""
    run.check_names(want or ())
    return [name for name in run.modalities if name in (rows.columns if want is None else want)]


def read_filled(out: Path) -> list[dict[str, Any]]:
    """The filled cells in a folder written by `impute`, in the manifest's order.

    Each has `id`, `modality`, `estimate`, `alternatives` (the samples), `summary` (figures by
    name), `spread`, `class_agreement` (the proportion of the samples in their commonest class), and
    `joint`: whether nothing was given in its row.
    """
    return read_lines(out / ALTERNATIVES_FILE)


def read_held_out(out: Path) -> dict[str, Any] | None:
    """The check on held-out rows in a folder written by `impute`; None without one.

    See `held_out_cells.check_held_out_cells`.
    """
    path = out / HELD_OUT_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@dataclass(frozen=True)
class _Imputer:
    """One request to fill the cells of wanted modalities in a manifest."""

    run: TrainedRun
    sampler: CellSampler
    rows: ManifestRows
    wanted: Sequence[str]
    out: Path
    fill_with: Fill
    held_out: int

    def fill(self) -> Path:
        """Fill the rows that are not filled yet, and write the new manifest."""
        if os.path.realpath(self.out) == os.path.realpath(self.rows.path.parent):
            raise OutputError(f"{self.out} is the manifest's own folder: choose another with --out")
        with claimed(self.out, CONTENT):
            filled = self._load_progress()
            self.given_files.copy()
            rows = self.incomplete_rows
            with counting("impute", len(rows.ids)) as show:
                show(len(filled))
                for batch in torch.arange(len(rows.ids)).split(BATCH_SIZE):
                    numbers = self.incomplete[batch].tolist()
                    if all(number in filled for number in numbers):
                        continue
                    for number, cells in self._fill_batch(rows[batch], numbers).items():
                        if number in filled:
                            continue
                        self._record(number, cells)
                        filled[number] = cells
                    show(len(filled))
            self._check_held_out()
            return self._write_outputs(filled)

    def _record(self, number: int, cells: dict[str, JsonValue]) -> None:
        line: dict[str, JsonValue] = {"row": number, "id": self.rows.ids[number], "cells": cells}
        append_line(self.out / PROGRESS_FILE, line)

    def _load_progress(self) -> dict[int, dict[str, Any]]:
        """The cells filled by earlier calls, by row; starts the progress file of a new request.

        OutputError if the folder holds anything but an earlier call of the same request.
        """
        generator, sampling = self.sampler.generator, None
        if isinstance(generator, DiffusionGenerator):
            spec = generator.sampling
            sampling = [spec.sampler, spec.steps, *astuple(guidance_of(spec.guidance))]
        fingerprint = digest(
            {
                "manifest": self.rows.sha256,
                "run": file_digest(self.run.run_dir.network),
                "sampler": sampling,
                "wanted": [*self.wanted],
                "alternatives": self.sampler.n,
                "seed": self.sampler.seed,
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

    @cached_property
    def wanted_cells(self) -> Present:
        """The empty cells of wanted modalities."""
        return ~self.rows.present & torch.tensor(
            [name in self.wanted for name in self.run.modalities]
        )

    @cached_property
    def incomplete(self) -> Int64[Tensor, " row"]:
        """The indices of the rows with a cell to fill."""
        return torch.nonzero(self.wanted_cells.any(1)).squeeze(1)

    @cached_property
    def incomplete_rows(self) -> Rows:
        """The rows with a cell to fill."""
        latents = encode_manifest(self.run, self.rows)
        items = {name: self.rows.items[name] for name in latents if name in self.rows.items}
        conditioning = Conditioning(items, latents)
        rows = Rows(self.rows.ids, conditioning, self.rows.present, self.wanted_cells)
        return rows[self.incomplete]

    def _fill_batch(self, rows: Rows, numbers: Sequence[int]) -> dict[int, dict[str, JsonValue]]:
        """The filled cells of rows by their number and modality; writes their files."""
        cells: dict[int, dict[str, JsonValue]] = {number: {} for number in numbers}
        for name, samples in self.sampler.draw(rows).items():
            estimates = self.sampler.estimates(name, samples)
            spreads = self.sampler.spread(name, samples)
            agreements = self._class_agreement(name, samples.items)
            for i, index in enumerate(samples.rows.tolist()):
                cells[numbers[index]][name] = {
                    **self._write_items(name, numbers[index], samples.items[i], estimates[i]),
                    "summary": dict(estimates[i].values),
                    "spread": spreads[i],
                    "class_agreement": agreements[i],
                    "joint": not bool(rows.observed[index].any()),
                }
        return cells

    def _class_agreement(self, name: str, items: Tensor) -> Sequence[float | None]:
        """The proportion of a cell's samples that the classifier gives the commonest class.

        None with a single sample or without a classifier.
        """
        classifier, n = self.run.classifiers.get(name), self.sampler.n
        if n < 2 or classifier is None:
            return [None] * len(items)
        classes = predicted_classes(classifier, items.flatten(0, 1)).reshape(-1, n)
        commonest = classes.mode(1).values[:, None]
        proportions = (classes == commonest).double().mean(1).tolist()
        return [round(proportion, 4) for proportion in proportions]

    def _write_items(self, name: str, row: int, x: Tensor, best: Estimate) -> dict[str, Any]:
        """The cells of the samples of a cell and of the estimate; writes them unless inline."""
        modality = self.run.modalities[name]
        folder = self.out / self.generated_folder / name

        def write(item: Tensor, which: int | str) -> str:
            if modality.inline:
                return item_cell(modality, item, f"{name} of row {self.rows.ids[row]!r}")
            _, (file, *_) = write_item(modality, item, folder / f"{row:05d}-{which}")
            return file.relative_to(self.out).as_posix()

        cells = [write(item, k) for k, item in enumerate(x)]
        of_best = write(best.item, "best") if best.draw is None else cells[best.draw]
        return {"estimate": of_best, "alternatives": cells}

    def _check_held_out(self) -> None:
        """Write how well cells of held-out rows are estimated, unless an earlier call has.

        The check of a call with another number of rows is replaced.
        """
        path, earlier = self.out / HELD_OUT_FILE, read_held_out(self.out)
        if not self.held_out or not len(self.incomplete):
            with writing(path):
                path.unlink(missing_ok=True)
            return
        if earlier is not None and earlier.get("limit") == self.held_out:
            return
        sampler = replace(self.sampler, purpose="impute held-out rows")
        rows = self.incomplete_rows
        checked = check_held_out_cells(self.run, sampler, rows.observed, rows.wanted, self.held_out)
        write_json(path, checked)

    def _write_outputs(self, filled: Mapping[int, Mapping[str, Any]]) -> Path:
        """Write the new manifest and the tables of filled cells."""
        rows, filled_cells = [], []
        for index, cells in enumerate(self.rows.cells):
            row = dict(cells)
            for name, modality in self.run.modalities.items():
                if entry := filled.get(index, {}).get(name):
                    filled_cells.append({"id": self.rows.ids[index], "modality": name, **entry})
                    best = self.fill_with == "best"
                    cell = entry["estimate"] if best else entry["alternatives"][0]
                    row[name] = self._like_recorded(name, cell)
                elif not modality.inline and row.get(name):
                    row[name] = self.given_files.cell_of_copy(str(row[name]))
            rows.append(row)
        manifest = self.out / self.rows.path.name
        added = [name for name in self.wanted if name not in self.rows.columns]
        self.rows.write(manifest, added, rows)
        write_table(self.out / ALTERNATIVES_FILE, (), filled_cells)
        self._write_estimates(filled_cells)
        return manifest

    def _like_recorded(self, name: str, cell: str) -> Any:
        """A cell as a number, true or false where recorded cells of its column are such in JSON.

        A column of a JSONL file without recorded cells, such as one that is added, has numbers
        where its modality reads numbers.
        """
        modality, types = self.run.modalities[name], self.types_recorded[name]
        if not types and modality.inline and is_json_lines(self.rows.path):
            return json_cell(modality, cell)
        try:
            value = json.loads(cell)
        except ValueError:
            return cell
        return value if type(value) in types else cell

    @cached_property
    def types_recorded(self) -> dict[str, Set[type]]:
        """The types of JSON in each wanted column; int counts as float where both occur."""
        columns: dict[str, Set[type]] = {}
        for name in self.wanted:
            cells = (row.get(name) for row in self.rows.cells)
            types = {type(cell) for cell in cells if cell is not None}
            columns[name] = types | JSON_NUMBERS if types & JSON_NUMBERS else types
        return columns

    def _write_estimates(self, filled_cells: Sequence[Mapping[str, Any]]) -> None:
        """Write the table of estimates, with a column for each figure of any modality."""
        figures = dict.fromkeys(figure for cell in filled_cells for figure in cell["summary"])
        described = ("id", "modality", "estimate", "spread", "class_agreement")
        rows = (
            {**{key: cell[key] for key in described}, **cell["summary"]} for cell in filled_cells
        )
        write_table(self.out / ESTIMATES_FILE, [*described, *figures], rows)

    @cached_property
    def given_files(self) -> GivenFiles:
        """The manifest's files, of which those in its folder are copied."""
        columns = [name for name, modality in self.run.modalities.items() if not modality.inline]
        names = (PROGRESS_FILE, ALTERNATIVES_FILE, ESTIMATES_FILE, HELD_OUT_FILE, PAGE_FILE)
        reserved = [self.rows.path.name, *names, *HIDDEN_FILES]
        return GivenFiles(self.rows, columns, self.out, reserved)

    @cached_property
    def generated_folder(self) -> str:
        """The name of the folder of the samples' files, which holds no given file."""
        return self.given_files.free_name(GENERATED_FOLDER)
