from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mld_text.metrics
from mld_core import ModalityConfig, Registry
from mld_text import Text, TextConfig
from mld_text.byte_tokens import SYMBOLS, to_symbols, to_text, up_to_end
from mld_text.example_phrases import WORDS, phrasings

SPLITS = ("train", "validation", "test")
ALL_LANGUAGES = [
    pytest.param("seven", id="ascii"),
    pytest.param("", id="empty"),
    pytest.param(" \t\r\n", id="white space"),
    pytest.param("a\0b", id="nul"),
    pytest.param("七 ist sieben", id="chinese"),
    pytest.param("👩‍👩‍👧 7️⃣", id="emoji"),
    pytest.param("e\u0301 is not \u00e9", id="combining"),
    pytest.param("سبعة", id="right to left"),
    pytest.param("x" * 32, id="full"),
    pytest.param("\U0010ffff" * 8, id="full of the longest"),
]


def text(**config: object) -> Text:
    return Text(TextConfig.model_validate(config))


def batch_of(*texts: str, max_bytes: int = 32) -> torch.Tensor:
    return torch.stack([to_symbols(each, max_bytes) for each in texts])


def test_registry_finds_it():
    assert Registry().modality("text") is Text
    assert issubclass(TextConfig, ModalityConfig)


@pytest.mark.parametrize("raw", ALL_LANGUAGES)
def test_text_survives_symbols_file_and_cell(raw: str, tmp_path: Path):
    modality = text()
    x = modality.preprocess(raw)
    assert x.shape == (33,)
    assert x.dtype == torch.int64
    assert modality.read(modality.write(x, tmp_path / "0000")) == raw
    assert modality.read(modality.cell(x)) == raw


def test_symbols_are_bytes_plus_one_and_zeros():
    assert to_symbols("ab", 4).tolist() == [98, 99, 0, 0, 0]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\xff", "\ufffd"),
        (b"se\xe4\xb8", "se\ufffd"),
        (b"\x80seven", "\ufffdseven"),
        (b"\xff" * 8, "\ufffd\ufffd"),
    ],
)
def test_invalid_bytes_show_as_replacement_and_still_fit(raw: bytes, shown: str):
    symbols = torch.zeros(9, dtype=torch.int64)
    symbols[: len(raw)] = torch.tensor(list(raw)) + 1
    assert to_text(symbols) == shown


def test_what_a_decoder_may_write_can_be_read_again(tmp_path: Path):
    modality = text(max_bytes=16)
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(0, SYMBOLS, (200, 17), generator=generator)
    items[:100, 1:] = items[:100, 1:].clamp(min=1)
    for x in items:
        again = modality.preprocess(modality.read(modality.write(x, tmp_path / "a")))
        assert modality.cell(again) == modality.cell(x)


def test_up_to_end_holds_the_first_end_symbol_only():
    symbols = torch.tensor([[5, 0, 0, 0], [5, 6, 7, 8], [0, 4, 0, 4]])
    assert up_to_end(symbols).int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_too_long_names_the_setting_and_the_length():
    with pytest.raises(ValueError, match=r"needs max_bytes: 6 \(at most 1024\), and it is 5"):
        text(max_bytes=5).preprocess("七七")


@pytest.mark.parametrize(("room", "kept"), [(2, ""), (3, "七"), (5, "七"), (6, "七七")])
def test_cut_never_splits_a_character(room: int, kept: str):
    modality = text(max_bytes=room, too_long="cut")
    assert modality.cell(modality.preprocess("七七seven")) == kept


@pytest.mark.parametrize("setting", [{}, {"too_long": "cut"}])
@pytest.mark.parametrize(("raw", "told"), [("a\ud800", "lone surrogate"), (7, "not int")])
def test_what_is_no_text_is_refused(raw: object, told: str, setting: dict[str, str]):
    with pytest.raises(ValueError, match=told):
        text(**setting).preprocess(raw)


@pytest.mark.parametrize(
    "wrong", [{"latent_dim": 1}, {"max_bytes": 0}, {"max_bytes": 1025}, {"too_long": "crop"}]
)
def test_config_refuses(wrong: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TextConfig.model_validate(wrong)


def test_reads_files_as_they_are_without_byte_order_mark(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffseven\r\n".encode())
    assert text().read(path) == "seven\r\n"


def test_file_that_is_not_utf8_is_refused(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"sie\xdfben")
    with pytest.raises(ValueError, match=r"not UTF-8: .* at byte 3"):
        text().read(path)


def test_write_adds_the_suffix_to_the_whole_stem(tmp_path: Path):
    x = to_symbols("七", 32)
    path = text().write(x, tmp_path / "v1.5")
    assert path == tmp_path / "v1.5.txt"
    assert path.read_bytes() == "七".encode()


def measure(name: str, items: list[str], reference: list[str]) -> float:
    empty = torch.zeros(0, 33, dtype=torch.int64)
    return (
        text()
        .metrics()[name]
        .measure(batch_of(*items) if items else empty, batch_of(*reference) if reference else empty)
    )


@pytest.mark.parametrize(
    ("name", "items", "reference", "value"),
    [
        ("exact_match", ["seven", "SEVEN", "", "七"], ["seven", "seven", "", "七"], 3 / 4),
        ("character_error_rate", ["sevn", "七!", ""], ["seven", "八!", ""], 2 / 7),
        ("character_error_rate", [""], [""], 0),
        ("character_error_rate", ["ab"], ["ba"], 1),
        ("distinct_1", ["it is it", "is"], [], 2 / 4),
        ("distinct_2", ["it is it is", "it is"], [], 2 / 4),
        ("distinct_2", ["seven", ""], [], 0),
    ],
)
def test_metric_by_hand(name: str, items: list[str], reference: list[str], value: float):
    assert measure(name, items, reference) == pytest.approx(value)


@pytest.mark.parametrize("name", list(mld_text.metrics.metrics()))
def test_metric_refuses_what_it_cannot_measure(name: str):
    with pytest.raises(ValueError, match="no texts"):
        measure(name, [], [])
    if text().metrics()[name].against == "originals":
        with pytest.raises(ValueError, match="longer"):
            measure(name, ["a"], ["a", "b"])


def test_splits_and_labels_share_no_phrase():
    phrases = [each for split in SPLITS for label in range(10) for each in phrasings(label, split)]
    assert len(phrases) == len(set(phrases))
    assert max(len(each.encode()) for each in phrases) <= TextConfig().max_bytes


def test_examples_say_their_label():
    labels = list(range(10)) * 20
    for split in SPLITS:
        drawn = text().examples(labels, split, np.random.default_rng(0))
        assert all(WORDS[label] in each.lower() for label, each in zip(labels, drawn, strict=True))
        assert drawn == text().examples(labels, split, np.random.default_rng(0))
        assert drawn != text().examples(labels, split, np.random.default_rng(1))
        assert len({each for label, each in zip(labels, drawn, strict=True) if label == 7}) >= 5


@pytest.mark.parametrize(("split", "least"), [("train", 64), ("validation", 7), ("test", 7)])
def test_each_digit_has_many_phrases(split: str, least: int):
    assert all(len(phrasings(label, split)) >= least for label in range(10))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_parts_of_held_out_phrases_are_seen_in_training(split: str):
    for label, word in enumerate(WORDS):
        seen = {part for phrase in phrasings(label, "train") for part in _parts(phrase, word)}
        for phrase in phrasings(label, split):
            assert seen.issuperset(_parts(phrase, word))


def _parts(phrase: str, word: str) -> set[str]:
    """The opening with its word as it is written, and the word with its ending in small letters."""
    start = phrase.lower().index(word)
    return {phrase[: start + len(word)], f"{phrase[start:].lower()} at the end"}
