"""Ranges of samples that are drawn together."""

from __future__ import annotations

from collections.abc import Iterator


def growing_ranges(n: int, first: int, largest: int) -> Iterator[range]:
    """Consecutive ranges that cover range(n), each as long as all before, within the limits.

    They are the same for all n, as far as they reach: a sample, whose last bits depend on what is
    drawn with it, is the same however many there are.
    """
    start = 0
    while start < n:
        size = min(max(start, first), largest)
        yield range(start, start + size)
        start += size
