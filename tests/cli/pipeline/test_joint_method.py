"""Samples of any joint model are checked where they are made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from mld.pipeline.joint_method import Conditioning, JointGenerator
from mld_core import NumericalError
from mld_core.diffusion.sampling import LatentSamples


class Constant(JointGenerator):
    """Its samples hold a value in their second row."""

    def __init__(self, value: float) -> None:
        self.value = value

    def _draw(
        self, conditioning: Conditioning, wanted: Sequence[str], seeds: Sequence[int]
    ) -> LatentSamples:
        z = torch.zeros(len(seeds), 2)
        z[1] = self.value
        return LatentSamples(dict.fromkeys(wanted, z), 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_sample_that_is_not_finite_is_an_error(value: float) -> None:
    conditioning = Conditioning({}, {"a": torch.zeros(3, 2)})
    samples = Constant(1e9).sample(conditioning, ["b"], [0, 1, 2])
    assert samples.latents["b"].shape == (3, 2)
    with pytest.raises(NumericalError, match="given a, 1 of 3 samples of 'b' are not finite"):
        Constant(value).sample(conditioning, ["b"], [0, 1, 2])
    with pytest.raises(NumericalError, match="given joint, 1 of 2 samples of 'a'"):
        Constant(value).sample(Conditioning({}, {}), ["a", "b"], [0, 1])
