"""Checks of side effects: import time, output, network access and modified state."""

from __future__ import annotations

import copy
import inspect
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from mld.conformance import isolated
from mld.conformance.check import CheckFailed, CheckSkipped, check, require
from mld.conformance.fixtures import NUM_ITEMS, DatasetUnderTest, ModalityUnderTest, PluginUnderTest
from mld_core import Modality

MAX_IMPORT_SECONDS = 1.0
"""Time that an import may take beyond torch and mld_core."""

MAX_IMPORTS = 3
"""Imports of which the fastest counts: the first may fill caches."""

TIMEOUT_SECONDS = 300
"""Time limit of a plugin in its own process."""

SENTINEL_SEED = 2718281828
"""A seed that no plugin uses."""


@check("modality", "dataset", "method")
def imports_quickly(plugin: PluginUnderTest) -> None:
    """Importing the plugin takes at most one second beyond torch and mld_core."""
    seconds = [_isolated_result(plugin)["seconds"]]
    while min(seconds) > MAX_IMPORT_SECONDS and len(seconds) < MAX_IMPORTS:
        seconds.append(_run_isolated(plugin, use=False)["seconds"])
    require(
        min(seconds) <= MAX_IMPORT_SECONDS,
        f"the import takes {min(seconds):.1f} s beyond torch and mld_core (limit "
        f"{MAX_IMPORT_SECONDS:g} s): import heavy libraries in the functions that need them "
        "(python -X importtime shows which)",
    )


@check("modality", "dataset", "method")
def imports_quietly(plugin: PluginUnderTest) -> None:
    """Importing the plugin prints nothing."""
    output = _isolated_result(plugin)["import_output"]
    require(not output, f"the import prints {output!r:.200}: remove it")


@check("modality", "dataset", "method")
def works_quietly(plugin: PluginUnderTest) -> None:
    """Using the plugin prints nothing: stdout is for results and stderr for progress."""
    output = _isolated_use(plugin)["use_output"]
    require(not output, f"using the plugin prints {output!r:.200}: remove it")


@check("modality", "dataset", "method")
def needs_no_network(plugin: PluginUnderTest) -> None:
    """Neither importing nor using the plugin accesses the network."""
    attempts = _isolated_result(plugin)["attempts"]
    require(
        not attempts,
        f"the plugin accesses the network: {'; '.join(attempts[:3])}: ship what examples need, and "
        "let the user download the rest beforehand",
    )
    _isolated_use(plugin)


@check("modality")
def instance_is_not_modified(plugin: ModalityUnderTest) -> None:
    """Using a modality changes neither its attributes nor its later results."""
    modality, raw = plugin.rebuild(), plugin.raw["test"][:NUM_ITEMS]
    attributes = {key: copy.deepcopy(v) for key, v in vars(modality).items() if _is_plain(v)}
    item_before = modality.preprocess(raw[0])
    bytes_before = _written_bytes(plugin, modality, "before")
    isolated.call_every_method(modality, raw, plugin.folder)
    for key, value in attributes.items():
        same = _is_equal(value, vars(modality).get(key))
        require(same, f"the attribute {key!r} changed during use: set all state in the constructor")
    require(
        torch.equal(item_before, modality.preprocess(raw[0]))
        and bytes_before == _written_bytes(plugin, modality, "after"),
        "the same datum gives another item or file after use: keep no state between calls",
    )


@check("modality")
def inputs_are_not_modified(plugin: ModalityUnderTest) -> None:
    """No method modifies the raw data, items or latents that it is given."""
    modality = plugin.modality
    raw = plugin.raw["test"][0]
    x = torch.stack([modality.preprocess(datum) for datum in plugin.raw["test"][:NUM_ITEMS]])
    raw_before, x_before = copy.deepcopy(raw), x.clone()
    modality.preprocess(raw)
    equal = torch.equal(modality.preprocess(raw), modality.preprocess(raw_before))
    require(equal, "preprocess modified the raw datum: work on a copy")
    autoencoder, classifier = plugin.autoencoder(), plugin.classifier()
    with torch.no_grad():
        z = autoencoder.encode(x)
        z_before = z.clone()
        autoencoder.decode(z)
        autoencoder.loss(z, x)
        classifier(x)
    modality.write(x[0], plugin.folder / "0")
    modality.preview(x[0], plugin.folder / "0")
    modality.plot(x[:, None], x)
    for metric in modality.metrics().values():
        metric.measure(*isolated.metric_arguments(metric, x))
    require(torch.equal(z, z_before), "decode or loss modified the latents: work on a copy")
    require(
        torch.equal(x, x_before),
        "encode, loss, the classifier, write, preview, plot or a metric modified the items: work "
        "on a copy",
    )


@check("modality")
def global_rng_untouched(plugin: ModalityUnderTest) -> None:
    """The global generators of numpy and torch are neither drawn from nor seeded."""
    original = np.random.get_state()
    try:
        # Seeding again with the seed that is set already would go unnoticed.
        np.random.seed(SENTINEL_SEED)
        torch.manual_seed(SENTINEL_SEED)
        before = _random_states()
        isolated.use_modality(plugin.plugin_class, plugin.config)
        changed = [name for name, state in _random_states().items() if state != before[name]]
    finally:
        np.random.set_state(original)
    require(
        not changed,
        f"the global generator of {', '.join(changed)} was used: draw from the given rng or "
        "generator",
    )


def _isolated_result(plugin: PluginUnderTest) -> dict[str, Any]:
    """The result of importing and using the plugin in its own process, run once."""
    if plugin.isolated_result is None:
        use = "<locals>" not in plugin.plugin_class.__qualname__
        plugin.isolated_result = _run_isolated(plugin, use)
    return plugin.isolated_result


def _isolated_use(plugin: PluginUnderTest) -> dict[str, Any]:
    """The same; skips the check if the plugin could not be used in its own process."""
    result = _isolated_result(plugin)
    if not result["used"]:
        reason = result["error"] or "a local class"
        raise CheckSkipped(f"the plugin could not be used in a process of its own: {reason}")
    return result


def _run_isolated(plugin: PluginUnderTest, use: bool) -> dict[str, Any]:
    result_file = plugin.folder / "result.json"
    modalities = plugin.modalities if isinstance(plugin, DatasetUnderTest) else {}
    request = {
        "plugin": _class_and_config(plugin.plugin_class, plugin.config),
        "modalities": {key: _class_and_config(type(m), m.config) for key, m in modalities.items()},
        "use": use,
        "result": str(result_file),
    }
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    try:
        process = subprocess.run(
            [sys.executable, "-P", isolated.__file__],
            input=json.dumps(request),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise CheckFailed(
            f"importing and using the plugin took more than {TIMEOUT_SECONDS} s: it may be blocked"
        ) from None
    require(
        result_file.is_file(),
        "a process that imports and uses the plugin ended with code "
        f"{process.returncode}: {process.stderr.strip()[-200:]}",
    )
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    result_file.unlink()
    imported = "seconds" in result
    require(imported, f"the plugin cannot be imported in a process of its own: {result['error']}")
    return result


def _class_and_config(plugin_class: type, config: BaseModel) -> dict[str, Any]:
    return {
        "module": plugin_class.__module__,
        "file": inspect.getfile(plugin_class),
        "name": plugin_class.__qualname__.partition(".<locals>")[0],
        "config": json.loads(config.model_dump_json()),
    }


def _written_bytes(plugin: ModalityUnderTest, modality: Modality, name: str) -> bytes:
    return modality.write(plugin.sample_items[0], plugin.folder / name).read_bytes()


def _random_states() -> dict[str, bytes]:
    return {
        "numpy": json.dumps(np.random.get_state(legacy=False), default=np.ndarray.tolist).encode(),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _is_plain(value: object) -> bool:
    """Whether an attribute is plain data or a tensor."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | Tensor | np.ndarray)


def _is_equal(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_is_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_is_equal, a, b))
    if isinstance(a, Tensor | np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b)
    return bool(a == b)
