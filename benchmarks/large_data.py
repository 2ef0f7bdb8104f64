"""A run on more pictures than a computer should keep in memory: memory, speed, and resumption.

    python benchmarks/large_data.py [--rows 20000 40000] [--folder runs/large-data]

Makes pictures of 128 x 128 pixels in three colours, with captions, listed in a manifest, and runs
a few steps of every stage on each number of them. Memory is the private memory (RssAnon and
RssShmem) of all processes of the run together, at its peak; pages of mapped files do not count.
Speed is that of the autoencoder's loop with the items in the filled store, beside the same with
them in memory, one run after the other.
The run is then done again from nothing, killed (SIGKILL) while the item store is filled and while
the autoencoder trains, and resumed: `same bits` compares all its weights. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128
COLOURS = {"red": (220, 60, 50), "green": (60, 180, 80), "blue": (60, 90, 210)}
SHAPES = ("disc", "square")
SPEC = """\
name: large-data
data: {{kind: manifest, path: {rows}.csv}}
modalities:
  picture: {{kind: image, size: 128, channels: 3, latent_dim: 64}}
  caption: {{kind: text, latent_dim: 16, max_bytes: 24}}
autoencode: {{steps: 30, batch_size: 32}}
diffuse: {{network: {{kind: residual-mlp, width: 128, depth: 2}}, steps: 100, batch_size: 256}}
generate: {{steps: 10, num_samples: 64, num_previews: 4}}
evaluate: {{steps: 20, batch_size: 32}}
compute: {{items: {items}, threads: 2}}
"""
POLL_SECONDS = 0.1
MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """What a run took.

    Args:
        peak: bytes of private memory.
        rate: rows a second of the autoencoder's loop.
        weights: digests of its weights by file.
    """

    seconds: float
    peak: int
    rate: float
    weights: dict[str, str]


def make_pictures(folder: Path, count: int) -> None:
    """Write pictures of shapes before noise, and a manifest of the first `count` of them."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    with (folder / f"{count}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "caption", "label"])
        for row in range(count):
            rng = np.random.default_rng(row)
            colour, shape = list(COLOURS)[rng.integers(3)], SHAPES[rng.integers(2)]
            path = pictures / f"{row:06d}.jpg"
            if not path.exists():
                _draw(rng, COLOURS[colour], shape).save(path, quality=90)
            writer.writerow([f"pictures/{path.name}", f"a {colour} {shape} {row}", colour])


def _draw(rng: np.random.Generator, colour: tuple[int, int, int], shape: str) -> Image.Image:
    coarse = rng.integers(0, 120, (8, 8, 3), dtype=np.uint8)
    levels = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    y, x = np.mgrid[:SIZE, :SIZE] - rng.integers(40, 88, 2)[:, None, None]
    radius = rng.integers(16, 40)
    inside = x**2 + y**2 < radius**2 if shape == "disc" else np.maximum(abs(x), abs(y)) < radius
    return Image.fromarray(np.where(inside[..., None], np.uint8(colour), levels))


def measure(
    folder: Path, rows: int, items: str, name: str, kill_when: Callable[[], bool] | None = None
) -> Measured | None:
    """Run until the report is there; None if it was killed, as soon as `kill_when` was true."""
    spec = folder / f"{rows}-{items}.yaml"
    spec.write_text(SPEC.format(rows=rows, items=items))
    out, environment = folder / name, {**os.environ, "MLD_STORE": str(folder / f"{name}-store")}
    command = [str(Path(sys.executable).with_name("mld")), "run", str(spec), "--out", str(out)]
    start, peak = time.monotonic(), 0
    with (folder / f"{name}.log").open("a") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        while process.poll() is None:
            peak = max(peak, sum(_private_bytes(process.pid)))
            if kill_when and kill_when():
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return None
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(f"the run failed: see {log.name}")
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    rates = [
        each["rate"]
        for each in events
        if each.get("job") == "autoencode/picture" and "rate" in each
    ]
    weights = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for group in ("autoencoders", "diffusion", "classifiers")
        for path in sorted((out / group).rglob("*.safetensors"))
    }
    return Measured(time.monotonic() - start, peak, float(np.median(rates)), weights)


def _private_bytes(session: int) -> Iterator[int]:
    """RssAnon and RssShmem of each process of a session."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            fields = dict(
                line.split(":", 1) for line in (folder / "status").read_text().splitlines()
            )
        except OSError:  # it has ended
            continue
        yield sum(int(fields.get(name, "0").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def clear(folder: Path, name: str, keeps_items: bool = False) -> None:
    """Remove a run, and its store with or without the items."""
    shutil.rmtree(folder / name, ignore_errors=True)
    for path in (folder / f"{name}-store").glob("*"):
        if not (keeps_items and path.name == "items"):
            shutil.rmtree(path)


def resume_after_kills(folder: Path, rows: int) -> Measured:
    """A run from nothing that is killed while it reads, and while it trains."""
    name = "killed"
    clear(folder, name)

    def has_read_a_third() -> bool:
        files = (folder / f"{name}-store").rglob("items.bin")
        return sum(path.stat().st_size for path in files) > rows * SIZE * SIZE

    def has_trained() -> bool:
        events = folder / name / "events.jsonl"
        return events.exists() and '"step": 6,' in events.read_text()

    for kill_when in (has_read_a_third, has_trained):
        if measure(folder, rows, "disk", name, kill_when) is not None:
            raise SystemExit("the run ended before it was killed")
    resumed = measure(folder, rows, "disk", name)
    assert resumed is not None
    return resumed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[20_000, 40_000])
    parser.add_argument("--folder", type=Path, default=Path("runs/large-data"))
    arguments = parser.parse_args()
    folder = arguments.folder
    print("| rows | items | peak private MiB | autoencoder rows/s | seconds |")
    print("|---|---|---|---|---|")
    for index, rows in enumerate(arguments.rows):
        make_pictures(folder, rows)
        # In memory only once: it is the same loop for any number of rows.
        runs = [("disk", "disk", False)]
        if index == 0:
            runs += [("memory", "memory", False), ("filled store", "disk", True)]
        results = {}
        for title, items, keeps_items in runs:
            name = f"{rows}-{items}"
            clear(folder, name, keeps_items)
            measured = results[title] = measure(folder, rows, items, name)
            assert measured is not None
            print(
                f"| {rows:,} | {title} | {measured.peak / MIB:,.0f} | {measured.rate:.0f} "
                f"| {measured.seconds:.0f} |",
                flush=True,
            )
        if index == 0:
            ratio = results["filled store"].rate / results["memory"].rate
            resumed = resume_after_kills(folder, rows)
            weights = [each.weights for each in (*results.values(), resumed)]
            same = "the same" if all(each == weights[0] for each in weights) else "OTHER"
            print(f"\nspeed with the filled store: {ratio:.2f} of that in memory")
            print(
                f"killed while reading and while training, and resumed: {same} bits\n", flush=True
            )


if __name__ == "__main__":
    main()
