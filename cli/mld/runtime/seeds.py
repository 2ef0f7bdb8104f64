"""Seeds: every random draw of a run derives from the spec's seed and the name of its use."""

from __future__ import annotations

import hashlib


def derive(seed: int, *parts: str | int) -> int:
    """A 63-bit seed for one use, such as (seed, "diffuse", step, rank, "dropout").

    Uses that differ in any part, or in a part's type, get unrelated seeds.
    """
    name = repr((seed, *parts)).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8]) >> 1
