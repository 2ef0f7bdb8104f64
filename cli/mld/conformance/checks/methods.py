"""Checks of a method, on three small modalities of the kit."""

from __future__ import annotations

import copy
from itertools import permutations

import torch

from mld.conformance.check import CheckFailed, CheckSkipped, check, describe, is_finite, require
from mld.conformance.method_fixtures import MethodUnderTest, Rows, draw, seeded_loss
from mld.conformance.stand_in_device import STAND_IN, StandInDevice
from mld.storage.run_dir import RunDir
from mld.training.job import is_trainable
from mld_core import JointModel

NUM_SAMPLES = 5
"""Samples of each request whose shape is checked."""

TOLERANCE = 1e-5
"""Largest difference of numbers that should be equal, relative to the largest of them."""

MIN_Z = 3.0
"""Standard errors by which a mean must exceed 0 to count as positive."""


@check("method")
def models_are_fresh(plugin: MethodUnderTest) -> None:
    """Each call of `model` makes a new JointModel, from torch's global generator alone."""
    first, second, other = (plugin.model(seed) for seed in (1, 1, 2))
    require(isinstance(first, JointModel), f"model gave a {type(first).__name__}: a JointModel")
    expected = set() if plugin.method.on_latents else set(plugin.names)
    require(
        set(first.autoencoders) == expected,
        f"the model has the autoencoders {sorted(first.autoencoders)}, not {sorted(expected)}: "
        "pass on those that `model` is given, super().__init__(autoencoders)",
    )
    require(first is not second, "model gave the same object twice: make a new one at each call")
    weights, same, others = (dict(model.state_dict()) for model in (first, second, other))
    require(
        all(torch.equal(weights[key], same[key]) for key in weights),
        "two models made with the same torch seed differ: draw weights from torch's global "
        "generator only",
    )
    require(
        not is_trainable(first)
        or any(not torch.equal(weights[key], others[key]) for key in weights),
        "two models made with different torch seeds are equal: make a new one at each call",
    )


@check("method")
def loss_is_a_number(plugin: MethodUnderTest) -> None:
    """`loss` gives one finite number, the mean over rows, for many rows and for one."""
    model = plugin.started
    for count in (len(plugin.rows["test"].present), 1):
        loss = seeded_loss(model, plugin.rows["test"].take(slice(count)))
        require(
            loss.ndim == 0 and loss.is_floating_point(),
            f"loss gave {describe(loss)} for {count} rows: return one number, the mean over rows",
        )
        require(is_finite(loss), f"the loss of {count} rows is {float(loss.detach())}")


@check("method")
def models_work_on_any_device(plugin: MethodUnderTest) -> None:
    """`loss` and `sample` compute on the device of the model's weights and rows."""
    model, rows, first = copy.deepcopy(plugin.started), plugin.incomplete, plugin.names[0]
    with StandInDevice():
        model.to(STAND_IN)
        there = Rows(
            {name: x.to(STAND_IN) for name, x in rows.items.items()}, rows.present.to(STAND_IN)
        )
        given = {first: there.items[first][:NUM_SAMPLES]}
        try:
            outputs = [
                seeded_loss(model, there),
                *draw(model, given, plugin.names[1:], NUM_SAMPLES).values(),
                *draw(model, {}, plugin.names, NUM_SAMPLES).values(),
            ]
        except (RuntimeError, TypeError) as error:
            raise CheckFailed(
                f"loss or sample fails on another device than the processor ({error}): draw noise "
                "and make constants with the device of the model's parameters"
            ) from error
        require(
            all(output.device == STAND_IN for output in outputs),
            "loss or sample gave a tensor of the processor from weights of another device",
        )


@check("method")
def loss_ignores_missing_cells(plugin: MethodUnderTest) -> None:
    """The loss does not depend on what a missing cell contains."""
    rows = _incomplete(plugin).take(slice(70))
    other = Rows(plugin.rows["train"].take(slice(70)).items, rows.present)
    first, second = (float(seeded_loss(plugin.started, each).detach()) for each in (rows, other))
    require(
        abs(first - second) <= TOLERANCE * max(1.0, abs(first)),
        f"the loss is {first:.6g} if missing cells contain zeros, and {second:.6g} if they contain "
        "items: multiply by `present`",
    )


@check("method")
def learns_from_incomplete_rows(plugin: MethodUnderTest) -> None:
    """With missing cells, also of a whole modality in a batch, loss and samples are finite."""
    rows = _incomplete(plugin)
    model = plugin.learn(rows, 3)
    alone = rows.present.clone()
    alone[:, 1:] = False
    alone[:, 0] = True
    for case, present in (("some cells are", rows.present), ("two modalities are", alone)):
        loss = seeded_loss(model, rows.without(present))
        require(is_finite(loss), f"the loss is {float(loss.detach())} where {case} missing")
        if is_trainable(model):
            model.zero_grad()
            loss.backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            require(all(map(is_finite, grads)), f"a gradient is not finite where {case} missing")
    samples = draw(model, {}, plugin.names, NUM_SAMPLES)
    require(all(map(is_finite, samples.values())), "samples are not finite after incomplete rows")


@check("method")
def all_parameters_are_trained(plugin: MethodUnderTest) -> None:
    """Every trainable parameter gets a finite, non-zero gradient within three batches."""
    model = plugin.model().train()
    if not is_trainable(model):
        raise CheckSkipped("the model has no trainable parameters")
    with torch.no_grad():
        model.fit(plugin.rows["train"].items, plugin.rows["train"].present)
    untrained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for batch in range(3):
        optimiser.zero_grad()
        rows = plugin.rows["train"].take(slice(64 * batch, 64 * batch + 64))
        model.loss(rows.items, rows.present).backward()
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                require(is_finite(weight.grad), f"the gradient of {name!r} is not finite")
                untrained -= {name} if bool(weight.grad.any()) else set()
        optimiser.step()
    require(
        not untrained,
        f"no gradient reaches {', '.join(sorted(untrained)[:3])}: remove it, use it in the loss, "
        "or set requires_grad=False",
    )


@check("method")
def loss_works_in_bfloat16(plugin: MethodUnderTest) -> None:
    """Under bfloat16 autocast, in which models may be trained, loss and gradients are finite."""
    model = plugin.model().train()
    if not is_trainable(model):
        raise CheckSkipped("the model has no trainable parameters")
    rows = plugin.rows["train"].take(slice(64))
    with torch.autocast("cpu", torch.bfloat16):
        try:
            loss = seeded_loss(model, rows)
        except RuntimeError as error:
            raise CheckFailed(
                f"under bfloat16 autocast loss raises {str(error).splitlines()[0]!r}: convert with "
                ".float()"
            ) from error
    require(is_finite(loss), f"under bfloat16 autocast the loss is {float(loss.detach())}")
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    require(all(map(is_finite, grads)), "under bfloat16 autocast a gradient is not finite")


@check("method")
def learning_lowers_the_loss(plugin: MethodUnderTest) -> None:
    """`fit`, or 200 training steps, lower the loss of held-out rows."""
    rows = plugin.rows["test"]
    before = float(seeded_loss(plugin.model().eval(), rows).detach())
    after = float(seeded_loss(plugin.learnt, rows).detach())
    require(
        after < before,
        f"learning took the loss of held-out rows from {before:.4g} to {after:.4g}: let `fit` or "
        "the gradient of `loss` change the model",
    )


@check("method")
def learning_is_repeatable(plugin: MethodUnderTest) -> None:
    """The same rows and the same torch seed give the same weights."""
    weights, again = (plugin.learn(plugin.rows["train"], 3).state_dict() for _ in range(2))
    different = [name for name in weights if not torch.equal(weights[name], again[name])]
    require(
        not different,
        f"{', '.join(different[:3])} are other numbers when learnt again from the same rows and "
        "torch seed: draw from torch's global generator only",
    )


@check("method")
def samples_any_from_any(plugin: MethodUnderTest) -> None:
    """`sample` gives finite latents of the right width, of any modalities given any others."""
    model, rows = plugin.started, plugin.rows["test"].take(slice(NUM_SAMPLES))
    for given in plugin.subsets:
        others = [name for name in plugin.names if name not in given]
        requests = [others, others[::-1], *([name] for name in others)]
        for wanted in requests:
            request = f"{' and '.join(wanted)} given {' and '.join(given) or 'nothing'}"
            samples = draw(model, rows.given(given), wanted, NUM_SAMPLES)
            for name in wanted:
                require(name in samples, f"{request}: sample gave no {name!r}")
                expected = (NUM_SAMPLES, plugin.modalities[name].latent_dim)
                z = samples[name]
                require(
                    tuple(z.shape) == expected and z.is_floating_point(),
                    f"{request}: sample gave {describe(z)} for {name!r}, expected floats of shape "
                    f"{expected}",
                )
                require(is_finite(z), f"{request}: a latent of {name!r} is not finite")


@check("method")
def samples_follow_seed(plugin: MethodUnderTest) -> None:
    """Samples are the same for the same torch seed, whatever was drawn between, and else others."""
    model, rows = plugin.started, plugin.rows["test"].take(slice(20))
    for given in plugin.subsets:
        wanted = [name for name in plugin.names if name not in given]
        observed = rows.given(given)
        first, other, again = (draw(model, observed, wanted, 20, seed) for seed in (1, 2, 1))
        request = f"given {' and '.join(given) or 'nothing'}"
        require(
            all(torch.equal(first[name], again[name]) for name in wanted),
            f"{request}, two calls of sample with the same torch seed differ: draw from torch's "
            "global generator only, and keep no state",
        )
        require(
            given != () or any(not torch.equal(first[name], other[name]) for name in wanted),
            f"{request}, sample gives the same for two torch seeds: draw samples",
        )


@check("method")
def rows_do_not_mix(plugin: MethodUnderTest) -> None:
    """The sample of a row does not depend on what the other rows of its batch are given."""
    model, rows = plugin.started, plugin.rows["test"].take(slice(20))
    others = plugin.rows["test"].take(torch.tensor([*range(10), *range(35, 45)]))
    for given in plugin.subsets[1:]:
        wanted = [name for name in plugin.names if name not in given]
        first, second = (draw(model, each.given(given), wanted, 20) for each in (rows, others))
        for name in wanted:
            a, b = first[name][:10], second[name][:10]
            require(
                bool((a - b).abs().max() <= TOLERANCE * (1 + a.abs().max())),
                f"given {' and '.join(given)}, the sample of {name!r} in a row changes with what "
                "other rows are given: use no statistics of the batch",
            )


@check("method")
def samples_follow_given(plugin: MethodUnderTest) -> None:
    """After learning, samples fit the row that they were given better than another one."""
    model, rows = plugin.learnt, plugin.rows["test"]
    shifted = rows.take(torch.arange(len(rows.present)).roll(5))  # of another label
    differences = []
    for given, wanted in permutations(plugin.names, 2):
        z = draw(model, rows.given([given]), [wanted], len(rows.present))[wanted]
        matched, shifted_errors = (
            plugin.errors(model, wanted, z, each) for each in (rows, shifted)
        )
        differences.append((shifted_errors - matched).double() / shifted_errors.mean())
    mean = torch.stack(differences).mean(0)
    require(
        bool(mean.mean() > MIN_Z * mean.std() / len(mean) ** 0.5),
        f"held-out samples given one modality fit their own row no better than another one (the "
        f"errors differ by {float(mean.mean()):.1%}): let `sample` use what is given, and the loss "
        "train it",
    )


@check("method")
def model_round_trip(plugin: MethodUnderTest) -> None:
    """A model whose weights are saved and loaded into a new one samples the same."""
    model, loaded = plugin.started, plugin.model("another").eval()
    run_dir = RunDir(plugin.folder)
    run_dir.write_tensors(plugin.folder / "network", model.state_dict())
    loaded.load_state_dict(run_dir.read_tensors(plugin.folder / "network"))
    rows = plugin.rows["test"].take(slice(NUM_SAMPLES))
    for given in plugin.subsets:
        wanted = [name for name in plugin.names if name not in given]
        first, second = (
            draw(each, rows.given(given), wanted, NUM_SAMPLES) for each in (model, loaded)
        )
        require(
            all(torch.equal(first[name], second[name]) for name in wanted),
            f"given {' and '.join(given) or 'nothing'}, a loaded model samples something else: "
            "keep what is learnt in parameters or buffers",
        )


@check("method")
def rows_are_not_modified(plugin: MethodUnderTest) -> None:
    """`fit`, `loss` and `sample` do not modify the rows that they are given."""
    rows = plugin.rows["train"].take(slice(70)).clone()
    before, model = rows.clone(), plugin.model()
    with torch.no_grad():
        model.fit(rows.items, rows.present)
    calls = {"fit": _equal(rows, before)}
    seeded_loss(model, rows)
    calls["loss"] = _equal(rows, before)
    for given in plugin.subsets:
        draw(model.eval(), rows.given(given), [n for n in plugin.names if n not in given], 70)
    calls["sample"] = _equal(rows, before)
    modified = [name for name, unchanged in calls.items() if not unchanged]
    require(not modified, f"{modified[:1]} modified its rows: work on a copy")


def _incomplete(plugin: MethodUnderTest) -> Rows:
    if plugin.method.needs_complete:
        raise CheckSkipped("the method needs complete rows")
    return plugin.incomplete


def _equal(rows: Rows, others: Rows) -> bool:
    return torch.equal(rows.present, others.present) and all(
        torch.equal(rows.items[name], others.items[name]) for name in rows.items
    )
