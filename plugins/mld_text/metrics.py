"""Metrics of text: exact match, character error rate, and distinct-n."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Int64
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from mld_core import Metric
from mld_text.byte_tokens import to_text

Rows = Int64[Tensor, "_ position"]


def exact_match(items: Rows, originals: Rows) -> float:
    """Proportion of texts that equal their originals."""
    pairs = _decode_pairs(items, originals)
    return sum(text == original for text, original in pairs) / len(pairs)


def character_error_rate(items: Rows, originals: Rows) -> float:
    """Edit distance between texts and their originals, per character of the originals.

    An edit inserts, deletes or replaces one character (code point). Edits and characters are summed
    over all rows, so that empty originals count; if all are empty, it is the number of edits.
    """
    pairs = _decode_pairs(items, originals)
    edits = sum(Levenshtein.distance(text, original) for text, original in pairs)
    return edits / max(1, sum(len(original) for _, original in pairs))


def distinct_1(items: Rows, _: Tensor) -> float:
    """Number of distinct words over the number of words."""
    return _distinct_n(items, 1)


def distinct_2(items: Rows, _: Tensor) -> float:
    """Number of distinct word pairs (bigrams) over the number of word pairs."""
    return _distinct_n(items, 2)


def text_metrics() -> Mapping[str, Metric]:
    """The metrics of text, by name."""
    return {
        "exact_match": Metric(exact_match, "originals", "higher", best=1.0),
        "character_error_rate": Metric(character_error_rate, "originals", "lower", best=0.0),
        "distinct_1": Metric(distinct_1, "none", "higher"),
        "distinct_2": Metric(distinct_2, "none", "higher"),
    }


def _decode_pairs(items: Rows, originals: Rows) -> list[tuple[str, str]]:
    """Each text with its original; ValueError if there are none, or the numbers of rows differ."""
    if not len(items):
        raise ValueError("there are no texts to measure")
    rows = zip(items, originals, strict=True)
    return [(to_text(item), to_text(original)) for item, original in rows]


def _distinct_n(items: Rows, n: int) -> float:
    """Number of distinct n-grams over the number of n-grams; 0 if no text has n words.

    Words are separated by white space and case-sensitive; a text in a script without spaces is one
    word. The value falls as the set grows, so only sets of equal size are comparable.
    """
    if not len(items):
        raise ValueError("there are no texts to measure")
    texts = [to_text(item).split() for item in items]
    ngrams = [tuple(words[i : i + n]) for words in texts for i in range(len(words) - n + 1)]
    return len(set(ngrams)) / max(1, len(ngrams))
