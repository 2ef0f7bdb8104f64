from __future__ import annotations

import numpy as np
import pytest
import soundfile

from mld.conformance import check_dataset
from mld_audio import Audio, AudioConfig
from mld_core import DataError
from mld_datasets.spoken_digits import WORDS, SpokenDigits, SpokenDigitsConfig
from mld_text.modality import Text, TextConfig

SPEECH = Audio(AudioConfig(latent_dim=8))
WORD = Text(TextConfig())
TAKES = range(13)


def make_dataset(folder, seed=0, modalities=None, **settings) -> SpokenDigits:
    modalities = {"speech": SPEECH} if modalities is None else modalities
    return SpokenDigits(SpokenDigitsConfig(folder=folder, **settings), modalities, seed)


def error_message(folder) -> str:
    with pytest.raises(DataError) as caught:
        make_dataset(folder).split("train")
    return str(caught.value).replace(str(folder), "FOLDER")


def tone(digit: int, take: int) -> np.ndarray:
    """A quarter of a second; the loudness depends on the take."""
    seconds = np.arange(2000) / 8000
    return (0.02 * (take + 1) * np.sin(6.28 * 100 * (digit + 2) * seconds)).astype(np.float32)


@pytest.fixture
def wavs(write_mnist):
    folder = write_mnist()
    (folder / "recordings").mkdir()
    for digit in range(10):
        for take in TAKES:
            path = folder / "recordings" / f"{digit}_ann_{take}.wav"
            soundfile.write(path, tone(digit, take), 8000, subtype="PCM_16")
    return folder


def arrays() -> dict[str, np.ndarray]:
    recordings = [(digit, take) for digit in range(10) for take in TAKES]
    sounds = [(tone(*recording) * 2**15).round().astype(np.int16) for recording in recordings]
    return {
        "audio": np.concatenate(sounds),
        "offsets": np.cumsum([0, *map(len, sounds)]),
        "label": np.array([digit for digit, _ in recordings], np.uint8),
        "index": np.array([take for _, take in recordings], np.uint8),
        "filename": np.array([f"{digit}_ann_{take}.wav" for digit, take in recordings]),
        "sample_rate": np.array(8000),
    }


@pytest.fixture
def npz(write_mnist):
    folder = write_mnist()
    (folder / "fsdd").mkdir()
    np.savez(folder / "fsdd" / "fsdd.npz", **arrays())
    return folder


@pytest.mark.parametrize("name", ["wavs", "npz"])
def test_all_columns_show_one_digit(name, request):
    dataset = make_dataset(request.getfixturevalue(name), pairings=4)
    takes = {"train": {5, 6, 7}, "validation": {8, 9, 10, 11, 12}, "test": {0, 1, 2, 3, 4}}
    for split, expected in takes.items():
        rows = dataset.split(split)
        spoken = [row_id.split()[2].split("_") for row_id in rows.ids]
        assert {int(take) for _, _, take in spoken} == expected
        assert [int(digit) for digit, _, _ in spoken] == rows.labels
        assert [np.asarray(image).flat[0] % 10 for image in rows.items["digit"]] == rows.labels
        assert [WORDS.index(word) for word in rows.items["word"]] == rows.labels
        assert len(rows.ids) == 10 * len(expected) * (4 if split == "train" else 1)


def test_wavs_and_npz_give_the_same_sounds(wavs):
    from_wavs = make_dataset(wavs).split("test")
    sounds = list(from_wavs.items["speech"])
    (wavs / "recordings").rename(wavs / "other")
    np.savez(wavs / "fsdd.npz", **arrays())
    from_npz = make_dataset(wavs).split("test")
    assert from_wavs.ids == from_npz.ids
    for (first, rate), (second, other_rate) in zip(sounds, from_npz.items["speech"], strict=True):
        assert rate == other_rate == 8000
        assert np.allclose(first, second, atol=1e-2)
        assert [np.abs(first).max(), np.abs(second).max()] == [1, 1]


def test_varied_words(wavs):
    modalities = {"word": WORD}
    plain = make_dataset(wavs, modalities=modalities).split("train").items["word"]
    varied = make_dataset(wavs, modalities=modalities, words="varied").split("train")
    assert set(plain) == set(WORDS)
    assert len(set(varied.items["word"])) > 20
    labelled_words = zip(varied.labels, varied.items["word"], strict=True)
    assert all(WORDS[label] in word.lower() for label, word in labelled_words)


def test_missing_recordings(write_mnist):
    message = error_message(write_mnist())
    assert message.startswith("FOLDER: contains no Free Spoken Digit Dataset; expected recordings/")
    assert "Dataset from https://github.com/Jakobovski/free-spoken-digit-dataset" in message


def test_invalid_file_name(wavs):
    (wavs / "recordings" / "seven.wav").write_bytes(b"")
    assert error_message(wavs).startswith(
        "FOLDER/recordings/seven.wav: expected a name like 7_jackson"
    )


def test_too_few_takes(wavs):
    for path in (wavs / "recordings").glob("*_ann_?.wav"):
        path.unlink()
    assert "no recording for train: takes 0 to 4 are for test" in error_message(wavs)


@pytest.mark.parametrize(
    ("size", "expected"), [(1000, "WAV file is truncated"), (0, "not a readable sound")]
)
def test_truncated_recording_is_named(wavs, size, expected):
    path = wavs / "recordings" / "3_ann_6.wav"
    path.write_bytes(path.read_bytes()[:size])
    split = make_dataset(wavs).split("train")
    row = next(row for row, row_id in enumerate(split.ids) if "3_ann_6" in row_id)
    with pytest.raises(ValueError, match=f"3_ann_6.wav: .*{expected}"):
        split.items["speech"][row]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"audio": np.zeros(260000)}, "its arrays are inconsistent"),
        ({"offsets": np.arange(131)}, "its arrays are inconsistent"),
        ({"label": np.zeros(3, int)}, "its arrays are inconsistent"),
        (
            {"label": arrays()["label"] + 1},
            f"entry {9 * len(TAKES)} has label 10; labels must be 0 to 9",
        ),
    ],
)
def test_invalid_arrays(npz, changes, expected):
    np.savez(npz / "fsdd" / "fsdd.npz", **{**arrays(), **changes})
    assert error_message(npz).startswith(f"FOLDER/fsdd/fsdd.npz: {expected}")


def test_silent_recording(npz):
    silent = np.zeros_like(arrays()["audio"])
    np.savez(npz / "fsdd" / "fsdd.npz", **{**arrays(), "audio": silent})
    with pytest.raises(ValueError, match="the recording is silent"):
        make_dataset(npz).split("train").items["speech"][0]


def test_fingerprint_depends_on_file_contents(wavs):
    before = make_dataset(wavs).fingerprint()
    (wavs / "recordings" / "3_ann_6.wav").unlink()
    assert make_dataset(wavs).fingerprint() != before


@pytest.mark.filterwarnings("ignore:the image is almost black")
@pytest.mark.usefixtures("warm_checks")
def test_contract(wavs):
    records = check_dataset("spoken-digits", {"folder": wavs, "speech": {"seconds": 0.3}})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    splits = {name: make_dataset(real_data).split(name) for name in ("train", "validation", "test")}
    rows = {name: len(split.ids) for name, split in splits.items()}
    assert rows == {"train": 24000, "validation": 300, "test": 300}
    assert np.abs(splits["test"].items["speech"][0][0]).max() == 1
