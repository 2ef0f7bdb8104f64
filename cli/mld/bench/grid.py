"""The grid of a suite: its cells, each with the document of a whole spec.

In a cell's document every value knows where it was said, in the base spec or in the suite, so
that a complaint about a cell names the line to mend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, product
from typing import Any

from mld.bench.suite import Coordinates, Overrides, Suite, paths, put_all, settles
from mld.config.yaml_document import Document, KeyPath
from mld_core import did_you_mean


def grid(suite: Suite) -> Iterator[tuple[Coordinates, Document]]:
    """Every cell. A method's own settings are never varied: such an axis leaves it alone."""
    told = suite.told
    for (place, names), (method, own) in product(_sets(suite), told.methods.items()):
        start = suite.base.part()
        put_all(start, suite.document, ("methods", method), own)
        rates = [] if settles(own, "data.missing") else told.missing
        for seed, missing in product(told.seeds, rates or [None]):
            for sampler, guidance in _sampled(suite, start, own):
                at = Coordinates(
                    modalities=names,
                    method=method,
                    seed=seed,
                    missing=missing,
                    sampler=sampler,
                    guidance=None if guidance is None else told.guidance[guidance],
                )
                cell = start.part()
                _put(cell, suite, ("seeds",), "seed", seed)
                _put(cell, suite, ("threads",), "compute.threads", told.threads)
                _miss(cell, suite, missing)
                if sampler:
                    put_all(cell, suite.document, *_sampling(suite, sampler), "generate.")
                if guidance is not None:
                    cell.put("generate.guidance", suite.document.part(("guidance", guidance)))
                _select(cell, suite, place, names)
                yield at, cell


def _sets(suite: Suite) -> list[tuple[KeyPath, tuple[str, ...]]]:
    """The sets of modalities, the largest first, and where each was told."""
    names = tuple(_mapping(_mapping(suite.base.value).get("modalities")))
    told = suite.told.modalities
    if told == "base":
        return [(("modalities",), names)]
    if told == "all":
        sizes = range(len(names), 1, -1)
        every = [own for size in sizes for own in combinations(names, size)]
        return [(("modalities",), own) for own in every]
    return [(("modalities", place), tuple(own)) for place, own in enumerate(told)]


def _sampled(suite: Suite, start: Document, own: Overrides) -> list[tuple[str, int | None]]:
    """The pairs of sampler and place of guidance that are to be varied for a method.

    Both only concern mld's own score network.
    """
    told = suite.told
    whole = _mapping(start.value)
    if _mapping(whole.get("diffuse")).get("method", "mld") != "mld":
        return [("", None)]
    samplers = [
        name
        for name, (_, sampling) in told.sampling().items()
        if not any(settles(own, f"generate.{'.'.join(path)}") for path in paths(sampling))
    ]
    strengths = range(0 if settles(own, "generate.guidance") else len(told.guidance))
    return list(product(samplers or [""], list(strengths) or [None]))


def _sampling(suite: Suite, sampler: str) -> tuple[KeyPath, Overrides]:
    place, own = suite.told.sampling()[sampler]
    return ("samplers", place), own


def _put(cell: Document, suite: Suite, at: KeyPath, name: str, value: Any) -> None:
    cell.put(name, Document(value, {(): suite.document.location(at)}))


def _miss(cell: Document, suite: Suite, rate: float | None) -> None:
    """Leave out a rate of the data's cells, or none."""
    if rate:
        _put(cell, suite, ("missing",), "data.missing.rate", rate)
    elif rate is not None:
        _mapping(_mapping(cell.value).get("data")).pop("missing", None)


def _select(cell: Document, suite: Suite, at: KeyPath, names: tuple[str, ...]) -> None:
    """Leave the other modalities out, wherever the document names them."""
    whole = _mapping(cell.value)
    known = _mapping(whole.get("modalities"))
    _complain(cell, suite, at, names, known)
    if not known or tuple(known) == names:
        return
    names = tuple(name for name in names if name in known)
    whole["modalities"] = {name: known[name] for name in names}
    others = known.keys() - set(names)
    autoencode = _mapping(whole.get("autoencode"))
    rates = _mapping(_mapping(whole.get("data")).get("missing")).get("rate")
    # A rival's settings by modality: a mapping that names modalities and nothing else.
    diffuse = _mapping(whole.get("diffuse")).values()
    rival = [own for own in diffuse if _mapping(own).keys() <= known.keys()]
    for named in (autoencode.get("overrides"), rates, *rival):
        for name in others & _mapping(named).keys():
            del named[name]
    generate = _mapping(whole.get("generate"))
    if _are_lists_of_words(generate.get("subsets")):
        kept = [own for own in generate["subsets"] if set(own) < set(names)]
        generate["subsets"] = kept
        if not kept:
            told = f"every subset observes all of {', '.join(names)}, or others"
            cell.add_error(("generate", "subsets"), f"{told}: nothing is left to generate")


def _complain(
    cell: Document, suite: Suite, at: KeyPath, names: tuple[str, ...], known: Iterable[str]
) -> None:
    """Say which modalities of a set the base spec has not, where the suite names them."""
    blamed = Document(None, suite.document.locations)
    for index, name in enumerate(names):
        if name not in known:
            told = f"no modality {name!r} (modalities of the base spec: {', '.join(known)})"
            blamed.add_error((*at, index), f"{told}{did_you_mean(name, known)}")
    cell.errors += blamed.errors


def _are_lists_of_words(told: Any) -> bool:
    """Whether subsets are what they must be; where they are not, the spec's own check says so."""
    return isinstance(told, list) and all(
        isinstance(own, list) and all(isinstance(name, str) for name in own) for own in told
    )


def _mapping(value: Any) -> dict[str, Any]:
    """A value where it is a mapping; an empty one in the place of anything else."""
    return value if isinstance(value, dict) else {}
