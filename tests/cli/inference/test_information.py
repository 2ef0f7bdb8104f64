from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from mld.inference.information import standard_measures
from mld_core.information.measures import Measure


@pytest.mark.usefixtures("few_noise_levels")
def test_information_has_standard_errors(
    mld: Callable[..., Result], finished_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished_run, tmp_path / "small"))
    result = mld("information", folder, "--of", "left,right;third")
    assert result.exit_code == 0, result.output
    assert "I(left, right; third)" in result.stdout
    estimates = json.loads((folder / "information.json").read_text())["estimates"]
    assert estimates["I(left; right)"]["value"] > 1
    assert estimates["I(left; right)"]["standard_error"] > 0
    for estimate in estimates.values():
        errors = math.hypot(estimate["standard_error"], estimate["network_error"])
        assert estimate["half_width"] == pytest.approx(1.96 * errors)
        assert estimate["network_error"] > 0
    assert estimates["O-information"]["value"] > 0.5  # all three are redundant
    assert estimates["h(left)"]["raw"] != estimates["h(left)"]["value"]
    page = (folder / "report.html").read_text()
    assert page.count(" noise levels</figcaption>") == len(estimates)
    assert 'aria-label="Mutual information between pairs"' in page
    assert json.loads(mld("information", folder, "--json").stdout)["estimates"]
    for query, message in (
        ("left", "'left': write A;B or A,B;C|D with modalities of the run (left, right, third)"),
        ("left;", "write A;B"),
        ("left;rihgt", "the run has no modality 'rihgt' (it has left, right, third); did you mean"),
        ("left;left", "'left;left' names 'left' twice"),
        ("left;right|third|left", "no modality 'third|left'"),
    ):
        malformed = mld("information", folder, "--of", query)
        assert malformed.exit_code == 3, malformed.output
        assert message in malformed.stderr


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")])
def test_averaged_measures_and_checks_are_one_quantity(names: tuple[str, ...]) -> None:
    """By the exact entropies of a law of discrete variables, whatever they are."""
    law = torch.rand([3] * len(names), generator=torch.Generator().manual_seed(0)).double() ** 3
    law /= law.sum()

    def h(of: tuple[str, ...]) -> float:
        others = [axis for axis, name in enumerate(names) if name not in of]
        marginal = law.sum(others) if others else law
        return -float((marginal * marginal.log()).sum()) if of else 0.0

    def value(measure: Measure) -> float:
        return sum(
            weight * (h((*density.of, *density.given)) - h(density.given))
            for density, weight in measure.items()
        )

    for name, estimators in standard_measures(names).items():
        first, *others = [value(form) for form in (*estimators.averaged, *estimators.checks)]
        assert others or len(names) == 1, name
        assert others == pytest.approx([first] * len(others), abs=1e-9), name
