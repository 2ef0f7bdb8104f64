"""The modality `number`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy.random import Generator
from pydantic import Field, FiniteFloat, JsonValue, model_validator
from torch import Tensor

from mld_core import (
    MediaType,
    Metric,
    Modality,
    ModalityConfig,
    SplitName,
    Summary,
    hookimpl,
)
from mld_table.draw_metrics import number_draw_metrics
from mld_table.examples import sample_numbers
from mld_table.metrics import distribution_metrics, error_metrics, rank_correlation
from mld_table.number_cell import format_numbers, parse_numbers
from mld_table.number_networks import NumberAutoencoder, NumberClassifier
from mld_table.number_summary import summarise_numbers
from mld_table.scales import MAX_MAGNITUDE, make_scale, moments, quantiles
from mld_table.text_cell import read_text, write_text
from mld_table.truth_plots import draw_estimates

MAX_SIZE = 64
"""Largest number of numbers in one cell."""
MIN_RESOLUTION = 100
"""Steps of float32 in a standard deviation below which its rounding is warned of."""


class NumberConfig(ModalityConfig):
    """Settings of the modality `number`."""

    latent_dim: int = Field(1, ge=1, description="always `size`, which is the default")
    size: int = Field(1, ge=1, le=MAX_SIZE, description="how many numbers a cell holds")
    scale: Literal["standard", "quantile"] = Field(
        "standard",
        description="standard: by mean and standard deviation; quantile: by ranks, for skewed"
        " values, outliers and values that many rows share",
    )
    log: bool = Field(False, description="model the logarithm; all values must be positive")
    minimum: FiniteFloat | None = Field(
        None, description="no smaller value is read or generated; none by default"
    )
    maximum: FiniteFloat | None = Field(
        None, description="no larger value is read or generated; none by default"
    )
    unit: Annotated[str, Field(max_length=20)] = Field(
        "", description="unit of the values, such as kg/m³; shown beside metrics"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_latent_dim(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "latent_dim" not in values and "size" in values:
            return {**values, "latent_dim": values["size"]}
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.latent_dim != self.size:
            raise ValueError(
                f"latent_dim must be {self.size}, the size, not {self.latent_dim}: the code of "
                "numbers is exact; leave it out"
            )
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum:g} must be below maximum {self.maximum:g}")
        if self.log and self.maximum is not None and self.maximum <= 0:
            raise ValueError(f"log: true needs a positive maximum, not {self.maximum:g}")
        return self


class Number(Modality):
    """One real number, or a fixed few in one cell.

    `raw` is a float, or a sequence of `size` floats. A cell holds them in the notation 1.5 or
    1e-3, separated by spaces or semicolons. An item is a float32 tensor of shape (size,), in the
    unit of the data. The latent, of shape (size,), is an exact code without training: the number
    standardised, or mapped by the quantiles of the training split to a normal distribution.
    """

    kind = "number"
    Config = NumberConfig
    inline = True
    config: NumberConfig

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """Mean and standard deviation of each number, and quantiles if the scale uses them.

        Of each number also whether all of its values are whole.
        """
        assert isinstance(config, NumberConfig)
        rows = [_check_numbers(config, numbers) for numbers in raw]
        if not rows:
            raise ValueError("there are no numbers to learn a scale from")
        values = np.stack(rows).astype(np.float64)
        _warn_if_too_fine(values)
        is_integer = (values == np.rint(values)).all(0).tolist()
        if config.log:
            values = np.log(values)
        scale = quantiles(values) if config.scale == "quantile" else moments(values)
        return {**scale, "is_integer": is_integer}

    @property
    def media_type(self) -> MediaType:
        """A number if it is one alone; several are typed as a text."""
        return "number" if self.config.size == 1 else "text"

    def read(self, source: Path | str) -> list[float]:
        """The numbers of a str, or of a path's file."""
        numbers = parse_numbers(read_text(source))
        _check_numbers(self.config, numbers)
        return numbers

    def profile(self, raw: Any) -> Mapping[str, float]:
        """The number itself, if it is one alone."""
        values = np.atleast_1d(np.asarray(raw, dtype=np.float64))
        return {self.config.unit or "value": float(values[0])} if len(values) == 1 else {}

    def preprocess(self, raw: Any) -> Float[Tensor, " size"]:
        """The numbers in float32."""
        return torch.from_numpy(_check_numbers(self.config, raw))

    def autoencoder(self) -> NumberAutoencoder:
        """The exact code, which has no trainable parameters."""
        config, is_integer = self.config, cast("list[bool]", self.facts["is_integer"])
        return NumberAutoencoder(
            make_scale(self.facts), config.log, config.minimum, config.maximum, is_integer
        )

    def classifier(self, classes: int) -> NumberClassifier:
        """A new perceptron on soft bins of each number, with 64 features."""
        return NumberClassifier(self.autoencoder(), self.config.size, classes)

    def metrics(self) -> Mapping[str, Metric]:
        """Errors of estimates, accuracy of draws, and the distance of distributions."""
        unit = self.config.unit
        rank = Metric(rank_correlation, "truth", "higher", best=1.0, bounds=(-1.0, 1.0))
        return {
            **error_metrics(unit),
            "rank_correlation": rank,
            **number_draw_metrics(unit),
            **distribution_metrics(unit),
        }

    def summarise(self, draws: Float[Tensor, "draw size"]) -> Summary:
        """The median, with the mean, standard deviation and an 80 % interval of each number."""
        return summarise_numbers(draws)

    def plot(self, draws: Float[Tensor, "row draw size"], truth: Float[Tensor, "row size"]) -> str:
        """Medians and 80 % intervals over the truth; not of several numbers in a cell."""
        if self.config.size > 1:
            return ""
        drawn, true = (numbers[..., 0].double().numpy() for numbers in (draws, truth))
        return draw_estimates(drawn, true, self.config.unit)

    def write(self, x: Float[Tensor, " size"], stem: Path) -> Path:
        """Write the numbers as a text file with the suffix .txt."""
        return write_text(self.cell(x), stem)

    def cell(self, x: Float[Tensor, " size"]) -> str:
        """The numbers in seven significant digits, separated by spaces."""
        return format_numbers(x.tolist(), self.config.minimum, self.config.maximum)

    def examples(
        self, labels: Sequence[int], split: SplitName, rng: Generator
    ) -> list[tuple[float, ...]]:
        """Numbers whose place between the bounds, in tenths, is the label."""
        config = self.config
        low = 0.0 if config.maximum is None else config.maximum - 10.0
        low = low if config.minimum is None else config.minimum
        low = max(low, 0.0) if config.log else low
        high = low + 10.0 if config.maximum is None else config.maximum
        return sample_numbers(labels, split, rng, (low, high), config.size)


def _check_numbers(config: NumberConfig, raw: Any) -> Float32[np.ndarray, " size"]:
    """The numbers of a datum in float32. ValueError if they are not as the settings require."""
    values = np.atleast_1d(np.asarray(raw, dtype=np.float64))
    if values.shape != (config.size,):
        count = "1 number" if values.size == 1 else f"{values.size} numbers"
        raise ValueError(
            f"has {count}, but size is {config.size}: numbers are separated by spaces or "
            "semicolons, and thousands by nothing"
        )
    for value in values.tolist():
        if not abs(value) <= MAX_MAGNITUDE:
            raise ValueError(f"{value:g} is not a number of at most {MAX_MAGNITUDE:g} in magnitude")
        if config.log and value <= 0:
            raise ValueError(f"{value:g} is not positive, as log: true requires")
        if config.minimum is not None and value < config.minimum:
            raise ValueError(f"{value:g} is below the minimum {config.minimum:g}")
        if config.maximum is not None and value > config.maximum:
            raise ValueError(f"{value:g} is above the maximum {config.maximum:g}")
    numbers = values.astype(np.float32)
    if config.log and not (numbers > 0).all():
        raise ValueError(f"{values.min():g} is too close to 0 for float32, as log: true requires")
    return numbers


def _warn_if_too_fine(values: Float64[np.ndarray, "row size"]) -> None:
    """Warn if float32 rounds values by more than a hundredth of their standard deviation."""
    resolution = np.spacing(np.abs(values).max(0).astype(np.float32))
    std = values.std(0)
    if bool(((std > 0) & (std < MIN_RESOLUTION * resolution)).any()):
        warnings.warn(
            f"the values differ by about {std.min():.2g}, and float32 rounds numbers like "
            f"{np.abs(values).max():.7g} to multiples of {resolution.max():.2g}: subtract a "
            "constant from the column",
            stacklevel=2,
        )


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality of this module."""
    return [Number]
