"""Running the checks over one plugin."""

from __future__ import annotations

import inspect
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from mld.config.validation_errors import did_you_mean, format_validation_errors
from mld.conformance.check import Broken, Check, Record, Role, Skipped
from mld.conformance.checks import (
    augmentation,
    autoencoder,
    classifier,
    config,
    datasets,
    examples,
    files,
    integration,
    items,
    metrics,
    networks,
    side_effects,
)
from mld.conformance.fixtures import COMPUTE, DatasetSubject, ModalitySubject, Subject
from mld.runtime.compute import torch_threads
from mld_core import Dataset, Modality, Registry, SpecError

FAMILIES = (
    config,
    items,
    examples,
    files,
    autoencoder,
    networks,
    classifier,
    metrics,
    augmentation,
    datasets,
    side_effects,
    integration,
)
ROLES: tuple[Role, ...] = ("modality", "dataset")
CHECKS: dict[Role, dict[str, Check]] = {
    role: {
        found.name: found
        for family in FAMILIES
        for found in vars(family).values()
        if isinstance(found, Check) and role in found.roles
    }
    for role in ROLES
}
"""Every check of a role by name, in the order in which they run."""

LATENT_DIM = 16
"""What is put for a latent_dim without a default."""

LONGEST_REASON = 400
Plugin = TypeVar("Plugin", type[Modality], type[Dataset])
PluginSettings = Mapping[str, Any] | BaseModel | None
Tell = Callable[[Record], None]


class Kit:
    """The checks of one plugin, to be run in any order or number.

    Args:
        subject: what is checked.
        known_failures: check to reason: fails as expected; a pass is unexpected, and fails.
    """

    def __init__(self, subject: Subject, known_failures: Mapping[str, str] | None = None) -> None:
        self.subject = subject
        self.checks = CHECKS[_role(subject)]
        self.known = dict(known_failures or {})
        for name in self.known:
            if name not in self.checks:
                raise SpecError(f"there is no check {name!r}{did_you_mean(name, self.checks)}")

    def run(self, name: str) -> Record:
        """One check."""
        check = self.checks[name]
        began = time.perf_counter()
        status, reason = self._outcome(check)
        if name in self.known and status != "skipped":
            status, reason = _expected(status, reason, self.known[name])
        return Record(name, status, round(time.perf_counter() - began, 3), reason)

    def run_all(self, slow: bool = False, tell: Tell | None = None) -> list[Record]:
        """Every check in order, the slow ones where asked for; each record is told at once."""
        records = []
        for check in self.checks.values():
            if check.slow and not slow:
                records.append(Record(check.name, "skipped", 0.0, "slow: not asked for"))
            else:
                records.append(self.run(check.name))
            if tell:
                tell(records[-1])
        return records

    def _outcome(self, check: Check) -> tuple[Any, str]:
        with TemporaryDirectory() as folder, torch_threads(COMPUTE), torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.subject.folder = Path(folder)
            try:
                check.run(self.subject)
            except Broken as broken:
                return "failed", str(broken)
            except Skipped as skipped:
                return "skipped", str(skipped)
            except (Exception, SystemExit) as error:
                return "failed", _told(error, self.subject.plugin_class)
        return "passed", ""


def check_modality(
    plugin: str | type[Modality],
    config: PluginSettings = None,
    slow: bool = False,
    with_: str | type[Modality] | None = None,
    known_failures: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    tell: Tell | None = None,
) -> list[Record]:
    """What came of every check of a modality, given as a class or by its kind.

    SpecError if the kind is not installed, or the config does not fit.

    Args:
        config: an instance of its Config, or its fields; what is left out has its default, and
            latent_dim without a default is 16.
        slow: also run the slow checks.
        with_: what the joint model pairs it with; itself if not given.
        known_failures: check to reason.
        registry: where kinds are looked up; all that is installed if not given.
        tell: called with each record as it comes.
    """
    subject = modality_subject(plugin, config, with_, registry)
    return Kit(subject, known_failures).run_all(slow, tell)


def check_dataset(
    plugin: str | type[Dataset],
    config: PluginSettings = None,
    modalities: Mapping[str, str | type[Modality] | Modality] | None = None,
    known_failures: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    tell: Tell | None = None,
) -> list[Record]:
    """What came of every check of a dataset, given as a class or by its kind.

    Args:
        config: an instance of its Config, or its fields; a column's name instead of a field has
            the fields of that column's modality.
        modalities: column to modality, for a dataset that serves whatever a spec names; otherwise
            all its columns are looked at.
        known_failures: check to reason.
        registry: where kinds are looked up; all that is installed if not given.
        tell: called with each record as it comes.
    """
    subject = dataset_subject(plugin, config, modalities, registry)
    return Kit(subject, known_failures).run_all(tell=tell)


def modality_subject(
    plugin: str | type[Modality],
    config: PluginSettings = None,
    with_: str | type[Modality] | None = None,
    registry: Registry | None = None,
) -> ModalitySubject:
    """A modality ready to be checked."""
    registry = registry or Registry()
    plugin_class = registry.modality(plugin) if isinstance(plugin, str) else plugin
    partner = None if with_ is None else modality_subject(with_, registry=registry)
    return ModalitySubject(plugin_class, _configured(plugin_class, config), partner)


def dataset_subject(
    plugin: str | type[Dataset],
    config: PluginSettings = None,
    modalities: Mapping[str, str | type[Modality] | Modality] | None = None,
    registry: Registry | None = None,
) -> DatasetSubject:
    """A dataset ready to be checked."""
    registry = registry or Registry()
    plugin_class = registry.dataset(plugin) if isinstance(plugin, str) else plugin
    config, of_columns = _sorted(plugin_class, config)
    made = _configured(plugin_class, config)
    given: Mapping[str, Any] = modalities or {}
    if not given:
        known = dict(plugin_class(made, {}, DatasetSubject.seed).columns)
        given = {name: kind for name, kind in known.items() if _knows(registry, kind)}
        if not known:
            raise SpecError(
                f"dataset {plugin_class.kind!r} serves the columns that a spec names: say which, "
                "as --with NAME=KIND, or modalities={'NAME': 'KIND'}"
            )
    for name in of_columns.keys() - given.keys():
        known = f"(columns: {', '.join(given)}){did_you_mean(name, given)}"
        raise SpecError(
            f"{name!r} is no field of dataset {plugin_class.kind!r} and no column {known}"
        )
    built = {
        name: told
        if isinstance(told, Modality)
        else _unfitted(registry, told, of_columns.get(name))
        for name, told in given.items()
    }
    kinds = {modality.kind for modality in built.values()}
    return DatasetSubject(
        plugin_class, made, built, lambda kind: kind in kinds or _knows(registry, kind)
    )


def counted(records: Iterable[Record]) -> dict[str, int]:
    """How many checks were run, and how many ended in which way."""
    by = Counter(record.status for record in records)
    statuses = ("passed", "skipped", "failed", "known failure", "unexpected pass")
    return {"run": by.total() - by["skipped"], **{status: by[status] for status in statuses}}


def _sorted(
    plugin_class: type[Dataset], config: PluginSettings
) -> tuple[PluginSettings, dict[str, PluginSettings]]:
    """What is meant for the dataset itself, and what for the modality of each column."""
    if config is None or isinstance(config, BaseModel):
        return config, {}
    of_columns = {
        name: told
        for name, told in config.items()
        if isinstance(told, Mapping) and name not in plugin_class.Config.model_fields
    }
    return {name: told for name, told in config.items() if name not in of_columns}, of_columns


def _unfitted(registry: Registry, told: str | type[Modality], config: PluginSettings) -> Modality:
    plugin_class = registry.modality(told) if isinstance(told, str) else told
    return plugin_class(_configured(plugin_class, config))


def _knows(registry: Registry, kind: str) -> bool:
    return kind in registry.kinds and registry.entry(kind).role == "modality"


def _configured(plugin_class: type[Modality] | type[Dataset], config: PluginSettings) -> Any:
    """An instance of the class's Config. SpecError says what does not fit."""
    if isinstance(config, BaseModel):
        return config
    told = dict(config or {})
    latent = plugin_class.Config.model_fields.get("latent_dim")
    if latent is not None and latent.is_required():
        told.setdefault("latent_dim", LATENT_DIM)
    try:
        return plugin_class.Config.model_validate(told)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, path))}: {message}"
            for path, message in format_validation_errors(error, plugin_class.Config, told)
        ]
        raise SpecError(
            f"the config of kind {plugin_class.kind!r} does not fit: {'; '.join(wrong)}: say what "
            "to check it with, as --set FIELD=VALUE, or config={'FIELD': VALUE}"
        ) from error


def _role(subject: Subject) -> Role:
    return "dataset" if isinstance(subject, DatasetSubject) else "modality"


def _expected(status: str, reason: str, known: str) -> tuple[Any, str]:
    if status == "failed":
        return "known failure", f"{known} ({reason})"
    return "unexpected pass", f"declared to fail ({known}), and it passes: remove the declaration"


def _told(error: BaseException, plugin_class: type) -> str:
    """An exception in one line, with the last place in the plugin's own code."""
    home = Path(inspect.getfile(plugin_class)).parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(home)]
    at = (own or frames)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{said[:LONGEST_REASON]} ({Path(at.filename).name}:{at.lineno}, in {at.name})"
