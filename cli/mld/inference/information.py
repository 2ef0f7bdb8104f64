"""Mutual information and related measures of a run's modalities, on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mld.inference.held_out import calibration_latents, check_marginals, complete_latents
from mld.inference.trained_run import TrainedRun
from mld.runtime.progress import counting
from mld.runtime.seeds import derive
from mld.storage.digests import file_digest
from mld_core import DataError, SpecError, did_you_mean
from mld_core.information.estimator import NODES, Estimate, surprisal
from mld_core.information.likelihood import log_scale
from mld_core.information.measures import (
    Measure,
    chained_entropy,
    dual_total_correlation,
    entropy,
    joint_mutual_information,
    mutual_information,
    o_information,
    total_correlation,
    weighted_sum,
)


@dataclass(frozen=True)
class Estimators:
    """Measures that are the same quantity: those averaged, and checks of the network's error."""

    averaged: tuple[Measure, ...]
    checks: tuple[Measure, ...] = ()


def information(
    run: TrainedRun, queries: Sequence[str] = (), *, rows: int = 500, seed: int = 0
) -> dict[str, Estimate]:
    """Information measures by name, in nats, from at most `rows` complete test rows.

    The standard ones are those of `standard_measures`; each query adds one, "a,b;c|d" for
    I(a, b; c | d). Entropies are of standardised latents. SpecError if the run has no marginals or
    a query is malformed, DataError if fewer than two test rows are complete.
    """
    check_marginals(run, "information")
    model = run.score_model
    z = complete_latents(run, "test", rows)
    if len(z) < 2:
        raise DataError(f"{run.run_dir.path}: fewer than two test rows are complete")
    names = model.layout.names
    measures = standard_measures(names)
    measures |= dict(parse_measure(query, names) for query in queries)
    with counting("information", NODES, "noise levels") as show:
        result = surprisal(
            model,
            model.layout.split(z),
            [form for each in measures.values() for form in (*each.averaged, *each.checks)],
            derive(seed, "information"),
            shared=False,
            held_out=calibration_latents(run),
            on_progress=show,
        )
    return {
        name: result.estimate(*estimators.averaged, checks=estimators.checks)
        for name, estimators in measures.items()
    }


def standard_measures(names: Sequence[str]) -> dict[str, Estimators]:
    """The measures that are always estimated, by name.

    Mutual information of all pairs, marginal and given the rest, and of each modality with the
    rest; total correlation, dual total correlation and O-information; the entropy of each modality.
    """
    measures: dict[str, Estimators] = {}
    for a, b in combinations(names, 2):
        measures[f"I({a}; {b})"] = _mi_estimators([a], [b])
        from_conditionals = (mutual_information([a], [b]), mutual_information([b], [a]))
        measures[f"I({a}; {b}), joint form"] = Estimators(
            (joint_mutual_information([a], [b]),), from_conditionals
        )
    if len(names) > 2:
        for a, b in combinations(names, 2):
            rest = [name for name in names if name not in (a, b)]
            measures[f"I({a}; {b} | {', '.join(rest)})"] = _mi_estimators([a], [b], rest)
        for name in names:
            rest = [other for other in names if other != name]
            measures[f"I({name}; {', '.join(rest)})"] = _mi_estimators([name], rest)
    if len(names) > 1:
        by_chain = _mean((chained_entropy(names), chained_entropy(names[::-1])))
        measures["total correlation"] = Estimators(
            (total_correlation(names, by_chain), total_correlation(names))
        )
        measures["dual total correlation"] = Estimators(
            (dual_total_correlation(names, by_chain),), (dual_total_correlation(names),)
        )
        if len(names) > 2:  # of two modalities it is 0
            measures["O-information"] = Estimators(
                (o_information(names, by_chain),), (o_information(names),)
            )
    for name in names:
        by_pair = (
            weighted_sum((1, entropy([name], [other])), (1, mutual_information([other], [name])))
            for other in names
            if other != name
        )
        measures[f"h({name})"] = Estimators((entropy([name]),), tuple(by_pair))
    return measures


def parse_measure(query: str, names: Sequence[str]) -> tuple[str, Estimators]:
    """Name and estimators of "a,b;c|d", which is I(a, b; c | d). SpecError if it is malformed."""
    sides, _, condition = query.partition("|")
    parts = [[name.strip() for name in part.split(",")] for part in (*sides.split(";"), condition)]
    x, y, z = parts[0], parts[1] if len(parts) == 3 else [], [name for name in parts[-1] if name]
    used = [*x, *y, *z]
    listed = ", ".join(names)
    if len(parts) != 3 or not all(used):
        raise SpecError(f"{query!r}: write A;B or A,B;C|D with modalities of the run ({listed})")
    for index, name in enumerate(used):
        if name not in names:
            hint = did_you_mean(name, names)
            raise SpecError(f"{query!r}: the run has no modality {name!r} (it has {listed}){hint}")
        if name in used[:index]:
            raise SpecError(f"{query!r} names {name!r} twice")
    given = f" | {', '.join(z)}" if z else ""
    return f"I({', '.join(x)}; {', '.join(y)}{given})", _mi_estimators(x, y, z)


def write_information(run: TrainedRun, estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """Write the estimates to the run's information.json, from where its report shows them.

    Returns what was written: values in nats, with the digest of the network that gave them.
    """
    model = run.score_model
    record: dict[str, Any] = {"network": file_digest(run.run_dir.ema), "estimates": {}}
    for name, estimate in estimates.items():
        record["estimates"][name] = {
            "value": estimate.value,
            "standard_error": estimate.standard_error,
            "network_error": estimate.network_error,
            "half_width": estimate.half_width,
            "recalibration": estimate.recalibration,
            "convergence": [list(point) for point in estimate.convergence],
        }
    for name in model.layout.names:
        if entry := record["estimates"].get(f"h({name})"):
            entry["raw"] = entry["value"] + log_scale(model, [name])
    run.run_dir.write_json(run.run_dir.information, record)
    return record


def _mi_estimators(x: Sequence[str], y: Sequence[str], given: Sequence[str] = ()) -> Estimators:
    """I(x; y | given) from the conditionals of x and of y, and from the joint density.

    A network's error is greater in a marginal than in a conditional, and in a joint density than in
    its marginals together: the first form is mostly too high and the second too low.
    """
    conditionals = (mutual_information(x, y, given), mutual_information(y, x, given))
    return Estimators((_mean(conditionals), joint_mutual_information(x, y, given)))


def _mean(measures: Sequence[Measure]) -> Measure:
    return weighted_sum(*((1 / len(measures), measure) for measure in measures))
