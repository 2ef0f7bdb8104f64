"""YAML in which every value knows its place, so that a complaint can name file and line.

Scalars follow YAML 1.2: `1e-3` is a number, `no` and `on` are text, `010` is ten. A key given
twice is a complaint, not a silent choice.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from mld_core import SpecError

KeyPath = tuple[str | int, ...]

_SCALARS = [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
]
_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML's own scalars of version 1.2 and no others."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True, order=True)
class Place:
    """Where something was said: on a line of a file, or in an override, which comes after."""

    override: int
    line: int
    column: int
    text: str


@dataclass(frozen=True, order=True)
class Diagnostic:
    """One thing that is wrong with a spec; complaints sort by place."""

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        said = [self.place.text, self.path, self.message]
        if not self.path or self.place.text == f"--set {self.path}":
            del said[1]
        return ": ".join(said)


class _NotYAML(Exception):
    def __init__(self, complaint: Diagnostic) -> None:
        self.complaint = complaint


@dataclass
class Document:
    """A YAML file as plain values, with the place of each and the complaints so far."""

    value: Any = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    complaints: list[Diagnostic] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, overrides: Iterable[str] = ()) -> Document:
        """A file's values after overrides `a.b=c`. SpecError if it is not YAML."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SpecError(f"{path}: is not UTF-8 text: {error.reason}") from error
        document = cls()
        marker = _Marker(Place(-1, 1, 0, str(path)), lines=True)
        try:
            node = _composed(text, marker)
        except _NotYAML as error:
            raise SpecError(str(error.complaint)) from error
        document.value = document._value(node, (), marker, ())
        document.assign(overrides)
        return document

    @classmethod
    def assigned(cls, overrides: Iterable[str]) -> dict[str, Any]:
        """The values of overrides `a.b=c` alone. SpecError if one of them is not YAML."""
        document = cls({})
        document.assign(overrides)
        document.refuse([])
        return document.value

    def complain(self, path: KeyPath, message: str) -> None:
        """Note what is wrong with a value, at its place or that of the nearest one around it."""
        self.complaints.append(Diagnostic(self.place(path), show(path), message))

    def place(self, path: KeyPath) -> Place:
        """Where a value was said, or else the nearest one around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]

    def refuse(self, found: Iterable[tuple[KeyPath, str]]) -> None:
        """SpecError with all that was found and all complaints so far, if there are any."""
        for path, message in dict.fromkeys(found):
            self.complain(path, message)
        if self.complaints:
            raise SpecError("\n".join(str(complaint) for complaint in sorted(self.complaints)))

    def assign(self, overrides: Iterable[str]) -> None:
        """Set values from overrides `a.b=c`; what is wrong with one becomes a complaint."""
        for order, assignment in enumerate(overrides):
            self._override(assignment, order)

    def _override(self, assignment: str, order: int) -> None:
        """Set one value from `a.b=c`, where c is YAML."""
        name, equals, text = (part.strip() for part in assignment.partition("="))
        path: KeyPath = tuple(name.split("."))
        at = _Marker(Place(order, 0, 0, f"--set {name}"))
        if not equals or not all(path):
            told = "an override is written path=value, as in diffuse.steps=500"
            self.complaints.append(Diagnostic(at.base, "", told))
            return
        try:
            node = _composed(text, at)
        except _NotYAML as error:
            self.complaints.append(error.complaint)
            return
        holder = self._opened(path, at.base)
        if holder is not None:
            holder[path[-1]] = self._value(node, path, at, ())

    def part(self, path: KeyPath = ()) -> Document:
        """A copy of one value, or of all, with the places of what it holds."""
        value, size = self.value, len(path)
        for key in path:
            value = value[key]
        places = {known[size:]: at for known, at in self.places.items() if known[:size] == path}
        return Document(copy.deepcopy(value), places)

    def put(self, name: str, told: Document) -> None:
        """Set the value of a dotted name to that of another document, with its places."""
        path: KeyPath = tuple(name.split("."))
        holder = self._opened(path, told.places[()])
        if holder is not None:
            holder[path[-1]] = told.value
            self.places |= {(*path, *below): place for below, place in told.places.items()}

    def _opened(self, path: KeyPath, place: Place) -> dict[str, Any] | None:
        """The mapping in which a value is to be set from a place; complains where there is none."""
        inside = self.value
        for depth, key in enumerate(path[:-1], 1):
            inside = inside.setdefault(key, {}) if isinstance(inside, dict) else inside
            self.places.setdefault(path[:depth], place)
        if not isinstance(inside, dict):
            told = f"{show(path[:-1]) or 'the spec'} holds no named values, so none can be set"
            self.complaints.append(Diagnostic(place, "", told))
            return None
        for old in [known for known in self.places if known[: len(path)] == path]:
            del self.places[old]
        return inside

    def _value(self, node: yaml.Node | None, path: KeyPath, at: _Marker, around: tuple) -> Any:
        """The plain value of a node; `around` are the nodes that it stands in."""
        self.places.setdefault(path, at.place(node))
        if node is None:
            return None
        if any(node is outer for outer in around):
            self.complain(path, "an alias that contains itself")
            return None
        if not node.tag.startswith(_PREFIX):
            self.complain(path, f"the tag {node.tag!r} has no meaning here; remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, at, (*around, node))
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(inner, (*path, index), at, (*around, node))
                for index, inner in enumerate(node.value)
            ]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, at: _Marker, around: tuple) -> dict:
        told: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.complain(path, "a name must be a word, not a list or a mapping")
                continue
            here, place = (*path, key.value), at.place(key)
            if key.value in told:
                first = self.places[here].text
                self.complaints.append(
                    Diagnostic(place, show(here), f"given twice; the first is at {first}")
                )
                continue
            self.places[here] = place
            told[key.value] = self._value(inner, here, at, around)
        return told

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        try:
            return _plain(node.tag.removeprefix(_PREFIX), node.value)
        except ValueError:
            kind = node.tag.removeprefix(_PREFIX)
            self.complain(path, f"{node.value!r} cannot be read as {kind}")
            return node.value


@dataclass(frozen=True)
class _Marker:
    """Gives the place of a node: its own line of the file, or the override that it is in."""

    base: Place
    lines: bool = False

    def place(self, node: yaml.Node | None) -> Place:
        mark = node.start_mark if node else yaml.Mark(None, 0, 0, 0, None, None)
        return self.line(mark.line + 1, mark.column)

    def line(self, number: int, column: int) -> Place:
        if not self.lines:
            return self.base
        return Place(-1, number, column, f"{self.base.text}:{number}")


def show(path: KeyPath) -> str:
    """A path as people write it: diffuse.steps, generate.subsets[0]."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in path
    ).removeprefix(".")


def dump_yaml(value: Any, flow: bool = False) -> str:
    """Plain values as YAML that reads back the same here and in readers of YAML 1.1.

    With `flow`, on one line without a line break at its end.
    """
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=flow,
        width=100 if not flow else 10**6,
    )
    # PyYAML marks the end of a document that is a single scalar.
    return text.removesuffix("...\n").rstrip("\n") if flow else text


class _Dumper(yaml.SafeDumper):
    """Quotes each text that YAML 1.1 or 1.2 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    looks_like = _Loader("").resolve(yaml.ScalarNode, text, (True, False))
    style = None if looks_like == f"{_PREFIX}str" else "'"
    return dumper.represent_scalar(f"{_PREFIX}str", text, style=style)


_Dumper.add_representer(str, _text)


def _composed(text: str, at: _Marker) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" ({error.context})" if error.context else ""
        said = f"{error.problem}{context}"
        line = mark.line + 1 if mark else 1
    except yaml.reader.ReaderError as error:
        said = f"the character U+{error.character:04X} is not allowed"
        line = text[: error.position].count("\n") + 1
    raise _NotYAML(Diagnostic(at.line(line, 0), "", f"not YAML: {said}"))


def _plain(tag: str, text: str) -> Any:
    match tag:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
