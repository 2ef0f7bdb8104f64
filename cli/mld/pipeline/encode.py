"""Stage `encode`: the latents of every split, and their standardiser."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from mld.data.encoding import encode_present
from mld.data.loading import Data, SplitRows
from mld.data.types import LatentCache, SplitLatents
from mld.pipeline.stage import StageOutput, run_stage
from mld.runtime.context import RunContext
from mld.storage.run_dir import RunDir
from mld.storage.stages import ENCODE
from mld_core import SPLITS, Autoencoder, NumericalError
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser


def cache_latents(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, data: Data, context: RunContext
) -> LatentCache:
    """The latents of every split, encoded once in float32."""
    run_dir = context.run_dir

    def compute() -> StageOutput:
        latents = {
            split: _encode(autoencoders, layout, data.split(split), f"encode {split}")
            for split in SPLITS
        }
        for split, rows in latents.items():
            run_dir.write_tensors(run_dir.latents(split), {"z": rows.z, "present": rows.present})
        train = latents["train"]
        dead = Standardiser.fit(train.z, train.present, layout).dead
        counts: dict[str, JsonValue] = {
            name: int(dead[layout.modality_index == index].sum())
            for index, name in enumerate(layout.names)
        }
        for name, count in counts.items():
            if count:
                message = f"{name}: {count} of {layout.dims[name]} latent dimensions never vary"
                run_dir.warn(ENCODE.name, message)
        return StageOutput([run_dir.latents(split) for split in SPLITS], {"dead": counts})

    return run_stage(
        run_dir,
        ENCODE,
        context.fingerprint(ENCODE),
        compute,
        lambda: load_latents(layout, run_dir),
    )


def load_latents(layout: LatentLayout, run_dir: RunDir) -> LatentCache:
    """The latent cache of a run, its standardiser fitted to the training split."""
    splits = {}
    for split in SPLITS:
        tensors = run_dir.read_tensors(run_dir.latents(split))
        with run_dir.content_of(run_dir.latents(split)):
            splits[split] = SplitLatents(**tensors)
    train = splits["train"]
    standardiser = Standardiser.fit(train.z, train.present, layout)
    return LatentCache(layout, **splits, standardiser=standardiser)


def _encode(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, rows: SplitRows, label: str
) -> SplitLatents:
    latents = encode_present(autoencoders, layout.dims, rows.items, rows.present, label)
    for name, z in latents.items():
        if not bool(z.isfinite().all()):
            raise NumericalError(
                f"stage {ENCODE.name}: a latent of modality {name!r} is not finite"
            )
    return SplitLatents(layout.concatenate(latents), rows.present)
