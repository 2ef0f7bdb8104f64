"""Parameters as parts of one vector, so that an optimiser takes a few calls instead of hundreds."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def flatten_parameters(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """One vector for the parameters of each device and dtype; each has a gradient of zeros.

    The parameters and their gradients become views of the vectors and of their gradients. A
    parameter that a loss does not depend on has a gradient of zeros instead of none.
    """
    groups: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault((parameter.device, parameter.dtype), []).append(parameter)
    return [_flatten(group) for group in groups.values()]


@torch.no_grad()
def _flatten(parameters: list[nn.Parameter]) -> nn.Parameter:
    vector = nn.Parameter(torch.cat([parameter.flatten() for parameter in parameters]))
    vector.grad = torch.zeros_like(vector)
    sizes = [parameter.numel() for parameter in parameters]
    parts = zip(parameters, vector.data.split(sizes), vector.grad.split(sizes), strict=True)
    for parameter, values, gradient in parts:
        parameter.data = values.view_as(parameter)
        parameter.grad = gradient.view_as(parameter)
    return vector
