"""The Free Spoken Digit Dataset in a folder of the user's: wav files, or one .npz with all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mld_core import DataError, Modality
from mld_datasets.download import Source, read_npz
from mld_datasets.labelled_images import demand_digits

SOURCE = Source(
    name="Free Spoken Digit Dataset",
    address="https://github.com/Jakobovski/free-spoken-digit-dataset",
    layout="recordings/ with the files {digit}_{speaker}_{take}.wav, or fsdd.npz with the arrays "
    "audio, offsets, label, index, filename and sample_rate; in the folder or in its subfolder "
    "fsdd or free-spoken-digit-dataset",
)
_HOMES = ("", "fsdd", "free-spoken-digit-dataset")
_FILE_NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)\.wav")
_FULL_SCALE = 2**15
_KEYS = ("audio", "offsets", "label", "index", "filename", "sample_rate")


@dataclass(frozen=True)
class Recordings:
    """Recordings of digits, each a waveform within [−1, 1] and its sample rate.

    Args:
        names: one per recording.
        labels: the digit of each.
        takes: the number of each among those of its digit and speaker.
        sounds: each read when indexed, scaled so that its loudest sample is at full scale.
    """

    names: Sequence[str]
    labels: Int[np.ndarray, " recording"]
    takes: Int[np.ndarray, " recording"]
    sounds: Sequence[Any]


def recording_files(folder: Path) -> list[Path]:
    """The wav files, or the one .npz, in the first place of a folder that has some."""
    for home in (folder / name for name in _HOMES):
        files = sorted((home / "recordings").glob("*.wav"))
        if not files and (home / "fsdd.npz").is_file():
            files = [home / "fsdd.npz"]
        if files:
            return files
    raise SOURCE.missing(folder)


def read_recordings(files: Sequence[Path], modality: Modality | None) -> Recordings:
    """The recordings in such files; the modality reads wav files when they are indexed."""
    return _from_arrays(files[0]) if files[0].suffix == ".npz" else _from_files(files, modality)


def _from_files(paths: Sequence[Path], modality: Modality | None) -> Recordings:
    told = [_FILE_NAME.fullmatch(path.name) for path in paths]
    for path, match in zip(paths, told, strict=True):
        if match is None:
            raise DataError(f"{path}: expected a name like 7_jackson_32.wav: digit, speaker, take")
    return Recordings(
        names=[path.stem for path in paths],
        labels=np.array([int(match[1]) for match in told if match]),
        takes=np.array([int(match[3]) for match in told if match]),
        sounds=_Files(paths, modality),
    )


def _from_arrays(path: Path) -> Recordings:
    arrays = read_npz(path, _KEYS)
    audio, offsets = arrays["audio"], arrays["offsets"].astype(int)
    count = len(arrays["label"])
    fits = (
        audio.dtype == np.int16
        and audio.ndim == 1
        and offsets.shape == (count + 1,)
        and (np.diff(offsets) > 0).all()
        and [offsets[0], offsets[-1]] == [0, len(audio)]
        and all(arrays[key].shape == (count,) for key in ("label", "index", "filename"))
    )
    if not fits:
        raise DataError(
            f"{path}: its arrays do not fit together: audio is int16, recording i is "
            "audio[offsets[i]:offsets[i + 1]], and label, index and filename have one entry for it"
        )
    demand_digits(path, arrays["label"])
    return Recordings(
        names=[Path(name).stem for name in arrays["filename"].tolist()],
        labels=arrays["label"].astype(int),
        takes=arrays["index"].astype(int),
        sounds=_Slices(audio, offsets, int(arrays["sample_rate"])),
    )


@dataclass(frozen=True)
class _Files(Sequence[Any]):
    paths: Sequence[Path]
    modality: Modality | None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        path = self.paths[index]
        assert self.modality is not None, "only a spec's column is read"
        try:
            waveform, sample_rate = self.modality.read(path)
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return _at_full_scale(waveform), sample_rate


@dataclass(frozen=True)
class _Slices(Sequence[Any]):
    audio: Int[np.ndarray, " sample"]
    offsets: Int[np.ndarray, " boundary"]
    sample_rate: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        samples = self.audio[self.offsets[index] : self.offsets[index + 1]]
        return _at_full_scale(samples.astype(np.float32) / _FULL_SCALE), self.sample_rate


def _at_full_scale(waveform: Any) -> Any:
    """The waveform at full scale, since some speakers are 13 times as loud as others."""
    peak = np.abs(waveform).max(initial=0)
    if not peak:
        raise ValueError("the recording is silent")
    return waveform / peak
