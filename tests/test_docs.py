"""Tests of the docs: their code and commands run, and their lists are complete."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import indent

import pytest
import typer
from typer.testing import CliRunner

from mld.app import app
from mld.bench.grid import grid
from mld.bench.suite import load_suite
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
)
from mld_core.information.estimator import surprisal
from mld_core.plugins import hookspecs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CONTRACT = (ROOT / "docs" / "contract.md").read_text()
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"),
    *("docs/contract.md", "docs/plugins.md", "docs/checks.md", "docs/tables.md"),
    *(
        "docs/training.md",
        "docs/pretrained.md",
        "docs/latents.md",
        "docs/nodes.md",
        "docs/serving.md",
        "docs/sharing.md",
    ),
]
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.yaml"))
CONTRACTS = [Modality, Autoencoder, Classifier, Metric, Dataset, Split, Method, JointModel]


def code_blocks(text: str, language: str) -> list[str]:
    """The fenced code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def yaml_block(text: str, word: str) -> str:
    """The first YAML block that contains a word."""
    return next(block for block in code_blocks(text, "yaml") if word in block)


def commands(group: typer.Typer, prefix: str = "mld") -> list[str]:
    """All commands of a group and its subgroups, as typed."""
    names = [f"{prefix} {(c.name or c.callback.__name__)}" for c in group.registered_commands]
    return names + [
        name
        for subgroup in group.registered_groups
        for name in commands(subgroup.typer_instance, f"{prefix} {subgroup.name}")
    ]


def test_readme_lists_every_command() -> None:
    missing = [command for command in commands(app) if f"`{command}" not in README]
    assert not missing


def test_contributing_lists_every_hook() -> None:
    hooks = {
        name: inspect.signature(hook)
        for name, hook in vars(hookspecs).items()
        if name.startswith("register_")
    }
    assert len(hooks) == 3
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
    tree = code_blocks(CONTRIBUTING, "")[0]
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


def apply_edits(module: str, edits: list[str]) -> str:
    """A module with methods replaced by the functions of the same name, and imports added."""
    lines = module.splitlines()
    for edit in edits:
        (first, *_) = ast.parse(edit).body
        if not isinstance(first, ast.FunctionDef):
            at = lines.index("import numpy as np")
            lines[at:at] = [*edit.splitlines(), ""]
            continue
        modality = next(
            node
            for node in ast.parse("\n".join(lines)).body
            if isinstance(node, ast.ClassDef) and "Modality" in [ast.unparse(b) for b in node.bases]
        )
        old = next(node for node in modality.body if getattr(node, "name", None) == first.name)
        lines[old.lineno - 1 : old.end_lineno] = indent(edit, "    ").splitlines()
    return "\n".join(lines) + "\n"


@pytest.fixture
def tide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A Registry with the modality of CONTRIBUTING's tutorial."""
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    mld (.*)$", CONTRIBUTING, re.MULTILINE)
    assert "new-modality tide" in lines
    assert CliRunner().invoke(app, ["new-modality", "tide"]).exit_code == 0
    module = Path("mld-tide/mld_tide.py")
    edits = code_blocks(CONTRIBUTING, "python")
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


def test_readme_spec_of_own_data_loads(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml_block(README, "manifest"))
    spec = load_spec(tmp_path / "own.yaml", Registry())
    assert spec.data.kind == "manifest"
    columns = code_blocks(README, "csv")[0].splitlines()[0].split(",")
    assert set(spec.modalities) <= set(columns)


def test_readme_suite_loads(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(yaml_block(README, "methods:"))
    (tmp_path / "digits.yaml").write_text((ROOT / "benchmarks" / "digits.yaml").read_text())
    trials = list(grid(load_suite(tmp_path / "suite.yaml")))
    assert len(trials) == 11 * 3 * (3 + 1 + 1)


QUICK = ["autoencode={steps: 4}", "evaluate={steps: 4}"]
QUICK += ["diffuse={steps: 4, batch_size: 16, network: {kind: residual-mlp, width: 32, depth: 1}}"]


@pytest.fixture
def readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the README's two runs, barely trained, and its manifest with more rows."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    header, *rows = code_blocks(README, "csv")[0].splitlines()
    lines = [header]
    for row in range(30):
        Image.new("RGB", (64, 64), (8 * row, 60, 90)).save(f"{row}.jpg")
        split = ("train", "validation", "test")[row % 3]
        lines.append(
            f"{row}.jpg,{'' if row == 5 else f'bird {row}'},{('wren', 'owl')[row % 2]},{split}"
        )
    assert all(len(line.split(",")) == 4 for line in lines + rows)
    Path("birds.csv").write_text("\n".join(lines) + "\n")
    Path("birds.yaml").write_text(yaml_block(README, "manifest"))
    digits = ["data={kind: examples, train: 40, validation: 10, test: 10}", *QUICK]
    digits.append("generate={num_samples: 2, steps: 2, subsets: [[], [word]]}")
    birds = [*QUICK, "generate={num_samples: 2, steps: 2}"]
    for path, overrides in ((ROOT / "benchmarks/digits.yaml", digits), (Path("birds.yaml"), birds)):
        spec = load_spec(path, Registry(), [*overrides, "compute={threads: 1}"])
        run_dir = RunDir(Path("runs") / spec.name)
        run(spec, run_dir, Registry(), store=WeightStore(Path("store")))


@pytest.mark.usefixtures("readme_runs")
def test_readme_code_and_commands_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("score", "information"):  # few noise levels are quick and less exact
        monkeypatch.setattr(f"mld.inference.{module}.surprisal", partial(surprisal, nodes=16))
    names: dict[str, object] = {}
    for block in code_blocks(README, "python"):
        exec(block, names)
    lines = re.findall(r"^    mld ((?:sample|score|impute|information) .*)$", README, re.MULTILINE)
    assert len(lines) == 5
    shutil.rmtree("filled")
    for line in lines:
        result = CliRunner().invoke(app, shlex.split(line))
        assert result.exit_code == 0, (line, result.output)
    assert Path("sevens/digit/0003.png").is_file()
    assert Path("filled/birds.csv").is_file()
    assert "Mutual information" in Path("runs/birds/report.html").read_text()


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
