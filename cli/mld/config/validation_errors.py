"""Pydantic's complaints in plain words: value seen, values allowed, the nearest right word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, Discriminator, ValidationError
from pydantic_core import ErrorDetails

from mld.config.yaml_document import KeyPath, show

FieldError = tuple[KeyPath, str]


class ConfigErrors(ValueError):
    """Several things wrong below one value, each with its path from there."""

    def __init__(self, found: Iterable[FieldError]) -> None:
        self.found = list(found)
        super().__init__("; ".join(f"{show(path)}: {message}" for path, message in self.found))


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, if any is near."""
    near = difflib.get_close_matches(str(word), list(words), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def format_validation_errors(
    error: ValidationError, model: type[BaseModel], told: Any
) -> Iterator[FieldError]:
    """Path and message of each thing that a model has against the plain values it was told."""
    for fault in error.errors(include_url=False):
        path = _dotted(fault["loc"], told)
        inner = fault.get("ctx", {}).get("error")
        if isinstance(inner, ConfigErrors):
            yield from (((*path, *below), message) for below, message in inner.found)
        elif fault["type"].startswith("union_tag"):
            yield (*path, "kind"), _tag_message(fault, _models_at(model, fault["loc"]))
        elif fault["type"] == "missing":
            yield (*path, fault["loc"][-1]), _message(fault, _models_at(model, fault["loc"][:-1]))
        else:
            yield path, _message(fault, _models_at(model, fault["loc"][:-1]))


def _dotted(loc: KeyPath, told: Any) -> KeyPath:
    """The part of pydantic's path that the user wrote: without the names of union branches."""
    path: KeyPath = ()
    for part in loc:
        held = isinstance(told, dict) and part in told
        if held or (isinstance(told, list) and isinstance(part, int)):
            told = told[part]
            path = (*path, part)
    return path


def _models_at(model: type[BaseModel], loc: KeyPath) -> list[type[BaseModel]]:
    """The models whose fields pydantic's path leads into."""
    models = [model]
    for part in loc:
        fields = [known.model_fields[part] for known in models if part in known.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
        else:
            models = [known for known in models if part in _tags(known)] or models
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _tag_message(fault: ErrorDetails, models: list[type[BaseModel]]) -> str:
    kinds = [kind for model in models for kind in _tags(model)]
    if fault["type"] == "union_tag_not_found":
        return f"missing; one of {_listed(kinds)}"
    seen = fault["ctx"]["tag"]
    return f"must be one of {_listed(kinds)}, not {seen!r}{did_you_mean(seen, kinds)}"


_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "finite",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def _message(fault: ErrorDetails, models: list[type[BaseModel]]) -> str:
    kind, seen, context = fault["type"], fault["input"], fault.get("ctx", {})
    fields = {key: field for model in models for key, field in model.model_fields.items()}
    name = str(fault["loc"][-1]) if fault["loc"] else ""
    if kind == "extra_forbidden":
        return f"unknown field{did_you_mean(name, fields) or '; known: ' + ', '.join(fields)}"
    if kind == "missing":
        meaning = fields[name].description if name in fields else None
        return f"missing ({meaning})" if meaning else "missing"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"])
        wanted = f"one of {context['expected']}" if len(words) > 1 else context["expected"]
        return f"must be {wanted}, not {_seen(seen)}{did_you_mean(seen, words)}"
    if kind in _WANTED:
        bounds = {
            key: f"{bound:g}" for key, bound in context.items() if isinstance(bound, float | int)
        }
        return f"must be {_WANTED[kind].format(**(context | bounds))}, not {_seen(seen)}"
    reason = str(context.get("error", fault["msg"]))
    return reason if isinstance(seen, dict) else f"{reason}, not {_seen(seen)}"


def _seen(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
    return repr(value)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in words)


def either(message: str, **tags: type | tuple[type, ...]) -> Discriminator:
    """Tells the branches of a union apart by the type told; "word" takes only `auto`."""

    def choose(told: Any) -> str | None:
        if told == "auto" and "word" in tags:
            return "word"
        fits = [tag for tag, types in tags.items() if tag != "word" and isinstance(told, types)]
        return fits[0] if fits and not isinstance(told, bool) else None

    return Discriminator(choose, custom_error_type="neither", custom_error_message=message)
