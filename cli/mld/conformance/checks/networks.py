"""Checks that hold for the autoencoder and the classifier alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mld.conformance.check import Broken, check, demand
from mld.conformance.fixtures import CLASSES, ModalitySubject
from mld.storage.run_dir import RunDir

Answers = Mapping[str, Tensor]
TOLERANCE = 1e-4
HALF_TOLERANCE = 0.1
"""bfloat16 has 8 bits of significand; a network in it may be this far off, relatively."""


@check("modality")
def networks_are_fresh(subject: ModalitySubject) -> None:
    """A network is new at each call, its weights drawn from torch's global generator."""
    for name, make, _ in _networks(subject):
        one, again, other = (dict(make(seed).state_dict()) for seed in (1, 1, 2))
        demand(
            all(torch.equal(one[key], again[key]) for key in one),
            f"two {name}s under the same torch seed differ: draw weights from torch's global "
            "generator alone",
        )
        trained = any(p.requires_grad for p in make(1).parameters())
        demand(
            not trained or any(not torch.equal(one[key], other[key]) for key in one),
            f"two {name}s under different torch seeds are the same: make a new one at each call",
        )


@check("modality")
def eval_is_deterministic(subject: ModalitySubject) -> None:
    """In eval mode the same input gives the same output, whatever torch's generator says."""
    for name, make, answer in _networks(subject):
        network = make(0)
        torch.manual_seed(1)
        first = answer(network, subject.few)
        torch.manual_seed(2)
        again = answer(network, subject.few)
        for method in first:
            demand(
                torch.equal(first[method], again[method]),
                f"{method} of the {name} gave two answers in eval mode: draw noise and dropout "
                "in training mode alone",
            )


@check("modality")
def rows_are_independent(subject: ModalitySubject) -> None:
    """In eval mode what comes of an item does not depend on the batch that it is in."""
    for name, make, answer in _networks(subject):
        network = make(0)
        whole = answer(network, subject.few)
        alone = answer(network, subject.few[:1])
        turned = answer(network, subject.few.flip(0))
        for method in whole:
            here = whole[method][:1]
            for there in (alone[method], turned[method][-1:]):
                demand(
                    _same(here, there),
                    f"{method} of the {name} gave an item another answer in another batch: no "
                    "statistics over the batch in eval mode",
                )


@check("modality")
def gradients_reach_everything(subject: ModalitySubject) -> None:
    """Every parameter gets a finite gradient in the first three steps."""
    for name, make, _ in _networks(subject):
        network = make(0).train()
        waiting = {key: p for key, p in network.named_parameters() if p.requires_grad}
        optimiser = torch.optim.Adam(waiting.values(), 1e-3) if waiting else None
        for _ in range(3 if optimiser else 0):
            optimiser.zero_grad()
            _loss(network, subject).backward()
            for key, parameter in list(waiting.items()):
                if parameter.grad is None:
                    continue
                finite = bool(parameter.grad.isfinite().all())
                demand(finite, f"{key} of the {name} has a gradient that is not finite")
                if bool(parameter.grad.any()):
                    del waiting[key]
            optimiser.step()
        demand(
            not waiting,
            f"no gradient reaches {', '.join(waiting)} of the {name}: use it or remove it",
        )


@check("modality")
def weights_survive(subject: ModalitySubject) -> None:
    """The state_dict goes through safetensors into another instance that answers the same."""
    run_dir = RunDir(subject.folder)
    for name, make, answer in _networks(subject):
        network, other = make(1), make(2)
        path = subject.folder / f"{name}.safetensors"
        run_dir.write_tensors(path, network.state_dict())
        try:
            other.load_state_dict(run_dir.read_tensors(path))
        except RuntimeError as error:
            raise Broken(f"the {name}'s state_dict does not load again: {error}") from error
        before, after = (answer(each, subject.few) for each in (network, other))
        for method in before:
            demand(
                torch.equal(before[method], after[method]),
                f"{method} of the {name} differs once its state_dict is loaded into another: "
                "keep state in parameters and persistent buffers",
            )


@check("modality")
def works_in_bfloat16(subject: ModalitySubject) -> None:
    """Under bfloat16 autocast the networks answer about the same, and can be trained."""
    for name, make, answer in _networks(subject):
        network = make(0)
        full = answer(network, subject.few)
        with torch.autocast("cpu", torch.bfloat16):
            half = answer(network, subject.few)
            loss = _loss(network, subject)
        loss.backward()
        for method in full:
            if method == "decode":
                continue  # Always done in float32.
            wanted, seen = full[method].double(), half[method].double()
            off = float((seen - wanted).norm() / wanted.norm().clamp(min=1e-6))
            demand(
                off <= HALF_TOLERANCE,  # NaN is not
                f"{method} of the {name} is off by {off:.2g} of itself under bfloat16 autocast: "
                "compute delicate parts in float32, with x.float()",
            )
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        demand(finite, f"a gradient of the {name} is not finite under bfloat16 autocast")


def _networks(
    subject: ModalitySubject,
) -> Iterator[tuple[str, Callable[[int], nn.Module], Callable[[nn.Module, Tensor], Answers]]]:
    """The name of each network, how to make it from a seed, and what it answers to a batch."""
    yield "autoencoder", subject.autoencoder, _coded
    yield "classifier", subject.classifier, _classified


@torch.no_grad()
def _coded(autoencoder, x: Tensor) -> Answers:
    z = autoencoder.encode(x)
    return {"encode": z, "decode": autoencoder.decode(z), "loss": autoencoder.loss(z, x)}


@torch.no_grad()
def _classified(classifier, x: Tensor) -> Answers:
    return {"features": classifier.features(x), "forward": classifier(x)}


def _loss(network, subject: ModalitySubject) -> Tensor:
    """What training minimises."""
    x = subject.few
    if hasattr(network, "encode"):
        return network.loss(network.encode(x), x).float().mean()
    return cross_entropy(network(x).float(), torch.arange(len(x)) % CLASSES)


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding; of symbols at least nine in ten, since rounding may decide one."""
    if not one.is_floating_point():
        return one.shape == other.shape and float((one == other).double().mean()) >= 0.9
    scale = 1 + float(one.abs().max())
    return one.shape == other.shape and float((one - other).abs().max()) <= TOLERANCE * scale
