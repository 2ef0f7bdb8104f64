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


def test_a_table_is_no_spec(mld_small: Callable[..., Result]) -> None:
    Path("rows.csv").write_text("name,smiles\n" + "compound,CCO\n" * 10_000)
    for words in (["run"], ["spec", "validate"], ["bench"]):
        result = mld_small(*words, "rows.csv")
        assert result.exit_code == 3
        assert "rows.csv:1: must be a mapping, not plain text: a s" in result.stderr
        assert len(result.output) < 300
    Path("long.yaml").write_text(Path("small.yaml").read_text() + f"seed: {'x' * 10_000}\n")
    result = mld_small("run", "long.yaml")
    assert "seed: must be a whole number, not 'xxx" in result.stderr
    assert len(result.output) < 300


def test_a_suite_is_for_bench_and_a_spec_for_run(mld_small: Callable[..., Result]) -> None:
    Path("suite.yaml").write_text("name: suite\nspec: small.yaml\n")
    for words in (["run"], ["spec", "validate"]):
        result = mld_small(*words, "suite.yaml")
        assert result.exit_code == 3
        message = "suite.yaml is a suite, not a spec: run it with `mld bench suite.yaml`"
        assert result.stderr == f"error: {message}\n"
    result = mld_small("bench", "small.yaml", "--dry-run")
    assert result.exit_code == 3
    message = "small.yaml is an experiment, not a suite: run it with `mld run small.yaml`"
    assert result.stderr == f"error: {message}\n"
