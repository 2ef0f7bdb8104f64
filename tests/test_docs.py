"""Tests of the docs: their code and commands run, and their lists are complete."""

from __future__ import annotations

import ast
import csv
import inspect
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import indent

import pytest
import typer
from code_blocks import blocks_of
from typer.testing import CliRunner

from mld.app import app
from mld.config.spec import load_spec
from mld.conformance import checks_as_markdown
from mld.inference.trained_run import load
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import (
    Autoencoder,
    Classifier,
    Dataset,
    JointModel,
    Method,
    Metric,
    Modality,
    Registry,
    Split,
    Tracker,
)
from mld_core.plugins import hookspecs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "command-line.md").read_text()
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.yaml"))
CONTRACTS = [Modality, Autoencoder, Classifier, Metric, Dataset, Split, Method, JointModel, Tracker]


def commands(group: typer.Typer, prefix: str = "mld") -> list[str]:
    """All commands of a group and its subgroups, as typed."""
    names = [f"{prefix} {(c.name or c.callback.__name__)}" for c in group.registered_commands]
    return names + [
        name
        for subgroup in group.registered_groups
        for name in commands(subgroup.typer_instance, f"{prefix} {subgroup.name}")
    ]


def test_page_of_the_command_line_lists_every_command() -> None:
    missing = [command for command in commands(app) if f"`{command}" not in COMMAND_LINE]
    assert not missing


def test_contributing_lists_every_hook() -> None:
    hooks = {
        name: inspect.signature(hook)
        for name, hook in vars(hookspecs).items()
        if name.startswith("register_")
    }
    assert len(hooks) == 4
    for name, signature in hooks.items():
        arguments = ", ".join(signature.parameters)
        assert f"`{name}({arguments})`" in CONTRIBUTING


@pytest.mark.parametrize("contract", CONTRACTS)
def test_contract_lists_every_member(contract: type) -> None:
    names = [name for name in (*vars(contract), *contract.__annotations__) if name[0] != "_"]
    members = {name: getattr(contract, name, None) for name in names}
    if is_dataclass(contract):
        members = {contract.__name__: contract}
    for name, member in members.items():
        entry = name
        if callable(member):
            parameters = inspect.signature(member).parameters.values()
            arguments = [_argument(p) for p in parameters if p.name != "self"]
            entry = f"{name}({', '.join(arguments)})"
        assert f"`{entry}`" in CONTRACT


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}".replace("'", '"')


def test_page_of_checks_is_up_to_date() -> None:
    page = (ROOT / "docs" / "checks.md").read_text()
    assert page == checks_as_markdown() + "\n", "run: mld check --list > docs/checks.md"


def test_make_targets_exist() -> None:
    targets = re.findall(r"^ *make ([a-z-]+)", README + CONTRIBUTING, re.MULTILINE)
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets) <= set(known)


def test_tree_in_contributing_exists() -> None:
    tree = next(each.text for each in blocks_of("CONTRIBUTING.md") if each.language == "text")
    top = ROOT
    listed: set[Path] = set()
    for line in tree.splitlines():
        names = re.match(r" *((?:[\w*/]+(?:/|\.py) *)+)", line)[1].split()
        folder = top if line.startswith(" ") else ROOT
        for name in names:
            paths = set(folder.glob(name))
            assert paths, name
            listed |= paths
        if folder == ROOT:
            top = ROOT / names[0]
    packages = {path for top in ("mld_core", "cli/mld") for path in (ROOT / top).glob("*/")}
    assert {path for path in packages if (path / "__init__.py").is_file()} <= listed


def apply_edits(
    module: str, edits: list[str], contract: str = "Modality", after: str = "import numpy as np"
) -> str:
    """A module with methods replaced by the functions of the same name, and imports added.

    Args:
        contract: the base of the class whose methods are replaced.
        after: the line before which imports are added.
    """
    lines = module.splitlines()
    for edit in edits:
        (first, *_) = ast.parse(edit).body
        if not isinstance(first, ast.FunctionDef):
            at = lines.index(after)
            lines[at:at] = [*edit.splitlines(), ""]
            continue
        modality = next(
            node
            for node in ast.parse("\n".join(lines)).body
            if isinstance(node, ast.ClassDef) and contract in [ast.unparse(b) for b in node.bases]
        )
        old = next(node for node in modality.body if getattr(node, "name", None) == first.name)
        first_line = min([old.lineno, *(decorator.lineno for decorator in old.decorator_list)])
        lines[first_line - 1 : old.end_lineno] = indent(edit, "    ").splitlines()
    return "\n".join(lines) + "\n"


@pytest.fixture
def tide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A Registry with the modality of CONTRIBUTING's tutorial."""
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    mld (.*)$", CONTRIBUTING, re.MULTILINE)
    assert "new-modality tide" in lines
    assert CliRunner().invoke(app, ["new-modality", "tide"]).exit_code == 0
    module = Path("mld-tide/mld_tide.py")
    blocks = [each for each in blocks_of("CONTRIBUTING.md") if each.language == "python"]
    edits = [each.text for each in blocks if each.run_by == "tests/test_docs.py"]
    assert len(edits) == 4
    module.write_text(apply_edits(module.read_text(), edits))
    monkeypatch.syspath_prepend("mld-tide")
    modules = {"tide": "mld_tide", "text": "mld_text", "examples": "mld_datasets.examples"}
    yield Registry([EntryPoint(kind, module, "mld") for kind, module in modules.items()])
    sys.modules.pop("mld_tide", None)


@pytest.mark.slow
def test_tutorial_modality_runs(tide: Registry) -> None:
    overrides = [
        "data={kind: examples, train: 600, validation: 20, test: 60}",
        "autoencode={steps: 100}",
        "diffuse={steps: 100, batch_size: 64}",
        "generate={num_samples: 20, num_previews: 1, steps: 5}",
        "evaluate={steps: 300}",
    ]
    spec = load_spec(Path("mld-tide/tide.yaml"), tide, overrides)
    report = run(spec, RunDir(Path("run")), tide, store=WeightStore(Path("store")))
    scores = json.loads((report.parent / "metrics.json").read_text())
    assert scores["modalities"]["signal"]["classifier_accuracy"]["value"] > 0.8
    samples = load("run", tide).sample(given={"word": "three"}, want=["signal"], n=2)
    files = samples.write("out")["signal"]
    assert len(json.loads(files[0].read_text())["metres"]) == 32
    reverse = load("run", tide).sample(given={"signal": files[0]}, n=1)
    assert set(reverse.items) == {"signal", "word"}


@pytest.mark.slow
def test_tutorial_modality_passes_the_checks(
    tide: Registry, warm_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = (
        "from mld.conformance import check_modality; from mld_tide import Tide\n"
        "results = check_modality(Tide, {'latent_dim': 8})\n"
        "print(len(results), [result for result in results if result.failed])"
    )
    # In its own process: here beartype is active, which draws from Python's generator.
    process = warm_python(code, cwd="mld-tide")
    assert process.returncode == 0, process.stderr
    number, _, failed = process.stdout.strip().partition(" ")
    assert int(number) >= 25
    assert failed == "[]"


def test_dataset_of_the_guide_reads_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guide = (ROOT / "docs" / "dataset.md").read_text()
    assert re.search(r"^    mld new-dataset materials$", guide, re.MULTILINE)
    assert CliRunner().invoke(app, ["new-dataset", "materials"]).exit_code == 0
    with Path("mld-materials/measurements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with closing(sqlite3.connect("materials.db")) as database, database:
        database.execute("CREATE TABLE measurements (id, material, hardness, density)")
        cells = [[row[name] or None for name in row] for row in rows]
        names = ", ".join(rows[0])
        database.executemany(f"INSERT INTO measurements ({names}) VALUES (?, ?, ?, ?)", cells)
    module = Path("mld-materials/mld_materials.py")
    read = {}
    for path in ("mld-materials/measurements.csv", "materials.db"):
        if path == "materials.db":
            blocks = blocks_of("docs/dataset.md")
            edits = [each.text for each in blocks if each.language == "python"]
            module.write_text(apply_edits(module.read_text(), edits, "Dataset", "import csv"))
        monkeypatch.syspath_prepend("mld-materials")
        (entry,) = Registry([EntryPoint("materials", "mld_materials", "mld")]).entries()
        sys.modules.pop("mld_materials", None)
        dataset_class = entry.plugin_class
        dataset = dataset_class(dataset_class.Config(path=tmp_path / path), {}, 0)
        read[path] = [dataset.split(name) for name in ("train", "validation", "test")]
        assert dataset.fingerprint()
    assert read["materials.db"] == read["mld-materials/measurements.csv"]
    assert any(None in split.items["hardness"] for split in read["materials.db"])


@pytest.mark.parametrize("name", PAGES)
def test_local_links_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_paths_of_benchmarks_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    for path in re.findall(r"benchmarks/[\w./-]+\.(?:yaml|py)", text):
        assert (ROOT / path).is_file() or "rivals" in path, path


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks").rglob("*.yaml")), ids=lambda p: p.stem
)
def test_benchmark_starts_with_its_command(path: Path) -> None:
    kind = "bench" if path.parent.name == "suites" else "run"
    command = f"# mld {kind} {path.relative_to(ROOT).as_posix()}"
    first, *lines = path.read_text().splitlines()
    assert f"{first} ".startswith(f"{command} ")
    assert f"name: {path.stem}" in lines


def test_help_lists_every_command() -> None:
    command = [sys.executable, "-c", "from mld.app import main; main()", "--help"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stderr == ""
    assert all(name.split()[1] in process.stdout for name in commands(app))
