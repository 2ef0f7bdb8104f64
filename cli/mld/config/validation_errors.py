"""Pydantic's errors in plain words: value seen, values allowed, the nearest right word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, Discriminator, ValidationError
from pydantic_core import ErrorDetails

from mld.config.yaml_document import KeyPath, format_key_path
from mld_core.errors import did_you_mean

Models = Sequence[type[BaseModel]]

FieldError = tuple[KeyPath, str]
"""The path of an invalid value, and the message about it."""

RENAMED_KEYS = {
    "batch": "batch_size",
    "ema": "ema_decay",
    "judge": "evaluate",
    "per_subset": "num_samples",
    "rendered": "num_previews",
    "unfit": "on_invalid",
    "updates": "steps",
}
"""Keys of a spec that were called otherwise before; the error for an old one names the new one."""

RENAMED_VALUES = {"label": "by-label", "leave_out": "drop", "random": "mcar"}
"""Values that were called otherwise before, where the new one is allowed and the old one is not."""


MAX_VALUE_LENGTH = 80
"""How much of a value a message shows."""


class ConfigErrors(ValueError):
    """Several errors below one value, each with its path from there."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = list(errors)
        super().__init__(format_errors(self.errors))


def format_errors(errors: Iterable[FieldError]) -> str:
    """Errors on one line: "steps: must be above 0, not 0; sampler: ..."."""
    return "; ".join(
        f"{format_key_path(path)}: {message}" if path else message for path, message in errors
    )


def raise_config_errors(errors: Iterable[FieldError]) -> None:
    """ConfigErrors if there are any errors."""
    if listed := list(errors):
        raise ConfigErrors(listed)


def format_validation_errors(
    error: ValidationError, model: type[BaseModel], raw: Any, *shared: type[BaseModel]
) -> Iterator[FieldError]:
    """Path and message of each error that a model found in plain values.

    `shared` are other models whose fields may be written among those of `model`; they are offered
    where a field is unknown.
    """
    for details in error.errors(include_url=False):
        loc = details["loc"]
        path = _written_path(loc, raw)
        inner = details.get("ctx", {}).get("error")
        if isinstance(inner, ConfigErrors):
            yield from (((*path, *below), message) for below, message in inner.errors)
        elif details["type"].startswith("union_tag"):
            yield (*path, "kind"), _tag_message(details, _models_at([model], loc))
        else:
            missing = loc[-1:] if details["type"] == "missing" else ()
            yield (*path, *missing), _message(details, _models_at([model, *shared], loc[:-1]))


def _written_path(loc: KeyPath, raw: Any) -> KeyPath:
    """The part of pydantic's path that the user wrote: without the names of union branches."""
    path: KeyPath = ()
    for part in loc:
        is_key = isinstance(raw, dict) and part in raw
        if is_key or (isinstance(raw, list) and isinstance(part, int) and part < len(raw)):
            raw = raw[part]
            path = (*path, part)
    return path


def _models_at(models: Models, loc: KeyPath) -> Models:
    """The models whose fields pydantic's path leads into."""
    for part in loc:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        inner = [model for field in fields for model in _models_in(field.annotation)]
        tagged = [model for model in models if part in _tags(model)]
        models = inner if fields else tagged or models
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _tag_message(details: ErrorDetails, models: Models) -> str:
    kinds = [kind for model in models for kind in _tags(model)]
    listed = ", ".join(repr(kind) for kind in kinds)
    if details["type"] == "union_tag_not_found":
        return f"missing; one of {listed}"
    tag = details["ctx"]["tag"]
    return f"must be one of {listed}, not {tag!r}{did_you_mean(tag, kinds)}"


_ALLOWED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping"),
    "finite_number": "finite",
    "string_type": "text",
    "path_type": "a path",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
}
"""What a value must be, by pydantic's type of error."""


def _message(details: ErrorDetails, models: Models) -> str:
    error_type, value, context = details["type"], details["input"], details.get("ctx", {})
    fields = {key: field for model in models for key, field in model.model_fields.items()}
    name = str(details["loc"][-1]) if details["loc"] else ""
    if error_type == "extra_forbidden":
        if RENAMED_KEYS.get(name) in fields:
            return f"`{name}` is now called `{RENAMED_KEYS[name]}`"
        return f"unknown field{did_you_mean(name, fields) or '; known: ' + ', '.join(fields)}"
    if error_type == "missing":
        meaning = fields[name].description if name in fields else None
        return f"missing ({meaning})" if meaning else "missing"
    if error_type == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        if isinstance(value, str) and RENAMED_VALUES.get(value) in words:
            return f"`{value}` is now called `{RENAMED_VALUES[value]}`"
        allowed = f"one of {context['expected']}" if len(words) > 1 else context["expected"]
        return f"must be {allowed}, not {describe_value(value)}{did_you_mean(value, words)}"
    if error_type in _ALLOWED:
        bounds = {
            key: f"{bound:g}" for key, bound in context.items() if isinstance(bound, float | int)
        }
        allowed = _ALLOWED[error_type].format(**(context | bounds))
        return f"must be {allowed}, not {describe_value(value)}"
    reason = str(context.get("error", details["msg"]))
    return reason if isinstance(value, dict) else f"{reason}, not {describe_value(value)}"


def describe_value(value: Any) -> str:
    """A value of a document in a message, of at most MAX_VALUE_LENGTH characters."""
    if isinstance(value, bool):
        return str(value).lower()
    names = {type(None): "nothing", dict: "a mapping", list: "a list"}
    text = names.get(type(value)) or repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def discriminate_by_type(message: str, **tags: type | tuple[type, ...]) -> Discriminator:
    """Selects the branch of a union by the value's type; the tag "word" fits the text "auto" alone.

    `message` is that of the error for a value that fits no branch.
    """

    def tag_of(value: Any) -> str | None:
        if value == "auto" and "word" in tags:
            return "word"
        if isinstance(value, bool):
            return None
        fitting = (tag for tag, types in tags.items() if tag != "word" and isinstance(value, types))
        return next(fitting, None)

    return Discriminator(tag_of, custom_error_type="neither", custom_error_message=message)
