"""Sections of a spec that a plugin defines: a kind, and settings checked by the plugin's Config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from mld.config.validation_errors import (
    ConfigErrors,
    FieldError,
    describe_value,
    discriminate_by_type,
    format_validation_errors,
    raise_config_errors,
)
from mld_core.errors import SpecError, plugin_call

if TYPE_CHECKING:
    from mld_core import Registry


OMIT_DEFAULT: Final = "omit default"
"""Metadata of a field that is not dumped at its default: older specs keep their fingerprints."""


class Section(BaseModel):
    """One mapping of a spec: frozen, and closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _without_omitted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self._omit_defaults(handler(self))

    def _omit_defaults(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Some dumped settings without those that are omitted at their default."""
        omitted = {
            name
            for name, field in type(self).model_fields.items()
            if OMIT_DEFAULT in field.metadata and getattr(self, name) == field.default
        }
        return {name: value for name, value in settings.items() if name not in omitted}

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:
        raise_config_errors(self._errors())
        return self

    def _errors(self) -> Iterable[FieldError]:
        """The errors between fields that are valid one by one."""
        return ()


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

    def _errors(self) -> Iterator[FieldError]:
        rates = self.rate if isinstance(self.rate, dict) else {"": self.rate}
        for name, rate in rates.items():
            if self.mechanism == "by-label" and rate > 0.5:
                limit = "with mechanism: by-label, a rate is at most 0.5"
                reason = "the last class misses twice as much"
                yield ("rate", name) if name else ("rate",), f"{limit} ({reason}), not {rate}"


OnInvalid = Literal["error", "empty", "drop"]


class DataSettings(Section):
    """The settings that every dataset has, beside those of its own Config."""

    on_invalid: OnInvalid = Field(
        default="error",
        description="items that cannot be used: raise an error, leave their cells empty, or drop "
        "their rows",
    )
    missing: MissingSpec | None = Field(
        default=None, description="cells to leave out of training, for experiments"
    )


class ModalitySettings(Section):
    """The settings that every modality has, beside those of its own Config."""

    column: str | None = Field(
        default=None, min_length=1, description="the dataset's column, if it has another name"
    )


class ModalitySpec(ModalitySettings, KindSpec):
    """A modality and its settings, and the column that it reads."""

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        column = {} if self.column is None else {"column": self.column}
        return {"kind": self.kind, **column, **self.config.model_dump(mode="json")}


class DataSpec(DataSettings, KindSpec):
    """A dataset and its settings, and which of its cells an experiment leaves out."""

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        missing = {"missing": self.missing.model_dump()} if self.missing else {}
        settings = {"on_invalid": self.on_invalid, **missing}
        return {"kind": self.kind, **self.config.model_dump(mode="json"), **settings}


class TrackSpec(KindSpec):
    """A tracker and its settings."""


def parse_modality(raw: Any, info: ValidationInfo) -> Any:
    """The ModalitySpec of a flat mapping or a KindSpec; any other value is returned as it is."""
    if isinstance(raw, KindSpec) and not isinstance(raw, ModalitySpec):
        return ModalitySpec(kind=raw.kind, config=raw.config)
    return parse_plugin_section(ModalitySpec, raw, "modality", info, ModalitySettings)


def parse_dataset(raw: Any, info: ValidationInfo) -> Any:
    """The DataSpec of a flat mapping or a KindSpec; any other value is returned as it is."""
    if isinstance(raw, KindSpec) and not isinstance(raw, DataSpec):
        return DataSpec(kind=raw.kind, config=raw.config)
    return parse_plugin_section(DataSpec, raw, "dataset", info, DataSettings)


def parse_tracker(raw: Any, info: ValidationInfo) -> Any:
    """The TrackSpec of a flat mapping or a KindSpec; any other value is returned as it is."""
    if isinstance(raw, KindSpec) and not isinstance(raw, TrackSpec):
        return TrackSpec(kind=raw.kind, config=raw.config)
    return parse_plugin_section(TrackSpec, raw, "tracker", info)


def parse_plugin_section(
    section: type[Section], raw: Any, role: str, info: ValidationInfo, *shared: type[BaseModel]
) -> Any:
    """A section from its flat mapping: a kind, and settings checked by the plugin's own Config.

    Any value that is no mapping is returned as it is. `role` is modality, dataset, method or
    tracker; `shared` are models of settings that are written beside the plugin's.
    """
    if not isinstance(raw, dict) or info.context is None:
        return raw
    registry: Registry = info.context["registry"]
    field = "method" if role == "method" else "kind"
    kind = raw.get(field)
    if not isinstance(kind, str):
        message = f"must be text, not {describe_value(kind)}" if field in raw else "missing"
        installed = ", ".join(registry.kinds)
        raise ConfigErrors([((field,), f"{message} (installed kinds: {installed})")])
    beside = {name: raw[name] for model in shared for name in model.model_fields if name in raw}
    settings = {name: raw[name] for name in raw if name not in {field, *beside}}
    try:
        plugin = getattr(registry, role)(kind)
    except SpecError as error:
        raise ConfigErrors([((field,), str(error))]) from error
    try:
        with plugin_call(f"kind {kind!r}: its Config", passes=(ValidationError,)):
            config = plugin.Config.model_validate(settings, context=info.context)
    except ValidationError as error:
        errors = format_validation_errors(error, plugin.Config, settings, *shared)
        raise ConfigErrors(errors) from error
    try:
        return section.model_validate({field: kind, "config": config, **beside})
    except ValidationError as error:
        raise ConfigErrors(format_validation_errors(error, section, raw)) from error
