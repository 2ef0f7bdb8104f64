"""Compares the variants that two suites have in common."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mld.bench.aggregate import VariantResult, variant_results
from mld.bench.suite_dir import SuiteDir
from mld.bench.tables import MAIN_COLUMNS
from mld.bench.trials import Trial, summarise_trials
from mld_core import RunDirError


def compare(first: SuiteDir, second: SuiteDir) -> list[dict[str, Any]]:
    """For each common variant: the second suite's metrics minus the first's, paired by seed.

    Raises:
        RunDirError: if the suites have no finished variant in common.
    """
    references = {result.coordinates.variant_key: result for result in _results(first)}
    rows = []
    for result in _results(second):
        reference = references.get(result.coordinates.variant_key)
        if reference is None:
            continue
        row: dict[str, Any] = {"modalities": list(result.modalities), "variant": result.variant}
        for column in MAIN_COLUMNS:
            if difference := result.difference(reference, column):
                row[column] = asdict(difference)
        rows.append(row)
    if not rows:
        raise RunDirError(f"{first.path} and {second.path} have no finished variant in common")
    return rows


def _results(suite_dir: SuiteDir) -> list[VariantResult]:
    return variant_results(suite_dir, suite_dir.read_trials())


def unmatched_trials(first: SuiteDir, second: SuiteDir) -> list[str]:
    """For each suite, a line about the trials that only it has finished, if there are any."""
    lines = []
    for suite_dir, other in ((first, second), (second, first)):
        matched = {str(trial.coordinates) for trial in _finished_trials(other)}
        unmatched = [
            trial for trial in _finished_trials(suite_dir) if str(trial.coordinates) not in matched
        ]
        if unmatched:
            lines.append(f"only in {suite_dir.path}: {summarise_trials(unmatched)}")
    return lines


def _finished_trials(suite_dir: SuiteDir) -> list[Trial]:
    return [trial for trial in suite_dir.read_trials() if suite_dir.state(trial) == "done"]
