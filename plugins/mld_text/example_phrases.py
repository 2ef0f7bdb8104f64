"""Short phrases that say a digit: a small labelled world of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

import numpy as np

from mld_core import SplitName

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_BEFORE = ("", "the number ", "it says ", "i see ", "my ", "just ")
_AFTER = ("", ".", "!", ", please", " again")
_CASES: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize)

# Ten residues: eight go to training, one each to the held-out splits.
_HELD_OUT: dict[int, SplitName] = {8: "validation", 9: "test"}


def phrases(labels: Sequence[int], split: SplitName, rng: np.random.Generator) -> list[str]:
    """One phrase per label 0..9, drawn uniformly from those of the split; at most 32 bytes."""
    pools = [phrasings(label, split) for label in labels]
    return [pool[rng.integers(len(pool))] for pool in pools]


@cache
def phrasings(label: int, split: SplitName) -> tuple[str, ...]:
    """Every phrase of a split that says this digit; no other split or digit has any of them.

    The splits share out the combinations of opening, ending and case as a Latin square does: a
    held-out phrase is new as a whole, but each of its parts, and each pair of them, is seen in
    training.
    """
    numbered = (enumerate(_BEFORE), enumerate(_AFTER), enumerate(_CASES))
    return tuple(
        case(f"{before}{WORDS[label]}{after}")
        for (i, before), (j, after), (k, case) in product(*numbered)
        if _HELD_OUT.get((label + i + 3 * j + 7 * k) % 10, "train") == split
    )
