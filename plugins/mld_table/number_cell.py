"""Conversion between the text of a cell and numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d*")
_MINUS_SIGNS = "−–—"

SIGNIFICANT_DIGITS = 7
"""Digits of a written number: what float32 holds."""


def parse_numbers(text: str) -> list[float]:
    """The numbers of a cell, separated by white space or by semicolons.

    ValueError if a part is no finite number in the notation of Python, C and JSON.
    """
    if not text.strip():
        raise ValueError("is blank: leave the cell empty if the value is missing")
    parts = text.split(";") if ";" in text else text.split()
    return [_parse(part.strip()) for part in parts]


def format_numbers(values: Iterable[float], minimum: float | None, maximum: float | None) -> str:
    """The numbers in seven significant digits, separated by spaces; none leaves the bounds."""
    return " ".join(_format(value, minimum, maximum) for value in values)


def _parse(part: str) -> float:
    if not part:
        raise ValueError("a number between two semicolons is missing")
    if _NUMBER.fullmatch(part):
        return float(part)
    if _NOT_FINITE.fullmatch(part):
        raise ValueError(f"{part} is not a finite number: leave the cell empty if it is missing")
    if _DECIMAL_COMMA.fullmatch(part):
        point = part.replace(",", ".")
        raise ValueError(f"{part} has a comma: write a decimal point, as in {point}")
    if part[0] in _MINUS_SIGNS:
        raise ValueError(f"{part} begins with a dash: write the minus sign '-'")
    raise ValueError(f"{part} is not a number: leave the cell empty if it is missing")


def _format(value: float, minimum: float | None, maximum: float | None) -> str:
    if minimum is not None:
        value = max(value, minimum)
    if maximum is not None:
        value = min(value, maximum)
    text = f"{value:.{SIGNIFICANT_DIGITS}g}"
    rounded = float(text)
    is_below = minimum is not None and rounded < minimum
    is_above = maximum is not None and rounded > maximum
    return repr(value) if is_below or is_above else text
