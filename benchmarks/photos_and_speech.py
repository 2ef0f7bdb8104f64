"""A table of photos of 256 pixels, ten seconds of speech and captions, of which cells are missing.

    python benchmarks/photos_and_speech.py FOLDER photos-and-speech
    mld run benchmarks/photos-and-speech.yaml --set data.path=$PWD/photos-and-speech/manifest.csv

FOLDER holds the photos of the dataset `polymnist` and the recordings of `spoken-digits`. A row is a
random crop of one of the first eight photos; the number of the photo and another digit, said by
turns in ten seconds at 16 kHz; and a caption that names both numbers and the quarter of the photo
in which the crop lies. 15 % of the training cells are left empty. No row has a class.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float32
from numpy.random import Generator
from PIL import Image

from mld_datasets.fsdd import Recordings, read_recordings, recording_files
from mld_datasets.polymnist import photo_files

ROWS = 1200
PHOTOS = 8
SIZE = 256
MIN_CROP, MAX_CROP = 300, 600
"""Least and greatest side of a crop, in pixels of the photo."""
SAMPLE_RATE, SECONDS = 16_000, 10
PAUSE = (0.2, 0.6)
"""Shortest and longest pause between two words, in seconds."""
PEAK = 0.6
EMPTY_SHARE = 0.15
COLUMNS = ("photo", "sound", "caption")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = (*["train"] * 8, "validation", "test")
"""Splits of ten rows that follow each other."""


def crop(photo: Image.Image, right: int, lower: int, rng: Generator) -> Image.Image:
    """A random square of a quarter of a photo: its left or right half, upper or lower half."""
    width, height = photo.width // 2, photo.height // 2
    side = rng.integers(MIN_CROP, min(MAX_CROP, width, height) + 1)
    x, y = (int(rng.integers(length - side + 1)) for length in (width, height))
    x, y = x + right * width, y + lower * height
    return photo.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def speak(
    recordings: Recordings, digits: Sequence[int], rng: Generator
) -> Float32[np.ndarray, " sample"]:
    """The digits said by turns by random voices, until no further one ends in time."""
    sound, count = np.zeros(SAMPLE_RATE * SECONDS, np.float32), 0
    start = int(rng.uniform(*PAUSE) * SAMPLE_RATE)
    while True:
        digit = digits[count % len(digits)]
        word, rate = recordings.read(rng.choice(np.flatnonzero(recordings.labels == digit)))
        length = round(len(word) * SAMPLE_RATE / rate)
        if start + length > len(sound):
            return sound
        times = np.arange(length) * rate / SAMPLE_RATE
        sound[start : start + length] = PEAK * np.interp(times, np.arange(len(word)), word)
        start, count = start + length + int(rng.uniform(*PAUSE) * SAMPLE_RATE), count + 1


def write_table(source: Path, folder: Path, rows: int) -> None:
    """Write the photos, sounds and the manifest of the table into a folder."""
    rng = np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in photo_files(source, PHOTOS)]
    recordings = read_recordings(recording_files(source), None)
    for name in COLUMNS[:2]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "split"])
        for row in range(rows):
            number, digit = int(rng.integers(PHOTOS)), int(rng.integers(len(NUMBERS)))
            right, lower = rng.integers(2, size=2)
            photo, sound = f"photo/{row}.jpg", f"sound/{row}.flac"
            crop(photos[number], right, lower, rng).save(folder / photo, quality=92)
            soundfile.write(folder / sound, speak(recordings, (number, digit), rng), SAMPLE_RATE)
            place = f"{('upper', 'lower')[lower]} {('left', 'right')[right]}"
            caption = (
                f"photograph {NUMBERS[number]}, {place}, while voices say {NUMBERS[number]} and "
                f"{NUMBERS[digit]} by turns"
            )
            split, cells = SPLITS[row % len(SPLITS)], [photo, sound, caption]
            empty = rng.random(len(cells)) < EMPTY_SHARE
            if split == "train" and not empty.all():
                cells = np.where(empty, "", cells).tolist()
            writer.writerow([*cells, split])


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="with the photos and recordings")
    parser.add_argument("folder", type=Path, help="a new folder of the table")
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    write_table(arguments.source, arguments.folder, arguments.rows)


if __name__ == "__main__":
    main()
