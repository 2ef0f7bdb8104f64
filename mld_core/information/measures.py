"""Entropies and information measures of modalities, as weighted sums of −log densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Density:
    """p(of | given), with all other modalities marginalised out.

    Args:
        of: modality names in alphabetical order, at least one.
        given: other names, in alphabetical order; may be empty.
    """

    of: tuple[str, ...]
    given: tuple[str, ...] = ()


Measure = Mapping[Density, float]
"""A weighted sum of −log densities; its mean over rows estimates an information measure."""


def entropy(of: Sequence[str], given: Sequence[str] = ()) -> Measure:
    """Differential entropy h(of | given). ValueError if `of` is empty or overlaps with `given`."""
    if not of or set(of) & set(given):
        raise ValueError(
            f"`of` must be non-empty and disjoint from `given`, got {list(of)} | {list(given)}"
        )
    return {Density(tuple(sorted(set(of))), tuple(sorted(set(given)))): 1.0}


def mutual_information(x: Sequence[str], y: Sequence[str], given: Sequence[str] = ()) -> Measure:
    """I(x; y | given) = h(x | given) − h(x | y, given); symmetric in x and y if exact."""
    return weighted_sum((1, entropy(x, given)), (-1, entropy(x, [*y, *given])))


def joint_mutual_information(
    x: Sequence[str], y: Sequence[str], given: Sequence[str] = ()
) -> Measure:
    """I(x; y | given) = h(x | given) + h(y | given) − h(x, y | given).

    It uses other predictions of the network than `mutual_information`, and so checks it.
    """
    return weighted_sum(
        (1, entropy(x, given)), (1, entropy(y, given)), (-1, entropy([*x, *y], given))
    )


def chained_entropy(names: Sequence[str]) -> Measure:
    """h(names) as the sum of the entropies of each name given those before it.

    In the functions below it replaces h(names) of one joint density, and so checks that.
    """
    return weighted_sum(*((1, entropy([name], names[:i])) for i, name in enumerate(names)))


def total_correlation(names: Sequence[str], joint: Measure | None = None) -> Measure:
    """Sum of h(i) minus h(all); 0 if all are independent (Watanabe 1960).

    Args:
        joint: h(all), here and below; by default of one joint density.
    """
    return weighted_sum(*((1, entropy([name])) for name in names), (-1, joint or entropy(names)))


def dual_total_correlation(names: Sequence[str], joint: Measure | None = None) -> Measure:
    """h(all) minus the sum of h(i | rest): information shared by two or more (Han 1978)."""
    residuals = [entropy([name], [other for other in names if other != name]) for name in names]
    return weighted_sum((1, joint or entropy(names)), *((-1, residual) for residual in residuals))


def o_information(names: Sequence[str], joint: Measure | None = None) -> Measure:
    """Total minus dual total correlation; positive for redundancy, negative for synergy.

    (Rosas, Mediano, Gastpar and Jensen 2019.)
    """
    total, dual = total_correlation(names, joint), dual_total_correlation(names, joint)
    return weighted_sum((1, total), (-1, dual))


def weighted_sum(*parts: tuple[float | int, Measure]) -> Measure:
    """Weighted sum of measures, without densities that cancel."""
    total: dict[Density, float] = {}
    for weight, measure in parts:
        for density, coefficient in measure.items():
            total[density] = total.get(density, 0.0) + weight * coefficient
    return {density: weight for density, weight in total.items() if weight}
