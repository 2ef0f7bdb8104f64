"""YAML whose values know their location, so that an error can name file and line.

Scalars follow YAML 1.2: `1e-3` is a number, `no` and `on` are text, `010` is ten. Names are always
text. A name that is given twice is an error, not a silent choice. The size of a file, its nesting
and what its aliases repeat are bounded, so that any file is read or refused within seconds.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml

from mld_core.data.regular_file import read_regular_file
from mld_core.errors import SpecError

KeyPath = tuple[str | int, ...]
"""Where a value is in a document: the names and indices that lead to it."""

_Nodes = tuple[yaml.Node, ...]

MAX_BYTES = 2**20
"""Largest file."""
MAX_DEPTH = 50
"""How deeply values may be nested."""
MAX_VALUES = 10_000
"""Most values of a document, each as often as aliases repeat it."""
MERGE_KEY = "<<"
"""What YAML 1.1 merges a mapping with; YAML 1.2 has no such key."""

_TAG_PREFIX = "tag:yaml.org,2002:"
_NULLS = {"": None, "~": None, "null": None}
_BOOLS = {"true": True, "false": False}
_SCALARS: dict[str, tuple[str, list[str], Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: _NULLS[text.lower()]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: _BOOLS[text.lower()]),
    "int": (r"[-+]?[0-9]+", list("-+0123456789"), int),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
        lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    ),
}
"""Each type of scalar other than text: its pattern, the characters it begins with, its parser."""


class _Loader(yaml.SafeLoader):
    """A loader that knows the scalars of YAML 1.2 and no others."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, (_pattern, _first, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True, order=True)
class SourceLocation:
    """Where a value is written: on a line of a file, or in an override, which sorts after it."""

    override: int
    line: int
    column: int
    text: str

    def at(self, mark: yaml.Mark | None) -> SourceLocation:
        """A mark's location if this is a whole file; an override is one location."""
        if self.override >= 0:
            return self
        line, column = (mark.line + 1, mark.column) if mark else (1, 0)
        return replace(self, line=line, column=column, text=f"{self.text}:{line}")


@dataclass(frozen=True, order=True)
class Diagnostic:
    """An error in a document; errors sort by location."""

    location: SourceLocation
    path: str
    message: str

    def __str__(self) -> str:
        parts = [self.location.text, self.path, self.message]
        if not self.path or self.location.text == f"--set {self.path}":
            del parts[1]
        return ": ".join(parts)


@dataclass
class Document:
    """A YAML file as plain values, with the location of each and the errors so far."""

    value: Any = None
    locations: dict[KeyPath, SourceLocation] = field(default_factory=dict)
    errors: list[Diagnostic] = field(default_factory=list)
    _values: int = 0

    @classmethod
    def read(cls, path: Path, advice: str = "") -> Document:
        """A file's values. SpecError if it is not YAML, or not a mapping.

        Args:
            advice: end of the message about plain text, which may be a table: what is expected.
        """
        try:
            text = read_regular_file(path, MAX_BYTES).decode()
        except OSError as error:
            raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SpecError(f"{path}: is not UTF-8 text: {error.reason}") from error
        document, file = cls(), SourceLocation(-1, 1, 0, str(path))
        node = document._compose(text, file)
        document.raise_if_errors()
        assert node is not None
        document.value = document._value(node, (), file)
        if not isinstance(document.value, dict):
            content = {list: "a list", type(None): "nothing"}.get(type(document.value))
            document._refuse((), f"must be a mapping, not {content or f'plain text{advice}'}")
        return document

    @classmethod
    def parse_overrides(cls, overrides: Iterable[str]) -> dict[str, Any]:
        """The values of overrides `a.b=c` alone. SpecError if one of them is not YAML."""
        value: dict[str, Any] = {}
        document = cls(value)
        document.apply_overrides(overrides)
        document.raise_if_errors()
        return value

    def location(self, path: KeyPath) -> SourceLocation:
        """Where a value is written, or else the nearest one around it."""
        while path and path not in self.locations:
            path = path[:-1]
        return self.locations[path]

    def add_error(self, path: KeyPath, message: str) -> None:
        """Add an error of a value, at its location or that of the nearest one around it."""
        self.errors.append(Diagnostic(self.location(path), format_key_path(path), message))

    def add_errors(self, errors: Iterable[tuple[KeyPath, str]]) -> None:
        """Add errors, each once."""
        for path, message in dict.fromkeys(errors):
            self.add_error(path, message)

    def raise_if_errors(self) -> None:
        """SpecError with all errors so far, sorted by location, if there are any."""
        if self.errors:
            raise SpecError(self._format_errors())

    def _refuse(self, path: KeyPath, message: str) -> NoReturn:
        """SpecError with an error that leaves no value to go on with, and all errors before it."""
        self.add_error(path, message)
        raise SpecError(self._format_errors())

    def _format_errors(self) -> str:
        return "\n".join(map(str, sorted(self.errors)))

    def apply_overrides(self, overrides: Iterable[str]) -> None:
        """Set values from overrides `a.b=c`, where c is YAML; a bad one is added to the errors."""
        given = set()
        for order, override in enumerate(overrides):
            name, equals, text = (part.strip() for part in override.partition("="))
            path = tuple(name.split("."))
            location = SourceLocation(order, 0, 0, f"--set {name}")
            if not equals or not all(path):
                message = "an override is written path=value, as in diffuse.steps=500"
                self.errors.append(Diagnostic(location, "", message))
                continue
            if path in given:
                self.errors.append(Diagnostic(location, "", "given twice"))
            given.add(path)
            if (node := self._compose(text, location)) is None:
                continue
            parent = self._parent_mapping(path, location)
            if parent is not None:
                parent[path[-1]] = self._value(node, path, location)

    def part(self, path: KeyPath = ()) -> Document:
        """A copy of one value, or of all, with the locations of what it holds."""
        value = self.value
        for key in path:
            value = value[key]
        locations = {inner[len(path) :]: self.locations[inner] for inner in self._below(path)}
        return Document(copy.deepcopy(value), locations)

    def put(self, name: str, document: Document) -> None:
        """Set the value of a dotted name to that of another document, with its locations."""
        path = tuple(name.split("."))
        parent = self._parent_mapping(path, document.locations[()])
        if parent is not None:
            parent[path[-1]] = document.value
            for inner, location in document.locations.items():
                self.locations[*path, *inner] = location

    def _parent_mapping(self, path: KeyPath, location: SourceLocation) -> dict[Any, Any] | None:
        """The mapping that is to hold a value set from a location, created where there is none.

        The locations of the value to be replaced are forgotten. None, and an error, if the path
        leads into something that is not a mapping.
        """
        parent = self.value
        for depth, key in enumerate(path[:-1], 1):
            parent = parent.setdefault(key, {}) if isinstance(parent, dict) else parent
            self.locations.setdefault(path[:depth], location)
        if not isinstance(parent, dict):
            holder = format_key_path(path[:-1]) or "the spec"
            message = f"{holder} holds no named values, so none can be set"
            self.errors.append(Diagnostic(location, "", message))
            return None
        for replaced in self._below(path):
            del self.locations[replaced]
        return parent

    def _below(self, path: KeyPath) -> list[KeyPath]:
        """The paths of a value and all it holds."""
        return [inner for inner in self.locations if inner[: len(path)] == path]

    def _compose(self, text: str, source: SourceLocation) -> yaml.Node | None:
        """The root node of a text from a source. None, and an error, if it cannot be parsed."""
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
            return node or yaml.ScalarNode(f"{_TAG_PREFIX}null", "")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = f"{error.problem} ({error.context})" if error.context else error.problem
        except yaml.reader.ReaderError as error:
            mark = yaml.Mark("", 0, text[: error.position].count("\n"), 0, None, 0)
            message = f"the character U+{error.character:04X} is not allowed"
        except RecursionError:
            mark, message = None, "it is nested too deeply"
        self.errors.append(Diagnostic(source.at(mark), "", f"not YAML: {message}"))
        return None

    def _value(
        self, node: yaml.Node, path: KeyPath, source: SourceLocation, around: _Nodes = ()
    ) -> Any:
        """The plain value of a node inside others; records its location, and adds its errors."""
        self.locations.setdefault(path, source.at(node.start_mark))
        self._values += 1
        if self._values > MAX_VALUES:
            self._refuse(path, f"more than {MAX_VALUES:,} values, counting what aliases repeat")
        if node in around:
            self.add_error(path, "an alias that contains itself")
            return None
        if len(around) == MAX_DEPTH:
            self.add_error(path, f"is nested too deeply (more than {MAX_DEPTH} levels)")
            return None
        if not node.tag.startswith(_TAG_PREFIX):
            self.add_error(path, f"the tag {node.tag!r} has no meaning here; remove it")
        around = (*around, node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, source, around)
        if isinstance(node, yaml.SequenceNode):
            nodes = enumerate(node.value)
            return [self._value(inner, (*path, index), source, around) for index, inner in nodes]
        tag = node.tag.removeprefix(_TAG_PREFIX)
        try:
            return _SCALARS[tag][-1](node.value) if tag in _SCALARS else node.value
        except (KeyError, ValueError):
            self.add_error(path, f"{node.value!r} cannot be read as {tag}")
            return node.value

    def _mapping(
        self, node: yaml.MappingNode, path: KeyPath, source: SourceLocation, around: _Nodes
    ) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.add_error(path, "a name must be a word, not a list or a mapping")
                continue
            inner_path, location = (*path, key.value), source.at(key.start_mark)
            if key.value == MERGE_KEY:
                self.locations[inner_path] = location
                self._refuse(inner_path, "mappings cannot be merged here: write the settings out")
            if key.value in mapping:
                message = f"given twice; the first is at {self.locations[inner_path].text}"
                self.errors.append(Diagnostic(location, format_key_path(inner_path), message))
                continue
            self.locations[inner_path] = location
            mapping[key.value] = self._value(inner, inner_path, source, around)
        return mapping


def format_key_path(path: Iterable[str | int]) -> str:
    """A path as people write it: diffuse.steps, generate.subsets[0]."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def dump_yaml(value: Any, flow: bool = False) -> str:
    """Plain values as YAML that reads back the same here and in readers of YAML 1.1.

    With `flow`, on one line without a line break at its end.
    """
    width = 10**6 if flow else 100
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=width
    )
    # PyYAML marks the end of a document that is a single scalar.
    return text.removesuffix("...\n").rstrip("\n") if flow else text


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes each text that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    tag = _Loader("").resolve(yaml.ScalarNode, text, (True, False))
    style = None if tag == f"{_TAG_PREFIX}str" else "'"
    return dumper.represent_scalar(f"{_TAG_PREFIX}str", text, style=style)


_Dumper.add_representer(str, _represent_text)
