"""Settings of a modality whose latent is a vector, a sequence or a grid, as the spec says."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mld_core.contracts.modality import ModalityConfig


class LatentConfig(BaseModel):
    """Settings of a latent with structure; plugins subclass it and declare fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


LatentT = TypeVar("LatentT", bound=LatentConfig)


class StructuredConfig(ModalityConfig, Generic[LatentT]):
    """Settings of a modality whose latent is a vector, or a sequence or grid.

    A spec gives either `latent_dim`, the width of a vector, or `latent`, the settings of a sequence
    or grid. With neither, the default of `latent_dim` applies.
    """

    autoencoder_settings: ClassVar[frozenset[str]] = frozenset({"latent_dim", "latent"})

    latent: LatentT | None = Field(
        None,
        description="a sequence or grid in place of a vector, with these settings",
        exclude_if=lambda latent: latent is None,
    )

    def suggested_latent(self) -> LatentT | None:
        """The `latent` that suits the other settings; None if a vector suits them."""
        return None

    def starter(self) -> ModalityConfig:
        """These settings with the latent that suits them, where the spec names none."""
        latent = self.suggested_latent()
        if latent is None or self.model_fields_set & {"latent", "latent_dim"}:
            return self
        return type(self).model_validate(
            {**self.model_dump(exclude={"latent_dim"}), "latent": latent}
        )

    @model_validator(mode="before")
    @classmethod
    def _replace_default_width(cls, values: Any) -> Any:
        """With `latent`, the default of `latent_dim` does not apply."""
        if isinstance(values, dict) and values.get("latent") is not None:
            return {"latent_dim": None, **values}
        return values

    @model_validator(mode="after")
    def _check_one_latent(self) -> StructuredConfig[LatentT]:
        if (self.latent_dim is None) == (self.latent is None):
            raise ValueError(
                "give one of latent_dim, the width of a vector, and latent, the settings of a "
                "sequence or grid"
            )
        return self
