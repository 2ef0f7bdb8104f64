"""The sections of a spec: the settings of each stage, with their ranges and defaults."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    Field,
    InstanceOf,
    SerializeAsAny,
    StrictBool,
    StrictFloat,
    StrictInt,
    Tag,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_serializer,
)

from mld.config.plugin_sections import OMIT_DEFAULT, Section, parse_plugin_section
from mld.config.validation_errors import (
    FieldError,
    discriminate_by_type,
    format_errors,
    format_validation_errors,
)
from mld_core.diffusion.limits import MAX_BETA_SUM, UNET_GROUPS
from mld_core.diffusion.purpose import Purpose
from mld_core.diffusion.role_schemes import RoleScheme
from mld_core.errors import SpecError

MAX_GUIDANCE = 1e6
"""The largest guidance weight; far above it float32 has no digits left for the unguided part."""

MAX_SOLVER_STEPS = 100_000
"""The most solver steps; the times of all are in memory."""
MAX_SAMPLES = 1_000_000
"""The most samples for each observed subset; their latents are in memory."""
MAX_DRAWS = 1000
"""The most samples of one row; their latents are in memory."""

FiniteFloat = Annotated[StrictFloat, AllowInfNan(False)]
Time = Annotated[FiniteFloat, Field(ge=0, le=1)]
Steps = Annotated[StrictInt, Field(gt=0, description="optimiser steps")]
BatchSize = Annotated[StrictInt, Field(gt=0, description="rows per optimiser step")]
LearningRate = Annotated[FiniteFloat, Field(gt=0, description="step size of the optimiser")]
Patience = Annotated[
    Annotated[StrictInt, Field(gt=0)] | None,
    Field(description="end a training after so many validations in a row without a lower loss"),
    OMIT_DEFAULT,
]
TimeLimit = Annotated[
    Annotated[FiniteFloat, Field(gt=0)] | None,
    Field(description="end each training after so many seconds, summed over resumes"),
    OMIT_DEFAULT,
]
MicroBatchSize = Annotated[
    Annotated[StrictInt, Field(gt=0)] | None,
    Field(
        description="rows of a batch that each process computes at a time, for less memory; their"
        " gradients are accumulated"
    ),
    OMIT_DEFAULT,
]
GuidanceWeight = Annotated[FiniteFloat, Field(ge=-1, le=MAX_GUIDANCE)]

JOINT = "joint"
"""The name of the empty observed subset, which no modality may have."""


_DEVICES = {
    "aux",
    "con",
    "nul",
    "prn",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}
"""Names that no file has on Windows, whatever its suffix."""


def _matching(pattern: str, meaning: str) -> AfterValidator:
    """Checks that a whole text matches a pattern, and may name a file of a run on any system.

    Args:
        meaning: what the text must be.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {meaning}")
        if text.partition(".")[0].lower() in _DEVICES or text.endswith("."):
            raise ValueError("must be a name that a file may have on Windows")
        return text

    return AfterValidator(check)


_FOLDER = "a folder name of letters, digits, '_', '-' and '.', beginning with a letter or digit"
_NAME = f"a name of letters, digits, '_' and '-' other than {JOINT!r}"
ExperimentName = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", _FOLDER)]
ModalityName = Annotated[str, _matching(rf"(?!{JOINT}\Z)[A-Za-z0-9_][A-Za-z0-9_-]*", _NAME)]

AutoOrCount = Annotated[
    Annotated[Literal["auto"], Tag("word")] | Annotated[StrictInt, Field(ge=1), Tag("number")],
    discriminate_by_type("must be auto or a whole number", word=str, number=int),
]


class TrainingSpec(Section):
    """How long and how fast one network trains."""

    steps: Steps = 2000
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 1e-3
    patience: Patience = None
    time_limit: TimeLimit = None
    micro_batch_size: MicroBatchSize = None


class TrainingOverride(Section):
    """What one modality's training does differently; null keeps the common value."""

    steps: Steps | None = None
    batch_size: BatchSize | None = None
    learning_rate: LearningRate | None = None
    patience: Patience = None
    time_limit: TimeLimit = None
    micro_batch_size: MicroBatchSize = None


class AutoencodeSpec(TrainingSpec):
    """Training of the autoencoders."""

    overrides: dict[str, TrainingOverride] = Field(
        default_factory=dict, description="by modality: its own steps, batch_size and so on"
    )

    def of(self, name: str) -> TrainingSpec:
        """The training of one modality's autoencoder, its override applied."""
        override = self.overrides.get(name, TrainingOverride())
        settings = self.model_dump(exclude={"overrides"}) | override.model_dump(exclude_none=True)
        return TrainingSpec.model_validate(settings)


class ResidualMLPSpec(Section):
    """Residual MLP with adaptive normalisation."""

    kind: Literal["residual-mlp"] = "residual-mlp"
    width: StrictInt = Field(default=512, gt=0, description="units in a hidden layer")
    depth: StrictInt = Field(default=4, gt=0, description="residual blocks")
    dropout: FiniteFloat = Field(default=0.0, ge=0, lt=1, description="share of units dropped")


class UNetMLPSpec(Section):
    """The paper's MLP in the shape of a U-Net."""

    kind: Literal["unet-mlp"] = "unet-mlp"
    width: StrictInt = Field(
        default=512, gt=0, multiple_of=UNET_GROUPS, description="units in a hidden layer"
    )
    depth: StrictInt = Field(default=2, gt=0, description="levels on the way down")


class TransformerSpec(Section):
    """Transformer over tokens of all latents, for sequences and grids."""

    kind: Literal["transformer"] = "transformer"
    width: StrictInt = Field(default=256, gt=0, description="numbers in a token")
    depth: StrictInt = Field(default=6, gt=0, description="blocks")
    heads: StrictInt = Field(default=4, gt=0, description="of the attention; they divide width")
    patch: StrictInt = Field(
        default=1,
        gt=0,
        description="positions of a sequence in a token, of a grid along each side; more is faster",
    )

    def _errors(self) -> Iterator[FieldError]:
        if self.width % self.heads:
            yield ("width",), f"must be a multiple of heads ({self.heads}), not {self.width}"


class PerSubsetSpec(ResidualMLPSpec):
    """A residual MLP for every observed subset; only with roles: paper."""

    kind: Literal["per-subset"] = "per-subset"  # type: ignore[assignment]


NetworkSpec = Annotated[
    ResidualMLPSpec | UNetMLPSpec | TransformerSpec | PerSubsetSpec, Field(discriminator="kind")
]


Shift = Annotated[FiniteFloat, Field(ge=-20, le=20)]
"""Of a log-SNR; latents that are scaled by more would be lost in float32."""


class DiffuseSpec(Section):
    """Training of the score network over the joint latent."""

    method: Literal["mld"] = Field(default="mld", description="what is trained on the latents")
    roles: RoleScheme = Field(
        default="three-role",
        description="how training draws what is generated, observed and absent",
    )
    purpose: Purpose = Field(
        default="samples",
        description="samples, or information: trains all densities and noise levels alike",
    )
    p_conditional: FiniteFloat | None = Field(
        default=None,
        ge=0,
        le=1,
        validate_default=True,
        description="share of rows trained conditionally; only with roles: paper, there 0.5",
    )
    network: NetworkSpec = Field(default=ResidualMLPSpec(), description="the score network")
    steps: Steps = 3000
    batch_size: BatchSize = 512
    learning_rate: LearningRate = 1e-3
    balance: FiniteFloat = Field(
        default=0.5,
        ge=0,
        le=1,
        description="0 weighs all latent coordinates alike in the loss, 1 all modalities alike,"
        " however wide their latents are",
    )
    shift: Annotated[dict[str, Shift], OMIT_DEFAULT] = Field(
        default={},
        description="by modality: how much lower its log-SNR is at every time; if left out, 0 for"
        " a vector, and half the log of the number of positions of a sequence or grid",
    )
    beta_min: FiniteFloat = Field(default=0.1, gt=0, description="noise rate at time 0, clean data")
    beta_max: FiniteFloat = Field(
        default=20.0, gt=0, description="noise rate at time 1, pure noise"
    )
    ema_decay: FiniteFloat = Field(
        default=0.999, ge=0, lt=1, description="decay of the moving average of weights"
    )
    keep: Literal["last", "best"] = Field(
        default="best",
        description="the averaged weights of the last step, or of the step with the lowest"
        " validation loss, before a network of few rows memorises them",
    )
    patience: Patience = None
    time_limit: TimeLimit = None
    micro_batch_size: MicroBatchSize = None

    @field_validator("p_conditional")
    @classmethod
    def _default_p_conditional(cls, value: float | None, info: ValidationInfo) -> float | None:
        return 0.5 if value is None and info.data.get("roles") == "paper" else value

    def _errors(self) -> Iterator[FieldError]:
        if self.beta_max <= self.beta_min:
            message = f"must be above beta_min ({self.beta_min}), not {self.beta_max}"
            yield ("beta_max",), message
        elif self.beta_min + self.beta_max > MAX_BETA_SUM:
            message = (
                f"beta_min + beta_max must be at most {MAX_BETA_SUM:g} (beyond, the signal left at "
                f"time 1 is too small for float32), not {self.beta_min} + {self.beta_max}"
            )
            yield ("beta_max",), message
        if self.purpose == "information" and self.roles != "three-role":
            message = f"information is only valid with roles: three-role (got {self.roles})"
            yield ("purpose",), message
        if self.roles != "paper":
            if self.p_conditional is not None:
                message = f"is only valid with roles: paper (got {self.roles})"
                yield ("p_conditional",), message
            if isinstance(self.network, PerSubsetSpec):
                message = (
                    "per-subset trains a network for each pair of observed and generated "
                    f"modalities and is only valid with roles: paper (got {self.roles})"
                )
                yield ("network", "kind"), message


class MethodSpec(TrainingSpec):
    """Training of another method's model; in YAML one flat mapping, `{method: x, steps: 1}`."""

    method: str
    config: SerializeAsAny[InstanceOf[BaseModel]]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        training = {name: getattr(self, name) for name in TrainingSpec.model_fields}
        training = self._omit_defaults(training)
        return {"method": self.method, **training, **self.config.model_dump(mode="json")}


def _parse_method(raw: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """A DiffuseSpec, or a MethodSpec where the method is a plugin's."""
    method = raw.get("method", "mld") if isinstance(raw, dict) else "mld"
    if method == "mld" or not isinstance(method, str) or info.context is None:
        return handler(raw)
    return parse_plugin_section(MethodSpec, raw, "method", info, TrainingSpec)


ModelSpec = Annotated[SerializeAsAny[DiffuseSpec], WrapValidator(_parse_method)]
"""What is trained over all modalities: mld's own score network, or a plugin's method."""


class GuidanceSpec(Section):
    """Guidance weights of the two parts of the guided score."""

    conditional: GuidanceWeight = Field(
        default=1.0, description="weight of the observed modalities"
    )
    joint: GuidanceWeight = Field(
        default=1.0, description="weight of the generated modalities upon each other"
    )
    interval: tuple[Time, Time] = Field(
        default=(0.0, 1.0), description="the times between which to guide; outside it costs nothing"
    )

    def _errors(self) -> Iterator[FieldError]:
        first, last = self.interval
        if first >= last:
            yield ("interval",), f"must rise, not go from {first} to {last}"


Strength = Annotated[
    Annotated[GuidanceWeight, Tag("number")] | Annotated[GuidanceSpec, Tag("mapping")],
    discriminate_by_type(
        "must be a number or {conditional: a, joint: b}",
        number=(int, float),
        mapping=(dict, GuidanceSpec),
    ),
]
"""Guidance: one weight for both parts, or a weight for each."""


class GenerateSpec(Section):
    """What is sampled from the trained network, and how."""

    sampler: Literal[
        "dpm-solver++", "sde-dpm-solver++", "ddim", "heun", "euler-maruyama", "repaint", "inpaint"
    ] = Field(default="dpm-solver++", description="the solver")
    steps: StrictInt = Field(default=20, gt=0, le=MAX_SOLVER_STEPS, description="solver steps")
    guidance: Strength = Field(
        default=1.0,
        description="0 is none, less than 0 widens samples; a number, or {conditional: a, joint: b,"
        " interval: [from, to]}",
    )
    num_samples: StrictInt = Field(
        default=500, gt=0, le=MAX_SAMPLES, description="samples for each observed subset"
    )
    draws: Annotated[StrictInt, Field(ge=1, le=MAX_DRAWS)] | None = Field(
        default=None,
        description="samples of each row that is given; by default 19 where a modality has a metric"
        " of draws, such as the CRPS, and otherwise 1",
    )
    num_previews: StrictInt = Field(
        default=8, ge=0, description="samples for each subset shown in the report"
    )
    subsets: Annotated[
        Annotated[Literal["auto"], Tag("word")] | Annotated[list[list[str]], Tag("list")],
        discriminate_by_type("must be auto or a list of lists of modalities", word=str, list=list),
    ] = Field(default="auto", description="observed subsets, [] is none observed; auto chooses")
    split: Literal["validation", "test"] = Field(
        default="test", description="rows that samples are conditioned on and evaluated against"
    )

    def _errors(self) -> Iterator[FieldError]:
        seen: list[set[str]] = []
        for index, subset in enumerate([] if self.subsets == "auto" else self.subsets):
            repeated = [name for name, count in Counter(subset).items() if count > 1]
            if repeated:
                yield ("subsets", index), f"names {repeated[0]!r} twice"
            if set(subset) in seen:
                yield ("subsets", index), "is the same subset as an earlier one"
            seen.append(set(subset))

    def with_overrides(self, **overrides: Any) -> GenerateSpec:
        """The same settings with those replaced that are not None.

        SpecError if one of these is not valid.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        settings = dict(self) | given
        try:
            return GenerateSpec.model_validate(settings)
        except ValidationError as error:
            errors = format_validation_errors(error, GenerateSpec, settings)
            raise SpecError(format_errors(errors)) from error


Judge = Literal["auto", "classes", "retrieval", "both"]


class EvaluateSpec(TrainingSpec):
    """Training of the networks that judge samples: classifiers, and a judge of pairs."""

    steps: Steps = 1000
    judge: Annotated[Judge, OMIT_DEFAULT] = Field(
        default="auto",
        description="what tells whether samples belong together: the classes of labelled rows, the"
        " retrieval of one modality by another, or both; auto is classes, and retrieval where rows"
        " have no classes or many rare ones",
    )

    @property
    def judges_by_class(self) -> bool:
        """Whether coherence is measured, where rows have classes."""
        return self.judge != "retrieval"


ItemPlace = Literal["auto", "memory", "disk"]


class ComputeSpec(Section):
    """Where and in which precision networks train."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(
        default="auto", description="the kind of processor"
    )
    devices: AutoOrCount = Field(default="auto", description="how many of them on each node")
    nodes: Annotated[StrictInt, Field(ge=1), OMIT_DEFAULT] = Field(
        default=1,
        description="machines that train together, on each of which torchrun or Slurm starts mld",
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        default="auto", description="of training; auto is bf16-mixed where the processor has it"
    )
    items: ItemPlace = Field(
        default="auto",
        description="where the data are kept while networks train; auto is on disk, beside the "
        "stored weights, for a modality of more than 256 MiB",
    )
    threads: AutoOrCount = Field(
        default="auto",
        description="processor threads; auto is OMP_NUM_THREADS, or one for each core",
    )
    compile: Annotated[StrictBool, OMIT_DEFAULT] = Field(
        default=False,
        description="compile what is trained by torch.compile: faster steps after a slow first one,"
        " other dropout draws and last bits; needs a C++ compiler",
    )
