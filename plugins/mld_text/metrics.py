"""How good texts are: exact match, character error rate, and distinct-n."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Int64
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from mld_core import Metric
from mld_text.byte_tokens import to_text

Texts = Int64[Tensor, "_ position"]


def exact_match(items: Texts, reference: Texts) -> float:
    """The share of texts that equal their originals."""
    pairs = _pairs(items, reference)
    return sum(text == original for text, original in pairs) / len(pairs)


def character_error_rate(items: Texts, reference: Texts) -> float:
    """Edits that turn each text into its original, per character of the originals.

    An edit inserts, deletes or replaces one character (code point). Taken over the whole set, so
    that empty originals count; where all are empty, the edits per set.
    """
    pairs = _pairs(items, reference)
    edits = sum(Levenshtein.distance(text, original) for text, original in pairs)
    return edits / max(1, sum(len(original) for _, original in pairs))


def distinct_1(items: Texts, reference: Tensor) -> float:
    """Different words, per word of the set."""
    return _distinct(items, 1)


def distinct_2(items: Texts, reference: Tensor) -> float:
    """Different pairs of neighbouring words, per pair of the set."""
    return _distinct(items, 2)


def metrics() -> Mapping[str, Metric]:
    """The metrics of text, by name."""
    return {
        "exact_match": Metric(exact_match, "originals", "higher", best=1.0),
        "character_error_rate": Metric(character_error_rate, "originals", "lower", best=0.0),
        "distinct_1": Metric(distinct_1, "none", "higher"),
        "distinct_2": Metric(distinct_2, "none", "higher"),
    }


def _pairs(items: Texts, reference: Texts) -> list[tuple[str, str]]:
    """Each text and its original. ValueError if there are none, or one lacks the other."""
    if not len(items):
        raise ValueError("no texts to measure")
    rows = zip(items, reference, strict=True)
    return [(to_text(item), to_text(original)) for item, original in rows]


def _distinct(items: Texts, n: int) -> float:
    """Different n-grams over all n-grams; 0 where no text has n words.

    Words are what white space separates, in the case they are written in; a run of a script
    without spaces counts as one word. The value falls as the set grows: compare equal numbers.
    """
    if not len(items):
        raise ValueError("no texts to measure")
    words = [to_text(item).split() for item in items]
    grams = [tuple(text[i : i + n]) for text in words for i in range(len(text) - n + 1)]
    return len(set(grams)) / max(1, len(grams))
