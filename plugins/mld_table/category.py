"""The modality `category`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Int64
from numpy.random import Generator
from pydantic import Field, JsonValue, model_validator
from torch import Tensor

from mld_core import Metric, Modality, ModalityConfig, SplitName, Summary, did_you_mean, hookimpl
from mld_table.category_networks import CategoryAutoencoder, CategoryClassifier
from mld_table.draw_metrics import class_draw_metrics
from mld_table.examples import sample_categories
from mld_table.metrics import error_rate, frequency_distance
from mld_table.text_cell import read_text, write_text
from mld_table.truth_plots import draw_confusion

OTHER = "other"
"""The value that stands for all unknown ones."""
MAX_VALUES = 1000
"""Largest value of the setting `max_values`."""
MAX_LENGTH = 200
"""Characters of the longest value; a longer one is text."""


class CategoryConfig(ModalityConfig):
    """Settings of the modality `category`."""

    latent_dim: int = Field(
        32,
        ge=1,
        le=MAX_VALUES,
        description="width of the latent, at most; it is one less than the number of values if that"
        " is smaller, and all values are then equally far apart",
    )
    values: tuple[Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)], ...] = Field(
        (), max_length=MAX_VALUES, description="all values; by default those of the training split"
    )
    unknown: Literal["error", "other"] = Field(
        "error", description="what to do with a value that is not known: other reads it as 'other'"
    )
    max_values: int = Field(
        100,
        ge=1,
        le=MAX_VALUES,
        description="values that are learnt from the training split, at most; with more, an error,"
        " or with unknown: other the most frequent ones",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        repeated = [value for value, count in Counter(self.values).items() if count > 1]
        if repeated:
            raise ValueError(f"values holds {repeated[0]!r} twice")
        padded = [value for value in self.values if value != value.strip()]
        if padded:
            raise ValueError(f"values holds {padded[0]!r}: remove the white space around it")
        return self


class Category(Modality):
    """One of a few named values.

    `raw` is a str without white space around it; case counts. An item is an int64 tensor of shape
    (1,), the index of the value among the sorted ones, or in the order of the setting `values`.
    The latent is an exact code without training: a point for each value.
    """

    kind = "category"
    Config = CategoryConfig
    inline = True
    config: CategoryConfig

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """The values: those of the config, or of the training split, sorted; `other` is last.

        Without a row of the training split that has it, `other` is not among those `generated`.
        """
        assert isinstance(config, CategoryConfig)
        counts = Counter(_check_value(value) for value in raw)
        values = [*config.values]
        if not values:
            values = sorted(counts)
            if len(values) > config.max_values:
                values = sorted(_most_frequent(counts, config))
        generated = len(values)
        if config.unknown == "other" and OTHER not in values:
            generated += any(value not in values for value in counts)
            values.append(OTHER)
        if not values:
            raise ValueError("there are no values to learn the categories from")
        return {"values": [*values], "generated": max(1, generated)}

    @property
    def latent_shape(self) -> tuple[int]:
        """A vector's width: as configured, or one less than the number of values."""
        return (min(self.config.latent_dim, max(1, len(self._values) - 1)),)

    @property
    def choices(self) -> Sequence[str]:
        """The values."""
        return self._values

    def read(self, source: Path | str) -> str:
        """The text of a cell, or of a path's file."""
        return _check_value(read_text(source))

    def profile(self, raw: str) -> Mapping[str, Sequence[str]]:
        """The value."""
        return {"values": [raw]}

    def preprocess(self, raw: Any) -> Int64[Tensor, " 1"]:
        """The index of the value."""
        value = _check_value(raw)
        index = self._indices.get(value)
        if index is None and self.config.unknown == "other":
            index = self._indices[OTHER]
        if index is None:
            known = ", ".join(self._values[:10]) + (", ..." if len(self._values) > 10 else "")
            raise ValueError(
                f"the value is unknown (values: {known}){did_you_mean(value, self._values)}: add it"
                " to values or to the training split, or set unknown: other"
            )
        return torch.tensor([index])

    def autoencoder(self) -> CategoryAutoencoder:
        """The exact code, which has no trainable parameters."""
        generated: Any = self.facts["generated"]
        return CategoryAutoencoder(len(self._values), self.latent_dim, generated)

    def classifier(self, classes: int) -> CategoryClassifier:
        """A new embedding with a linear layer, with 64 features."""
        return CategoryClassifier(len(self._values), classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Errors of estimates, the log-loss of draws, and the distance of frequencies."""
        bounds = (0.0, 1.0)
        return {
            "error_rate": Metric(error_rate, "truth", "lower", best=0.0, bounds=bounds),
            **class_draw_metrics(len(self._values)),
            "frequency_distance": Metric(
                frequency_distance, "test", "lower", best=0.0, bounds=bounds
            ),
        }

    def summarise(self, draws: Int64[Tensor, "draw 1"]) -> Summary:
        """The most frequent value and its probability, with the probability of each value."""
        shares = torch.bincount(draws[:, 0], minlength=len(self._values)) / len(draws)
        best = int(shares.argmax())
        values = {"probability": float(shares[best])}
        for value, share in zip(self._values, shares.tolist(), strict=True):
            values[f"p({value})"] = share
        return Summary(torch.tensor([best]), values)

    def plot(self, draws: Int64[Tensor, "row draw 1"], truth: Int64[Tensor, "row 1"]) -> str:
        """How often each value is drawn for rows of each value."""
        return draw_confusion(draws[..., 0].numpy(), truth[..., 0].numpy(), self._values)

    def write(self, x: Int64[Tensor, " 1"], stem: Path) -> Path:
        """Write the value as a text file with the suffix .txt."""
        return write_text(self.cell(x), stem)

    def cell(self, x: Int64[Tensor, " 1"]) -> str:
        """The value."""
        return self._values[int(x)]

    def examples(self, labels: Sequence[int], split: SplitName, rng: Generator) -> list[str]:
        """A name of each label, of two; every split has the same ones."""
        return sample_categories(labels, rng, self.config.values)

    @cached_property
    def _values(self) -> Sequence[str]:
        values: Any = self.facts["values"]
        return tuple(values)

    @cached_property
    def _indices(self) -> Mapping[str, int]:
        return {value: index for index, value in enumerate(self._values)}


def _check_value(raw: Any) -> str:
    """A value of a category. ValueError if it is none."""
    if not isinstance(raw, str):
        raise ValueError(f"a category must be a str, not {type(raw).__name__}")
    if not raw:
        raise ValueError("is blank: leave the cell empty if the value is missing")
    if len(raw) > MAX_LENGTH:
        raise ValueError(
            f"has {len(raw)} characters, more than the {MAX_LENGTH} of a category: is it text?"
        )
    return raw


def _most_frequent(counts: Counter[str], config: CategoryConfig) -> list[str]:
    """The most frequent values, as many as allowed. ValueError if unknown ones are errors."""
    if config.unknown == "error":
        raise ValueError(
            f"the training split has {len(counts):,} different values, more than max_values ="
            f" {config.max_values}: raise max_values (up to {MAX_VALUES:,}), or set unknown: other,"
            " which keeps the most frequent ones"
        )
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    return ranked[: config.max_values]


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality of this module."""
    return [Category]
