from __future__ import annotations

import math
from pathlib import Path

import mld_text.metrics
import numpy as np
import pytest
import torch
from mld_text import Text, TextConfig
from mld_text.phrases import WORDS, phrasings
from mld_text.symbols import END, SYMBOLS, to_symbols, to_text, up_to_end
from safetensors.torch import load_file, save_file
from torch.nn import functional

from mld_core import ModalityConfig, Registry

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


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_registry_finds_it():
    assert Registry().modality("text") is Text
    assert issubclass(TextConfig, ModalityConfig)


# Symbols.


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
    items = torch.randint(0, SYMBOLS, (200, 17))
    items[:100, 1:] = items[:100, 1:].clamp(min=1)
    for x in items:
        again = modality.preprocess(modality.read(modality.write(x, tmp_path / "a")))
        assert modality.cell(again) == modality.cell(x)


def test_up_to_end_holds_the_first_end_symbol_only():
    symbols = torch.tensor([[5, 0, 0, 0], [5, 6, 7, 8], [0, 4, 0, 4]])
    assert up_to_end(symbols).int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


# Reading and writing.


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


# The networks.


@pytest.mark.parametrize(("latent_dim", "max_bytes"), [(16, 32), (2, 1), (300, 100)])
def test_shapes(latent_dim: int, max_bytes: int):
    modality = text(latent_dim=latent_dim, max_bytes=max_bytes)
    x = batch_of("7", "", "8", max_bytes=max_bytes)
    autoencoder, classifier = modality.autoencoder(), modality.classifier(4)
    z = autoencoder.encode(x)
    assert z.shape == (3, latent_dim)
    decoded = autoencoder.decode(z)
    assert decoded.shape == x.shape
    assert decoded.dtype == x.dtype
    assert autoencoder.loss(z, x).shape == (3,)
    assert classifier(x).shape == (3, 4)
    assert classifier.features(x).shape == (3, 64)


def test_decoded_text_ends_once_and_for_all():
    autoencoder = text(latent_dim=4).autoencoder().eval()
    with torch.no_grad():
        autoencoder.logits[-1].bias[END] += 1
        decoded = autoencoder.decode(torch.randn(200, 4))
    lengths = up_to_end(decoded).sum(1)
    assert (decoded[:, -1] == END).all()
    assert lengths.unique().numel() > 3
    assert (decoded[~up_to_end(decoded)] == END).all()


def test_probabilities_of_all_texts_sum_to_one():
    autoencoder = text(latent_dim=4, max_bytes=1).autoencoder().eval()
    every = torch.stack([torch.arange(SYMBOLS), torch.zeros(SYMBOLS, dtype=torch.int64)], dim=1)
    z = torch.randn(1, 4).expand(SYMBOLS, 4)
    assert math.isclose(autoencoder.loss(z, every).neg().exp().sum().item(), 1, rel_tol=1e-4)


def test_loss_counts_every_symbol_up_to_the_end():
    autoencoder = text(latent_dim=4, max_bytes=8).autoencoder().eval()
    z = torch.randn(3, 4)
    with torch.no_grad():
        autoencoder.logits[-1].weight.zero_()
        nats = autoencoder.loss(z, batch_of("", "abc", "abcdefgh", max_bytes=8))
        bias = functional.log_softmax(autoencoder.logits[-1].bias, 0)
    letters = bias[[98, 99, 100, 101, 102, 103, 104, 105]]
    wanted = [bias[END], letters[:3].sum() + bias[END], letters.sum()]
    torch.testing.assert_close(nats, -torch.stack(wanted))


def test_loss_and_latent_reach_every_parameter():
    modality = text(latent_dim=4)
    x = batch_of("seven", "七", "x" * 32)
    autoencoder, classifier = modality.autoencoder(), modality.classifier(3)
    autoencoder.loss(autoencoder.encode(x), x).mean().backward()
    functional.cross_entropy(classifier(x), torch.arange(3)).backward()
    for network in (autoencoder, classifier):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_encoding_is_exact_in_eval_mode_and_blurred_in_training():
    autoencoder = text().autoencoder()
    x = batch_of("seven", "eight")
    assert not torch.equal(autoencoder.encode(x), autoencoder.encode(x))
    autoencoder.eval()
    z = autoencoder.encode(x)
    assert torch.equal(z, autoencoder.encode(x))
    torch.testing.assert_close(z.square().mean(1), torch.ones(2), rtol=1e-4, atol=0)


def test_only_the_direction_of_a_latent_counts():
    autoencoder = text().autoencoder().eval()
    z, x = torch.randn(5, 32), batch_of("a", "b", "c", "d", "e")
    assert torch.equal(autoencoder.decode(3 * z), autoencoder.decode(z))
    torch.testing.assert_close(autoencoder.loss(3 * z, x), autoencoder.loss(z, x))


def test_rows_do_not_depend_on_their_batch():
    modality = text()
    autoencoder, classifier = modality.autoencoder().eval(), modality.classifier(10).eval()
    x = batch_of("seven", "", "x" * 32, "七")
    z = autoencoder.encode(x)
    for row in range(4):
        torch.testing.assert_close(autoencoder.encode(x[row : row + 1])[0], z[row])
        torch.testing.assert_close(
            autoencoder.loss(z[row : row + 1], x[row : row + 1])[0], autoencoder.loss(z, x)[row]
        )
        torch.testing.assert_close(classifier(x[row : row + 1])[0], classifier(x)[row])


def test_works_under_bf16_autocast():
    modality = text()
    autoencoder, classifier = modality.autoencoder().eval(), modality.classifier(10).eval()
    x = batch_of("seven", "七")
    with torch.autocast("cpu", torch.bfloat16):
        z = autoencoder.encode(x)
        nats = autoencoder.loss(z, x)
        decoded, logits = autoencoder.decode(z), classifier(x)
    assert z.dtype == nats.dtype == torch.float32
    assert decoded.dtype == torch.int64
    torch.testing.assert_close(z, autoencoder.encode(x), rtol=0, atol=0.1)
    torch.testing.assert_close(logits.float(), classifier(x), rtol=0, atol=0.05)


def test_weights_travel_as_safetensors(tmp_path: Path):
    modality = text()
    x = batch_of("seven")
    for network, again in [
        (modality.autoencoder(), modality.autoencoder()),
        (modality.classifier(10), modality.classifier(10)),
    ]:
        save_file(network.state_dict(), tmp_path / "weights")
        again.load_state_dict(load_file(tmp_path / "weights"))
        answer = [getattr(each.eval(), "encode", each)(x) for each in (network, again)]
        torch.testing.assert_close(*answer, rtol=0, atol=0)


# Metrics.


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


# Examples.


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
        assert len({each for label, each in zip(labels, drawn, strict=True) if label == 7}) >= 8


@pytest.mark.parametrize(("split", "least"), [("train", 150), ("validation", 15), ("test", 15)])
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


# Learning.


def fitted(
    network: torch.nn.Module, loss, rows: int, updates: int, rate: float = 1e-3
) -> torch.nn.Module:
    """The network after updates of Adam with a cosine decay; loss takes the rows of a batch."""
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        optimiser.zero_grad()
        loss(torch.randint(0, rows, (min(rows, 128),))).mean().backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def test_learns_texts_of_any_language_by_heart():
    texts = ["seven", "", "七月七日", "🎲🎲", "e\u0301", "x" * 32]
    x = batch_of(*texts)
    autoencoder = text().autoencoder()
    fitted(autoencoder, lambda i: autoencoder.loss(autoencoder.encode(x[i]), x[i]), 6, 150, 3e-3)
    assert [to_text(each) for each in autoencoder.decode(autoencoder.encode(x))] == texts


@pytest.mark.slow
def test_reconstructs_held_out_phrases():
    modality, rng = text(), np.random.default_rng(0)
    labels = {split: rng.integers(0, 10, 4000 if split == "train" else 1000) for split in SPLITS}
    drawn = {split: modality.examples(labels[split], split, rng) for split in SPLITS}
    x, y = batch_of(*drawn["train"]), torch.from_numpy(labels["train"])
    autoencoder, classifier = modality.autoencoder(), modality.classifier(10)
    fitted(autoencoder, lambda i: autoencoder.loss(autoencoder.encode(x[i]), x[i]), 4000, 2000)
    fitted(classifier, lambda i: functional.cross_entropy(classifier(x[i]), y[i]), 4000, 1000)

    test, told = batch_of(*drawn["test"]), torch.from_numpy(labels["test"])
    with torch.no_grad():
        z = autoencoder.encode(test)
        shaken = z + 0.2 * z.std(0) * torch.randn_like(z)
        right = [
            (classifier(items).argmax(1) == told).float().mean().item()
            for items in (test, autoencoder.decode(z), autoencoder.decode(shaken))
        ]
    assert right[0] >= 0.99
    assert right[1] >= 0.98
    assert right[2] >= 0.95
    assert mld_text.metrics.exact_match(autoencoder.decode(z), test) >= 0.9
