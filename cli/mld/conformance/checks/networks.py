"""Checks that apply to both the autoencoder and the classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_leaves

from mld.conformance.check import CheckFailed, check, is_finite, require
from mld.conformance.fixtures import NUM_CLASSES, SEED, ModalityUnderTest
from mld.conformance.isolated import metric_arguments
from mld.conformance.stand_in_device import STAND_IN, StandInDevice, StandInGenerator
from mld.storage.run_dir import RunDir
from mld.training.job import is_trainable
from mld_core import Metric

TOLERANCE = 1e-4
ROWS_THERE = 4
"""Items that are computed with on another device."""
HALF_TOLERANCE = 0.1
"""Largest relative error under bfloat16, which has 8 bits of significand."""


@check("modality")
def networks_are_fresh(plugin: ModalityUnderTest) -> None:
    """Each call makes a new network, its weights drawn from torch's global generator."""
    for name, make in _networks(plugin):
        first, second, other = (dict(make(seed).state_dict()) for seed in (1, 1, 2))
        require(
            all(torch.equal(first[key], second[key]) for key in first),
            f"two {name}s made with the same torch seed differ: draw weights from torch's global "
            "generator only",
        )
        require(
            not is_trainable(make(1))
            or any(not torch.equal(first[key], other[key]) for key in first),
            f"two {name}s made with different torch seeds are equal: make a new one at each call",
        )


@check("modality")
def works_on_any_device(plugin: ModalityUnderTest) -> None:
    """Networks, `unpack`, `augment` and metrics compute on the device of weights and items."""
    modality, x = plugin.modality, plugin.sample_items[:ROWS_THERE]
    with StandInDevice(), torch.no_grad():
        there = x.to(STAND_IN)
        outputs: dict[str, Callable[[], Any]] = {
            "unpack": lambda: modality.unpack(modality.pack(x).to(STAND_IN)),
            "augment": lambda: modality.augment(there, StandInGenerator().manual_seed(SEED)),
        }
        for name, make in _networks(plugin):
            network = deepcopy(make(0)).to(STAND_IN)
            outputs[f"the {name}"] = partial(_outputs, network, there)
        for name, metric in modality.metrics().items():
            measured = (each.to(STAND_IN) for each in metric_arguments(metric, x))
            outputs[f"the metric {name!r}"] = partial(_measure, metric, *measured)
        for name, compute in outputs.items():
            try:
                result = compute()
            except (RuntimeError, TypeError) as error:
                raise CheckFailed(
                    f"{name} fails where its weights or items are on another device than the "
                    f"processor ({error}): keep constants as buffers, or make them with "
                    "device=x.device"
                ) from error
            for output in tree_leaves(result):
                require(
                    not isinstance(output, Tensor) or output.device == STAND_IN,
                    f"{name} gave a tensor of the processor for one of another device",
                )


def _measure(metric: Metric, items: Tensor, reference: Tensor) -> None:
    """Measure, whatever the value: whether it is a number is another check."""
    metric.measure(items, reference)


@check("modality")
def eval_is_deterministic(plugin: ModalityUnderTest) -> None:
    """In eval mode the output does not depend on the state of torch's generator."""
    for name, make in _networks(plugin):
        network = make(0)
        torch.manual_seed(1)
        first = _outputs(network, plugin.sample_items)
        torch.manual_seed(2)
        second = _outputs(network, plugin.sample_items)
        for method in first:
            require(
                torch.equal(first[method], second[method]),
                f"{method} of the {name} gave two results in eval mode: add noise and dropout in "
                "training mode only",
            )


@check("modality")
def rows_are_independent(plugin: ModalityUnderTest) -> None:
    """In eval mode the output of an item does not depend on the rest of the batch."""
    for name, make in _networks(plugin):
        network, x = make(0), plugin.sample_items
        batch, single, flipped = (_outputs(network, part) for part in (x, x[:1], x.flip(0)))
        for method in batch:
            for other in (single[method], flipped[method][-1:]):
                require(
                    _is_close(batch[method][:1], other),
                    f"{method} of the {name} gave another result for an item in another batch: "
                    "use no batch statistics in eval mode",
                )


@check("modality")
def gradients_reach_all_parameters(plugin: ModalityUnderTest) -> None:
    """Every parameter gets a finite, non-zero gradient within three training steps."""
    for name, make in _networks(plugin):
        network = make(0).train()
        without = {key: p for key, p in network.named_parameters() if p.requires_grad}
        if not without:
            continue
        optimiser = torch.optim.Adam(without.values(), 1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            _training_loss(network, plugin).backward()
            for key, parameter in list(without.items()):
                gradient = parameter.grad
                finite = gradient is None or is_finite(gradient)
                require(finite, f"the gradient of {key} of the {name} is not finite")
                if gradient is not None and bool(gradient.any()):
                    del without[key]
            optimiser.step()
        names = ", ".join(without)
        require(not without, f"no gradient reaches {names} of the {name}: use it or remove it")


@check("modality")
def weights_round_trip(plugin: ModalityUnderTest) -> None:
    """Loading a state_dict from safetensors into another instance gives the same outputs."""
    run_dir = RunDir(plugin.folder)
    for name, make in _networks(plugin):
        network, other = make(1), make(2)
        path = plugin.folder / f"{name}.safetensors"
        run_dir.write_tensors(path, network.state_dict())
        try:
            other.load_state_dict(run_dir.read_tensors(path))
        except RuntimeError as error:
            raise CheckFailed(f"the {name}'s state_dict cannot be loaded: {error}") from error
        before, after = (_outputs(each, plugin.sample_items) for each in (network, other))
        for method in before:
            require(
                torch.equal(before[method], after[method]),
                f"{method} of the {name} differs after its state_dict is loaded into another "
                "instance: keep state in parameters and persistent buffers",
            )


@check("modality")
def works_in_bfloat16(plugin: ModalityUnderTest) -> None:
    """Under bfloat16 autocast outputs are about the same, and gradients are finite."""
    for name, make in _networks(plugin):
        network = make(0)
        full = _outputs(network, plugin.sample_items)
        with torch.autocast("cpu", torch.bfloat16):
            half = _outputs(network, plugin.sample_items)
            loss = _training_loss(network, plugin)
        if is_trainable(network):
            loss.backward()
        for method in full:
            if method == "decode":
                continue  # The pipeline always decodes in float32.
            expected, seen = full[method].double(), half[method].double()
            error = float((seen - expected).norm() / expected.norm().clamp(min=1e-6))
            require(
                error <= HALF_TOLERANCE,  # False for NaN.
                f"{method} of the {name} has a relative error of {error:.2g} under bfloat16 "
                "autocast: compute sensitive parts in float32, with x.float()",
            )
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        finite = all(map(is_finite, gradients))
        require(finite, f"a gradient of the {name} is not finite under bfloat16 autocast")


def _networks(plugin: ModalityUnderTest) -> Iterable[tuple[str, Callable[[int], nn.Module]]]:
    """The name of each network, and how to make it from a seed."""
    return (("autoencoder", plugin.autoencoder), ("classifier", plugin.classifier))


@torch.no_grad()
def _outputs(network: Any, x: Tensor) -> dict[str, Tensor]:
    """What each method returns."""
    if hasattr(network, "decode"):
        z = network.encode(x)
        return {"encode": z, "decode": network.decode(z), "loss": network.loss(z, x)}
    return {"features": network.features(x), "forward": network(x)}


def _training_loss(network: Any, plugin: ModalityUnderTest) -> Tensor:
    """The loss that training minimises."""
    x = plugin.sample_items
    if hasattr(network, "decode"):
        loss: Tensor = network.loss(network.encode(x), x)
        return loss.float().mean()
    return cross_entropy(network(x).float(), torch.arange(len(x)) % NUM_CLASSES)


def _is_close(x: Tensor, y: Tensor) -> bool:
    """Equal up to rounding; for symbols nine in ten, since rounding may decide between two."""
    if x.shape != y.shape:
        return False
    if not x.is_floating_point():
        return float((x == y).double().mean()) >= 0.9
    return float((x - y).abs().max()) <= TOLERANCE * (1 + float(x.abs().max()))
