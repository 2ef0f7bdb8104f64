"""Runs the checks on one plugin."""

from __future__ import annotations

import inspect
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from pydantic import BaseModel, ValidationError

from mld.config.plugin_description import required_latent_dim
from mld.config.validation_errors import format_errors, format_validation_errors
from mld.conformance.check import Check, CheckFailed, CheckResult, CheckSkipped, Status
from mld.conformance.checks import CHECKS
from mld.conformance.fixtures import COMPUTE, DatasetUnderTest, ModalityUnderTest, PluginUnderTest
from mld.conformance.method_fixtures import MethodUnderTest
from mld.runtime.compute import torch_threads
from mld_core import (
    Dataset,
    Method,
    Modality,
    Registry,
    SpecError,
    describe_exception,
    did_you_mean,
)

MAX_REASON_LENGTH = 400
PluginSettings = Mapping[str, Any] | BaseModel | None
OnResult = Callable[[CheckResult], None]


class CheckRunner:
    """Runs any of the checks of one plugin, in any order.

    Args:
        plugin: the plugin under test.
        xfail: check to reason, for checks that are expected to fail; an unexpected pass fails.
    """

    def __init__(self, plugin: PluginUnderTest, xfail: Mapping[str, str] | None = None) -> None:
        self.plugin = plugin
        self.checks = CHECKS[plugin.role]
        self.xfail = dict(xfail or {})
        for name in self.xfail:
            if name not in self.checks:
                raise SpecError(f"there is no check {name!r}{did_you_mean(name, self.checks)}")

    def run(self, name: str) -> CheckResult:
        """Run one check."""
        start = time.perf_counter()
        status, reason = self._outcome(self.checks[name])
        if name in self.xfail and status != "skipped":
            expected = self.xfail[name]
            if status == "failed":
                status, reason = "expected failure", f"{expected} ({reason})"
            else:
                status = "unexpected pass"
                reason = f"expected to fail ({expected}), but it passes: remove the xfail entry"
        return CheckResult(name, status, round(time.perf_counter() - start, 3), reason)

    def run_all(self, slow: bool = False, on_result: OnResult | None = None) -> list[CheckResult]:
        """Run every check in order; the slow ones only if `slow`."""
        results = []
        for check in self.checks.values():
            if check.slow and not slow:
                results.append(CheckResult(check.name, "skipped", 0.0, "slow: not requested"))
            else:
                results.append(self.run(check.name))
            if on_result:
                on_result(results[-1])
        return results

    def _outcome(self, check: Check) -> tuple[Status, str]:
        with TemporaryDirectory() as folder, torch_threads(COMPUTE), torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.plugin.folder = Path(folder)
            try:
                check.run(self.plugin)
            except CheckFailed as error:
                return "failed", str(error)
            except CheckSkipped as error:
                return "skipped", str(error)
            except (Exception, SystemExit) as error:
                return "failed", _describe_crash(error, self.plugin.plugin_class)
        return "passed", ""


def check_modality(
    plugin: str | type[Modality],
    config: PluginSettings = None,
    slow: bool = False,
    with_: str | type[Modality] | None = None,
    xfail: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    on_result: OnResult | None = None,
) -> list[CheckResult]:
    """Run every check of a modality, given as a class or by its kind.

    Args:
        config: an instance of its Config, or fields of it; a required
            `latent_dim` is 16, or the nearest that it accepts.
        slow: also run the slow checks.
        with_: the modality that the joint model pairs it with; by default itself.
        xfail: check to reason, for checks that are expected to fail; an unexpected pass fails.
        registry: where kinds are looked up; by default all that are installed.
        on_result: called with each result as soon as it is available.
    """
    runner = CheckRunner(modality_under_test(plugin, config, with_, registry), xfail)
    return runner.run_all(slow, on_result)


def check_dataset(
    plugin: str | type[Dataset],
    config: PluginSettings = None,
    modalities: Mapping[str, str | type[Modality] | Modality] | None = None,
    xfail: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    on_result: OnResult | None = None,
) -> list[CheckResult]:
    """Run every check of a dataset, given as a class or by its kind.

    Args:
        config: an instance of its Config, or fields of it. A mapping under a column's name is the
            config of that column's modality.
        modalities: column to modality, for a dataset that serves the columns that a spec names;
            by default all columns whose modality is installed.
        xfail: check to reason, for checks that are expected to fail; an unexpected pass fails.
        registry: where kinds are looked up; by default all that are installed.
        on_result: called with each result as soon as it is available.
    """
    runner = CheckRunner(dataset_under_test(plugin, config, modalities, registry), xfail)
    return runner.run_all(on_result=on_result)


def check_method(
    plugin: str | type[Method],
    config: PluginSettings = None,
    xfail: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    on_result: OnResult | None = None,
) -> list[CheckResult]:
    """Run every check of a method, given as a class or by its kind, on modalities of the kit.

    Args:
        config: an instance of its Config, or fields of it.
        xfail: check to reason, for checks that are expected to fail; an unexpected pass fails.
        registry: where kinds are looked up; by default all that are installed.
        on_result: called with each result as soon as it is available.
    """
    runner = CheckRunner(method_under_test(plugin, config, registry), xfail)
    return runner.run_all(on_result=on_result)


def method_under_test(
    plugin: str | type[Method], config: PluginSettings = None, registry: Registry | None = None
) -> MethodUnderTest:
    """A method with a validated config. SpecError if the kind or the config is invalid."""
    registry = registry or Registry()
    plugin_class = registry.method(plugin) if isinstance(plugin, str) else plugin
    return MethodUnderTest(plugin_class, _build_config(plugin_class, config))


def modality_under_test(
    plugin: str | type[Modality],
    config: PluginSettings = None,
    with_: str | type[Modality] | None = None,
    registry: Registry | None = None,
) -> ModalityUnderTest:
    """A modality with a validated config. SpecError if the kind or the config is invalid."""
    registry = registry or Registry()
    plugin_class = registry.modality(plugin) if isinstance(plugin, str) else plugin
    partner = None if with_ is None else modality_under_test(with_, registry=registry)
    return ModalityUnderTest(plugin_class, _build_config(plugin_class, config), partner)


def dataset_under_test(
    plugin: str | type[Dataset],
    config: PluginSettings = None,
    modalities: Mapping[str, str | type[Modality] | Modality] | None = None,
    registry: Registry | None = None,
) -> DatasetUnderTest:
    """A dataset with validated configs. SpecError if a kind, column or config is invalid."""
    registry = registry or Registry()
    plugin_class = registry.dataset(plugin) if isinstance(plugin, str) else plugin
    column_configs: dict[str, Mapping[str, Any]] = {}
    if isinstance(config, Mapping):
        for name in config.keys() - plugin_class.Config.model_fields.keys():
            if isinstance(config[name], Mapping):
                column_configs[name] = config[name]
        config = {name: value for name, value in config.items() if name not in column_configs}
    built_config = _build_config(plugin_class, config)
    kinds = modalities
    if not kinds:
        columns = dict(plugin_class(built_config, {}, 0).columns)
        if not columns:
            raise SpecError(
                f"dataset {plugin_class.kind!r} serves the columns that a spec names: name them "
                "with --with NAME=KIND, or modalities={'NAME': 'KIND'}"
            )
        kinds = {name: kind for name, kind in columns.items() if _is_modality(registry, kind)}
    for name in column_configs.keys() - kinds.keys():
        raise SpecError(
            f"{name!r} is neither a field nor a column of dataset {plugin_class.kind!r} "
            f"(columns: {', '.join(kinds)}){did_you_mean(name, kinds)}"
        )
    built: dict[str, Modality] = {}
    for name, modality in kinds.items():
        if isinstance(modality, str):
            modality = registry.modality(modality)
        if not isinstance(modality, Modality):
            modality = modality(_build_config(modality, column_configs.get(name)))
        built[name] = modality
    return DatasetUnderTest(plugin_class, built_config, built, partial(_is_modality, registry))


def count_statuses(results: Iterable[CheckResult]) -> dict[str, int]:
    """How many checks ran, and how many have each status."""
    counts = Counter(result.status for result in results)
    run = counts.total() - counts["skipped"]
    return {"run": run, **{status: counts[status] for status in get_args(Status)}}


def _is_modality(registry: Registry, kind: str) -> bool:
    return kind in registry.kinds and registry.entry(kind).role == "modality"


def _build_config(
    plugin_class: type[Modality] | type[Dataset] | type[Method], config: PluginSettings
) -> Any:
    """An instance of the class's Config. SpecError if the values are invalid."""
    if isinstance(config, BaseModel):
        return config
    values = {**required_latent_dim(plugin_class.Config), **(config or {})}
    try:
        return plugin_class.Config.model_validate(values)
    except ValidationError as error:
        errors = format_errors(format_validation_errors(error, plugin_class.Config, values))
        raise SpecError(
            f"invalid config for kind {plugin_class.kind!r}: {errors}: set fields with "
            "--set FIELD=VALUE, or config={'FIELD': VALUE}"
        ) from error


def _describe_crash(error: BaseException, plugin_class: type) -> str:
    """An exception in one line, with the last frame in the plugin's own code."""
    plugin_folder = Path(inspect.getfile(plugin_class)).parent
    frames = traceback.extract_tb(error.__traceback__)
    plugin_frames = [f for f in frames if Path(f.filename).is_relative_to(plugin_folder)]
    frame = (plugin_frames or frames)[-1]
    message = " ".join(describe_exception(error).split())[:MAX_REASON_LENGTH]
    return f"{message} ({Path(frame.filename).name}:{frame.lineno}, in {frame.name})"
