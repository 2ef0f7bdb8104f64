"""Configs with one defect each, which one check detects."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, field_serializer
from pydantic.json_schema import SkipJsonSchema


def broken_configs(config_class: Any) -> dict[str, Any]:
    """Check to a subclass of a Config that fails it."""

    class Rounding(config_class):
        share: float = Field(0.25, description="dumped as a whole number")

        @field_serializer("share")
        def _rounded(self, share):
            return round(share)

    class HiddenField(config_class):
        hidden: SkipJsonSchema[int] = Field(1, description="not in the schema")

    class Undescribed(config_class):
        depth: int = 2

    class Open(config_class):
        model_config = ConfigDict(extra="ignore", frozen=True)

    class Mutable(config_class):
        model_config = ConfigDict(extra="forbid", frozen=False)

    return {
        "config-round-trip": Rounding,
        "config-schema": HiddenField,
        "config-described": Undescribed,
        "config-closed": Open,
        "config-frozen": Mutable,
    }
