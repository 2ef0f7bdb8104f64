"""Stage `encode`: the latents of every split, and their standardiser."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import JsonValue

from mld.data.encoding import encode_present
from mld.data.latent_files import load_latents, load_split
from mld.data.loading import Data
from mld.data.types import LatentCache
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.storage.files import new_array
from mld.storage.run_dir import RunDir
from mld.storage.stages import ENCODE
from mld_core import SPLITS, Autoencoder, NumericalError, SplitName
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser


def cache_latents(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, data: Data, context: RunContext
) -> LatentCache:
    """The latents of every split, encoded once in float32, and mapped where they are used."""
    run_dir = context.run_dir

    def compute() -> StageOutput:
        for split in SPLITS:
            _encode(autoencoders, layout, data, split, run_dir)
        run_dir.write_tensors(
            run_dir.present, {split: data.split(split).present for split in SPLITS}
        )
        train = load_split(layout, run_dir, "train")
        standardiser = Standardiser.fit(train.z, train.present, layout)
        run_dir.write_tensors(run_dir.standardiser, vars(standardiser))
        counts: dict[str, JsonValue] = {
            name: int(standardiser.dead[layout.modality_index == index].sum())
            for index, name in enumerate(layout.names)
        }
        for name, count in counts.items():
            if count:
                message = f"{name}: {count} of {layout.dims[name]} latent dimensions never vary"
                run_dir.warn(ENCODE.name, message)
        files = [run_dir.latents(split) for split in SPLITS]
        return StageOutput([*files, run_dir.present, run_dir.standardiser], {"dead": counts})

    return run_stage(
        run_dir,
        ENCODE,
        context.fingerprint(ENCODE),
        compute,
        lambda: load_latents(layout, run_dir),
    )


def _encode(
    autoencoders: Mapping[str, Autoencoder],
    layout: LatentLayout,
    data: Data,
    split: SplitName,
    run_dir: RunDir,
) -> None:
    """Write the latents of a split, of which no more than a batch is in memory."""
    rows = data.split(split)
    ordered = {name: autoencoders[name] for name in layout.names}
    shape = (len(rows.present), layout.joint_dim)
    with new_array(run_dir.latents(split), shape) as array:
        latents = layout.split(torch.from_numpy(array))
        parts = encode_present(ordered, rows.items, rows.present, f"encode {split}")
        for name, index, z in parts:
            if not bool(z.isfinite().all()):
                raise NumericalError(
                    f"stage {ENCODE.name}: a latent of modality {name!r} is not finite"
                )
            latents[name][index] = z
