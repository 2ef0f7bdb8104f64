"""Stage `generate`: samples for each conditioning subset, the first few written as files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int64
from pydantic import JsonValue
from torch import Tensor

from mld.config.sections import GenerateSpec
from mld.data.encoding import decode
from mld.data.items import write_item
from mld.data.loading import Data, SplitRows
from mld.data.types import LatentCache, SubsetSamples, subset_key, subsets_of
from mld.pipeline.joint_method import Conditioning, JointGenerator
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.runtime.progress import with_progress
from mld.runtime.seeds import derive
from mld.storage.run_dir import RunDir
from mld.storage.stages import GENERATE
from mld_core import Modality
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.sampling import LatentSamples

DRAWS_FILE = "draws.safetensors"
"""Beside the latents of a subset's samples: several samples of each row."""
GENERATE_BATCH_SIZE = 500
"""Samples generated at once."""
DEFAULT_DRAWS = 19
"""Samples of a row for metrics of draws: the second and the last but one of them are the ends of an
interval that holds another draw with a probability of exactly 0.8."""


def generate(
    spec: GenerateSpec,
    joint_model: JointGenerator,
    latents: LatentCache,
    modalities: Mapping[str, Modality],
    data: Data,
    context: RunContext,
) -> list[SubsetSamples]:
    """Samples of each subset's complement given the rows of the evaluated split that have it.

    Of each row there are as many samples as `draws_per_row` says. A subset that no row has is left
    out.
    """
    draws = draws_per_row(spec, modalities)
    subsets = subsets_of(spec, list(modalities))
    rows = {given: _rows_to_sample(spec, given, latents) for given in subsets}
    rows = {given: indices for given, indices in rows.items() if len(indices)}

    def compute() -> StageOutput:
        files: list[Path] = []
        costs: dict[str, JsonValue] = {}
        for given in with_progress("generate", list(rows), "subsets"):
            samples = _sample(spec, joint_model, latents, data, given, rows[given], draws, context)
            files += _write(samples, joint_model, modalities, data, spec, context.run_dir)
            costs[subset_key(given)] = {"nfe": samples.nfe, "seconds": samples.seconds}
        return StageOutput(files, {"costs": costs})

    return run_stage(
        context.run_dir,
        GENERATE,
        context.fingerprint(GENERATE),
        compute,
        lambda: [_load(given, latents.layout, draws, context.run_dir) for given in rows],
    )


def draws_per_row(spec: GenerateSpec, modalities: Mapping[str, Modality]) -> int:
    """How many samples each row has that they are conditioned on, by the spec or the metrics."""
    if spec.draws is not None:
        return spec.draws
    metrics = (metric for each in modalities.values() for metric in each.metrics().values())
    return DEFAULT_DRAWS if any(metric.against == "draws" for metric in metrics) else 1


def _sample(
    spec: GenerateSpec,
    joint_model: JointGenerator,
    latents: LatentCache,
    data: Data,
    given: tuple[str, ...],
    rows: Int64[Tensor, " row"],
    draws: int,
    context: RunContext,
) -> SubsetSamples:
    layout, key = latents.layout, subset_key(given)
    wanted = [name for name in layout.names if name not in given]
    items, observed = data.split(spec.split).items, layout.split(latents.split(spec.split).z)

    def draw(*number: int) -> tuple[dict[str, Tensor], float]:
        """One sample of each row, and the network evaluations of one."""
        batches: list[LatentSamples] = []
        for part in rows.split(GENERATE_BATCH_SIZE):
            seeds = [derive(context.seed, "generate", key, int(row), *number) for row in part]
            conditioning = Conditioning(
                {name: items[name].select(part) for name in given},
                {name: observed[name][part] for name in given},
            )
            batches.append(joint_model.sample(conditioning, wanted, seeds))
        latents_of_rows = {
            name: torch.cat([batch.latents[name] for batch in batches]) for name in wanted
        }
        return latents_of_rows, batches[-1].nfe

    start = time.perf_counter()
    sampled, nfe = draw()
    seconds = (time.perf_counter() - start) / len(rows)
    # Joint samples are of no row. The first draw has the seeds of a single sample.
    drawn = [sampled, *(draw(number)[0] for number in range(1, draws if given else 1))]
    stacked = {name: torch.stack([each[name] for each in drawn], 1) for name in wanted}
    return SubsetSamples(given, rows, sampled, nfe, seconds, stacked if len(drawn) > 1 else {})


def _rows_to_sample(
    spec: GenerateSpec, given: tuple[str, ...], latents: LatentCache
) -> Int64[Tensor, " row"]:
    """Indices of rows in which every given modality is recorded; any numbers if none is given."""
    if not given:
        return torch.arange(spec.num_samples)
    columns = [latents.layout.names.index(name) for name in given]
    has_all = latents.split(spec.split).present[:, columns].all(1)
    return torch.nonzero(has_all).squeeze(1)[: spec.num_samples]


def _write(
    samples: SubsetSamples,
    joint_model: JointGenerator,
    modalities: Mapping[str, Modality],
    data: Data,
    spec: GenerateSpec,
    run_dir: RunDir,
) -> list[Path]:
    """Write all latents, and the first rows as files beside what they were given."""
    folder = run_dir.samples(subset_key(samples.given))
    tensors, index = folder / "latents.safetensors", folder / "index.json"
    run_dir.write_tensors(tensors, {**samples.latents, "rows": samples.rows})
    files = [tensors, index]
    if samples.draws:
        run_dir.write_tensors(folder / DRAWS_FILE, samples.draws)
        files.append(folder / DRAWS_FILE)
    split = data.split(spec.split)
    count = min(spec.num_previews, len(samples.rows))
    cells: list[dict[str, JsonValue]] = [{} for _ in range(count)]
    for name, modality in modalities.items() if count else ():
        given = name in samples.given
        if given:
            items = split.items[name][samples.rows[:count]]
        else:
            items = decode(joint_model.decoders[name], samples.latents[name][:count], name)
        for row, x in enumerate(items):
            cell, paths = write_item(modality, x, folder / name / f"{row:04d}")
            relative = [path.relative_to(folder).as_posix() for path in paths]
            cells[row][name] = {
                "role": "given" if given else "generated",
                "file": relative[0],
                "previews": [*relative[1:]],
                "cell": cell,
            }
            files += paths
    source_row = partial(_source_row, split, data.classes, bool(samples.given))
    rows = [
        {**source_row(int(samples.rows[row])), "cells": row_cells}
        for row, row_cells in enumerate(cells)
    ]
    run_dir.write_json(index, {"given": [*samples.given], "rows": [*rows]})
    return files


def _source_row(
    split: SplitRows, classes: Sequence[str], is_conditional: bool, row: int
) -> dict[str, JsonValue]:
    """Id, label and class of the row that a sample was given; None if nothing was given."""
    if not is_conditional:
        return {"id": None, "label": None, "class": None}
    label = None if split.labels is None else int(split.labels[row])
    name = classes[label] if label is not None and label >= 0 else None
    return {"id": split.ids[row], "label": label, "class": name}


def _load(
    given: tuple[str, ...], layout: LatentLayout, draws: int, run_dir: RunDir
) -> SubsetSamples:
    key = subset_key(given)
    tensors = run_dir.read_tensors(run_dir.samples(key) / "latents.safetensors")
    # safetensors sorts tensors by name; bootstrap draws depend on the order of the spec.
    latents = {name: tensors[name] for name in layout.names if name not in given}
    cost = run_dir.stage_metadata(GENERATE.name)["costs"][key]
    has_draws = draws > 1 and given
    drawn = run_dir.read_tensors(run_dir.samples(key) / DRAWS_FILE) if has_draws else {}
    return SubsetSamples(given, tensors["rows"], latents, cost["nfe"], cost["seconds"], drawn)
