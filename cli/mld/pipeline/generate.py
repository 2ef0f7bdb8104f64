"""Stage 4: the network to samples for each conditioning subset, some of them decoded and drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from mld.config.sections import GenerateSpec
from mld.data.encoding import decode
from mld.data.items import write_item
from mld.data.loading import Data, SplitTensors
from mld.data.types import LatentCache, SubsetSamples, subset_key
from mld.pipeline.generative import Generative, Given
from mld.runtime.context import RunContext
from mld.runtime.seeds import derive
from mld_core import Autoencoder, Modality, NumericalError
from mld_core.diffusion.roles import conditioning_subsets

STAGE = "generate"
BATCH = 500
"""Samples made at once."""


def generate(
    spec: GenerateSpec,
    model: Generative,
    latents: LatentCache,
    modalities: Mapping[str, Modality],
    data: Data,
    context: RunContext,
) -> list[SubsetSamples]:
    """Samples of each subset's complement given test rows, the first few written as files."""
    run_dir, names = context.run_dir, list(modalities)
    subsets = subsets_of(spec, names)
    fingerprint = context.fingerprint(STAGE, spec)
    if run_dir.read_back(STAGE, fingerprint):
        return [_read_back(given, context) for given in subsets]
    with run_dir.stage(STAGE) as seconds:
        made, files, costs = [], [], {}
        for given in subsets:
            samples = _sample(spec, model, latents, data.test, given, context)
            files += _write(
                samples, model.decoders, modalities, data.test, spec.num_previews, context
            )
            costs[subset_key(given)] = {"nfe": samples.nfe, "seconds": samples.seconds}
            made.append(samples)
        run_dir.finish(STAGE, fingerprint, files, seconds(), {"costs": costs})
    return made


def subsets_of(spec: GenerateSpec, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The observed subsets that a spec asks for, each in the order of `names`."""
    if spec.subsets == "auto":
        return conditioning_subsets(names)
    return [tuple(name for name in names if name in subset) for subset in spec.subsets]


def _sample(
    spec: GenerateSpec,
    model: Generative,
    latents: LatentCache,
    test: SplitTensors,
    given: tuple[str, ...],
    context: RunContext,
) -> SubsetSamples:
    names = latents.layout.names
    wanted = [name for name in names if name not in given]
    rows = _rows_with(given, latents)[: spec.num_samples]
    if not given:
        rows = torch.arange(spec.num_samples)
    observed = latents.layout.split(latents.test.z)
    key = subset_key(given)
    began = time.perf_counter()
    made: list[Mapping[str, Tensor]] = []
    nfe = 0.0
    for part in rows.split(BATCH):
        seeds = [derive(context.seed, STAGE, key, int(row)) for row in part]
        known = Given(
            {name: test.items[name][part] for name in given},
            {name: observed[name][part] for name in given},
        )
        samples = model.draw(known, wanted, seeds)
        made.append({name: samples.latents[name] for name in wanted})
        nfe = samples.nfe
    seconds = (time.perf_counter() - began) / max(len(rows), 1)
    joined = {
        name: torch.cat([part[name] for part in made])
        if made
        else torch.zeros(0, latents.layout.dims[name])
        for name in wanted
    }
    for name, latent in joined.items():
        if not bool(latent.isfinite().all()):
            raise NumericalError(f"stage {STAGE}, given {key}: a sample of {name!r} is not finite")
    return SubsetSamples(given, rows, joined, nfe, seconds)


def _rows_with(given: tuple[str, ...], latents: LatentCache) -> Tensor:
    """The test rows in which all that is to be given is recorded."""
    columns = [latents.layout.names.index(name) for name in given]
    return torch.nonzero(latents.test.present[:, columns].all(1)).squeeze(1)


def _write(
    samples: SubsetSamples,
    decoders: Mapping[str, Autoencoder],
    modalities: Mapping[str, Modality],
    test: SplitTensors,
    rendered: int,
    context: RunContext,
) -> list[Path]:
    """All latents, and the first rows as files beside what they were given; the paths written."""
    run_dir, folder = context.run_dir, context.run_dir.samples(subset_key(samples.given))
    kept = folder / "latents.safetensors"
    run_dir.write_tensors(kept, {**samples.latents, "rows": samples.rows})
    count = min(rendered, len(samples.rows))
    files = [kept, folder / "index.json"]
    cells: list[dict[str, JsonValue]] = [{} for _ in range(count)]
    for name, modality in modalities.items():
        if not count:
            break
        given = name in samples.given
        items = (
            test.items[name][samples.rows[:count]]
            if given
            else decode(decoders[name], samples.latents[name][:count])
        )
        for row, x in enumerate(items):
            cell, written = write_item(modality, x, folder / name / f"{row:04d}")
            cells[row][name] = {
                "role": "given" if given else "generated",
                "file": written[0].relative_to(folder).as_posix(),
                "previews": [path.relative_to(folder).as_posix() for path in written[1:]],
                "cell": cell,
            }
            files += written
    told = [
        {**_identity(int(samples.rows[row]), bool(samples.given), test), "cells": own}
        for row, own in enumerate(cells)
    ]
    run_dir.write_json(folder / "index.json", {"given": list(samples.given), "rows": told})
    return files


def _identity(row: int, given: bool, test: SplitTensors) -> dict[str, JsonValue]:
    """Which test row a sample was given, and its label."""
    if not given:
        return {"id": None, "label": None}
    label = None if test.labels is None else int(test.labels[row])
    return {"id": test.ids[row], "label": label}


def _read_back(given: tuple[str, ...], context: RunContext) -> SubsetSamples:
    run_dir, key = context.run_dir, subset_key(given)
    latents = run_dir.read_tensors(run_dir.samples(key) / "latents.safetensors")
    rows = latents.pop("rows")
    cost = run_dir.facts_of(STAGE)["costs"][key]
    return SubsetSamples(given, rows, latents, cost["nfe"], cost["seconds"])
