"""Plugins in a spec: a kind, and settings that the plugin's own Config checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    model_serializer,
)

from mld.config.validation_errors import ConfigErrors, either, format_validation_errors
from mld_core import PluginError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mld_core import Dataset, Method, Modality, Registry


class Section(BaseModel):
    """One mapping of a spec: frozen, and closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KindSpec(Section):
    """A plugin and its settings; in YAML one flat mapping, `{kind: image, latent_dim: 16}`."""

    kind: str
    config: SerializeAsAny[InstanceOf[BaseModel]]

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.config.model_dump(mode="json")}


Rate = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]


class MissingSpec(Section):
    """Cells of training and validation rows to leave out, for experiments with missing data."""

    rate: Annotated[
        Annotated[Rate, Tag("number")] | Annotated[dict[str, Rate], Tag("mapping")],
        either("must be a number, or a mapping of numbers", number=(int, float), mapping=dict),
    ] = Field(description="share of cells left out, of every modality or by name; 0 <= rate < 1")
    mechanism: Literal["mcar", "by-label"] = Field(
        "mcar", description="label: the higher the class, the likelier; rates then at most 0.5"
    )


class DataSpec(KindSpec):
    """A dataset and its settings, and which of its cells an experiment leaves out."""

    missing: MissingSpec | None = None

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        missing = {"missing": self.missing.model_dump()} if self.missing else {}
        return {"kind": self.kind, **self.config.model_dump(mode="json"), **missing}


def _configured(told: Any, info: ValidationInfo, role: Literal["modality", "dataset"]) -> Any:
    if not isinstance(told, dict) or info.context is None:
        return told
    registry: Registry = info.context["registry"]
    kind = told.get("kind")
    if not isinstance(kind, str):
        said = f"must be text, not {kind!r}" if "kind" in told else "missing"
        raise ConfigErrors([(("kind",), f"{said} (installed kinds: {', '.join(registry.kinds)})")])
    find = registry.modality if role == "modality" else registry.dataset
    settings = {name: value for name, value in told.items() if name != "kind"}
    return KindSpec(kind=kind, config=plugin_config("kind", kind, find, settings, info))


def plugin_config(
    field: str,
    kind: str,
    find: Callable[[str], type[Modality] | type[Dataset] | type[Method]],
    settings: dict[str, Any],
    info: ValidationInfo,
) -> BaseModel:
    """The settings of a plugin, checked by its own Config; `field` is where its kind was told."""
    try:
        plugin = find(kind)
    except SpecError as error:
        raise ConfigErrors([((field,), str(error))]) from error
    try:
        return plugin.Config.model_validate(settings, context=info.context)
    except ValidationError as error:
        raise ConfigErrors(format_validation_errors(error, plugin.Config, settings)) from error
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise PluginError(f"kind {kind!r}: its Config failed: {said}") from error


def configured_modality(told: Any, info: ValidationInfo) -> Any:
    """The KindSpec of a modality from its flat mapping, checked by the plugin's own Config."""
    return _configured(told, info, "modality")


def configured_dataset(told: Any, info: ValidationInfo) -> Any:
    """The DataSpec of a dataset from its flat mapping, checked by the plugin's own Config."""
    if isinstance(told, KindSpec) and not isinstance(told, DataSpec):
        return DataSpec(kind=told.kind, config=told.config)
    if not isinstance(told, dict) or info.context is None:
        return told
    own = _configured(
        {key: value for key, value in told.items() if key != "missing"}, info, "dataset"
    )
    try:
        return DataSpec(kind=own.kind, config=own.config, missing=told.get("missing"))
    except ValidationError as error:
        raise ConfigErrors(format_validation_errors(error, DataSpec, told)) from error
