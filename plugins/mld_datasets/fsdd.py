"""The Free Spoken Digit Dataset in a folder of the user's: wav files, or one .npz of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mld_core import DataError, Modality
from mld_datasets.download import Source, read_npz
from mld_datasets.item_source import read_item
from mld_datasets.labelled_images import check_digit_labels

SOURCE = Source(
    name="Free Spoken Digit Dataset",
    address="https://github.com/Jakobovski/free-spoken-digit-dataset",
    layout="recordings/ with the files {digit}_{speaker}_{take}.wav, or fsdd.npz with the arrays "
    "audio, offsets, label, index, filename and sample_rate; in the folder or in its subfolder "
    "fsdd or free-spoken-digit-dataset",
)
_SUBFOLDERS = ("", "fsdd", "free-spoken-digit-dataset")
_FILE_NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)\.wav")
_INT16_FULL_SCALE = 2**15
_KEYS = ("audio", "offsets", "label", "index", "filename", "sample_rate")


@dataclass(frozen=True)
class Recordings:
    """Recordings of spoken digits.

    Args:
        names: one per recording.
        labels: the digit of each.
        takes: the number of each among those of its digit and speaker.
        read: waveform and sample rate of the recording with an index; the waveform is scaled to a
            peak of 1.
    """

    names: Sequence[str]
    labels: Int[np.ndarray, " recording"]
    takes: Int[np.ndarray, " recording"]
    read: Callable[[int], tuple[Any, int]]


def recording_files(folder: Path) -> list[Path]:
    """The wav files, or the one .npz, in the first location below a folder that has some."""
    for location in (folder / name for name in _SUBFOLDERS):
        wavs = sorted((location / "recordings").glob("*.wav"))
        if files := wavs or list(location.glob("fsdd.npz")):
            return files
    raise SOURCE.missing_error(folder)


def read_recordings(files: Sequence[Path], modality: Modality | None) -> Recordings:
    """The recordings in files; wav files are read by the modality, one by one."""
    return _from_npz(files[0]) if files[0].suffix == ".npz" else _from_wavs(files, modality)


def _from_wavs(paths: Sequence[Path], modality: Modality | None) -> Recordings:
    labels, takes = [], []
    for path in paths:
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path}: expected a name like 7_jackson_32.wav: digit, speaker, take")
        labels.append(int(match[1]))
        takes.append(int(match[3]))

    def read(index: int) -> tuple[Any, int]:
        assert modality is not None, "only columns of the spec are read"
        waveform, sample_rate = read_item(modality, paths[index])
        return _scale_to_peak(waveform), sample_rate

    return Recordings([path.stem for path in paths], np.array(labels), np.array(takes), read)


def _from_npz(path: Path) -> Recordings:
    arrays = read_npz(path, _KEYS)
    audio, offsets = arrays["audio"], arrays["offsets"].astype(int)
    count = len(arrays["label"])
    is_consistent = (
        audio.dtype == np.int16
        and audio.ndim == 1
        and offsets.shape == (count + 1,)
        and (np.diff(offsets) > 0).all()
        and [offsets[0], offsets[-1]] == [0, len(audio)]
        and all(arrays[key].shape == (count,) for key in ("label", "index", "filename"))
    )
    if not is_consistent:
        raise DataError(
            f"{path}: its arrays are inconsistent: expected int16 audio, recording i at "
            "audio[offsets[i]:offsets[i + 1]], and one entry per recording in label, index and "
            "filename"
        )
    check_digit_labels(path, arrays["label"])
    sample_rate = int(arrays["sample_rate"])

    def read(index: int) -> tuple[Any, int]:
        samples = audio[offsets[index] : offsets[index + 1]].astype(np.float32)
        return _scale_to_peak(samples / _INT16_FULL_SCALE), sample_rate

    names = [Path(name).stem for name in arrays["filename"].tolist()]
    return Recordings(names, arrays["label"].astype(int), arrays["index"].astype(int), read)


def _scale_to_peak(waveform: Any) -> Any:
    """The waveform with a peak of 1, because speakers differ 13-fold in loudness."""
    peak = np.abs(waveform).max(initial=0)
    if not peak:
        raise ValueError("the recording is silent")
    return waveform / peak
