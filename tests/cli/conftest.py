from __future__ import annotations

import os
import shutil
import signal
import struct
import sys
import wave
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from submitit import SlurmJob
from typer.testing import CliRunner, Result

from mld.app import app
from mld.config.spec import load_spec
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry

PLUGINS = Path(__file__).parent / "plugins"
KINDS = {"digit": "image", "tone": "audio", "word": "text", "molecule": "molecule"}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SEGMENTS = [
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
]
SUBSETS = [[*given] for size in range(4) for given in combinations(KINDS, size)]


@pytest.fixture(scope="session")
def small_run() -> Iterator[Any]:
    """The module `small_run`, with the fixture plugins importable."""
    sys.path.insert(0, str(PLUGINS))
    import small_run

    yield small_run
    sys.path.remove(str(PLUGINS))


@pytest.fixture(scope="session")
def registry(small_run: Any) -> Registry:
    """The small modalities, of which a folder of tests may have others."""
    return small_run.registry()


@pytest.fixture
def mld(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs the command line in an empty folder, with the small modalities installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mld_core.plugins.registry.Registry", lambda **_: registry)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def finished_run(small_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished small run, beside its weight store; not to be changed.

    Test processes train it once between them, and have a copy each.
    """
    base = tmp_path_factory.getbasetemp()
    trained = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with FileLock(trained.with_suffix(".lock")):
        if not trained.exists():
            folder = tmp_path_factory.mktemp("training")
            (folder / "small.yaml").write_text(small_run.SPEC)
            registry = small_run.registry()
            spec = load_spec(folder / "small.yaml", registry)
            run(spec, RunDir(folder / "small"), registry, store=WeightStore(folder / "store"))
            folder.rename(trained)
    return Path(shutil.copytree(trained, base / "finished")) / "small"


@pytest.fixture
def slurm_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of jobs of a stand-in for Slurm, whose commands are on the PATH."""
    folder = tmp_path / "cluster"
    (folder / "bin").mkdir(parents=True)
    script = folder / "slurm.py"
    shutil.copy(Path(__file__).parents[1] / "support" / "slurm_stand_in.py", script)
    for name in ("sbatch", "srun", "sacct", "scancel", "scontrol"):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {script} {name} "$@"\n')
        command.chmod(0o755)
    SlurmJob.watcher.clear()  # of jobs with the same numbers in other tests
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield folder / "jobs"
    for job in folder.glob("jobs/*"):
        (job / "state").write_text("CANCELLED")
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int((job / "group").read_text()), signal.SIGKILL)
    (folder / "full").unlink(missing_ok=True)  # those in the queue end by themselves


class Page(HTMLParser):
    """The tags of a page and their attributes; fails on tags that are closed out of order.

    Args:
        void: tags that are never closed.
    """

    def __init__(self, text: str, void: tuple[str, ...]) -> None:
        super().__init__()
        self.void = void
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="session")
def parse_page() -> Callable[..., Page]:
    return Page


def subset_key(given: list[str]) -> str:
    return "+".join(given) or "joint"


def png(pixels: np.ndarray) -> bytes:
    """An 8-bit grey picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.clip(0, 255).astype(np.uint8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture(label: int, rng: np.random.Generator) -> bytes:
    """A digit of seven segments, 16 pixels wide."""
    ink = np.zeros((16, 16))
    bars = ((2, 3), (2, 8), (2, 8), (7, 8), (8, 14), (8, 14), (13, 14))
    spans = ((4, 12), (4, 5), (11, 12), (4, 12), (4, 5), (11, 12), (4, 12))
    for lit, (top, bottom), (left, right) in zip(SEGMENTS[label], bars, spans, strict=True):
        ink[top : bottom + 1, left : right + 1] += 230 * int(lit)
    return png(ink.clip(0, 230) * rng.uniform(0.75, 1, (16, 16)) + rng.uniform(0, 25, (16, 16)))


def spectrogram(label: int, rng: np.random.Generator) -> bytes:
    """The two lines of a keypad tone, wider than what is drawn pixel by pixel."""
    power = rng.uniform(10, 60, (48, 90))
    power[30 - 3 * (label // 3)] = power[14 - 3 * (label % 3)] = 235
    return png(power)


def sound(path: Path, label: int) -> None:
    t = np.arange(2400) / 8000
    tone = np.sin(2 * np.pi * (697 + 80 * (label // 3)) * t)
    tone += np.sin(2 * np.pi * (1209 + 130 * (label % 3)) * t)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((8000 * tone).astype("<i2").tobytes())


def drawing(label: int) -> str:
    points = " ".join(f"{12 + 14 * i},{40 if i % 2 else 60}" for i in range(label + 2))
    line = f'<polyline points="{points}" fill="none" stroke="black" stroke-width="2"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="170" height="100">{line}</svg>'


def write_cell(folder: Path, name: str, number: int, label: int, rng: Any) -> dict[str, Any]:
    """One modality's files of one sample, and its entry in the index."""
    stem = f"{name}/{number:04}"
    (folder / name).mkdir(parents=True, exist_ok=True)
    if name == "digit":
        (folder / f"{stem}.png").write_bytes(picture(label, rng))
        return {"file": f"{stem}.png", "previews": [], "cell": None}
    if name == "tone":
        sound(folder / f"{stem}.wav", label)
        (folder / f"{stem}.spectrogram.png").write_bytes(spectrogram(label, rng))
        return {"file": f"{stem}.wav", "previews": [f"{stem}.spectrogram.png"], "cell": None}
    if name == "word":
        (folder / f"{stem}.txt").write_text(WORDS[label])
        return {"file": f"{stem}.txt", "previews": [], "cell": WORDS[label]}
    (folder / f"{stem}.smi").write_text("C" * (label + 1))
    (folder / f"{stem}.svg").write_text(drawing(label))
    return {"file": f"{stem}.smi", "previews": [f"{stem}.svg"], "cell": "C" * (label + 1)}


def write_samples(run: RunDir, given: list[str], num_previews: int, labelled: bool) -> None:
    rng = np.random.default_rng(len(subset_key(given)))
    folder = run.samples(subset_key(given))
    rows = []
    for number in range(num_previews):
        label = int(rng.integers(10))
        cells = {}
        for name in KINDS:
            role = "given" if name in given else "generated"
            cells[name] = {"role": role, **write_cell(folder, name, number, label, rng)}
        test_row = f"test-{number:05}" if given else None
        rows.append(
            {
                "id": test_row,
                "label": label if labelled and given else None,
                "class": WORDS[label] if labelled and given else None,
                "cells": cells,
            }
        )
    run.write_json(folder / "index.json", {"given": given, "rows": rows})


def interval(value: float, n: int = 500) -> dict[str, Any]:
    half_width = 1.96 * (value * (1 - value) / n) ** 0.5
    return {"value": value, "low": value - half_width, "high": min(1.0, value + half_width), "n": n}


def metrics(labelled: bool) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    extractor = "classifier 9f3ac1d2" if labelled else "latents of 9f3ac1d2"
    accuracy = {"digit": 0.93, "tone": 0.84, "word": 0.97, "molecule": 0.62}
    wanted = [(given, name) for given in SUBSETS for name in KINDS if name not in given]
    metric = {
        "digit": ("psnr", 19.4, None, 9.3, "reconstructions", "higher", None, "dB"),
        "tone": ("log-spectral distance", 6.31, None, 14.2, "reconstructions", "lower", 0.0, "dB"),
        "word": ("exact_match", 0.991, None, 0.112, "reconstructions", "higher", 1.0, ""),
        "molecule": ("validity", 0.982, 1.0, None, "joint samples", "higher", 1.0, ""),
    }
    fields = ("value", "reference", "unrelated", "of", "better", "best", "unit")
    return {
        "schema_version": 1,
        "split": "test",
        "modalities": {
            name: {
                "kind": KINDS[name],
                "classifier_accuracy": interval(min(0.998, accuracy[name] + 0.03))
                if labelled
                else None,
                "reconstruction_accuracy": interval(accuracy[name] + 0.015) if labelled else None,
                "reconstruction_error": {"value": -41.7 + 30 * accuracy[name], "n": 500},
                "reconstruction_frechet": 18.0 * accuracy[name],
                "metrics": {metric[name][0]: dict(zip(fields, metric[name][1:], strict=True))},
            }
            for name in KINDS
        },
        "memorisation": {
            name: {
                **interval(accuracy[name] - 0.3),
                "sample_distance": 2.1,
                "held_out_distance": 2.3,
                "training_rows": 4000,
            }
            for name in KINDS
        },
        "joint_coherence": interval(0.871) if labelled else None,
        "joint_ceiling": interval(0.914) if labelled else None,
        "pairwise_agreement": [
            {"modalities": list(pair), **interval(rng.uniform(0.8, 0.97))}
            for pair in combinations(KINDS, 2)
            if labelled
        ],
        "conditional_coherence": [
            {
                "given": given,
                "target": name,
                **interval(accuracy[name] - 0.08 + 0.025 * len(given)),
            }
            for given, name in wanted
            if given and labelled
        ],
        "conditional_metrics": [
            {
                "given": given,
                "target": name,
                "metric": metric[name][0],
                **interval(accuracy[name] - 0.6 + 0.025 * len(given)),
                "better": metric[name][5],
                "best": metric[name][6],
                "unit": metric[name][7],
            }
            for given, name in wanted
            if given and metric[name][4] == "reconstructions"
        ],
        "frechet": [
            {
                "given": given,
                "target": name,
                "value": rng.uniform(22, 55) * accuracy[name],
                "n": 500,
                "extractor": extractor,
            }
            for given, name in wanted
        ],
        "nfe": {subset_key(given): 20 * (5 - len(given)) for given in SUBSETS},
        "seconds_per_sample": {subset_key(given): 0.0031 * (5 - len(given)) for given in SUBSETS},
        "warnings": ["molecule: 2 of 16 latent dimensions are dead (std below 1e-4)"],
    }


def write_events(run: RunDir) -> None:
    rng = np.random.default_rng(3)
    jobs = {f"autoencode/{name}": (2000, {}, -30.0) for name in KINDS}
    jobs["diffuse"] = (3000, KINDS, 0.2)
    jobs |= {f"classify/{name}": (1000, {}, 0.02) for name in KINDS}
    for job, (steps, parts, final_loss) in jobs.items():
        for step in range(50, steps + 1, 50):
            loss = final_loss + 1.9 * np.exp(-step / 150) + 60 * np.exp(-step / 20)
            loss += 0.04 * rng.standard_normal() * (abs(final_loss) ** 0.5)
            run.log(
                "train",
                job=job,
                step=step,
                steps=steps,
                loss=float(loss),
                parts={name: float(loss * rng.uniform(0.7, 1.3)) for name in parts},
                validation=float(loss * 1.04) if step % 200 == 0 else None,
                rate=21000.0,
            )


def write(path: Path, labelled: bool = True, num_previews: int = 2) -> RunDir:
    """A finished run directory of four modalities and all 15 conditioning subsets."""
    run = RunDir(path)
    spec = {
        "name": "digits",
        "seed": 0,
        "data": {"kind": "examples", "train": 4000, "validation": 500, "test": 500},
        "modalities": {name: {"kind": kind, "latent_dim": 16} for name, kind in KINDS.items()},
        "diffuse": {"method": "mld", "roles": "three-role", "steps": 3000, "batch_size": 512},
        "generate": {"sampler": "dpm-solver++", "steps": 20, "guidance": 1.0, "num_samples": 500},
    }
    run.write_spec(yaml.safe_dump(spec, sort_keys=False))
    provenance = {
        "mld": "0.1.0",
        "python": "3.11.7",
        "torch": "2.8.0",
        "plugins": dict.fromkeys(KINDS.values(), "mld-toolkit 0.1.0"),
        "platform": "Linux-6.1-x86_64",
        "processor": "x86_64",
        "precision": "32-true",
        "threads": 2,
        "device": "cpu",
        "started": "2025-03-04T10:12:31.004+00:00",
        "command": "mld run digits.yaml --out runs/digits",
        "seconds": {"data": 4.1, "autoencode": 151.0, "latents": 2.2, "diffuse": 143.9},
        "parameters": {**{f"autoencode/{name}": 81234 for name in KINDS}, "diffuse": 3145784},
        "rows": {"train": 4000, "validation": 500, "test": 500},
    }
    run.write_json(run.provenance, provenance)
    run.write_json(run.metrics, metrics(labelled))
    write_events(run)
    for given in SUBSETS:
        write_samples(run, given, num_previews, labelled)
    return run


@pytest.fixture(scope="session")
def write_run() -> Callable[..., RunDir]:
    """Writes a finished run folder: (path, labelled=True, num_previews=2) -> RunDir."""
    return write


def retrieval_score(value: float, reference: float) -> dict[str, Any]:
    """A score as of `retrieval` in metrics.json; at 10 it is nearer to 1."""
    of = {"value": value, "reference": reference}
    ranks = {
        name: {"at_1": interval(number), "at_10": interval((1 + number) / 2)}
        for name, number in of.items()
    }
    return {
        **ranks["value"],
        "chance": {"at_1": 0.01, "at_10": 0.1},
        "candidates": 100,
        "real": ranks["reference"],
        "reconstructions": ranks["reference"],
    }


@pytest.fixture(scope="session")
def add_retrieval() -> Callable[[RunDir, float], None]:
    """Adds retrieval to the metrics of a run: (run_dir, joint retrieval at 1)."""

    def add(run_dir: RunDir, value: float) -> None:
        scores = run_dir.read_json(run_dir.metrics)
        names = list(scores["modalities"])
        sizes = range(1, len(names))
        subsets = [[*given] for size in sizes for given in combinations(names, size)]
        scores["retrieval"] = {
            "candidates": 100,
            "joint": retrieval_score(value, 0.9),
            "pairs": [
                {"modalities": list(pair), **retrieval_score(value, 0.9)}
                for pair in combinations(names, 2)
            ],
            "conditional": [
                {"given": given, "target": name, **retrieval_score(value / 2, 0.8)}
                for given in subsets
                for name in names
                if name not in given
            ],
        }
        run_dir.write_json(run_dir.metrics, scores)

    return add
