"""The modality `text`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from numpy.random import Generator
from torch import Tensor

from mld_core import Autoencoder, LimitError, Metric, Modality, SplitName
from mld_text.byte_tokens import to_text, to_tokens, truncate
from mld_text.config import MAX_BYTES, TextConfig
from mld_text.example_phrases import sample_phrases
from mld_text.metrics import character_error_rate, distinct_1, distinct_2, exact_match
from mld_text.networks import TextAutoencoder, TextClassifier
from mld_text.sequence_networks import SequenceTextAutoencoder


class Text(Modality):
    """Texts of up to 1,024 bytes in any language and script.

    `raw` is a str. Case, white space and Unicode normalisation are kept as they are. An item is an
    int64 tensor of shape (max_bytes + 1,): a byte plus one for each byte of UTF-8, then 0 to the
    end. The latent, of shape (latent_dim,), lies on the sphere of radius √latent_dim; or with
    `latent` it is a sequence of shape (max_bytes / latent.downsampling rounded up,
    latent.channels), each position on a sphere.
    """

    kind = "text"
    Config = TextConfig
    inline = True
    config: TextConfig

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(latent_dim,) of a vector, or (positions, channels) of a sequence."""
        latent = self.config.latent
        if latent is None:
            return super().latent_shape
        return (math.ceil(self.config.max_bytes / latent.downsampling), latent.channels)

    def read(self, source: Path | str) -> str:
        """A str itself, or the content of a path's UTF-8 file.

        A byte order mark is removed; a line break at the end is kept.
        """
        if isinstance(source, str):
            return source
        try:
            return source.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error

    def profile(self, raw: str) -> Mapping[str, int]:
        """Its length."""
        return {"bytes": len(raw.encode(errors="surrogatepass"))}

    def preprocess(self, raw: Any) -> Int64[Tensor, " position"]:
        """The byte tokens of a text."""
        if not isinstance(raw, str):
            raise ValueError(f"a text must be a str, not {type(raw).__name__}")
        try:
            length = len(raw.encode())
        except UnicodeEncodeError as error:
            character = ascii(raw[error.start])
            raise ValueError(f"character {error.start} is {character}, a lone surrogate") from error
        max_bytes = self.config.max_bytes
        if length > max_bytes and self.config.too_long == "error":
            raise LimitError(
                f"the text has {length} bytes, more than max_bytes = {max_bytes}: raise max_bytes "
                f"(up to {MAX_BYTES}), at the cost of every item, or set too_long: truncate",
                "max_bytes",
                length,
            )
        return to_tokens(truncate(raw, max_bytes), max_bytes)

    def autoencoder(self) -> Autoencoder:
        """A new convolutional autoencoder."""
        if self.config.latent is None:
            return TextAutoencoder(self.latent_dim, self.config.max_bytes)
        return SequenceTextAutoencoder(self.config.latent, self.config.max_bytes)

    def classifier(self, classes: int) -> TextClassifier:
        """A new convolutional classifier with 64 features."""
        return TextClassifier(classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Character error rate and exact match of pairs; distinct-n of any set."""
        return {
            "character_error_rate": Metric(character_error_rate, "truth", "lower", best=0.0),
            "exact_match": Metric(exact_match, "truth", "higher", best=1.0, bounds=(0.0, 1.0)),
            "distinct_1": Metric(distinct_1, "none", "higher"),
            "distinct_2": Metric(distinct_2, "none", "higher"),
        }

    def write(self, x: Int64[Tensor, " position"], stem: Path) -> Path:
        """Write the text as a UTF-8 file with the suffix .txt."""
        path = stem.with_name(f"{stem.name}.txt")
        path.write_bytes(self.cell(x).encode())
        return path

    def cell(self, x: Int64[Tensor, " position"]) -> str:
        """The text, with U+FFFD in place of invalid UTF-8 bytes."""
        return to_text(x)

    def examples(self, labels: Sequence[int], split: SplitName, rng: Generator) -> list[str]:
        """Phrases that contain the digit in words."""
        return sample_phrases(labels, split, rng)
