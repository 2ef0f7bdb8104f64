"""The latents of a run in its directory: an array of each split, which is mapped, not read."""

from __future__ import annotations

import torch

from mld.data.stored_rows import MappedTensor
from mld.data.types import LatentCache, SplitLatents
from mld.storage.run_dir import RunDir
from mld_core import SPLITS, SplitName
from mld_core.diffusion.latent_layout import LatentLayout
from mld_core.diffusion.standardiser import Standardiser


def load_latents(layout: LatentLayout, run_dir: RunDir) -> LatentCache:
    """The latents of all splits. RunDirError if a file does not hold them."""
    splits = {split: load_split(layout, run_dir, split) for split in SPLITS}
    statistics = run_dir.read_tensors(run_dir.standardiser)
    with run_dir.content_of(run_dir.standardiser):
        return LatentCache(layout, **splits, standardiser=Standardiser(**statistics))


def load_split(layout: LatentLayout, run_dir: RunDir, split: SplitName) -> SplitLatents:
    """The latents of a split. RunDirError if its files do not hold them."""
    path = run_dir.latents(split)
    present = run_dir.read_tensors(run_dir.present)
    with run_dir.content_of(run_dir.present):
        present_in_split = present[split]
    shape, offset = run_dir.array_layout(path)
    with run_dir.content_of(path):
        expected = (len(present_in_split), layout.joint_dim)
        if shape != expected:
            raise ValueError(f"an array of {shape} in place of {expected}")
    # The working directories of other processes may differ.
    stored = MappedTensor(path.absolute(), shape, torch.float32, offset)
    return SplitLatents(stored, present_in_split)
