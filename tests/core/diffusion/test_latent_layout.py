from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mld_core.diffusion.latent_layout import LatentLayout, LatentShape, usual_shift

LAYOUT = LatentLayout.of_vectors({"b": 2, "a": 1, "c": 3})


def test_split_inverts_concatenate() -> None:
    latents = {name: torch.randn(4, dim) for name, dim in {"a": 1, "c": 3, "b": 2}.items()}
    joint = LAYOUT.concatenate(latents)
    assert torch.equal(joint[:, :2], latents["b"])  # in the order of the layout
    assert torch.equal(joint[:, 2:3], latents["a"])
    back = LAYOUT.split(joint)
    assert list(back) == ["b", "a", "c"]
    assert all(torch.equal(back[name], latents[name]) for name in latents)


@pytest.mark.parametrize(("shape", "positions"), [((64,), 1), ((24, 16), 24), ((4, 32, 16), 512)])
def test_latents_with_more_positions_are_shifted_more(shape: LatentShape, positions: int) -> None:
    shift = usual_shift(shape)
    assert shift == pytest.approx(0.5 * math.log(positions))
    layout = LatentLayout({"a": shape, "b": (2,)}, {"a": shift})
    torch.testing.assert_close(layout.latent_std, torch.tensor([positions**-0.25, 1.0]))


def test_expand_repeats_values_over_coordinates() -> None:
    values = torch.tensor([[1, 2, 3], [4, 5, 6]])
    expected = torch.tensor([[1, 1, 2, 3, 3, 3], [4, 4, 5, 6, 6, 6]])
    assert torch.equal(LAYOUT.expand(values), expected)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        ({"a": 1, "b": 2}, "expected latents of"),
        ({"a": 1, "b": 2, "c": 3, "d": 1}, "expected latents of"),
        ({"a": 1, "b": 3, "c": 3}, "b is 3 wide, expected 2"),
    ],
)
def test_latents_of_another_layout_are_rejected(latents: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYOUT.concatenate({name: torch.zeros(2, dim) for name, dim in latents.items()})


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 2, 3, 4)])
def test_invalid_layouts_are_rejected(shape: Any) -> None:
    with pytest.raises(ValueError, match="positive width"):
        LatentLayout({"a": shape})
    with pytest.raises(ValueError, match="positive width"):
        LatentLayout({})


def test_shapes_are_flattened() -> None:
    layout = LatentLayout({"grid": (2, 3, 4), "sequence": (5, 3), "vector": (2,)})
    assert layout.dims == {"grid": 24, "sequence": 15, "vector": 2}
    assert layout.joint_dim == 41
    assert layout.has_structure
    assert not LAYOUT.has_structure
