"""Trials: the experiments of a suite, each with a frozen spec and a key made from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from pydantic import JsonValue

from mld.bench.grid import grid
from mld.bench.suite import Coordinates, Suite
from mld.config.spec import Spec, dump_spec, parse_spec
from mld.data.loading import open_dataset
from mld.storage.digests import digest
from mld_core import MLDError, Registry
from mld_core.plugins.discovery import installed_version

_NOT_FOR_TRAINING = ("name", "generate", "evaluate")
"""Sections of a spec on which training does not depend."""


@dataclass(frozen=True)
class Trial:
    """One experiment of a suite.

    Args:
        spec: the text of the frozen spec; "" if the spec has errors.
        key: the first digits of the digest of spec, data and plugins; names the trial's folder.
        error: the errors of the spec; "" if there are none.
    """

    coordinates: Coordinates
    spec: str
    key: str
    error: str = ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The parsed frozen spec; only for a trial that has one."""
        return dict(yaml.safe_load(self.spec))

    @cached_property
    def network_key(self) -> str:
        """The digest of all that training depends on: equal for trials that share a network."""
        sections = self.settings.items()
        return digest({name: value for name, value in sections if name not in _NOT_FOR_TRAINING})


def make_trials(suite: Suite, registry: Registry) -> list[Trial]:
    """Every trial of a suite, in the order of its grid.

    A trial whose spec or data have errors carries them.

    Raises:
        MLDError: if the suite has no trial, or all have errors; each error is listed once.
    """
    trials: list[Trial] = []
    errors: list[MLDError] = []
    for coordinates, document in grid(suite):
        try:
            spec = parse_spec(document, registry, suite.folder)
            trials.append(_freeze(coordinates, spec, registry))
        except MLDError as error:
            errors.append(error)
            key = digest(coordinates.model_dump(mode="json"))[:16]
            trials.append(Trial(coordinates, "", key, str(error)))
    if not trials:
        names = ", ".join(parse_spec(suite.base, registry, suite.folder).modalities)
        message = f"no set of two or more: the base spec has only {names}"
        suite.document.add_error(("modalities",), message)
        suite.document.raise_if_errors()
    if all(trial.error for trial in trials):
        lines = [line for error in errors for line in str(error).splitlines()]
        raise type(errors[0])("\n".join(dict.fromkeys(lines)))
    return trials


def _freeze(coordinates: Coordinates, spec: Spec, registry: Registry) -> Trial:
    text = dump_spec(spec)
    key: dict[str, JsonValue] = {
        "spec": text,
        "data": open_dataset(spec, registry).fingerprint(),
        "plugins": {**spec.plugin_versions(registry)},
        "mld": installed_version("mld-toolkit"),
    }
    return Trial(coordinates, text, digest(key)[:16])


def unique_runs(trials: Iterable[Trial]) -> list[Trial]:
    """The first trial of each key: trials with the same spec share a run."""
    by_key: dict[str, Trial] = {}
    for trial in trials:
        by_key.setdefault(trial.key, trial)
    return list(by_key.values())


def needs_gpu(trials: Iterable[Trial]) -> bool:
    """Whether any trial would use a GPU if there is one."""
    return any(trial.settings["compute"]["accelerator"] != "cpu" for trial in trials if trial.spec)


def schedule(trials: Iterable[Trial]) -> list[Trial]:
    """Trials in an order in which few wait for a network that another is training.

    The largest set of each seed trains the autoencoders of the others. Trials that differ only in
    how they sample share a score network: the first of each such group precedes all others. Every
    trial must have a spec.
    """
    trials_of_network: Counter[str] = Counter()
    seen_seeds: set[int] = set()
    ranks: dict[Trial, tuple[int, bool]] = {}
    for trial in sorted(trials, key=lambda trial: -len(trial.coordinates.modalities)):
        seed = trial.coordinates.seed
        ranks[trial] = (trials_of_network[trial.network_key], seed in seen_seeds)
        trials_of_network[trial.network_key] += 1
        seen_seeds.add(seed)
    return sorted(ranks, key=ranks.__getitem__)


def summarise_trials(trials: Sequence[Trial]) -> str:
    """A short name for several trials: the first, and the number of others."""
    others = f" and {len(trials) - 1} more" if len(trials) > 1 else ""
    return f"{trials[0].coordinates}{others}"
