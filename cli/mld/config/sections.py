"""The sections of a spec: the settings of each stage, with their ranges and defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    InstanceOf,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)

from mld.config.plugin_sections import Section, plugin_config
from mld.config.validation_errors import ConfigErrors, either, format_validation_errors
from mld_core.diffusion.role_schemes import RoleScheme

if TYPE_CHECKING:
    from mld_core import Registry

Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Time = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Steps = Annotated[int, Field(strict=True, gt=0, description="optimiser steps")]
BatchSize = Annotated[int, Field(strict=True, gt=0, description="rows per optimiser step")]
LearningRate = Annotated[
    float, Field(strict=True, gt=0, allow_inf_nan=False, description="step size of the optimiser")
]


AutoOrCount = Annotated[
    Annotated[Literal["auto"], Tag("word")]
    | Annotated[int, Field(strict=True, ge=1), Tag("number")],
    either("must be auto or a whole number", word=str, number=int),
]


class TrainingSpec(Section):
    """How long and how fast one network trains."""

    steps: Steps = 2000
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 1e-3


class TrainingOverride(Section):
    """What one modality's training does differently; null keeps the common value."""

    steps: Steps | None = None
    batch_size: BatchSize | None = None
    learning_rate: LearningRate | None = None


class AutoencodeSpec(Section):
    """Training of the autoencoders."""

    steps: Steps = 2000
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 1e-3
    overrides: dict[str, TrainingOverride] = Field(
        default_factory=dict, description="by modality: its own steps, batch_size or learning_rate"
    )

    def of(self, name: str) -> TrainingSpec:
        """The training of one modality's autoencoder, its override applied."""
        own = self.overrides.get(name, TrainingOverride()).model_dump(exclude_none=True)
        return TrainingSpec.model_validate(self.model_dump(exclude={"overrides"}) | own)


class ResidualMLPSpec(Section):
    """Residual MLP with adaptive normalisation."""

    kind: Literal["residual-mlp"] = "residual-mlp"
    width: Whole = Field(512, gt=0, description="numbers in a hidden layer")
    depth: Whole = Field(4, gt=0, description="residual blocks")
    dropout: Real = Field(0.0, ge=0, lt=1, description="share of hidden numbers dropped")


class UNetMLPSpec(Section):
    """The paper's MLP in the shape of a U-Net."""

    kind: Literal["unet-mlp"] = "unet-mlp"
    width: Whole = Field(512, gt=0, description="numbers in the widest layer")
    depth: Whole = Field(2, gt=0, description="halvings on the way down")


class PerSubsetSpec(ResidualMLPSpec):
    """A residual MLP of its own for every observed subset; only with roles: paper."""

    kind: Literal["per-subset"] = "per-subset"  # type: ignore[assignment]


NetworkSpec = Annotated[ResidualMLPSpec | UNetMLPSpec | PerSubsetSpec, Field(discriminator="kind")]


class DiffuseSpec(Section):
    """Training of the score network over the joint latent."""

    method: Literal["mld"] = Field("mld", description="what is trained on the latents")
    roles: RoleScheme = Field(
        "three-role", description="how training draws what is generated, observed and absent"
    )
    p_conditional: Real | None = Field(
        None,
        ge=0,
        le=1,
        validate_default=True,
        description="share of rows trained conditionally; only with roles: paper, there 0.5",
    )
    network: NetworkSpec = Field(ResidualMLPSpec(), description="the score network")
    steps: Steps = 3000
    batch_size: BatchSize = 512
    learning_rate: LearningRate = 1e-3
    beta_min: Real = Field(0.1, ge=0, description="noise rate at time 0, clean data")
    beta_max: Real = Field(20.0, gt=0, description="noise rate at time 1, pure noise")
    ema_decay: Real = Field(0.999, ge=0, lt=1, description="decay of the moving average of weights")

    @field_validator("p_conditional")
    @classmethod
    def _half_in_the_paper(cls, told: float | None, info: ValidationInfo) -> float | None:
        return 0.5 if told is None and info.data.get("roles") == "paper" else told


class MethodSpec(TrainingSpec):
    """Training of another method's model; in YAML one flat mapping, `{method: x, steps: 1}`."""

    method: str
    config: SerializeAsAny[InstanceOf[BaseModel]]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        training = {name: getattr(self, name) for name in TrainingSpec.model_fields}
        return {"method": self.method, **training, **self.config.model_dump(mode="json")}


def _of_a_plugin(told: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """A DiffuseSpec, or a MethodSpec where the method told is not mld's own."""
    method = told.get("method", "mld") if isinstance(told, dict) else "mld"
    if method == "mld" or not isinstance(method, str) or info.context is None:
        return handler(told)
    training = {name: told[name] for name in TrainingSpec.model_fields if name in told}
    settings = {name: own for name, own in told.items() if name not in {*training, "method"}}
    registry: Registry = info.context["registry"]
    config = plugin_config("method", method, registry.method, settings, info)
    try:
        return MethodSpec(**training, method=method, config=config)
    except ValidationError as error:
        raise ConfigErrors(format_validation_errors(error, MethodSpec, told)) from error


ModelSpec = Annotated[SerializeAsAny[DiffuseSpec], WrapValidator(_of_a_plugin)]
"""What is trained over all modalities: mld's own score network, or a plugin's method."""


class GuidanceSpec(Section):
    """Guidance weights of the two parts of the guided score."""

    conditional: Real = Field(1.0, ge=0, description="weight of the observed modalities")
    joint: Real = Field(1.0, ge=0, description="weight of the generated ones upon each other")
    interval: tuple[Time, Time] = Field(
        (0.0, 1.0), description="the times between which to guide; outside it costs nothing"
    )

    @model_validator(mode="after")
    def _rises(self) -> GuidanceSpec:
        first, last = self.interval
        if first >= last:
            raise ConfigErrors([(("interval",), f"must rise, not go from {first} to {last}")])
        return self


Strength = Annotated[
    Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), Tag("number")]
    | Annotated[GuidanceSpec, Tag("mapping")],
    either(
        "must be a number or {conditional: a, joint: b}",
        number=(int, float),
        mapping=(dict, GuidanceSpec),
    ),
]
"""How strongly to guide, both parts alike or each by itself."""


class GenerateSpec(Section):
    """What is sampled from the trained network, and how."""

    sampler: Literal[
        "dpm-solver++", "sde-dpm-solver++", "ddim", "heun", "euler-maruyama", "repaint", "inpaint"
    ] = Field("dpm-solver++", description="the solver")
    steps: Whole = Field(20, gt=0, description="solver steps")
    guidance: Strength = Field(
        1.0, description="0 is none; a number, or {conditional: a, joint: b, interval: [from, to]}"
    )
    num_samples: Whole = Field(500, gt=0, description="samples for each observed subset")
    num_previews: Whole = Field(8, ge=0, description="samples for each subset drawn in the report")
    subsets: Annotated[
        Annotated[Literal["auto"], Tag("word")] | Annotated[list[list[str]], Tag("list")],
        either("must be auto or a list of lists of modalities", word=str, list=list),
    ] = Field("auto", description="observed subsets, [] is none observed; auto chooses")


class EvaluateSpec(Section):
    """Training of the classifiers that judge coherence."""

    steps: Steps = 1000
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 1e-3


class ComputeSpec(Section):
    """Where and in which precision networks train."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(
        "auto", description="the kind of processor"
    )
    devices: AutoOrCount = Field("auto", description="how many of them")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="of training; auto is bf16-mixed where the processor has it"
    )
    threads: AutoOrCount = Field("auto", description="processor threads")
