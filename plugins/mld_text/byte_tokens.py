"""Conversion between text and tokens: one per UTF-8 byte, then end tokens to the fixed length.

A token is a byte plus one, and 0 is the end token. Texts of up to n bytes have n + 1 tokens, so
that the last one is always an end token.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

END = 0
VOCABULARY_SIZE = 257


def to_tokens(text: str, max_bytes: int) -> Int64[Tensor, " position"]:
    """The tokens of a text of at most `max_bytes` bytes."""
    encoded = text.encode()
    tokens = torch.full((max_bytes + 1,), END)
    tokens[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.int64) + 1
    return tokens


def to_text(tokens: Int64[Tensor, " position"]) -> str:
    """The text before the first end token; always short enough for `to_tokens`.

    Invalid UTF-8 bytes become U+FFFD. That character has three bytes, so the text is truncated if
    it no longer fits.
    """
    max_bytes = len(tokens) - 1
    values = tokens.tolist()[:max_bytes]
    length = values.index(END) if END in values else max_bytes
    text = bytes(value - 1 for value in values[:length]).decode(errors="replace")
    return truncate(text, max_bytes)


def truncate(text: str, max_bytes: int) -> str:
    """The longest prefix of whole characters that fits into `max_bytes` bytes of UTF-8."""
    return text.encode()[:max_bytes].decode(errors="ignore")


def mask_up_to_end(tokens: Int64[Tensor, "batch position"]) -> Bool[Tensor, "batch position"]:
    """True at each token up to and including the first end token, if there is one."""
    is_end = (tokens == END).long()
    return is_end.cumsum(1) == is_end
