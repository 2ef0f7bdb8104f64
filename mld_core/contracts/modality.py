"""The contract of a modality: what a plugin supplies so that its data join the latent diffusion.

raw -- preprocess --> item x -- encode --> latent z -- decode --> item x -- write --> file

`raw` is the datum as stored (a picture, a string), `x` one tensor of fixed shape in *data space*,
`z` a flat latent. A plugin subclasses Modality, and returns the class from the hook
`register_modalities`. Nothing here knows what the data are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveInt
from torch import Generator, Tensor, nn

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class ModalityConfig(BaseModel):
    """What a spec may say about a modality, beside its kind; plugins subclass it.

    Give every field a default where one makes sense, a range, and a `Field(description=...)`:
    the spec's error messages and its JSON Schema are made from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_dim: PositiveInt = Field(description="numbers in the latent of one item")


class Autoencoder(nn.Module, ABC):
    """A deterministic autoencoder with a flat latent.

    Without trainable parameters it counts as pretrained and is used as it is.
    """

    @abstractmethod
    def encode(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch latent"]:
        """The latent of each item; deterministic in eval mode."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "batch latent"]) -> Shaped[Tensor, " batch *item"]:
        """The item of each latent, in data space: the shape and dtype of `preprocess`."""

    @abstractmethod
    def loss(
        self, z: Float[Tensor, "batch latent"], x: Shaped[Tensor, " batch *item"]
    ) -> Float[Tensor, " batch"]:
        """−log p(x | z) per item, in nats up to a constant, differentiable in z.

        Training minimises the mean of `loss(encode(x), x)`.
        """


class Classifier(nn.Module, ABC):
    """Says what an item shows; judges coherence, and its features give Frechet distances."""

    @abstractmethod
    def features(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch feature"]:
        """The penultimate representation of each item; its width is constant."""

    @abstractmethod
    def forward(self, x: Shaped[Tensor, " batch *item"]) -> Float[Tensor, "batch classes"]:
        """The logits of each item over the dataset's classes."""


@dataclass(frozen=True)
class Metric:
    """A quality metric of one modality, and how to read it.

    Args:
        measure: (items, reference), each "row *item", to a number. ValueError if `items` is empty,
            or if `reference` is empty although `against` names one.
        against: what the reference is. "originals": the items that `items` reconstruct, row by
            row. "test" and "train": another set, rows unrelated. "none": the reference is empty.
        better: which way is better.
        best: the value of a perfect model, where there is one.
        unit: what the number counts ("dB"); "" for a plain ratio.
    """

    measure: Callable[[Tensor, Tensor], float]
    against: Literal["originals", "test", "train", "none"]
    better: Literal["higher", "lower"]
    best: float | None = None
    unit: str = ""


class Modality(ABC):
    """One kind of data: how it is read, encoded, decoded, judged and shown.

    The docstring of a subclass says what `raw` is: what `read` returns and what a Dataset of this
    kind must serve. All state comes through the constructor and never changes later.

    A method that meets an item it cannot take (unreadable, too long, an unknown symbol) raises
    ValueError saying what is wrong and which setting would fit it; the caller adds row and file.

    Args:
        config: an instance of this class's `Config`.
        facts: what `fit` returned; empty before fitting. Only `fit`, `read`, `examples` and
            `inline` may be used on an unfitted modality.
    """

    kind: ClassVar[str]
    Config: ClassVar[type[ModalityConfig]]
    inline: ClassVar[bool] = False
    """True: a manifest's cell is the datum itself (text); False: it is a path."""

    def __init__(
        self, config: ModalityConfig, facts: Mapping[str, JsonValue] | None = None
    ) -> None:
        self.config = config
        self.facts: Mapping[str, JsonValue] = dict(facts or {})

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """What must be learnt from the training split before any tensor; plain JSON."""
        return {}

    @abstractmethod
    def read(self, source: Path | str) -> Any:
        """The raw datum of a path, or of a manifest's cell where the modality is inline."""

    @abstractmethod
    def preprocess(self, raw: Any) -> Shaped[Tensor, "*item"]:
        """One raw datum as a tensor whose shape and dtype depend on config and facts alone."""

    def augment(self, x: Shaped[Tensor, " batch *item"], generator: Generator) -> Tensor:
        """Label-preserving variations of a batch; same shape and dtype; the batch itself here."""
        return x

    @abstractmethod
    def autoencoder(self) -> Autoencoder:
        """A fresh autoencoder; its initial weights come from torch's global generator."""

    @abstractmethod
    def classifier(self, classes: int) -> Classifier:
        """A fresh classifier for coherence and Frechet distances."""

    def metrics(self) -> Mapping[str, Metric]:
        """The modality's own quality metrics, by name; none here."""
        return {}

    @abstractmethod
    def write(self, x: Shaped[Tensor, "*item"], stem: Path) -> Path:
        """Write one item as one file and return its path: `stem` with a suffix added.

        Deterministic (twice the same bytes); reading the file back gives about the same item.
        """

    def cell(self, x: Shaped[Tensor, "*item"]) -> str:
        """What a manifest holds for this item; only inline modalities have it."""
        raise NotImplementedError(f"{self.kind} is not inline: use write")

    def preview(self, x: Shaped[Tensor, "*item"], stem: Path) -> list[Path]:
        """More files to look at (a spectrogram, a drawing), named `stem` plus a suffix; none here.

        Pictures are SVG or PNG.
        """
        return []

    @abstractmethod
    def examples(
        self, labels: Sequence[int], split: SplitName, rng: np.random.Generator
    ) -> list[Any]:
        """One raw datum per label 0..9, each expressing its label in this modality's way.

        Varied, offline, never shared between splits; the same rng state gives the same data.
        """
