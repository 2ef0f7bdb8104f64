from __future__ import annotations

import numpy as np
import pytest
import soundfile

from mld.conformance import check_dataset
from mld_audio import Audio, AudioConfig
from mld_core import DataError
from mld_datasets.pairing import pair_with_resampling
from mld_datasets.spoken_digits import WORDS, SpokenDigits, SpokenDigitsConfig
from mld_text.modality import Text, TextConfig

SPEECH = Audio(AudioConfig(latent_dim=8))
WORD = Text(TextConfig())
TAKES = range(13)


def opened(folder, seed=0, modalities=None, **settings) -> SpokenDigits:
    own = {"speech": SPEECH} if modalities is None else modalities
    return SpokenDigits(SpokenDigitsConfig(folder=folder, **settings), own, seed)


def refusal(folder) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder).split("train")
    return str(caught.value).replace(str(folder), "FOLDER")


def tone(digit: int, take: int) -> np.ndarray:
    """A quarter of a second; its loudness tells the take."""
    seconds = np.arange(2000) / 8000
    return (0.02 * (take + 1) * np.sin(6.28 * 100 * (digit + 2) * seconds)).astype(np.float32)


@pytest.fixture
def files(write_mnist):
    folder = write_mnist()
    (folder / "recordings").mkdir()
    for digit in range(10):
        for take in TAKES:
            path = folder / "recordings" / f"{digit}_ann_{take}.wav"
            soundfile.write(path, tone(digit, take), 8000, subtype="PCM_16")
    return folder


def arrays() -> dict[str, np.ndarray]:
    told = [(digit, take) for digit in range(10) for take in TAKES]
    sounds = [(tone(*one) * 2**15).round().astype(np.int16) for one in told]
    return {
        "audio": np.concatenate(sounds),
        "offsets": np.cumsum([0, *map(len, sounds)]),
        "label": np.array([digit for digit, _ in told], np.uint8),
        "index": np.array([take for _, take in told], np.uint8),
        "filename": np.array([f"{digit}_ann_{take}.wav" for digit, take in told]),
        "sample_rate": np.array(8000),
    }


@pytest.fixture
def packed(write_mnist):
    folder = write_mnist()
    (folder / "fsdd").mkdir()
    np.savez(folder / "fsdd" / "fsdd.npz", **arrays())
    return folder


def test_each_datum_meets_new_partners():
    few, many = np.array([0, 1, 0, 2]), np.array([0, 1, 1, 0, 0, 0, 3])
    pairs = pair_with_resampling(few, many, 2, np.random.default_rng(0))
    assert (few[pairs[:, 0]] == many[pairs[:, 1]]).all()
    assert np.bincount(pairs[:, 0]).tolist() == [2, 2, 2]
    assert sorted(pairs[:, 1].tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["files", "packed"])
def test_rows_show_say_and_name_one_digit(name, request):
    dataset = opened(request.getfixturevalue(name), pairings=4)
    takes = {"train": {5, 6, 7}, "validation": {8, 9, 10, 11, 12}, "test": {0, 1, 2, 3, 4}}
    for split, wanted in takes.items():
        rows = dataset.split(split)
        spoken = [told.split()[2].split("_") for told in rows.ids]
        assert {int(take) for _, _, take in spoken} == wanted
        assert [int(digit) for digit, _, _ in spoken] == rows.labels
        assert [np.asarray(image).flat[0] % 10 for image in rows.items["digit"]] == rows.labels
        assert [WORDS.index(word) for word in rows.items["word"]] == rows.labels
        assert len(rows.ids) == 10 * len(wanted) * (4 if split == "train" else 1)


def test_files_and_arrays_sound_the_same_at_full_scale(files):
    one = opened(files).split("test")
    sounds = list(one.items["speech"])
    (files / "recordings").rename(files / "other")
    np.savez(files / "fsdd.npz", **arrays())
    two = opened(files).split("test")
    assert one.ids == two.ids
    for (first, rate), (second, again) in zip(sounds, two.items["speech"], strict=True):
        assert rate == again == 8000
        assert np.allclose(first, second, atol=1e-2)
        assert [np.abs(first).max(), np.abs(second).max()] == [1, 1]


def test_words_vary_only_where_asked_for(files):
    modalities = {"word": WORD}
    plain = opened(files, modalities=modalities).split("train").items["word"]
    varied = opened(files, modalities=modalities, words="varied").split("train")
    assert set(plain) == set(WORDS)
    assert len(set(varied.items["word"])) > 20
    told = zip(varied.labels, varied.items["word"], strict=True)
    assert all(WORDS[label] in word.lower() for label, word in told)


def test_missing_recordings_are_told(write_mnist):
    told = refusal(write_mnist())
    assert told.startswith("FOLDER: holds no Free Spoken Digit Dataset; expected is recordings/")
    assert "comes from https://github.com/Jakobovski/free-spoken-digit-dataset" in told


def test_a_name_that_tells_nothing_is_refused(files):
    (files / "recordings" / "seven.wav").write_bytes(b"")
    assert refusal(files).startswith("FOLDER/recordings/seven.wav: expected a name like 7_jackson")


def test_too_few_takes_are_told(files):
    for path in (files / "recordings").glob("*_ann_?.wav"):
        path.unlink()
    assert "no recording is for train" in refusal(files)


@pytest.mark.parametrize(("left", "told"), [(1000, "is cut short"), (0, "not a readable sound")])
def test_a_truncated_recording_is_named(files, left, told):
    path = files / "recordings" / "3_ann_6.wav"
    path.write_bytes(path.read_bytes()[:left])
    split = opened(files).split("train")
    row = next(row for row, own in enumerate(split.ids) if "3_ann_6" in own)
    with pytest.raises(ValueError, match=f"3_ann_6.wav: .*{told}"):
        split.items["speech"][row]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"audio": np.zeros(260000)}, "its arrays do not fit together"),
        ({"offsets": np.arange(131)}, "its arrays do not fit together"),
        ({"label": np.zeros(3, int)}, "its arrays do not fit together"),
        (
            {"label": arrays()["label"] + 1},
            f"entry {9 * len(TAKES)} has label 10, and labels are 0 to 9",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_told(packed, changed, told):
    np.savez(packed / "fsdd" / "fsdd.npz", **{**arrays(), **changed})
    assert refusal(packed).startswith(f"FOLDER/fsdd/fsdd.npz: {told}")


def test_silence_is_told(packed):
    silent = np.zeros_like(arrays()["audio"])
    np.savez(packed / "fsdd" / "fsdd.npz", **{**arrays(), "audio": silent})
    with pytest.raises(ValueError, match="the recording is silent"):
        opened(packed).split("train").items["speech"][0]


def test_the_fingerprint_follows_the_files(files):
    before = opened(files).fingerprint()
    (files / "recordings" / "3_ann_6.wav").unlink()
    assert opened(files).fingerprint() != before


def test_it_keeps_its_contract(files):
    records = check_dataset("spoken-digits", {"folder": files, "speech": {"seconds": 0.3}})
    assert {record.check: record.reason for record in records if record.failed} == {}


def test_real_data(real_data):
    splits = {name: opened(real_data).split(name) for name in ("train", "validation", "test")}
    rows = {name: len(split.ids) for name, split in splits.items()}
    assert rows == {"train": 24000, "validation": 300, "test": 300}
    assert np.abs(splits["test"].items["speech"][0][0]).max() == 1
