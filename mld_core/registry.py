"""What is installed: every kind's plugin, found through its entry point, imported when named.

One entry point of the group `mld` stands for one kind and bears its name. A plugin that cannot be
used is recorded with its distribution, version and reason, and hurts nobody until its kind is
wanted.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Literal

import pluggy

from mld_core import hookspecs
from mld_core.dataset import Dataset
from mld_core.errors import PluginError, SpecError
from mld_core.modality import Modality

GROUP = "mld"
Contract = type[Modality] | type[Dataset]


@dataclass(frozen=True)
class Entry:
    """One plugin as installed, and, once it has been tried, what came of it.

    `provides` is None and `problem` says why where the plugin cannot be used.
    """

    kind: str
    distribution: str
    version: str
    module: str
    provides: Contract | None = None
    problem: str = ""

    @property
    def role(self) -> Literal["modality", "dataset", "broken"]:
        """What the plugin supplies."""
        if self.provides is None:
            return "broken"
        return "modality" if issubclass(self.provides, Modality) else "dataset"

    @property
    def summary(self) -> str:
        """The first line of the class's docstring, or the problem."""
        if self.provides is None:
            return self.problem
        return (inspect.getdoc(self.provides) or "").partition("\n")[0]


class Registry:
    """The plugins of this environment by kind; each is imported when first asked for."""

    def __init__(self, points: list[EntryPoint] | None = None) -> None:
        self._points: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=GROUP) if points is None else points:
            known = self._points.setdefault(point.name, [])
            if all(_home(point) != _home(other) for other in known):
                known.append(point)
        self._entries: dict[str, Entry] = {}

    @property
    def kinds(self) -> list[str]:
        """Every installed kind, usable or not, without importing anything."""
        return sorted(self._points)

    def installed(self) -> dict[str, str]:
        """The distribution and version behind each kind, without importing anything."""
        return {kind: " and ".join(map(_told, self._points[kind])) for kind in self.kinds}

    def entry(self, kind: str) -> Entry:
        """The plugin behind a kind, tried now if it was not before. KeyError if there is none."""
        if kind not in self._entries:
            self._entries[kind] = _try(self._points[kind])
        return self._entries[kind]

    def entries(self) -> list[Entry]:
        """All plugins, each tried: importing them all may take seconds."""
        return [self.entry(kind) for kind in self.kinds]

    def modality(self, kind: str) -> type[Modality]:
        """The modality class of a kind. SpecError if there is none, or it cannot be used."""
        provides = self._wanted(kind, "modality")
        assert issubclass(provides, Modality)
        return provides

    def dataset(self, kind: str) -> type[Dataset]:
        """The dataset class of a kind. SpecError if there is none, or it cannot be used."""
        provides = self._wanted(kind, "dataset")
        assert issubclass(provides, Dataset)
        return provides

    def _wanted(self, kind: str, role: Literal["modality", "dataset"]) -> Contract:
        if kind not in self._points:
            near = difflib.get_close_matches(kind, self.kinds, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(self.kinds) or "none"
            raise SpecError(f"no plugin of kind {kind!r} is installed (installed: {known}){hint}")
        entry = self.entry(kind)
        if entry.provides is None:
            told = f"{entry.distribution} {entry.version}"
            raise SpecError(f"kind {kind!r} ({told}) cannot be used: {entry.problem}")
        if entry.role != role:
            raise SpecError(f"kind {kind!r} is a {entry.role}, and a {role} is wanted here")
        return entry.provides


def _home(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name if point.dist else "?", point.value)


def _told(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "?"


def _try(points: list[EntryPoint]) -> Entry:
    """Import a kind's plugin and see what it registers; a failure becomes its problem."""
    first = points[0]
    entry = Entry(
        kind=first.name,
        distribution=first.dist.name if first.dist else "?",
        version=first.dist.version if first.dist else "?",
        module=first.value,
    )
    try:
        if len(points) > 1:
            homes = " and ".join(sorted(" ".join(_home(point)) for point in points))
            raise PluginError(f"claimed twice, by {homes}: uninstall one")
        provides = _registered(first)
    except PluginError as error:
        return _with(entry, problem=str(error))
    return _with(entry, provides=provides)


def _with(entry: Entry, provides: Contract | None = None, problem: str = "") -> Entry:
    return Entry(entry.kind, entry.distribution, entry.version, entry.module, provides, problem)


def _registered(point: EntryPoint) -> Contract:
    """The one class that a plugin registers for its entry point. PluginError says what is wrong."""
    plugin = _imported(point)
    manager = pluggy.PluginManager("mld")
    manager.add_hookspecs(hookspecs)
    with _guarded("registering"):
        manager.register(plugin, name=point.name)
        manager.check_pending()
    with _guarded("its hooks"):
        answers = [*manager.hook.register_modalities(), *manager.hook.register_datasets()]
    classes = [provided for answer in answers for provided in answer]
    if len(classes) != 1:
        raise PluginError(f"registers {len(classes)} classes; one entry point stands for one kind")
    return _checked(classes[0], point.name)


def _imported(point: EntryPoint) -> ModuleType:
    try:
        with _guarded("importing"):
            return point.load()  # type: ignore[no-any-return]
    except PluginError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and missing.name:
            raise PluginError(f"needs {missing.name}: {_pip_line(point, missing.name)}") from error
        raise


@contextmanager
def _guarded(stage: str) -> Iterator[None]:
    """Turn whatever a plugin does wrong into a PluginError; keep its prints out of stdout."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"{stage} failed: {reason}") from error


def _pip_line(point: EntryPoint, missing: str) -> str:
    extras = (point.dist.metadata.get_all("Provides-Extra") or []) if point.dist else []
    if point.dist and point.name in extras:
        return f"pip install '{point.dist.name}[{point.name}]'"
    return f"pip install {missing.partition('.')[0]}"


def _checked(provided: object, kind: str) -> Contract:
    if not (isinstance(provided, type) and issubclass(provided, Modality | Dataset)):
        raise PluginError(f"registers {provided!r}, which is neither a Modality nor a Dataset")
    for name in ("kind", "Config"):
        if not hasattr(provided, name):
            raise PluginError(f"{provided.__name__} has no class attribute {name!r}")
    if provided.kind != kind:
        raise PluginError(f"{provided.__name__} is of kind {provided.kind!r}, not {kind!r}")
    abstract = sorted(provided.__abstractmethods__)
    if abstract:
        raise PluginError(f"{provided.__name__} leaves abstract: {', '.join(abstract)}")
    return provided


__all__ = ["Entry", "Registry"]
