from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


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
    assert estimates["O-information"]["value"] > 0.5  # all three are redundant
    assert estimates["h(left)"]["raw"] != estimates["h(left)"]["value"]
    page = (folder / "report.html").read_text()
    assert page.count(" noise levels</figcaption>") == len(estimates)
    assert 'aria-label="Mutual information between pairs"' in page
    assert json.loads(mld("information", folder, "--json").stdout)["estimates"]
    for query in ("left", "left;middle", "left;left", "left;right|third|left"):
        malformed = mld("information", folder, "--of", query)
        assert malformed.exit_code == 3, malformed.output
        assert "write A;B" in malformed.stderr
