"""What is installed: every kind's plugin, found through its entry point, imported when named.

One entry point of the group `mld` stands for one kind and bears its name. A plugin that cannot be
used is recorded with its distribution, version, stage and reason, and hurts nobody until its kind
is wanted.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Literal

import pluggy

from mld_core.contracts.dataset import Dataset, DatasetConfig
from mld_core.contracts.method import Method, MethodConfig
from mld_core.contracts.modality import Modality, ModalityConfig
from mld_core.errors import SpecError
from mld_core.plugins import hookspecs
from mld_core.plugins.selection import Selection, did_you_mean, distribution_of, origin

GROUP = "mld"
Contract = type[Modality] | type[Dataset] | type[Method]
Role = Literal["modality", "dataset", "method"]
Stage = Literal["claim", "import", "hooks", "contract"]


@dataclass(frozen=True)
class Entry:
    """One plugin as installed, and, once it has been tried, what came of it.

    Where the plugin cannot be used, `plugin_class` is None and `problem` says why. `stage` is how
    far it came: "blocked" by the user; "claim", another plugin has the same kind; "import";
    "hooks", asked for its classes; "contract", its class was looked at. It is "" for a good plugin.
    """

    kind: str
    distribution: str
    version: str
    module: str
    plugin_class: Contract | None = None
    stage: Literal["", "blocked"] | Stage = ""
    problem: str = ""

    @property
    def role(self) -> Role | Literal["broken", "blocked"]:
        """What the plugin supplies, or why it supplies nothing."""
        if self.plugin_class is None:
            return "blocked" if self.stage == "blocked" else "broken"
        return _role_of(self.plugin_class)

    @property
    def summary(self) -> str:
        """The first line of the class's docstring, or the problem."""
        if self.plugin_class is None:
            return self.problem
        return (inspect.getdoc(self.plugin_class) or "").partition("\n")[0]


class Registry:
    """The plugins of this environment by kind; each is imported when first asked for.

    Args:
        points: the entry points; all those installed if not given.
        allowed: kinds or distributions; unless it is empty, only these are used.
        blocked: kinds or distributions that are not used; "1" blocks every plugin.

    PluginError if `allowed` or `blocked` names one that is not installed.
    """

    def __init__(
        self,
        points: list[EntryPoint] | None = None,
        *,
        allowed: Collection[str] = (),
        blocked: Collection[str] = (),
    ) -> None:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=GROUP) if points is None else points:
            known = found.setdefault(point.name, [])
            if all(origin(point) != origin(other) for other in known):
                known.append(point)
        choice = Selection([point for known in found.values() for point in known], allowed, blocked)
        self._points: dict[str, list[EntryPoint]] = {}
        self._entries: dict[str, list[Entry]] = {}
        for kind, known in found.items():
            if free := [point for point in known if not choice.blocked_by(point)]:
                self._points[kind] = free
            else:
                told = f"blocked by {choice.blocked_by(known[0])}"
                self._entries[kind] = [
                    replace(_unloaded(point), stage="blocked", problem=told) for point in known
                ]

    @property
    def kinds(self) -> list[str]:
        """Every installed kind that is not blocked, usable or not, without importing anything."""
        return sorted(self._points)

    def installed(self) -> dict[str, str]:
        """The distribution and version behind each kind, without importing anything."""
        return {kind: " and ".join(map(_describe, self._points[kind])) for kind in self.kinds}

    def entry(self, kind: str) -> Entry:
        """The plugin behind a kind, tried now if it was not before. KeyError if there is none."""
        return self._loaded(kind)[0]

    def entries(self) -> list[Entry]:
        """All plugins, each tried: importing them all may take seconds."""
        kinds = sorted({*self._points, *self._entries})
        return [entry for kind in kinds for entry in self._loaded(kind)]

    def modality(self, kind: str) -> type[Modality]:
        """The modality class of a kind. SpecError if there is none, or it cannot be used."""
        plugin_class = self._require(kind, "modality")
        assert issubclass(plugin_class, Modality)
        return plugin_class

    def dataset(self, kind: str) -> type[Dataset]:
        """The dataset class of a kind. SpecError if there is none, or it cannot be used."""
        plugin_class = self._require(kind, "dataset")
        assert issubclass(plugin_class, Dataset)
        return plugin_class

    def method(self, kind: str) -> type[Method]:
        """The method class of a kind. SpecError if there is none, or it cannot be used."""
        plugin_class = self._require(kind, "method")
        assert issubclass(plugin_class, Method)
        return plugin_class

    def _loaded(self, kind: str) -> list[Entry]:
        if kind not in self._entries:
            self._entries[kind] = _load_entries(self._points[kind])
        return self._entries[kind]

    def _require(self, kind: str, role: Role) -> Contract:
        if kind not in self._points and kind not in self._entries:
            known = ", ".join(self.kinds) or "none"
            raise SpecError(
                f"no plugin of kind {kind!r} is installed (installed: {known})"
                f"{did_you_mean(kind, self.kinds)}"
            )
        entry = self.entry(kind)
        if entry.plugin_class is None:
            told = f"{entry.distribution} {entry.version}"
            raise SpecError(f"kind {kind!r} ({told}) cannot be used: {entry.problem}")
        if entry.role != role:
            raise SpecError(f"kind {kind!r} is a {entry.role}, and a {role} is wanted here")
        return entry.plugin_class


def _describe(point: EntryPoint) -> str:
    return " ".join(distribution_of(point)) if point.dist else "?"


def _unloaded(point: EntryPoint) -> Entry:
    return Entry(point.name, *distribution_of(point), point.value)


class PluginLoadError(Exception):
    """Why a plugin cannot be used, and how far it came."""

    def __init__(self, stage: Stage, reason: str) -> None:
        self.stage, self.reason = stage, reason


def _load_entries(points: list[EntryPoint]) -> list[Entry]:
    """Import a kind's plugin and see what it registers; a failure becomes its problem."""
    if len(points) > 1:
        homes = " and ".join(sorted(" ".join(origin(point)) for point in points))
        told = f"claimed twice, by {homes}: uninstall one, or block it with --no-plugin"
        return [replace(_unloaded(point), stage="claim", problem=told) for point in points]
    (point,) = points
    entry = _unloaded(point)
    try:
        return [replace(entry, plugin_class=_registered(point))]
    except PluginLoadError as refused:
        return [replace(entry, stage=refused.stage, problem=refused.reason)]


def _registered(point: EntryPoint) -> Contract:
    """The one class that a plugin registers for its entry point. _Refused says what is wrong."""
    plugin = _imported(point)
    version = getattr(plugin, "MLD_API", hookspecs.MLD_API)
    if version != hookspecs.MLD_API:
        raise PluginLoadError(
            "contract",
            f"is written for version {version} of the plugin contract, and this mld has version "
            f"{hookspecs.MLD_API}: install versions of both that agree",
        )
    manager = pluggy.PluginManager("mld")
    manager.add_hookspecs(hookspecs)
    with _guarded("hooks", "registering"):
        manager.register(plugin, name=point.name)
        manager.check_pending()
    with _guarded("hooks", "its hooks"):
        hooks = manager.hook
        calls = hooks.register_modalities, hooks.register_datasets, hooks.register_methods
        classes = [provided for call in calls for answer in call() for provided in answer]
    if len(classes) != 1:
        hint = "" if classes else " (are its hooks marked @hookimpl?)"
        told = f"registers {len(classes)} classes; one entry point stands for one kind{hint}"
        raise PluginLoadError("contract", told)
    with _guarded("contract", "looking at its class"):
        return _checked(classes[0], point.name)


def _imported(point: EntryPoint) -> ModuleType:
    try:
        with _guarded("import", "importing"):
            return point.load()  # type: ignore[no-any-return]
    except PluginLoadError as refused:
        missing = refused.__cause__
        if not isinstance(missing, ModuleNotFoundError) or not missing.name:
            raise
        library = missing.name.partition(".")[0]
        if library in (point.module.partition(".")[0], "mld_core", "mld"):
            told = f"needs the module {missing.name}, which is not there: reinstall the plugin"
        else:
            told = f"needs {missing.name}: {_pip_line(point, library)}"
        raise PluginLoadError("import", told) from missing


@contextmanager
def _guarded(stage: Stage, doing: str) -> Iterator[None]:
    """Turn whatever a plugin does wrong into _Refused; keep its prints out of stdout."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (PluginLoadError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginLoadError(stage, f"{doing} failed: {type(error).__name__}: {error}") from error


def _pip_line(point: EntryPoint, library: str) -> str:
    """The extra that is called as the kind, or that brings the library; else the library itself."""
    if point.dist is None:
        return f"pip install {library}"
    extras = point.dist.metadata.get_all("Provides-Extra") or []
    bring = rf"{re.escape(library)}\b.*extra == ['\"]([\w.-]+)"
    found = [own[1] for needed in point.dist.requires or [] if (own := re.match(bring, needed))]
    for extra in [point.name] if point.name in extras else found:
        return f"pip install '{point.dist.name}[{extra}]'"
    return f"pip install {library}"


def _checked(provided: object, kind: str) -> Contract:
    if not (isinstance(provided, type) and issubclass(provided, Modality | Dataset | Method)):
        told = f"registers {provided!r}, which is no Modality, Dataset or Method"
        raise PluginLoadError("contract", told)
    for name in ("kind", "Config"):
        if not hasattr(provided, name):
            raise PluginLoadError(
                "contract", f"{provided.__name__} has no class attribute {name!r}"
            )
    if provided.kind != kind:
        told = f"{provided.__name__} is of kind {provided.kind!r}, not {kind!r}"
        raise PluginLoadError("contract", told)
    base = {"modality": ModalityConfig, "dataset": DatasetConfig, "method": MethodConfig}[
        _role_of(provided)
    ]
    if not (isinstance(provided.Config, type) and issubclass(provided.Config, base)):
        told = f"{provided.__name__}.Config must be a subclass of {base.__name__}"
        raise PluginLoadError("contract", told)
    abstract = sorted(provided.__abstractmethods__)
    if abstract:
        raise PluginLoadError(
            "contract", f"{provided.__name__} leaves abstract: {', '.join(abstract)}"
        )
    return provided


def _role_of(provided: Contract) -> Role:
    if issubclass(provided, Modality):
        return "modality"
    return "dataset" if issubclass(provided, Dataset) else "method"
