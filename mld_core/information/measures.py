"""Entropies and informations of modalities, each as a weighted sum of −log densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Density:
    """p(of | given), all other modalities marginalised away.

    Args:
        of: modality names in alphabetical order, at least one.
        given: other names, in that order too; may be empty.
    """

    of: tuple[str, ...]
    given: tuple[str, ...] = ()


Measure = Mapping[Density, float]
"""A weighted sum of −log densities; its mean over rows is an entropy or an information."""


def entropy(of: Sequence[str], given: Sequence[str] = ()) -> Measure:
    """h(of | given), differential. ValueError unless `of` names something that is not given."""
    if not of or set(of) & set(given):
        raise ValueError(f"a density needs names that are not given: {list(of)} | {list(given)}")
    return {Density(tuple(sorted(set(of))), tuple(sorted(set(given)))): 1.0}


def mutual_information(x: Sequence[str], y: Sequence[str], given: Sequence[str] = ()) -> Measure:
    """I(x; y | given) = h(x | given) − h(x | y, given); from y it is another form of the same."""
    return weighted_sum((1, entropy(x, given)), (-1, entropy(x, [*y, *given])))


def joint_mutual_information(
    x: Sequence[str], y: Sequence[str], given: Sequence[str] = ()
) -> Measure:
    """The same as h(x | given) + h(y | given) − h(x, y | given): a check by other predictions."""
    return weighted_sum(
        (1, entropy(x, given)), (1, entropy(y, given)), (-1, entropy([*x, *y], given))
    )


def total_correlation(names: Sequence[str]) -> Measure:
    """The sum of h(i), less h(all); 0 where all are independent (Watanabe 1960)."""
    return weighted_sum(*((1, entropy([name])) for name in names), (-1, entropy(names)))


def dual_total_correlation(names: Sequence[str]) -> Measure:
    """h(all), less the sum of h(i | the rest): what is shared by two or more (Han 1978)."""
    alone = (entropy([own], [name for name in names if name != own]) for own in names)
    return weighted_sum((1, entropy(names)), *((-1, own) for own in alone))


def o_information(names: Sequence[str]) -> Measure:
    """Total less dual total correlation; above 0 where redundancy prevails, below it synergy.

    (Rosas, Mediano, Gastpar and Jensen 2019.)
    """
    return weighted_sum((1, total_correlation(names)), (-1, dual_total_correlation(names)))


def weighted_sum(*parts: tuple[float | int, Measure]) -> Measure:
    """Measures added up, without densities that cancel."""
    total: dict[Density, float] = {}
    for weight, measure in parts:
        for density, own in measure.items():
            total[density] = total.get(density, 0.0) + weight * own
    return {density: weight for density, weight in total.items() if weight}
