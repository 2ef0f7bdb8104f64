"""Imports and uses a plugin in a process of its own, with the network blocked.

Run as a script. It imports torch and mld_core, then the plugin, and reports how long that took,
what was printed during import and during use, and which network calls were attempted.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mld_core import Method, Metric, Modality, hookimpl

LABELS = [row % 10 for row in range(400)]
NUM_ROWS = 20
NETWORK_EVENTS = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
"""Python's audit events of a call that reaches for the network."""


DRAWS = 19
"""Draws of each row that metrics of draws are called with."""


def metric_arguments(metric: Metric, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a metric is called with for items that equal their reference."""
    items = x[:, None].repeat_interleave(DRAWS, 1) if metric.against == "draws" else x
    return items, x[:0] if metric.against == "none" else x


def call_every_method(modality: Modality, raw: list[Any], folder: Path) -> None:
    """Call everything that a run calls on a fitted modality, on a few items."""
    x = torch.stack([modality.preprocess(datum) for datum in raw])
    modality.augment(x, torch.Generator().manual_seed(0))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        autoencoder, classifier = modality.autoencoder().eval(), modality.classifier(10).eval()
    with torch.no_grad():
        z = autoencoder.encode(x)
        autoencoder.decode(z)
        autoencoder.loss(z, x)
        classifier.features(x)
        classifier(x)
    for metric in modality.metrics().values():
        metric.measure(*metric_arguments(metric, x))
    modality.plot(x[:, None].repeat_interleave(DRAWS, 1), x)
    path = modality.write(x[0], folder / "0")
    modality.preview(x[0], folder / "0")
    modality.read(modality.cell(x[0]) if modality.inline else path)


def use_modality(plugin_class: type[Modality], config: Any) -> None:
    """Fit a modality on its examples, and use it on the first of them."""
    raw = plugin_class(config).examples(LABELS, "train", np.random.default_rng(0))
    modality = plugin_class(config, plugin_class.fit(config, iter(raw)))
    with TemporaryDirectory() as folder:
        call_every_method(modality, raw[:NUM_ROWS], Path(folder))


def use_method(plugin_class: type[Method], config: Any) -> None:
    """Fit a method's model on a few rows, and sample from it."""
    # Not imported as a module of mld, which takes seconds.
    toys = {"module": "toy_modalities", "file": Path(__file__).with_name("toy_modalities.py")}
    modalities = _load_class({**toys, "name": "toy_modalities"})()
    items = _load_class({**toys, "name": "toy_items"})(modalities, NUM_ROWS, "train")
    autoencoders = {name: modality.autoencoder() for name, modality in modalities.items()}
    if plugin_class.on_latents:
        with torch.no_grad():
            items = {name: autoencoders[name].encode(x) for name, x in items.items()}
        autoencoders = {}
    model = plugin_class(config, modalities).model(autoencoders)
    present = torch.ones(NUM_ROWS, len(items), dtype=torch.bool)
    with torch.no_grad():
        model.fit(items, present)
        model.eval().sample({}, list(items), NUM_ROWS)
    model.train().loss(items, present)


def main() -> None:
    """Read a request from stdin, and write the result to the file that it names."""
    request = json.load(sys.stdin)
    result: dict[str, Any] = {"error": "", "used": False, "import_output": "", "use_output": ""}
    attempts: list[str] = []
    _block_network(attempts)
    assert hookimpl is not None  # All that a plugin imports of mld_core is loaded.
    outputs: list[str] = []
    try:
        with _capture_output(outputs):
            start = _seconds()
            plugin_class = _load_class(request["plugin"])
            result["seconds"] = _seconds() - start
        if request["use"]:
            with _capture_output(outputs):
                _use_plugin(plugin_class, request)
            result["used"] = True
    except (Exception, SystemExit) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    result.update(zip(("import_output", "use_output"), outputs, strict=False))
    text = json.dumps({**result, "attempts": attempts})
    Path(request["result"]).write_text(text, encoding="utf-8")


def _block_network(attempts: list[str]) -> None:
    """From now on, record every network call and make it fail."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in NETWORK_EVENTS:
            return
        first = arguments[0]
        if isinstance(first, socket.socket) and first.family == getattr(socket, "AF_UNIX", None):
            return
        target = arguments[-1] if isinstance(first, socket.socket) else first
        attempts.append(f"{event} {target!r}")
        raise OSError("the conformance kit blocks the network")

    sys.addaudithook(hook)


@contextmanager
def _capture_output(outputs: list[str]) -> Iterator[None]:
    """Append what is written to stdout and stderr, also below Python, to the list."""
    sys.stdout.flush()
    sys.stderr.flush()
    originals = os.dup(1), os.dup(2)
    with TemporaryDirectory() as folder, (Path(folder) / "output").open("w+b") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(originals, 1):
                os.dup2(original, descriptor)
                os.close(original)
            file.seek(0)
            outputs.append(file.read().decode(errors="replace").strip())


def _seconds() -> float:
    """A clock that, on Linux, stands still while the thread waits for a busy processor."""
    try:
        waited = int(Path("/proc/thread-self/schedstat").read_text("utf-8").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0.0
    return time.perf_counter() - waited


def _load_class(location: Mapping[str, Any]) -> Any:
    """Import a class by module and name; from its file if the module is not on the path."""
    try:
        module = importlib.import_module(location["module"])
    except ModuleNotFoundError as error:
        if error.name != location["module"].partition(".")[0]:
            raise
        spec = importlib.util.spec_from_file_location(location["module"], location["file"])
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[location["module"]] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return getattr(module, location["name"])


def _use_plugin(plugin_class: Any, request: Mapping[str, Any]) -> None:
    """Use a modality or a method, or read the first rows of each split of a dataset."""
    config = plugin_class.Config.model_validate(request["plugin"]["config"])
    if issubclass(plugin_class, Modality):
        use_modality(plugin_class, config)
        return
    if issubclass(plugin_class, Method):
        use_method(plugin_class, config)
        return
    modalities = {}
    for name, location in request["modalities"].items():
        modality_class = _load_class(location)
        modalities[name] = modality_class(modality_class.Config.model_validate(location["config"]))
    dataset = plugin_class(config, modalities, 0)
    dataset.fingerprint()
    for split_name in ("train", "validation", "test"):
        split = dataset.split(split_name)
        for column in modalities:
            for row in range(min(NUM_ROWS, len(split.ids))):
                split.items[column][row]


if __name__ == "__main__":
    main()
