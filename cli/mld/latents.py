"""Stage 2: autoencoders to the latent cache and its Standardiser."""

from __future__ import annotations

from collections.abc import Mapping

from mld.coding import encode_recorded
from mld.data import Data, Rows
from mld.results import LatentRows, Latents
from mld.workplace import Workplace
from mld_core import Autoencoder, NumericalError, SplitName
from mld_core.layout import LatentLayout
from mld_core.standardise import Standardiser

STAGE = "latents"
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def cache_latents(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, data: Data, workplace: Workplace
) -> Latents:
    """The latents of every split, encoded once in float32."""
    run_dir = workplace.run_dir
    made_from = workplace.made_from(STAGE, None)
    if run_dir.read_back(STAGE, made_from):
        return load_latents(layout, workplace)
    with run_dir.stage(STAGE) as seconds:
        for split in SPLITS:
            rows = _encode(autoencoders, layout, data.rows(split))
            run_dir.write_tensors(run_dir.latents(split), {"z": rows.z, "present": rows.present})
        latents = load_latents(layout, workplace)
        dead = latents.standardiser.dead
        facts = {
            name: int(dead[layout.owner == index].sum()) for index, name in enumerate(layout.names)
        }
        for name, count in facts.items():
            if count:
                told = f"{name}: {count} of {layout.dims[name]} latent dimensions never vary"
                run_dir.log("warning", stage=STAGE, message=told)
        files = [run_dir.latents(split) for split in SPLITS]
        run_dir.finish(STAGE, made_from, files, seconds(), {"dead": facts})
    return latents


def load_latents(layout: LatentLayout, workplace: Workplace) -> Latents:
    """The cache of a run that has made it."""
    run_dir = workplace.run_dir
    splits = {split: LatentRows(**run_dir.read_tensors(run_dir.latents(split))) for split in SPLITS}
    train = splits["train"]
    return Latents(layout, **splits, standardiser=Standardiser.fit(train.z, train.present, layout))


def _encode(
    autoencoders: Mapping[str, Autoencoder], layout: LatentLayout, rows: Rows
) -> LatentRows:
    latents = encode_recorded(autoencoders, layout.dims, rows.items, rows.present)
    for name, z in latents.items():
        if not bool(z.isfinite().all()):
            raise NumericalError(f"stage {STAGE}: a latent of modality {name!r} is not finite")
    return LatentRows(layout.concatenate(latents), rows.present)


__all__ = ["STAGE", "cache_latents", "load_latents"]
