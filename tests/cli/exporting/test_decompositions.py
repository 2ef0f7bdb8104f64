"""Operations that the exporter lacks give what torch's own give."""

from __future__ import annotations

import pytest
import torch

from mld.exporting.decompositions import decompositions

ATEN = torch.ops.aten


def test_distances_are_those_of_torch() -> None:
    x, y = torch.randn(2, 5, 3), torch.randn(2, 4, 3)
    distances = decompositions()[ATEN._cdist_forward.default]
    torch.testing.assert_close(distances(x, y, 2.0, 2), torch.cdist(x, y))
    with pytest.raises(NotImplementedError, match="norm 1"):
        distances(x, y, 1.0, 2)


@pytest.mark.parametrize("right", [False, True])
def test_insertion_indices_are_those_of_torch(right: bool) -> None:
    boundaries = torch.tensor([[0.0, 1.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
    x = torch.tensor([[-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]]).expand(2, -1).contiguous()
    indices = decompositions()[ATEN.searchsorted.Tensor](boundaries, x, right=right)
    assert torch.equal(indices, torch.searchsorted(boundaries, x, right=right))
    with pytest.raises(NotImplementedError, match="side"):
        decompositions()[ATEN.searchsorted.Tensor](boundaries, x, side="left")
