"""Metrics of text: exact match, character error rate, and distinct-n."""

from __future__ import annotations

from jaxtyping import Int64
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from mld_text.byte_tokens import to_text

Rows = Int64[Tensor, "_ position"]


def exact_match(items: Rows, originals: Rows) -> float:
    """Proportion of texts that equal their originals."""
    pairs = [*zip(_decode(items), _decode(originals), strict=True)]
    return sum(text == original for text, original in pairs) / len(pairs)


def character_error_rate(items: Rows, originals: Rows) -> float:
    """Edit distance between texts and their originals, per character of the originals.

    An edit inserts, deletes or replaces one character (code point). Edits and characters are summed
    over all rows, so that empty originals count; if all are empty, it is the number of edits.
    """
    pairs = [*zip(_decode(items), _decode(originals), strict=True)]
    edits = sum(Levenshtein.distance(text, original) for text, original in pairs)
    return edits / max(1, sum(len(original) for _, original in pairs))


def distinct_1(items: Rows, _: Tensor) -> float:
    """Number of distinct words over the number of words."""
    return _distinct_n(items, 1)


def distinct_2(items: Rows, _: Tensor) -> float:
    """Number of distinct word pairs (bigrams) over the number of word pairs."""
    return _distinct_n(items, 2)


def _decode(rows: Rows) -> list[str]:
    if not len(rows):
        raise ValueError("there are no texts to measure")
    return [to_text(row) for row in rows]


def _distinct_n(items: Rows, n: int) -> float:
    """Number of distinct n-grams over the number of n-grams; 0 if no text has n words.

    Words are separated by white space and case-sensitive; a text in a script without spaces is one
    word. The value falls as the set grows, so only sets of equal size are comparable.
    """
    texts = [text.split() for text in _decode(items)]
    ngrams = [tuple(words[i : i + n]) for words in texts for i in range(len(words) - n + 1)]
    return len(set(ngrams)) / max(1, len(ngrams))
