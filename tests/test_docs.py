"""What the docs say is run, and what they list is complete."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from mld.app import app
from mld.checks import CHECKS
from mld.experiment import load, run
from mld.rundir import RunDir
from mld.spec import load_spec
from mld_core import Registry, hookspecs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced code of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(group: typer.Typer, prefix: str = "mld") -> list[str]:
    own = [f"{prefix} {(c.name or c.callback.__name__)}" for c in group.registered_commands]
    return own + [
        inner
        for sub in group.registered_groups
        for inner in commands(sub.typer_instance, f"{prefix} {sub.name}")
    ]


def test_the_readme_lists_every_command() -> None:
    missing = [command for command in commands(app) if f"`{command}" not in README]
    assert not missing


def test_every_hook_stands_in_the_docs_with_its_arguments() -> None:
    hooks = {
        name: inspect.signature(hook)
        for name, hook in vars(hookspecs).items()
        if name.startswith("register_")
    }
    assert len(hooks) == 2
    for name, signature in hooks.items():
        arguments = ", ".join(signature.parameters)
        assert f"`{name}({arguments})`" in CONTRIBUTING


def test_every_check_stands_in_the_docs_with_its_promise() -> None:
    checks = {check.name: check for role in CHECKS.values() for check in role.values()}
    told = [
        f"| `{check.name}` | {' and '.join(check.roles)} | {check.promise} |"
        for check in checks.values()
    ]
    listed = [line for line in CONTRIBUTING.splitlines() if line.startswith("| `") and line in told]
    assert listed == told


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^ *make ([a-z-]+)", README + CONTRIBUTING, re.MULTILINE)
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets) <= set(known)


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A Registry with CONTRIBUTING's modality, as it stands there."""
    (module,) = blocks(CONTRIBUTING, "python")
    (entry,) = blocks(CONTRIBUTING, "toml")
    assert 'numbers = "mld_numbers"' in entry
    (tmp_path / "mld_numbers.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        EntryPoint("numbers", "mld_numbers", "mld"),
        EntryPoint("examples", "mld_datasets.examples", "mld"),
    ]
    yield Registry(points)
    sys.modules.pop("mld_numbers", None)


def test_the_tutorials_modality_goes_through_the_whole_corridor(
    numbers: Registry, tmp_path: Path
) -> None:
    told: dict[str, Any] = {
        "name": "tutorial",
        "data": {"kind": "examples", "train": 200, "validation": 20, "test": 20},
        "modalities": {name: {"kind": "numbers", "latent_dim": 2} for name in ("a", "b")},
        "autoencode": {"updates": 100, "batch": 32, "learning_rate": 0.01},
        "diffuse": {"updates": 100, "batch": 64},
        "generate": {"per_subset": 20, "rendered": 1, "steps": 5},
        "judge": {"updates": 100, "batch": 32, "learning_rate": 0.01},
    }
    (tmp_path / "tutorial.yaml").write_text(yaml.safe_dump(told))
    spec = load_spec(tmp_path / "tutorial.yaml", numbers)
    assert run(spec, RunDir(tmp_path / "run"), numbers).is_file()
    made = load(tmp_path / "run", numbers).sample(given={"a": "3 3 3 3 3 3"}, n=2)
    assert made.items["b"].shape == (2, 6)


def test_the_readmes_own_data_example_is_a_spec_that_loads(tmp_path: Path) -> None:
    own = next(block for block in blocks(README, "yaml") if "manifest" in block)
    (tmp_path / "own.yaml").write_text(own)
    spec = load_spec(tmp_path / "own.yaml", Registry())
    assert spec.data.kind == "manifest"
    columns = blocks(README, "csv")[0].splitlines()[0].split(",")
    assert set(spec.modalities) <= set(columns)


def test_the_readmes_python_names_exist() -> None:
    """The example needs a trained run; its calls are checked against the signatures."""
    (example,) = blocks(README, "python")
    calls = re.findall(r"run\.(\w+)\(", example)
    from mld.experiment import Run

    assert calls
    assert all(hasattr(Run, name) for name in calls)
    keywords = set(re.findall(r"(\w+)=", example)) - {"run"}
    assert keywords <= set(inspect.signature(Run.sample).parameters)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_local_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target


def test_help_is_quiet_and_whole() -> None:
    command = [sys.executable, "-c", "from mld.app import main; main()", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert all(name.split()[1] in done.stdout for name in commands(app))
