"""Checks that a plugin keeps to itself: quick and quiet to import, and changing nothing."""

from __future__ import annotations

import copy
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mld.conformance import isolated
from mld.conformance.check import Broken, check, demand, skip
from mld.conformance.fixtures import FEW, DatasetSubject, ModalitySubject, Subject

BUDGET = 1.0
"""Seconds that an import may take beyond torch and mld_core."""

PATIENCE = 300
"""Seconds after which a plugin in a process of its own is given up."""

UNLIKELY = 2718281828
"""A seed that nobody else takes."""

ATTEMPTS = 3
"""The quickest counts: the first may fill caches."""


@check("modality", "dataset")
def imports_quickly(subject: Subject) -> None:
    """Importing the plugin takes at most one second beyond torch and mld_core."""
    taken = [_seen_alone(subject).get("seconds", 0.0)]
    while min(taken) > BUDGET and len(taken) < ATTEMPTS:
        taken.append(_run_alone(subject, used=False)["seconds"])
    demand(
        min(taken) <= BUDGET,
        f"the import takes {min(taken):.1f} s beyond torch and mld_core, allowed are {BUDGET:g} s: "
        "import heavy libraries in the functions that need them (python -X importtime shows which)",
    )


@check("modality", "dataset")
def imports_quietly(subject: Subject) -> None:
    """Importing the plugin prints nothing."""
    said = _seen_alone(subject)["import_said"]
    demand(not said, f"the import prints {said!r:.200}: remove it")


@check("modality", "dataset")
def works_quietly(subject: Subject) -> None:
    """Using the plugin prints nothing: stdout is for results, and stderr for progress."""
    seen = _used_alone(subject)
    demand(not seen["use_said"], f"at work it prints {seen['use_said']!r:.200}: remove it")


@check("modality", "dataset")
def needs_no_network(subject: Subject) -> None:
    """Neither importing nor using the plugin reaches for the network."""
    attempts = _seen_alone(subject)["attempts"]
    demand(
        not attempts,
        f"it reaches for the network: {'; '.join(attempts[:3])}: ship what examples need, and "
        "let the user download the rest beforehand",
    )
    _used_alone(subject)


@check("modality")
def instance_stays_as_it_is(subject: ModalitySubject) -> None:
    """Using a modality changes neither its config and facts nor what it does next."""
    modality, raw = subject.again(), subject.raw["test"][:FEW]
    before = _plain(modality)
    first = modality.preprocess(raw[0]), _written(subject, modality, "before")
    isolated.use(modality, raw, subject.folder)
    for name, value in before.items():
        demand(
            _alike(value, vars(modality).get(name)),
            f"its attribute {name!r} changed while it was used: set all state in the constructor",
        )
    again = modality.preprocess(raw[0]), _written(subject, modality, "after")
    demand(
        torch.equal(first[0], again[0]) and first[1] == again[1],
        "the same datum gives another item or file after use: keep no state between calls",
    )


@check("modality")
def inputs_stay_as_they_are(subject: ModalitySubject) -> None:
    """No method changes the raw data or the items that it is given."""
    modality = subject.modality
    raw = subject.raw["test"][0]
    x = torch.stack([modality.preprocess(one) for one in subject.raw["test"][:FEW]])
    kept, before = copy.deepcopy(raw), x.clone()
    modality.preprocess(raw)
    demand(
        torch.equal(modality.preprocess(raw), modality.preprocess(kept)),
        "preprocess changed the raw datum that it was given: work on a copy",
    )
    autoencoder, classifier = subject.autoencoder(), subject.classifier()
    with torch.no_grad():
        z = autoencoder.encode(x)
        latent = z.clone()
        autoencoder.decode(z)
        autoencoder.loss(z, x)
        classifier(x)
    modality.write(x[0], subject.folder / "0")
    modality.preview(x[0], subject.folder / "0")
    for metric in modality.metrics().values():
        metric.measure(x, x[:0] if metric.against == "none" else x)
    demand(torch.equal(z, latent), "decode or loss changed the latents that it was given")
    demand(
        torch.equal(x, before),
        "encode, loss, the classifier, write, preview or a metric changed the items that it was "
        "given: work on a copy",
    )


@check("modality")
def global_randomness_untouched(subject: ModalitySubject) -> None:
    """The global generators of numpy and torch are neither drawn from nor seeded."""
    kept = np.random.get_state()
    try:
        # A state that no plugin seeds with: who seeds again and again changes it but once.
        np.random.seed(UNLIKELY)
        torch.manual_seed(UNLIKELY)
        before = _random_states()
        isolated.use_modality(subject.plugin_class, subject.config)
        changed = [name for name, state in _random_states().items() if state != before[name]]
    finally:
        np.random.set_state(kept)
    demand(
        not changed,
        f"the global generator of {', '.join(changed)} was used: draw from the rng or the "
        "generator that is handed in",
    )


def _seen_alone(subject: Subject) -> dict[str, Any]:
    """What came of the plugin in a process of its own, looked at once."""
    if "alone" not in subject.made:
        used = "<locals>" not in subject.plugin_class.__qualname__
        subject.made["alone"] = _run_alone(subject, used)
    return subject.made["alone"]


def _used_alone(subject: Subject) -> dict[str, Any]:
    """The same, where the plugin could be used there."""
    seen = _seen_alone(subject)
    if not seen["used"]:
        skip(f"it could not be used in a process of its own: {seen['error'] or 'a local class'}")
    return seen


def _run_alone(subject: Subject, used: bool) -> dict[str, Any]:
    result = subject.folder / "result.json"
    told = {
        "plugin": _whereabouts(subject.plugin_class),
        "config": json.loads(subject.config.model_dump_json()),
        "modalities": {
            name: {
                **_whereabouts(type(modality)),
                "config": json.loads(modality.config.model_dump_json()),
            }
            for name, modality in (
                subject.modalities.items() if isinstance(subject, DatasetSubject) else ()
            )
        },
        "use": used,
        "result": str(result),
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-P", isolated.__file__],
            input=json.dumps(told),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"importing and using it took more than {PATIENCE} s: it may wait") from None
    if not result.is_file():
        ended = f"ended with code {done.returncode}: {done.stderr.strip()[-200:]}"
        raise Broken(f"a process that imports and uses the plugin {ended}")
    seen = json.loads(result.read_text())
    result.unlink()
    if "seconds" not in seen:
        raise Broken(f"it cannot be imported in a process of its own: {seen['error']}")
    return seen


def _whereabouts(plugin_class: type) -> dict[str, str]:
    return {
        "module": plugin_class.__module__,
        "file": inspect.getfile(plugin_class),
        "name": plugin_class.__qualname__.partition(".<locals>")[0],
    }


def _written(subject: ModalitySubject, modality: Any, name: str) -> bytes:
    path: Path = modality.write(subject.few[0], subject.folder / name)
    return path.read_bytes()


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "numpy": (kind, keys.tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _plain(modality: Any) -> dict[str, Any]:
    """Copies of the attributes that are plain data or tensors."""
    return {name: copy.deepcopy(told) for name, told in vars(modality).items() if _is_plain(told)}


def _is_plain(told: Any) -> bool:
    if isinstance(told, dict):
        return all(_is_plain(value) for value in told.values())
    if isinstance(told, list | tuple):
        return all(_is_plain(value) for value in told)
    return told is None or isinstance(told, bool | int | float | str | Tensor | np.ndarray)


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, Tensor | np.ndarray):
        return type(one) is type(other) and np.array_equal(one, other)
    return bool(one == other)
