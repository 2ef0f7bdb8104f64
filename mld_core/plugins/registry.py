"""Discovery of the installed plugins through entry points; each is imported when first requested.

An entry point of the group `mld` supplies one kind and has its name. A plugin that cannot be used
is recorded with its distribution, version, stage of failure and reason; it is an error only when
its kind is requested.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, Literal

import pluggy
from pydantic import BaseModel

from mld_core.contracts.dataset import Dataset, DatasetConfig
from mld_core.contracts.method import Method, MethodConfig
from mld_core.contracts.modality import Modality, ModalityConfig
from mld_core.contracts.tracker import Tracker, TrackerConfig
from mld_core.errors import SpecError, describe_exception, did_you_mean
from mld_core.plugins import hookspecs
from mld_core.plugins.discovery import damaged_distributions, installed_points
from mld_core.plugins.selection import Selection, distribution_of, origin

Contract = type[Modality] | type[Dataset] | type[Method] | type[Tracker]
PluginRole = Literal["modality", "dataset", "method", "tracker"]
LoadStage = Literal["claim", "extra", "import", "hooks", "contract"]

_CONTRACTS: dict[PluginRole, tuple[Contract, type[BaseModel]]] = {
    "modality": (Modality, ModalityConfig),
    "dataset": (Dataset, DatasetConfig),
    "method": (Method, MethodConfig),
    "tracker": (Tracker, TrackerConfig),
}


@dataclass(frozen=True)
class Entry:
    """An installed plugin: the class it supplies, or the reason why it cannot be used.

    Args:
        kind: name of the entry point.
        distribution: "?" if unknown.
        version: of the distribution; "?" if unknown.
        module: the entry point's target.
        plugin_class: None for a plugin that is unusable or has not been loaded.
        stage: where loading failed: "blocked", by the user's selection; "claim", another plugin
            has the same kind; "extra", a library is not installed that an extra of the distribution
            brings; "import"; "hooks", a call of its hooks; "contract", the check of its class. ""
            for a usable plugin.
        problem: the reason; "" for a usable plugin.
    """

    kind: str
    distribution: str
    version: str
    module: str
    plugin_class: Contract | None = None
    stage: Literal["", "blocked"] | LoadStage = ""
    problem: str = ""

    @property
    def role(self) -> PluginRole | Literal["blocked", "not installed", "broken"]:
        """What the plugin supplies, or why it supplies nothing."""
        if self.plugin_class is not None:
            return _role_of(self.plugin_class)
        if self.stage == "blocked":
            return "blocked"
        return "not installed" if self.stage == "extra" else "broken"

    @property
    def summary(self) -> str:
        """First line of the class's docstring, or the problem."""
        if self.plugin_class is None:
            return self.problem
        return (inspect.getdoc(self.plugin_class) or "").partition("\n")[0]


class Registry:
    """Installed plugins by kind.

    Args:
        points: the plugins' entry points; by default all those of this environment.
        allowed: kinds or distributions; unless empty, only these are used.
        blocked: kinds or distributions that are not used; "1" blocks all.

    PluginError if `allowed` or `blocked` names a plugin that is not installed.
    """

    def __init__(
        self,
        points: list[EntryPoint] | None = None,
        *,
        allowed: Collection[str] = (),
        blocked: Collection[str] = (),
    ) -> None:
        self._discovers = points is None
        if points is None:
            points = installed_points()
        selection = Selection(points, allowed, blocked)
        self._points: dict[str, list[EntryPoint]] = {}
        self._entries: dict[str, list[Entry]] = {}
        by_kind: dict[str, dict[str, EntryPoint]] = {}
        for point in points:  # without duplicates: an environment may list one twice
            by_kind.setdefault(point.name, {}).setdefault(origin(point), point)
        for kind, by_origin in by_kind.items():
            claims = list(by_origin.values())
            if usable := [point for point in claims if not selection.blocked_by(point)]:
                self._points[kind] = usable
            else:
                problem = f"blocked by {selection.blocked_by(claims[0])}"
                self._entries[kind] = [
                    _entry(point, stage="blocked", problem=problem) for point in claims
                ]

    @property
    def kinds(self) -> list[str]:
        """All installed kinds that are not blocked, usable or not; nothing is imported."""
        return sorted(self._points)

    @property
    def blocked(self) -> list[str]:
        """All installed kinds that are blocked."""
        return sorted(
            kind for kind, (first, *_) in self._entries.items() if first.stage == "blocked"
        )

    def installed(self) -> dict[str, str]:
        """Distribution and version of each kind; nothing is imported."""
        return {kind: " and ".join(map(_release, self._points[kind])) for kind in self.kinds}

    def damaged(self) -> list[str]:
        """A sentence for each distribution whose metadata are damaged; its plugins are unknown."""
        return damaged_distributions() if self._discovers else []

    def entry(self, kind: str) -> Entry:
        """The plugin of a kind, loaded if it was not yet. KeyError if none is installed."""
        return self._load(kind)[0]

    def entries(self) -> list[Entry]:
        """All plugins, each loaded: the imports may take seconds."""
        kinds = sorted({*self._points, *self._entries})
        return [entry for kind in kinds for entry in self._load(kind)]

    def modality(self, kind: str) -> type[Modality]:
        """The modality class of a kind. SpecError if there is none, or it cannot be used."""
        modality_class: type[Modality] = self._require(kind, "modality")
        return modality_class

    def dataset(self, kind: str) -> type[Dataset]:
        """The dataset class of a kind. SpecError if there is none, or it cannot be used."""
        dataset_class: type[Dataset] = self._require(kind, "dataset")
        return dataset_class

    def method(self, kind: str) -> type[Method]:
        """The method class of a kind. SpecError if there is none, or it cannot be used."""
        method_class: type[Method] = self._require(kind, "method")
        return method_class

    def tracker(self, kind: str) -> type[Tracker]:
        """The tracker class of a kind. SpecError if there is none, or it cannot be used."""
        tracker_class: type[Tracker] = self._require(kind, "tracker")
        return tracker_class

    def usable(self, kind: str) -> Entry:
        """The plugin of a kind. SpecError if there is none, or it cannot be used."""
        if kind not in self._points and kind not in self._entries:
            installed = ", ".join(self.kinds) or "none"
            message = f"no plugin of kind {kind!r} is installed (installed: {installed})"
            hint = did_you_mean(kind, self.kinds)
            raise SpecError("\n".join([message + hint, *self.damaged()]))
        entry = self.entry(kind)
        if entry.plugin_class is None:
            release = f"{entry.distribution} {entry.version}"
            raise SpecError(f"kind {kind!r} ({release}) cannot be used: {entry.problem}")
        return entry

    def _load(self, kind: str) -> list[Entry]:
        if kind not in self._entries:
            self._entries[kind] = _load_entries(self._points[kind])
        return self._entries[kind]

    def _require(self, kind: str, role: PluginRole) -> Any:
        entry = self.usable(kind)
        if entry.role != role:
            raise SpecError(f"kind {kind!r} is a {entry.role}, but a {role} is required here")
        return entry.plugin_class


class PluginLoadError(Exception):
    """A plugin cannot be used: the stage that failed, and the reason."""

    def __init__(self, stage: LoadStage, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage


def _release(point: EntryPoint) -> str:
    return " ".join(distribution_of(point)) if point.dist else "?"


def _entry(point: EntryPoint, **result: Any) -> Entry:
    return Entry(point.name, *distribution_of(point), point.value, **result)


def _load_entries(points: list[EntryPoint]) -> list[Entry]:
    """Load the plugin of a kind; a failure becomes the problem of its entry."""
    if len(points) > 1:
        origins = " and ".join(sorted(map(origin, points)))
        problem = f"claimed twice, by {origins}: uninstall one, or block it with --no-plugin"
        return [_entry(point, stage="claim", problem=problem) for point in points]
    (point,) = points
    try:
        return [_entry(point, plugin_class=_load_class(point))]
    except PluginLoadError as error:
        return [_entry(point, stage=error.stage, problem=str(error))]


def _load_class(point: EntryPoint) -> Contract:
    """The one class that a plugin registers. PluginLoadError says why there is none."""
    plugin = _import(point)
    version = getattr(plugin, "MLD_API", hookspecs.MLD_API)
    if version != hookspecs.MLD_API:
        raise PluginLoadError(
            "contract",
            f"was written for version {version} of the plugin contract, but this mld has version "
            f"{hookspecs.MLD_API}: install matching versions of both",
        )
    manager = pluggy.PluginManager("mld")
    manager.add_hookspecs(hookspecs)
    with _plugin_code("hooks", "hook registration"):
        manager.register(plugin, name=point.name)
        manager.check_pending()
    with _plugin_code("hooks", "hook call"):
        hooks = manager.hook
        calls = (
            *(hooks.register_modalities, hooks.register_datasets),
            *(hooks.register_methods, hooks.register_trackers),
        )
        classes = [registered for call in calls for result in call() for registered in result]
    if len(classes) != 1:
        hint = "" if classes else " (are its hooks marked with @hookimpl?)"
        raise PluginLoadError(
            "contract", f"registers {len(classes)} classes instead of one per entry point{hint}"
        )
    plugin_class: Contract = classes[0]
    with _plugin_code("contract", "class check"):
        if problem := _class_problem(plugin_class, point.name):
            raise PluginLoadError("contract", problem)
    return plugin_class


def _import(point: EntryPoint) -> object:
    try:
        with _plugin_code("import", "import"):
            return point.load()
    except PluginLoadError as error:
        missing = error.__cause__
        if not isinstance(missing, ModuleNotFoundError) or not missing.name:
            raise
        library = missing.name.partition(".")[0]
        if library in (point.module.partition(".")[0], "mld_core", "mld"):
            reason = f"needs the module {missing.name}, which is missing: reinstall the plugin"
            raise PluginLoadError("import", reason) from missing
        extra = _extra_of(point, library)
        package = f"'{distribution_of(point)[0]}[{extra}]'" if extra else library
        stage: LoadStage = "extra" if extra else "import"
        raise PluginLoadError(stage, f"needs {missing.name}: pip install {package}") from missing


@contextmanager
def _plugin_code(stage: LoadStage, action: str) -> Iterator[None]:
    """Turn any exception of a plugin, SystemExit included, into PluginLoadError.

    What it prints goes to stderr, since stdout carries results.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (PluginLoadError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise PluginLoadError(stage, f"{action} failed: {describe_exception(error)}") from error


def _extra_of(point: EntryPoint, library: str) -> str:
    """The extra of a plugin's distribution that brings a library; "" if there is none.

    It is called like the kind, or else the smallest one of those that require the library.
    """
    if point.dist is None:
        return ""
    if point.name in (point.dist.metadata.get_all("Provides-Extra") or []):
        return point.name
    required: dict[str, list[str]] = defaultdict(list)
    for requirement in point.dist.requires or []:
        if match := re.match(r"([\w.-]+).*extra == ['\"]([\w.-]+)", requirement):
            required[match[2]].append(match[1])
    extras = [extra for extra, libraries in required.items() if library in libraries]
    return min(extras, key=lambda extra: len(required[extra]), default="")


def _class_problem(registered: object, kind: str) -> str:
    """Why a registered object is no complete plugin class of a kind; "" if it is one."""
    if not isinstance(registered, type) or not issubclass(
        registered, Modality | Dataset | Method | Tracker
    ):
        return (
            f"registers {registered!r}, which is not a Modality, Dataset, Method or Tracker class"
        )
    name = registered.__name__
    for attribute in ("kind", "Config"):
        if not hasattr(registered, attribute):
            return f"{name} has no class attribute {attribute!r}"
    if registered.kind != kind:
        return f"{name}.kind is {registered.kind!r}, but its entry point is named {kind!r}"
    _, config_base = _CONTRACTS[_role_of(registered)]
    if not (isinstance(registered.Config, type) and issubclass(registered.Config, config_base)):
        return f"{name}.Config must be a subclass of {config_base.__name__}"
    missing = sorted(registered.__abstractmethods__)
    if issubclass(registered, Modality) and registered.inline and registered.cell is Modality.cell:
        missing.append("cell, which an inline modality needs")
    return f"{name} does not implement {', '.join(missing)}" if missing else ""


def _role_of(plugin_class: Contract) -> PluginRole:
    return next(role for role, (base, _) in _CONTRACTS.items() if issubclass(plugin_class, base))
