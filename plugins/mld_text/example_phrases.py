"""Example data of the modality `text`: short phrases that contain a digit in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

import numpy as np

from mld_core import SplitName

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_PREFIXES = ("", "the number ", "it says ", "i see ", "my ", "just ")
_SUFFIXES = ("", ".", "!", ", please", " again")
_CASES: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize)

# Each phrase has a number modulo 10: 8 is validation, 9 is test, all others are training data.
_HELD_OUT: dict[int, SplitName] = {8: "validation", 9: "test"}


def sample_phrases(labels: Sequence[int], split: SplitName, rng: np.random.Generator) -> list[str]:
    """One phrase per label 0..9, drawn uniformly from those of the split; at most 32 bytes."""
    pools = [phrases_of(label, split) for label in labels]
    return [pool[rng.integers(len(pool))] for pool in pools]


@cache
def phrases_of(label: int, split: SplitName) -> tuple[str, ...]:
    """Every phrase of a digit in a split; no other split or digit contains any of them.

    Combinations of prefix, suffix and case are assigned to splits as in a Latin square: a held-out
    phrase is new, but each of its parts, and each pair of parts, occurs in training.
    """
    combinations = product(enumerate(_PREFIXES), enumerate(_SUFFIXES), enumerate(_CASES))
    return tuple(
        case(f"{prefix}{WORDS[label]}{suffix}")
        for (i, prefix), (j, suffix), (k, case) in combinations
        if _HELD_OUT.get((label + i + 3 * j + 7 * k) % 10, "train") == split
    )
