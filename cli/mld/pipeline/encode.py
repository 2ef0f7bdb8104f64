"""Stage 2: autoencoders to the latent cache and its Standardiser."""

from __future__ import annotations

from collections.abc import Mapping

from mld.data.encoding import encode_present
from mld.data.loading import Data, SplitTensors
from mld.data.types import LatentCache, SplitLatents
from mld.runtime.context import RunContext
from mld_core import SPLITS, Autoencoder, NumericalError
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser

STAGE = "latents"


def cache_latents(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, data: Data, context: RunContext
) -> LatentCache:
    """The latents of every split, encoded once in float32."""
    run_dir = context.run_dir
    fingerprint = context.fingerprint(STAGE, None)
    if run_dir.read_back(STAGE, fingerprint):
        return load_latents(layout, context)
    with run_dir.stage(STAGE) as seconds:
        for split in SPLITS:
            rows = _encode(autoencoders, layout, data.split(split))
            run_dir.write_tensors(run_dir.latents(split), {"z": rows.z, "present": rows.present})
        latents = load_latents(layout, context)
        dead = latents.standardiser.dead
        facts = {
            name: int(dead[layout.modality_index == index].sum())
            for index, name in enumerate(layout.names)
        }
        for name, count in facts.items():
            if count:
                told = f"{name}: {count} of {layout.dims[name]} latent dimensions never vary"
                run_dir.log("warning", stage=STAGE, message=told)
        files = [run_dir.latents(split) for split in SPLITS]
        run_dir.finish(STAGE, fingerprint, files, seconds(), {"dead": facts})
    return latents


def load_latents(layout: LatentLayout, context: RunContext) -> LatentCache:
    """The cache of a run that has made it."""
    run_dir = context.run_dir
    splits = {
        split: SplitLatents(**run_dir.read_tensors(run_dir.latents(split))) for split in SPLITS
    }
    train = splits["train"]
    return LatentCache(
        layout, **splits, standardiser=Standardiser.fit(train.z, train.present, layout)
    )


def _encode(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, rows: SplitTensors
) -> SplitLatents:
    latents = encode_present(autoencoders, layout.dims, rows.items, rows.present)
    for name, z in latents.items():
        if not bool(z.isfinite().all()):
            raise NumericalError(f"stage {STAGE}: a latent of modality {name!r} is not finite")
    return SplitLatents(layout.concatenate(latents), rows.present)
