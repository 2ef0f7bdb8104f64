"""Where every random number of a run comes from: the spec's seed and the name of its use."""

from __future__ import annotations

import hashlib


def derive(seed: int, *parts: str | int) -> int:
    """A seed of 63 bits for one use, such as (seed, "diffuse", update, rank, "dropout").

    Uses that differ in any part, or in a part's type, get unrelated seeds.
    """
    told = repr((seed, *parts)).encode()
    return int.from_bytes(hashlib.sha256(told).digest()[:8]) >> 1
