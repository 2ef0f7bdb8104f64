"""Settings that all pretrained modalities have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, TypeAdapter, field_validator, model_validator

from mld_core import ModalityConfig, SpecPath

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SPEC_PATH = TypeAdapter[Path](SpecPath)


class PretrainedConfig(ModalityConfig):
    """Which weights a modality uses."""

    weights: str = Field(
        description="a name on the Hugging Face Hub (owner/name), or a local folder, which begins "
        "with ./, ../, ~ or / and is relative to the spec's folder"
    )
    revision: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{40}$",
        description="of weights on the Hub: the commit, 40 hexadecimal digits",
    )
    subfolder: str = Field(
        "",
        pattern=r"^([\w-][\w.-]*(/[\w-][\w.-]*)*)?$",
        description="folder of the model within the weights, such as vae",
    )

    @property
    def is_local(self) -> bool:
        """Whether the weights are a folder."""
        return Path(self.weights).is_absolute()

    @field_validator("weights")
    @classmethod
    def _resolve_folder(cls, value: str, info: Any) -> str:
        if value.startswith((".", "/", "~")):
            path = _SPEC_PATH.validate_python(value, context=info.context)
            return str(path.expanduser().absolute())
        if not HUB_NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} is no name on the Hugging Face Hub, such as owner/name; a local folder "
                "begins with ./, ../, ~ or /"
            )
        return value

    @model_validator(mode="after")
    def _check_revision(self) -> Self:
        if self.latent_dim is not None:
            raise ValueError("the weights decide the shape of the latent: remove latent_dim")
        if self.is_local and self.revision is not None:
            raise ValueError("revision belongs to a name on the Hub: remove it beside a folder")
        if not self.is_local and self.revision is None:
            raise ValueError(
                f"pin the weights: set revision to a commit of {self.weights}, as "
                f"https://huggingface.co/{self.weights}/commits/main lists them; or write "
                f"./{self.weights} if it is a folder"
            )
        return self
