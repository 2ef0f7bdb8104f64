"""Items decoded from latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mld.data.encoding import decode
from mld_core import NumericalError


class Decoder(nn.Module):
    def __init__(self, decode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.decode = decode


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_an_item_that_is_not_finite_is_an_error(value: float) -> None:
    autoencoder: Any = Decoder(lambda z: z * z)
    z = torch.ones(3, 2)
    assert decode(autoencoder, z, "left").tolist() == [[1, 1]] * 3
    z[1, 0] = value
    with pytest.raises(NumericalError, match="a decoded item of 'left' is not finite"):
        decode(autoencoder, z, "left")
    texts: Any = Decoder(lambda z: torch.zeros(len(z), 4, dtype=torch.int64))
    assert decode(texts, z, "word").shape == (3, 4)
