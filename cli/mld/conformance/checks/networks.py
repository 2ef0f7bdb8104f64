"""Checks that apply to both the autoencoder and the classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mld.conformance.check import CheckFailed, check, require
from mld.conformance.fixtures import NUM_CLASSES, ModalityUnderTest, is_finite, is_trainable
from mld.storage.run_dir import RunDir

Outputs = Mapping[str, Tensor]
"""Method to what it returned."""

TOLERANCE = 1e-4
HALF_TOLERANCE = 0.1
"""Largest relative error under bfloat16, which has 8 bits of significand."""


@check("modality")
def networks_are_fresh(plugin: ModalityUnderTest) -> None:
    """Each call makes a new network, its weights drawn from torch's global generator."""
    for name, make, _ in _networks(plugin):
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
def eval_is_deterministic(plugin: ModalityUnderTest) -> None:
    """In eval mode the output does not depend on the state of torch's generator."""
    for name, make, run in _networks(plugin):
        network = make(0)
        torch.manual_seed(1)
        first = run(network, plugin.sample_items)
        torch.manual_seed(2)
        second = run(network, plugin.sample_items)
        for method in first:
            require(
                torch.equal(first[method], second[method]),
                f"{method} of the {name} gave two results in eval mode: add noise and dropout in "
                "training mode only",
            )


@check("modality")
def rows_are_independent(plugin: ModalityUnderTest) -> None:
    """In eval mode the output of an item does not depend on the rest of the batch."""
    for name, make, run in _networks(plugin):
        network = make(0)
        batch = run(network, plugin.sample_items)
        single = run(network, plugin.sample_items[:1])
        flipped = run(network, plugin.sample_items.flip(0))
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
    for name, make, _ in _networks(plugin):
        network = make(0).train()
        without = {key: p for key, p in network.named_parameters() if p.requires_grad}
        if not without:
            continue
        optimiser = torch.optim.Adam(without.values(), 1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            _training_loss(network, plugin).backward()
            for key, parameter in list(without.items()):
                if parameter.grad is None:
                    continue
                require(
                    is_finite(parameter.grad), f"the gradient of {key} of the {name} is not finite"
                )
                if bool(parameter.grad.any()):
                    del without[key]
            optimiser.step()
        require(
            not without,
            f"no gradient reaches {', '.join(without)} of the {name}: use it or remove it",
        )


@check("modality")
def weights_round_trip(plugin: ModalityUnderTest) -> None:
    """Loading a state_dict from safetensors into another instance gives the same outputs."""
    run_dir = RunDir(plugin.folder)
    for name, make, run in _networks(plugin):
        network, other = make(1), make(2)
        path = plugin.folder / f"{name}.safetensors"
        run_dir.write_tensors(path, network.state_dict())
        try:
            other.load_state_dict(run_dir.read_tensors(path))
        except RuntimeError as error:
            raise CheckFailed(f"the {name}'s state_dict cannot be loaded: {error}") from error
        before, after = (run(each, plugin.sample_items) for each in (network, other))
        for method in before:
            require(
                torch.equal(before[method], after[method]),
                f"{method} of the {name} differs after its state_dict is loaded into another "
                "instance: keep state in parameters and persistent buffers",
            )


@check("modality")
def works_in_bfloat16(plugin: ModalityUnderTest) -> None:
    """Under bfloat16 autocast outputs are about the same, and gradients are finite."""
    for name, make, run in _networks(plugin):
        network = make(0)
        full = run(network, plugin.sample_items)
        with torch.autocast("cpu", torch.bfloat16):
            half = run(network, plugin.sample_items)
            loss = _training_loss(network, plugin)
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
        require(
            all(map(is_finite, gradients)),
            f"a gradient of the {name} is not finite under bfloat16 autocast",
        )


def _networks(
    plugin: ModalityUnderTest,
) -> Iterator[tuple[str, Callable[[int], nn.Module], Callable[[nn.Module, Tensor], Outputs]]]:
    """For each network its name, how to make it from a seed, and how to run it on a batch."""
    yield "autoencoder", plugin.autoencoder, _run_autoencoder
    yield "classifier", plugin.classifier, _run_classifier


@torch.no_grad()
def _run_autoencoder(autoencoder: Any, x: Tensor) -> Outputs:
    z = autoencoder.encode(x)
    return {"encode": z, "decode": autoencoder.decode(z), "loss": autoencoder.loss(z, x)}


@torch.no_grad()
def _run_classifier(classifier: Any, x: Tensor) -> Outputs:
    return {"features": classifier.features(x), "forward": classifier(x)}


def _training_loss(network: Any, plugin: ModalityUnderTest) -> Tensor:
    """The loss that training minimises."""
    x = plugin.sample_items
    if hasattr(network, "encode"):
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
