"""The modality `text`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor

from mld_core import Metric, Modality, ModalityConfig, SplitName
from mld_text.byte_tokens import cut, to_symbols, to_text
from mld_text.example_phrases import phrases
from mld_text.metrics import metrics
from mld_text.networks import TextAutoencoder, TextClassifier

MAX_BYTES = 1024


class TextConfig(ModalityConfig):
    """What a spec may say about text."""

    latent_dim: int = Field(32, ge=2, description="numbers in the latent of one text")
    max_bytes: int = Field(
        32, ge=1, le=MAX_BYTES, description="bytes of UTF-8 in the longest text that fits"
    )
    too_long: Literal["error", "cut"] = Field(
        "error", description="what to do with a longer text; cut keeps its beginning"
    )


class Text(Modality):
    """Short texts in any language or script; the raw datum is a str.

    Texts are read and written as UTF-8, character by character as they are: no case, white space
    or Unicode form is changed. The item x is int64, one symbol for each of `max_bytes` + 1
    positions: byte + 1, and 0 for the end, which also fills up the rest.
    """

    kind = "text"
    Config = TextConfig
    inline = True
    config: TextConfig

    def read(self, source: Path | str) -> str:
        """The text itself where it is given; of a path, what its UTF-8 file holds.

        A byte order mark is no part of the text; a line break at the end is.
        """
        if isinstance(source, str):
            return source
        try:
            return source.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error

    def preprocess(self, raw: Any) -> Int64[Tensor, " position"]:
        """The symbols of a text."""
        room = self.config.max_bytes
        text = _checked(raw)
        needed = len(text.encode())
        if needed > room and self.config.too_long == "error":
            raise ValueError(
                f"the text needs max_bytes: {needed} (at most {MAX_BYTES}), and it is {room}; "
                f"too_long: cut would keep its beginning"
            )
        return to_symbols(cut(text, room), room)

    def autoencoder(self) -> TextAutoencoder:
        """A fresh autoencoder."""
        return TextAutoencoder(self.config.latent_dim, self.config.max_bytes)

    def classifier(self, classes: int) -> TextClassifier:
        """A fresh classifier."""
        return TextClassifier(classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Exact match and character error rate of reconstructions; distinct-n of any set."""
        return metrics()

    def write(self, x: Int64[Tensor, " position"], stem: Path) -> Path:
        """Write the text as a UTF-8 file with the suffix .txt."""
        path = stem.with_name(f"{stem.name}.txt")
        path.write_bytes(self.cell(x).encode())
        return path

    def cell(self, x: Int64[Tensor, " position"]) -> str:
        """The text; bytes that are not valid UTF-8 show as U+FFFD."""
        return to_text(x)

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[str]:
        """Phrases that say the digit in words."""
        return phrases(labels, split, rng)


def _checked(raw: Any) -> str:
    """The raw datum if it is a text that UTF-8 can hold; ValueError otherwise."""
    if not isinstance(raw, str):
        raise ValueError(f"a text must be a str, not {type(raw).__name__}")
    try:
        raw.encode()
    except UnicodeEncodeError as error:
        character = ascii(raw[error.start])
        raise ValueError(f"character {error.start} is {character}, a lone surrogate") from error
    return raw
