from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mld_core import SPLITS, ModalityConfig, Registry
from mld_text import Text, TextConfig
from mld_text.byte_tokens import VOCABULARY_SIZE, mask_up_to_end, to_text, to_tokens
from mld_text.example_phrases import WORDS, phrases_of

TEXTS = [
    pytest.param("seven", id="ascii"),
    pytest.param("", id="empty"),
    pytest.param(" \t\r\n", id="white space"),
    pytest.param("a\0b", id="nul"),
    pytest.param("七 ist sieben", id="chinese"),
    pytest.param("👩‍👩‍👧 7️⃣", id="emoji"),
    pytest.param("e\u0301 is not \u00e9", id="combining"),
    pytest.param("سبعة", id="right to left"),
    pytest.param("x" * 32, id="full"),
    pytest.param("\U0010ffff" * 8, id="full of the widest"),
]


def text(**config: object) -> Text:
    return Text(TextConfig.model_validate(config))


def batch_of(*texts: str, max_bytes: int = 32) -> torch.Tensor:
    return torch.stack([to_tokens(text, max_bytes) for text in texts])


def test_registry_finds_text():
    assert Registry().modality("text") is Text
    assert issubclass(TextConfig, ModalityConfig)


@pytest.mark.parametrize("raw", TEXTS)
def test_tokens_file_and_cell_round_trip(raw: str, tmp_path: Path):
    modality = text()
    x = modality.preprocess(raw)
    assert x.shape == (33,)
    assert x.dtype == torch.int64
    assert modality.read(modality.write(x, tmp_path / "0000")) == raw
    assert modality.read(modality.cell(x)) == raw


def test_tokens_are_bytes_plus_one_then_zeros():
    assert to_tokens("ab", 4).tolist() == [98, 99, 0, 0, 0]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\xff", "\ufffd"),
        (b"se\xe4\xb8", "se\ufffd"),
        (b"\x80seven", "\ufffdseven"),
        (b"\xff" * 8, "\ufffd\ufffd"),
    ],
)
def test_invalid_bytes_become_replacement_characters_that_fit(raw: bytes, expected: str):
    tokens = torch.zeros(9, dtype=torch.int64)
    tokens[: len(raw)] = torch.tensor(list(raw)) + 1
    assert to_text(tokens) == expected


def test_random_tokens_can_be_written_and_read(tmp_path: Path):
    modality = text(max_bytes=16)
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(0, VOCABULARY_SIZE, (200, 17), generator=generator)
    items[:100, 1:] = items[:100, 1:].clamp(min=1)
    for x in items:
        reread = modality.preprocess(modality.read(modality.write(x, tmp_path / "a")))
        assert modality.cell(reread) == modality.cell(x)


def test_mask_includes_only_the_first_end_token():
    tokens = torch.tensor([[5, 0, 0, 0], [5, 6, 7, 8], [0, 4, 0, 4]])
    assert mask_up_to_end(tokens).int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_too_long_text():
    with pytest.raises(ValueError, match=r"6 bytes, more than max_bytes = 5: .* \(up to 1024\)"):
        text(max_bytes=5).preprocess("七七")


@pytest.mark.parametrize(("max_bytes", "prefix"), [(2, ""), (3, "七"), (5, "七"), (6, "七七")])
def test_truncate_never_splits_a_character(max_bytes: int, prefix: str):
    modality = text(max_bytes=max_bytes, too_long="truncate")
    assert modality.cell(modality.preprocess("七七seven")) == prefix


@pytest.mark.parametrize("setting", [{}, {"too_long": "truncate"}])
@pytest.mark.parametrize(("raw", "message"), [("a\ud800", "lone surrogate"), (7, "not int")])
def test_raw_that_is_not_a_text(raw: object, message: str, setting: dict[str, str]):
    with pytest.raises(ValueError, match=message):
        text(**setting).preprocess(raw)


@pytest.mark.parametrize(
    "settings", [{"latent_dim": 1}, {"max_bytes": 0}, {"max_bytes": 1025}, {"too_long": "cut"}]
)
def test_invalid_config(settings: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(settings))):
        TextConfig.model_validate(settings)


def test_removed_value_cut_names_truncate():
    with pytest.raises(ValueError, match="'error' or 'truncate'"):
        TextConfig.model_validate({"too_long": "cut"})


def test_read_removes_only_the_byte_order_mark(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffseven\r\n".encode())
    assert text().read(path) == "seven\r\n"


def test_file_that_is_not_utf8(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"sie\xdfben")
    with pytest.raises(ValueError, match=r"not UTF-8: .* at byte 3"):
        text().read(path)


def test_write_keeps_dots_in_the_stem(tmp_path: Path):
    x = to_tokens("七", 32)
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
def test_metric_values(name: str, items: list[str], reference: list[str], value: float):
    assert measure(name, items, reference) == pytest.approx(value)


@pytest.mark.parametrize("name", list(Text(TextConfig()).metrics()))
def test_metric_without_rows_or_originals(name: str):
    with pytest.raises(ValueError, match="no texts"):
        measure(name, [], [])
    if text().metrics()[name].is_paired:
        with pytest.raises(ValueError, match="longer"):
            measure(name, ["a"], ["a", "b"])


def test_phrases_differ_between_splits_and_labels():
    phrases = [
        phrase for split in SPLITS for label in range(10) for phrase in phrases_of(label, split)
    ]
    assert len(phrases) == len(set(phrases))
    assert max(len(phrase.encode()) for phrase in phrases) <= TextConfig().max_bytes


def test_examples_contain_their_label():
    labels = list(range(10)) * 20
    for split in SPLITS:
        phrases = text().examples(labels, split, np.random.default_rng(0))
        labelled = list(zip(labels, phrases, strict=True))
        assert all(WORDS[label] in phrase.lower() for label, phrase in labelled)
        assert phrases == text().examples(labels, split, np.random.default_rng(0))
        assert phrases != text().examples(labels, split, np.random.default_rng(1))
        assert len({phrase for label, phrase in labelled if label == 7}) >= 5


@pytest.mark.parametrize(("split", "minimum"), [("train", 64), ("validation", 7), ("test", 7)])
def test_each_digit_has_many_phrases(split: str, minimum: int):
    assert all(len(phrases_of(label, split)) >= minimum for label in range(10))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_parts_of_held_out_phrases_occur_in_training(split: str):
    for label, word in enumerate(WORDS):
        trained = {part for phrase in phrases_of(label, "train") for part in _parts(phrase, word)}
        for phrase in phrases_of(label, split):
            assert trained.issuperset(_parts(phrase, word))


def _parts(phrase: str, word: str) -> set[str]:
    """The prefix with its word as written, and the word with its suffix in lower case."""
    start = phrase.lower().index(word)
    return {phrase[: start + len(word)], f"{phrase[start:].lower()} at the end"}
