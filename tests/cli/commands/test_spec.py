"""`mld spec validate`, `mld spec init` and `mld spec schema`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


def test_scientific_notation(mld: Callable[..., Result], offline_spec: str) -> None:
    Path("bad.yaml").write_text(offline_spec + "autoencode: {learning_rate: 1e-3}\n")
    result = mld("spec", "validate", "bad.yaml", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["autoencode"]["learning_rate"] == 0.001


def test_init_writes_a_valid_spec_and_overwrites_nothing(
    mld_small: Callable[..., Result],
) -> None:
    assert mld_small("spec", "init", "mine", "-m", "a=points", "-m", "b=marks").exit_code == 0
    result = mld_small("spec", "validate", "mine.yaml")
    assert result.exit_code == 0, result.output
    assert "kind: marks" in result.stdout
    schema = json.loads(mld_small("spec", "schema").stdout)
    assert json.loads(Path("mld.schema.json").read_text()) == schema
    Path("mld.schema.json").write_text("mine")
    assert mld_small("spec", "init", "other", "-m", "a=points").exit_code == 0
    assert Path("mld.schema.json").read_text() == "mine"
    result = mld_small("spec", "init", "mine", "-m", "a=points")
    assert result.exit_code == 6
    assert result.stderr == "error: mine.yaml exists and is not overwritten\n"


def test_schema_includes_the_installed_kinds(mld_small: Callable[..., Result]) -> None:
    schema = json.loads(mld_small("spec", "schema").stdout)
    assert {"kind.points", "kind.marks", "kind.manifest"} <= set(schema["$defs"])
    suite = json.loads(mld_small("spec", "schema", "--suite").stdout)
    assert {"spec", "methods", "seeds"} <= set(suite["properties"])
