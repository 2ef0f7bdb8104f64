"""A plugin imported and used in a process of its own, where it cannot reach the network.

Run as a script: it imports torch and mld_core, then the plugin, and says what that took and did.
What the plugin prints is told apart by phase, whoever writes it: Python, or a library below it.
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

from mld_core import Dataset, Modality, hookimpl

TURNS = [label % 10 for label in range(400)]
ROWS = 20
CALLS = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")


def use(modality: Modality, raw: list[Any], folder: Path) -> None:
    """Everything that a run does with a fitted modality, on a few items."""
    x = torch.stack([modality.preprocess(one) for one in raw])
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
        metric.measure(x, x[:0] if metric.against == "none" else x)
    path = modality.write(x[0], folder / "0")
    modality.preview(x[0], folder / "0")
    modality.read(modality.cell(x[0]) if modality.inline else path)


def use_modality(plugin_class: type[Modality], config: Any) -> None:
    """A modality from its examples on."""
    raw = plugin_class(config).examples(TURNS, "train", np.random.default_rng(0))
    modality = plugin_class(config, plugin_class.fit(config, iter(raw)))
    with TemporaryDirectory() as folder:
        use(modality, raw[:ROWS], Path(folder))


def use_dataset(
    plugin_class: type[Dataset], config: Any, modalities: Mapping[str, Modality]
) -> None:
    """A dataset, the first rows of each split."""
    dataset = plugin_class(config, modalities, 0)
    dataset.fingerprint()
    for name in ("train", "validation", "test"):
        split = dataset.split(name)
        for column in modalities:
            for row in range(min(ROWS, len(split.ids))):
                split.items[column][row]


def _named(told: Mapping[str, str]) -> Any:
    """A class by its module and name; the module's file where it cannot be imported by name."""
    try:
        module = importlib.import_module(told["module"])
    except ModuleNotFoundError as error:
        if error.name != told["module"].partition(".")[0]:
            raise
        found = importlib.util.spec_from_file_location(told["module"], told["file"])
        assert found is not None
        assert found.loader is not None
        module = sys.modules[told["module"]] = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
    return getattr(module, told["name"])


def _seconds() -> float:
    """The time; where the system tells it, without what was spent waiting for a busy processor."""
    try:
        waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0.0
    return time.perf_counter() - waited


@contextmanager
def _heard(told: list[str]) -> Iterator[None]:
    """Take what is written to stdout and stderr, by whomever, instead of letting it out."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with TemporaryDirectory() as folder, (Path(folder) / "said").open("w+b") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, own in enumerate(kept, 1):
                os.dup2(own, number)
                os.close(own)
            said.seek(0)
            told.append(said.read().decode(errors="replace").strip())


def _block_network(attempts: list[str]) -> None:
    """From here on whoever reaches for the network is noted, and refused."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CALLS:
            return
        first = arguments[0]
        if isinstance(first, socket.socket) and first.family == getattr(socket, "AF_UNIX", None):
            return
        target = arguments[-1] if isinstance(first, socket.socket) else first
        attempts.append(f"{event} {target!r}")
        raise OSError("the network cannot be reached from here")

    sys.addaudithook(watch)


def main() -> None:
    """Read from stdin what to import and use, and write to a file what came of it."""
    told = json.load(sys.stdin)
    result: dict[str, Any] = {"error": "", "used": False, "import_said": "", "use_said": ""}
    attempts: list[str] = []
    _block_network(attempts)
    assert hookimpl is not None  # All that a plugin imports of mld_core is loaded.
    said: list[str] = []
    try:
        with _heard(said):
            began = _seconds()
            plugin_class = _named(told["plugin"])
            result["seconds"] = _seconds() - began
        if told["use"]:
            with _heard(said):
                _use(plugin_class, told)
            result["used"] = True
    except (Exception, SystemExit) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    result.update(zip(("import_said", "use_said"), said, strict=False))
    Path(told["result"]).write_text(json.dumps({**result, "attempts": attempts}))


def _use(plugin_class: Any, told: Mapping[str, Any]) -> None:
    config = plugin_class.Config.model_validate(told["config"])
    if issubclass(plugin_class, Modality):
        use_modality(plugin_class, config)
        return
    modalities = {}
    for name, own in told["modalities"].items():
        modality = _named(own)
        modalities[name] = modality(modality.Config.model_validate(own["config"]))
    use_dataset(plugin_class, config, modalities)


if __name__ == "__main__":
    main()
