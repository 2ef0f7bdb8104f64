"""Sections of a spec that a plugin defines: a kind, and settings checked by the plugin's Config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    model_validator,
)

from mld.config.validation_errors import (
    ConfigErrors,
    FieldError,
    discriminate_by_type,
    format_validation_errors,
    raise_config_errors,
)
from mld_core.errors import SpecError, plugin_call

if TYPE_CHECKING:
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
        discriminate_by_type(
            "must be a number, or a mapping of numbers", number=(int, float), mapping=dict
        ),
    ] = Field(description="share of cells left out, of every modality or by name; 0 <= rate < 1")
    mechanism: Literal["mcar", "by-label"] = Field(
        "mcar",
        description="mcar: completely at random; by-label: more often the higher the class, with "
        "rates of at most 0.5",
    )

    @model_validator(mode="after")
    def _check_rates(self) -> MissingSpec:
        if self.mechanism == "by-label":
            raise_config_errors(self._rate_errors())
        return self

    def _rate_errors(self) -> Iterator[FieldError]:
        rates = self.rate if isinstance(self.rate, dict) else {"": self.rate}
        for name, rate in rates.items():
            if rate > 0.5:
                limit = "with mechanism: by-label, a rate is at most 0.5"
                reason = "the last class misses twice as much"
                yield ("rate", name) if name else ("rate",), f"{limit} ({reason}), not {rate}"


class DataSpec(KindSpec):
    """A dataset and its settings, and which of its cells an experiment leaves out."""

    missing: MissingSpec | None = None

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        missing = {"missing": self.missing.model_dump()} if self.missing else {}
        return {"kind": self.kind, **self.config.model_dump(mode="json"), **missing}


class _DataSettings(BaseModel):
    """The settings that every dataset has, beside those of its own Config."""

    missing: MissingSpec | None = None


def parse_modality(raw: Any, info: ValidationInfo) -> Any:
    """The KindSpec of a modality from its flat mapping, checked by the plugin's own Config.

    Any value that is no mapping is returned as it is.
    """
    if not isinstance(raw, dict) or info.context is None:
        return raw
    registry: Registry = info.context["registry"]
    kind = _kind_of(raw, registry)
    settings = {name: value for name, value in raw.items() if name != "kind"}
    config = parse_plugin_config("kind", kind, registry.modality, settings, info)
    return KindSpec(kind=kind, config=config)


def parse_dataset(raw: Any, info: ValidationInfo) -> Any:
    """The DataSpec of a dataset from its flat mapping, checked by the plugin's own Config.

    Any value that is no mapping and no KindSpec is returned as it is.
    """
    if isinstance(raw, KindSpec) and not isinstance(raw, DataSpec):
        return DataSpec(kind=raw.kind, config=raw.config)
    if not isinstance(raw, dict) or info.context is None:
        return raw
    registry: Registry = info.context["registry"]
    kind = _kind_of(raw, registry)
    settings = {name: value for name, value in raw.items() if name not in ("kind", "missing")}
    config = parse_plugin_config("kind", kind, registry.dataset, settings, info, _DataSettings)
    try:
        return DataSpec(kind=kind, config=config, missing=raw.get("missing"))
    except ValidationError as error:
        raise ConfigErrors(format_validation_errors(error, DataSpec, raw)) from error


def _kind_of(raw: dict[str, Any], registry: Registry) -> str:
    kind = raw.get("kind")
    if isinstance(kind, str):
        return kind
    message = f"must be text, not {kind!r}" if "kind" in raw else "missing"
    installed = ", ".join(registry.kinds)
    raise ConfigErrors([(("kind",), f"{message} (installed kinds: {installed})")])


def parse_plugin_config(
    field: str,
    kind: str,
    find: Callable[[str], type[Modality] | type[Dataset] | type[Method]],
    settings: dict[str, Any],
    info: ValidationInfo,
    *shared: type[BaseModel],
) -> BaseModel:
    """A plugin's Config, made of its settings.

    Args:
        field: where the spec names the kind.
        kind: the plugin's.
        find: the method of the registry that looks it up.
        settings: those of the plugin.
        info: of the validation under way; its context is passed to the Config.
        shared: models of settings that are written beside the plugin's.
    """
    try:
        plugin = find(kind)
    except SpecError as error:
        raise ConfigErrors([((field,), str(error))]) from error
    try:
        with plugin_call(f"kind {kind!r}: its Config", passes=(ValidationError,)):
            return plugin.Config.model_validate(settings, context=info.context)
    except ValidationError as error:
        errors = format_validation_errors(error, plugin.Config, settings, *shared)
        raise ConfigErrors(errors) from error
