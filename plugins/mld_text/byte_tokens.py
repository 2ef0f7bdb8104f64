"""Text as symbols: one for each of its UTF-8 bytes, then the end symbol to the fixed length.

A symbol is a byte plus one; 0 is the end symbol. A tensor for texts of up to n bytes has n + 1
symbols, so that its last is always the end symbol.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

END = 0
SYMBOLS = 257


def to_symbols(text: str, max_bytes: int) -> Int64[Tensor, " position"]:
    """The symbols of a text of at most `max_bytes` bytes."""
    encoded = text.encode()
    symbols = torch.full((max_bytes + 1,), END)
    symbols[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.int64) + 1
    return symbols


def to_text(symbols: Int64[Tensor, " position"]) -> str:
    """The text before the first end symbol; always short enough for `to_symbols`.

    Bytes that are not valid UTF-8 become U+FFFD. That sign has three bytes: where it makes the
    text too long, the text is cut.
    """
    room = len(symbols) - 1
    values = symbols.tolist()[:room]
    length = values.index(END) if END in values else room
    text = bytes(value - 1 for value in values[:length]).decode(errors="replace")
    return cut(text, room)


def cut(text: str, max_bytes: int) -> str:
    """The longest beginning of a text that fits into `max_bytes` bytes of UTF-8."""
    return text.encode()[:max_bytes].decode(errors="ignore")


def up_to_end(symbols: Int64[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
    """True at each symbol up to and including the first end symbol, if there is one."""
    end = (symbols == END).long()
    return end.cumsum(1) == end
