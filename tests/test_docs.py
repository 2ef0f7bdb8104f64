"""What the docs say is run, and what they list is complete."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import is_dataclass
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
from mld_core.plugins import hookspecs

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
    assert len(hooks) == 3
    for name, signature in hooks.items():
        arguments = ", ".join(signature.parameters)
        assert f"`{name}({arguments})`" in CONTRIBUTING


CONTRACT = (ROOT / "docs" / "contract.md").read_text()
CONTRACTS = [Modality, Autoencoder, Classifier, Metric, Dataset, Split, Method, JointModel]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_member_of_a_contract_stands_in_the_docs_with_its_arguments(contract: type) -> None:
    names = [name for name in (*vars(contract), *contract.__annotations__) if name[0] != "_"]
    members = {name: getattr(contract, name, None) for name in names}
    if is_dataclass(contract):
        members = {contract.__name__: contract}
    for name, member in members.items():
        told = name
        if callable(member):
            parameters = inspect.signature(member).parameters.values()
            arguments = [_argument(p) for p in parameters if p.name != "self"]
            told = f"{name}({', '.join(arguments)})"
        assert f"`{told}`" in CONTRACT


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={parameter.default!r}".replace("'", '"')


def test_page_of_checks_is_up_to_date() -> None:
    page = (ROOT / "docs" / "checks.md").read_text()
    assert page == checks_as_markdown() + "\n", "run: mld check --list > docs/checks.md"


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^ *make ([a-z-]+)", README + CONTRIBUTING, re.MULTILINE)
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets) <= set(known)


def edited(module: str, edits: list[str]) -> str:
    """A module in which each function takes the place of the method of its name."""
    lines = module.splitlines()
    for edit in edits:
        (first, *_) = ast.parse(edit).body
        if not isinstance(first, ast.FunctionDef):
            at = lines.index("import numpy as np")
            lines[at:at] = [*edit.splitlines(), ""]
            continue
        kind = next(
            node
            for node in ast.parse("\n".join(lines)).body
            if isinstance(node, ast.ClassDef) and "Modality" in [ast.unparse(b) for b in node.bases]
        )
        old = next(node for node in kind.body if getattr(node, "name", None) == first.name)
        lines[old.lineno - 1 : old.end_lineno] = indent(edit, "    ").splitlines()
    return "\n".join(lines) + "\n"


@pytest.fixture
def tide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A Registry with CONTRIBUTING's modality, generated and edited as it says there."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    mld (.*)$", CONTRIBUTING, re.MULTILINE)
    assert "new-modality tide" in commands
    assert CliRunner().invoke(app, ["new-modality", "tide"]).exit_code == 0
    module = Path("mld-tide/mld_tide.py")
    edits = blocks(CONTRIBUTING, "python")
    assert len(edits) == 4
    module.write_text(edited(module.read_text(), edits))
    monkeypatch.syspath_prepend("mld-tide")
    told = {"tide": "mld_tide", "text": "mld_text", "examples": "mld_datasets.examples"}
    yield Registry([EntryPoint(kind, module, "mld") for kind, module in told.items()])
    sys.modules.pop("mld_tide", None)


def test_the_tutorials_modality_goes_through_the_whole_corridor(tide: Registry) -> None:
    overrides = [
        "data={kind: examples, train: 600, validation: 20, test: 60}",
        "autoencode={steps: 100}",
        "diffuse={steps: 100, batch_size: 64}",
        "generate={num_samples: 20, num_previews: 1, steps: 5}",
        "evaluate={steps: 300}",
    ]
    spec = load_spec(Path("mld-tide/tide.yaml"), tide, overrides)
    report = run(spec, RunDir(Path("run")), tide)
    scores = json.loads((report.parent / "metrics.json").read_text())
    assert scores["modalities"]["signal"]["classifier_accuracy"]["value"] > 0.8
    made = load("run", tide).sample(given={"word": "three"}, want=["signal"], n=2)
    files = made.write("out")["signal"]
    assert len(json.loads(files[0].read_text())["metres"]) == 32
    given = load("run", tide).sample(given={"signal": files[0]}, n=1)
    assert set(given.items) == {"signal", "word"}


@pytest.mark.slow
def test_the_tutorials_modality_passes_the_conformance_kit(tide: Registry) -> None:
    code = (
        "from mld.conformance import check_modality; from mld_tide import Tide\n"
        "records = check_modality(Tide, {'latent_dim': 8})\n"
        "print(len(records), [record for record in records if record.failed])"
    )
    # In a process of its own: here beartype, which draws from Python's generator, looks on.
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd="mld-tide", capture_output=True, text=True, check=True)
    number, _, failed = done.stdout.strip().partition(" ")
    assert int(number) >= 25
    assert failed == "[]"


def test_the_readmes_own_data_example_is_a_spec_that_loads(tmp_path: Path) -> None:
    own = next(block for block in blocks(README, "yaml") if "manifest" in block)
    (tmp_path / "own.yaml").write_text(own)
    spec = load_spec(tmp_path / "own.yaml", Registry())
    assert spec.data.kind == "manifest"
    columns = blocks(README, "csv")[0].splitlines()[0].split(",")
    assert set(spec.modalities) <= set(columns)


def test_the_readmes_suite_is_a_grid(tmp_path: Path) -> None:
    own = next(block for block in blocks(README, "yaml") if "methods:" in block)
    (tmp_path / "suite.yaml").write_text(own)
    (tmp_path / "digits.yaml").write_text((ROOT / "benchmarks" / "digits.yaml").read_text())
    trials = list(grid(load_suite(tmp_path / "suite.yaml")))
    assert len(trials) == 11 * 3 * (3 + 1 + 1)


QUICK = ["autoencode={steps: 4}", "evaluate={steps: 4}", "generate={num_samples: 2, steps: 2}"]
QUICK += ["diffuse={steps: 4, batch_size: 16, network: {kind: residual-mlp, width: 32, depth: 1}}"]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the README's two runs, barely trained, and its manifest with more rows."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLD_STORE", "store")
    header, *told = blocks(README, "csv")[0].splitlines()
    lines = [header]
    for row in range(30):
        Image.new("RGB", (64, 64), (8 * row, 60, 90)).save(f"{row}.jpg")
        split = ("train", "validation", "test")[row % 3]
        lines.append(f"{row}.jpg,{'' if row == 5 else f'bird {row}'},wren,{split}")
    assert all(len(own.split(",")) == 4 for own in lines + told)
    Path("birds.csv").write_text("\n".join(lines) + "\n")
    own = next(block for block in blocks(README, "yaml") if "manifest" in block)
    Path("birds.yaml").write_text(own)
    digits = ["data={kind: examples, train: 40, validation: 10, test: 10}", *QUICK]
    digits.append("generate={num_samples: 2, steps: 2, subsets: [[], [word]]}")
    for path, overrides in ((ROOT / "benchmarks/digits.yaml", digits), (Path("birds.yaml"), QUICK)):
        spec = load_spec(path, Registry(), [*overrides, "compute={threads: 1}"])
        run(spec, RunDir(Path("runs") / spec.name), Registry())


@pytest.mark.usefixtures("finished")
def test_the_readmes_python_and_its_commands_run() -> None:
    names: dict[str, object] = {}
    for block in blocks(README, "python"):
        exec(block, names)
    lines = re.findall(r"^    mld ((?:sample|score|impute|information) .*)$", README, re.MULTILINE)
    assert len(lines) == 4
    shutil.rmtree("filled")
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line))
        assert done.exit_code == 0, (line, done.output)
    assert Path("sevens/digit/0003.png").is_file()
    assert Path("filled/birds.csv").is_file()
    assert "Mutual information" in Path("runs/birds/report.html").read_text()


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/contract.md", "docs/plugins.md"],
)
def test_local_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / name).parent.joinpath(target).exists(), target


def test_help_is_quiet_and_whole() -> None:
    command = [sys.executable, "-c", "from mld.app import main; main()", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert all(name.split()[1] in done.stdout for name in commands(app))
