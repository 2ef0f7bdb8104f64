"""How much the modalities of a run tell about each other, on held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mld_core import SpecError
from mld_core.diffusion.sampling import ScoreModel
from mld_core.information.estimator import Estimate, surprisal
from mld_core.information.likelihood import log_scale
from mld_core.information.measures import (
    Measure,
    dual_total_correlation,
    entropy,
    joint_mutual_information,
    mutual_information,
    o_information,
    total_correlation,
)

Forms = tuple[Measure, ...]
"""Measures of one quantity, estimated together."""


def standard_measures(names: Sequence[str]) -> dict[str, Forms]:
    """What is asked when nobody says: all pairs, also given the rest; each against the rest."""
    rest = {name: [other for other in names if other != name] for name in names}
    asked: dict[str, Forms] = {}
    for a, b in combinations(names, 2):
        asked[f"I({a}; {b})"] = _all_ways([a], [b])
        asked[f"I({a}; {b}), joint form"] = (joint_mutual_information([a], [b]),)
    if len(names) > 2:
        for a, b in combinations(names, 2):
            others = [name for name in names if name not in (a, b)]
            asked[f"I({a}; {b} | {', '.join(others)})"] = _all_ways([a], [b], others)
        for name in names:
            asked[f"I({name}; {', '.join(rest[name])})"] = _all_ways([name], rest[name])
    if len(names) > 1:
        asked["total correlation"] = (total_correlation(names),)
        asked["dual total correlation"] = (dual_total_correlation(names),)
        asked["O-information"] = (o_information(names),)
    for name in names:
        asked[f"h({name})"] = (entropy([name]),)
    return asked


def _all_ways(x: Sequence[str], y: Sequence[str], given: Sequence[str] = ()) -> Forms:
    """As seen from x, from y, and from both together."""
    there, back = mutual_information(x, y, given), mutual_information(y, x, given)
    return there, back, joint_mutual_information(x, y, given)


def parse_measure(told: str, names: Sequence[str]) -> tuple[str, Forms]:
    """The measure that "a,b;c|d" asks for: I(a, b; c | d). SpecError if it is not of that form."""
    main, _, given = told.partition("|")
    sides = [[name.strip() for name in part.split(",")] for part in (*main.split(";"), given)]
    x, y, z = sides[0], sides[1] if len(sides) == 3 else [], [name for name in sides[-1] if name]
    asked = [*x, *y, *z]
    foreign = [name for name in asked if name not in names]
    if len(sides) != 3 or foreign or len(set(asked)) < len(asked):
        raise SpecError(
            f"{told!r}: write A;B or A,B;C|D with modalities of the run, each once "
            f"({', '.join(names)})"
        )
    title = f"I({', '.join(x)}; {', '.join(y)}" + (f" | {', '.join(z)})" if z else ")")
    return title, _all_ways(x, y, z)


def estimate_information(
    model: ScoreModel,
    latents: Mapping[str, Float[Tensor, "row _"]],
    held_out: Mapping[str, Float[Tensor, "_ _"]] | None,
    measures: Mapping[str, Forms],
    seed: int,
    told: Callable[[int], None],
) -> dict[str, Estimate]:
    """The estimates, by name, of complete rows; entropies are of standardised latents.

    ValueError if the model knows no marginals, or there are fewer than two rows.
    """
    asked = [form for forms in measures.values() for form in forms]
    found = surprisal(
        model, latents, asked, seed, shared=False, held_out=held_out, on_progress=told
    )
    return {name: found.estimate(*forms) for name, forms in measures.items()}


def as_json(estimates: Mapping[str, Estimate], model: ScoreModel, network: str) -> dict[str, Any]:
    """What the run folder keeps: values in nats, and the digest of the network that knows them."""
    raw = {f"h({name})": log_scale(model, [name]) for name in model.layout.names}
    return {
        "network": network,
        "estimates": {
            name: {
                "value": own.value,
                "standard_error": own.standard_error,
                **({"raw": own.value + raw[name]} if name in raw else {}),
                "convergence": [list(point) for point in own.convergence],
            }
            for name, own in estimates.items()
        },
    }
