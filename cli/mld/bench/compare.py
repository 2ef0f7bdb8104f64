"""Compares the variants that two suites have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mld.bench.aggregate import Figure, VariantResult, variant_results
from mld.bench.suite_dir import SuiteDir
from mld.bench.tables import main_columns
from mld.bench.trials import Trial, summarise_trials
from mld_core import RunDirError


def compare(first: SuiteDir, second: SuiteDir) -> list[dict[str, Any]]:
    """For each common variant: the second suite's metrics minus the first's, paired by seed.

    Raises:
        RunDirError: if the suites have no finished variant in common.
    """
    results = variant_results(first, first.read_trials())
    references = {result.coordinates.variant_key: result for result in results}
    rows = []
    for result in variant_results(second, second.read_trials()):
        if reference := references.get(result.coordinates.variant_key):
            columns = main_columns([result, reference])
            differences = {column: result.difference(reference, column) for column in columns}
            rows.append(variant_row(result, differences))
    if not rows:
        raise RunDirError(f"{first.path} and {second.path} have no finished variant in common")
    return rows


def variant_row(result: VariantResult, figures: Mapping[str, Figure | None]) -> dict[str, Any]:
    """A variant and those of some figures, by column, that are not None; for JSON."""
    row = {"modalities": list(result.coordinates.modalities), "variant": result.variant}
    return row | {column: asdict(figure) for column, figure in figures.items() if figure}


def unmatched_trials(first: SuiteDir, second: SuiteDir) -> list[str]:
    """For each suite, a line about the trials that only it has finished, if there are any."""
    lines = []
    for suite_dir, other in ((first, second), (second, first)):
        others = {str(trial.coordinates) for trial in _finished_trials(other)}
        trials = _finished_trials(suite_dir)
        if unmatched := [trial for trial in trials if str(trial.coordinates) not in others]:
            lines.append(f"only in {suite_dir.path}: {summarise_trials(unmatched)}")
    return lines


def _finished_trials(suite_dir: SuiteDir) -> list[Trial]:
    return [trial for trial in suite_dir.read_trials() if suite_dir.state(trial) == "done"]
