from __future__ import annotations

import math

import pytest
import torch

from mld.config.sections import DiffuseSpec, GenerateSpec
from mld.pipeline.diffusion_method import DiffusionMethod
from mld_core.diffusion.latent_layout import LatentLayout


def test_the_log_snr_of_structured_latents_is_lower_unless_the_spec_says_by_how_much() -> None:
    layout = LatentLayout({"size": (3,), "name": (16, 2), "photo": (4, 8, 8), "icon": (4, 8, 8)})
    spec = DiffuseSpec(shift={"icon": 1.0})
    method = DiffusionMethod(spec, GenerateSpec(), layout)
    positions = {"size": 1, "name": 16, "photo": 64}
    expected = {name: 0.5 * math.log(count) for name, count in positions.items()}
    assert method.layout.shift == pytest.approx({**expected, "icon": 1.0})
    assert torch.equal(method.network().layout.latent_std, method.layout.latent_std)
