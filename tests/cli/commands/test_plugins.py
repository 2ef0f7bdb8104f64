"""Listing, blocking and versions of plugins."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result


def test_plugins_are_listed_by_role(mld_small: Callable[..., Result]) -> None:
    lines = mld_small("modalities", "--strict").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["marks", "modality"], ["points", "modality"]]
    entries = json.loads(mld_small("modalities", "--json").stdout)
    assert entries[0]["role"] == "modality"
    assert entries[0]["summary"].startswith("Six numbers in the manifest's cell")
    lines = mld_small("datasets").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["examples", "dataset"],
        ["manifest", "dataset"],
    ]
    assert [entry["kind"] for entry in json.loads(mld_small("datasets", "--json").stdout)] == [
        "examples",
        "manifest",
    ]
    assert mld_small("methods").stdout.split()[:2] == ["relay", "method"]
    assert [entry["kind"] for entry in json.loads(mld_small("methods", "--json").stdout)] == [
        "relay"
    ]


def test_a_plugin_can_be_blocked(
    mld_small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = mld_small("--no-plugin", "marks", "run", "small.yaml")
    assert result.exit_code == 3, result.output
    assert "kind 'marks' (? ?) cannot be used: blocked by MLD_NO_PLUGINS, --no-plugin or" in (
        result.stderr
    )
    assert os.environ["MLD_NO_PLUGINS"] == ""
    result = mld_small("--no-plugin", "points", "--no-plugin", "marks", "modalities", "--strict")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["marks", "blocked"],
        ["points", "blocked"],
    ]
    result = mld_small("--no-plugin", "point", "modalities")
    assert result.exit_code == 4
    assert "'point', which is not an installed kind" in result.stderr
    monkeypatch.setenv("MLD_NO_PLUGINS", "point")
    assert mld_small("--version").exit_code == 4
    monkeypatch.setenv("MLD_NO_PLUGINS", "")
    monkeypatch.setenv("MLD_PLUGINS", "marks")
    lines = mld_small("modalities").stdout.splitlines()
    assert [line.split()[:2] for line in lines if "points" in line] == [["points", "blocked"]]


def test_an_extra_that_is_not_installed_breaks_nothing(
    mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith(("mld_baselines", "multivae"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "multivae", None)
    result = mld("methods", "--strict")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert " method " in lines["gaussian"]
    for kind in ("mvae", "mmvae", "mopoe", "mvtcae", "mmvae-plus"):
        assert "  not installed  " in lines[kind]
        assert lines[kind].endswith("needs multivae: pip install 'mld-toolkit[baselines]'")


def test_versions_of_torch_and_the_plugins(mld: Callable[..., Result]) -> None:
    lines = mld("--version").stdout.splitlines()
    assert lines[0].startswith("mld-toolkit ")
    assert lines[1].startswith("torch ")
    assert any(line.startswith("plugin text: mld-toolkit") for line in lines)
