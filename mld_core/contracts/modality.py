"""The contract of a modality: what a plugin supplies for one kind of data.

raw -- preprocess --> item x -- encode --> latent z -- decode --> item x -- write --> file

`raw` is a datum as stored (a picture, a string), `x` a tensor of fixed shape in *data space*, `z` a
latent: a vector, or a sequence or grid that is flattened. A plugin subclasses Modality and returns
the class from its hook `register_modalities`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt
from torch import Generator, Tensor, nn

from mld_core.diffusion.latent_layout import LatentShape

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
MediaType = Literal["picture", "sound", "text", "number", "file"]
"""How a page shows an item, and lets a user give a datum."""


class ModalityConfig(BaseModel):
    """Settings of a modality in a spec, in addition to its kind; plugins subclass it.

    Give every field a range, a `Field(description=...)` and, where sensible, a default: the spec's
    error messages and JSON Schema use them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    autoencoder_settings: ClassVar[frozenset[str]] = frozenset()
    """Fields that only the autoencoder depends on, and neither `augment` nor the classifier.

    Experiments that differ in nothing else share the networks that judge samples.
    """

    latent_dim: PositiveInt | None = Field(
        None, description="width of the latent of one item, where it is a vector"
    )

    def starter(self) -> ModalityConfig:
        """The settings of a first spec, in which only some are given; unchanged by default.

        Override it where one setting suggests another, such as a size the shape of a latent.
        """
        return self


class Autoencoder(nn.Module, ABC):
    """A deterministic autoencoder.

    Its latents are flat: a sequence or a grid is flattened in the order of `Modality.latent_shape`.
    One without trainable parameters counts as pretrained and is not trained.
    """

    @property
    def reference(self) -> Mapping[str, JsonValue] | None:
        """Where the weights of a pretrained autoencoder lie, and their digests, as JSON.

        With None, the default, a run stores the weights. Otherwise it stores the reference, which
        decides the weights, and builds the autoencoder again: another reference is then an error.
        """
        return None

    @abstractmethod
    def encode(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch latent"]:
        """Latent of each item; deterministic in eval mode."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "batch latent"]) -> Shaped[Tensor, " batch *item"]:
        """Item of each latent, in data space: the shape and dtype of `preprocess`."""

    @abstractmethod
    def loss(
        self, z: Float[Tensor, "batch latent"], x: Shaped[Tensor, " batch *item"]
    ) -> Float[Tensor, " batch"]:
        """−log p(x | z) per item, in nats up to a constant, differentiable in z.

        Training minimises the mean of `loss(encode(x), x)`.
        """


class Classifier(nn.Module, ABC):
    """Classifier of items, used for coherence.

    Its features are used for Frechet distances, and by the judge of pairs.
    """

    @abstractmethod
    def features(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch feature"]:
        """Penultimate representation of each item, of constant width."""

    @abstractmethod
    def forward(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch classes"]:
        """Logits of each item over the dataset's classes."""


@dataclass(frozen=True)
class Metric:
    """A quality metric of one modality.

    Args:
        measure: (items, reference), each "row *item", to a number. ValueError if `items` is empty,
            or if `reference` is empty unless `against` is "none".
        against: the reference. "originals": the items that `items` reconstruct, row by row.
            "truth": the same, and for samples that were given other modalities of a row, the item
            that this row has, row by row. "draws": `items` are several samples of each row, "row
            draw *item", at least two, and the reference is as for "truth": what is measured is
            their distribution. "test": items of the split that samples are evaluated against, with
            unrelated rows. "train": the training items. "none": an empty reference.
        better: whether higher or lower values are better, or those nearer to `best`.
        best: the value of items that equal the reference, if there is one; none is better. With
            "nearer", the value to be near to, such as the nominal coverage of an interval.
        unit: of the value ("dB"); "" for a plain ratio.
        bounds: no value is below the first or above the second; None where there is no bound.
    """

    measure: Callable[[Tensor, Tensor], float]
    against: Literal["originals", "truth", "draws", "test", "train", "none"]
    better: Literal["higher", "lower", "nearer"]
    best: float | None = None
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)

    @property
    def is_paired(self) -> bool:
        """Whether each item is compared with the reference's item of the same row."""
        return self.against in ("originals", "truth")


@dataclass(frozen=True)
class Summary:
    """What several draws of one item say about it.

    Args:
        best: "*item", the best point estimate, such as the median.
        values: figures by name, such as "std"; they become columns of a table of estimates.
    """

    best: Shaped[Tensor, "*item"]
    values: Mapping[str, float]


class Modality(ABC):
    """One kind of data: how it is read, encoded, decoded, evaluated and shown.

    The docstring of a subclass describes `raw`: what `read` returns, and what a Dataset must supply
    for this kind. All state is passed to the constructor and never changes.

    A method that cannot process an item (unreadable, too long, an unknown symbol) raises ValueError
    with the reason and the setting that would help; the caller adds row and file. One that can, but
    suspects that the item is not what was meant, warns with `warnings.warn`.

    Args:
        config: an instance of this class's `Config`.
        facts: the result of `fit`; empty before fitting. Only `fit`, `read`, `split_key`,
            `profile`, `examples` and `inline` may be used before fitting.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[ModalityConfig]]
    inline: ClassVar[bool] = False
    """True: a manifest's cell contains the datum itself (text); False: its path."""

    def __init__(
        self, config: ModalityConfig, facts: Mapping[str, JsonValue] | None = None
    ) -> None:
        self.config = config
        self.facts: Mapping[str, JsonValue] = dict(facts or {})

    @property
    def latent_shape(self) -> LatentShape:
        """Shape of the latent of one item; it depends only on config and facts.

        (D,) is a vector, by default of the config's width; (L, C) a sequence of L positions with C
        channels; (C, H, W) a grid of C channels, H rows and W columns. Channels are standardised as
        one, and networks that look at shapes see neighbouring positions together.
        """
        if self.config.latent_dim is None:
            raise ValueError(f"{self.kind}: neither latent_dim nor latent_shape is given")
        return (self.config.latent_dim,)

    @final
    @property
    def latent_dim(self) -> int:
        """Numbers in the latent of one item, whatever its shape."""
        return math.prod(self.latent_shape)

    @property
    def media_type(self) -> MediaType:
        """How a page shows an item, and lets a user give a datum; it depends only on config.

        "text" and "number" are of inline modalities, and typed. Of others `write` writes a
        "picture" (PNG, JPEG or SVG), a "sound" (WAV, FLAC or OGG), or a "file" of another format.
        By default "text" if inline, else "file".
        """
        return "text" if self.inline else "file"

    @property
    def choices(self) -> Sequence[str]:
        """The cells that `cell` returns, for a page to choose from, if they are few.

        None by default: any text is a cell. Only for inline modalities.
        """
        return ()

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """Facts of the training split that the methods below need, as plain JSON."""
        return {}

    @abstractmethod
    def read(self, source: Path | str) -> Any:
        """The raw datum of a path, or of a manifest's cell if the modality is inline.

        Nothing of the file is read later: it may be temporary.
        """

    def split_key(self, raw: Any) -> str | None:
        """What data of one split share with none of another, such as a molecule's scaffold.

        None if there is nothing: the datum may be in any split.
        """
        return None

    def profile(self, raw: Any) -> Mapping[str, int | float | Sequence[str]]:
        """What `mld data check` tells of a datum, by name.

        Numbers, such as its length, and lists of words that it consists of, such as its symbols.
        """
        return {}

    @abstractmethod
    def preprocess(self, raw: Any) -> Shaped[Tensor, "*item"]:
        """The item of a raw datum; its shape and dtype depend only on config and facts."""

    def pack(self, x: Shaped[Tensor, " batch *item"]) -> Shaped[Tensor, " batch *packed"]:
        """Items of `preprocess` as they are kept in memory and on disk; unchanged by default.

        Worth overriding where fewer bytes can hold them, such as one for a level of a pixel.
        """
        return x

    def unpack(self, packed: Shaped[Tensor, " batch *packed"]) -> Shaped[Tensor, " batch *item"]:
        """The items that were packed, bit for bit, on the device of `packed`."""
        return packed

    def augment(self, x: Shaped[Tensor, " batch *item"], generator: Generator) -> Tensor:
        """Label-preserving variations of a batch, in its shape and dtype; unchanged by default."""
        return x

    @abstractmethod
    def autoencoder(self) -> Autoencoder:
        """A new autoencoder; its initial weights come from torch's global generator."""

    @abstractmethod
    def classifier(self, classes: int) -> Classifier:
        """A new classifier for coherence and Frechet distances."""

    def metrics(self) -> Mapping[str, Metric]:
        """Quality metrics by name; none by default."""
        return {}

    def summarise(self, draws: Shaped[Tensor, " draw *item"]) -> Summary | None:
        """What draws of one item, at least one, say about it.

        None by default: the draw nearest to all others in the latent space is then the estimate.
        """
        return None

    def plot(
        self, draws: Shaped[Tensor, " row draw *item"], truth: Shaped[Tensor, " row *item"]
    ) -> str:
        """An SVG picture of draws of rows beside the items that these rows have; "" by default."""
        return ""

    @abstractmethod
    def write(self, x: Shaped[Tensor, "*item"], stem: Path) -> Path:
        """Write an item to one file, `stem` with a suffix added, and return its path.

        Deterministic (the same bytes every time); `read` of the file gives about the same item.
        """

    def cell(self, x: Shaped[Tensor, "*item"]) -> str:
        """A manifest's cell for an item; only for inline modalities."""
        hint = "an inline modality implements cell" if self.inline else "not inline: use write"
        raise NotImplementedError(f"{self.kind}: {hint}")

    def preview(self, x: Shaped[Tensor, "*item"], stem: Path) -> list[Path]:
        """Write further files to look at, SVG or PNG (a spectrogram, a drawing); none by default.

        Their names are `stem` with a suffix added; returns their paths.
        """
        return []

    @abstractmethod
    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        """One raw datum per label, 0 to 9, that represents it in this modality.

        Varied, generated offline, never shared between splits; equal for equal states of `rng`.
        """
