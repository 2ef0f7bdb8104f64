"""`mld new-modality` and the like write distributions whose plugins work before they are edited."""

from __future__ import annotations

import inspect
import runpy
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from mld.app import app
from mld.config.spec import load_spec
from mld.conformance.runner import (
    CheckRunner,
    dataset_under_test,
    method_under_test,
    modality_under_test,
)
from mld.inference.trained_run import load
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld_core import Registry

FILES = {
    ".github/workflows/tests.yaml",
    ".gitignore",
    "README.md",
    "mld_pen_strokes.py",
    "pen_strokes.yaml",
    "pyproject.toml",
    "tests/test_pen_strokes.py",
}
FILES_OF_ALL = {
    ".github/workflows/tests.yaml",
    ".gitignore",
    "README.md",
    "mld_tag.py",
    "tag.yaml",
    "pyproject.toml",
    "tests/test_tag.py",
}
TABLE_MODULES = {
    "category": "mld_table.category",
    "number": "mld_table.number",
    "text": "mld_text",
    "examples": "mld_datasets.examples",
}
SMALL = [
    "data={kind: examples, train: 200, validation: 20, test: 20}",
    "autoencode={steps: 50}",
    "diffuse={steps: 50, batch_size: 64, network: {kind: residual-mlp, width: 32, depth: 1}}",
    "generate={num_samples: 10, num_previews: 1, steps: 4}",
    "evaluate={steps: 50}",
]


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `mld new-modality` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, ["new-modality", *words], env={"COLUMNS": "400"})


@pytest.fixture
def registry(new: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A Registry with a generated modality, unedited."""
    new("pen_strokes")
    monkeypatch.syspath_prepend("mld-pen-strokes")
    modules = {
        "pen_strokes": "mld_pen_strokes",
        "text": "mld_text",
        "examples": "mld_datasets.examples",
    }
    yield Registry([EntryPoint(kind, module, "mld") for kind, module in modules.items()])
    sys.modules.pop("mld_pen_strokes", None)


def test_distribution_is_complete_and_named(new: Callable[..., Result]) -> None:
    result = new("pen_strokes", "--into", "deep/inside")
    assert result.exit_code == 0, result.output
    folder = Path("deep/inside/mld-pen-strokes")
    assert result.stdout.strip() == str(folder)
    assert "mld check pen_strokes" in result.stderr
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == FILES
    for name in files:
        assert "newkind" not in (folder / name).read_text().lower(), name
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "mld-pen-strokes"
    assert project["project"]["entry-points"]["mld"] == {"pen_strokes": "mld_pen_strokes"}
    workflow = yaml.safe_load((folder / ".github/workflows/tests.yaml").read_text())
    assert workflow["jobs"]["tests"]["steps"]
    assert "class PenStrokes(Modality):" in (folder / "mld_pen_strokes.py").read_text()


@pytest.mark.parametrize("kind", ["dot_matrix", "my_newkind"])
def test_underscores_and_template_names_in_kind(new: Callable[..., Result], kind: str) -> None:
    new(kind)
    folder = Path(f"mld-{kind.replace('_', '-')}")
    assert {path.name for path in folder.iterdir()} >= {f"mld_{kind}.py", f"{kind}.yaml"}
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == folder.name
    assert project["entry-points"]["mld"] == {kind: f"mld_{kind}"}


def test_module_is_short(new: Callable[..., Result]) -> None:
    new("spectrum")
    lines = Path("mld-spectrum/mld_spectrum.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 150


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Spectrum", "'Spectrum' is not a valid kind: begin with a lower-case letter"),
        ("pen-strokes", "single underscores, such as 'pen_strokes'"),
        ("pen strokes", "such as 'pen_strokes'"),
        ("../spectrum", "such as 'spectrum'"),
        ("9lives", "such as 'lives'"),
        ("spectrum_", "such as 'spectrum'"),
        ("pen__strokes", "such as 'pen_strokes'"),
        ("Tön", "such as 't_n'"),
        ("tön", "is not a valid kind"),
        ("Class", "digits and single underscores  "),
        ("", "'' is not a valid kind"),
        ("lambda", "'lambda' is a Python keyword"),
        ("none", "'none' is a Python keyword"),
        ("text", "the kind 'text' is taken by mld-toolkit"),
        ("examples", "the kind 'examples' is taken by mld-toolkit"),
        ("core", "the module mld_core or the distribution mld-core is installed"),
        ("toolkit", "the module mld_toolkit or the distribution mld-toolkit is installed"),
        ("modality", "the class Modality would shadow a name in its module"),
        ("signal", "the class Signal would shadow a name in its module"),
    ],
)
def test_invalid_name_is_usage_error(new: Callable[..., Result], name: str, message: str) -> None:
    result = new(name)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(Path.cwd().iterdir())


def test_existing_folder_is_not_overwritten(new: Callable[..., Result]) -> None:
    Path("mld-spectrum").mkdir()
    Path("mld-spectrum/pyproject.toml").write_text("mine")
    result = new("spectrum")
    assert result.exit_code == 6
    assert "mld-spectrum exists and is not overwritten" in result.stderr
    assert [path.name for path in Path("mld-spectrum").iterdir()] == ["pyproject.toml"]
    assert Path("mld-spectrum/pyproject.toml").read_text() == "mine"
    Path("file").write_text("mine")
    result = new("spectrum", "--into", "file")
    assert result.exit_code == 6, result.output
    assert "cannot be written: Not a directory" in result.stderr
    assert Path("file").read_text() == "mine"


def test_example_spec_runs(registry: Registry) -> None:
    spec = load_spec(Path("mld-pen-strokes/pen_strokes.yaml"), registry, SMALL)
    assert run(spec, RunDir(Path("run")), registry).is_file()
    samples = load("run", registry).sample(given={"word": "seven"}, n=2)
    (file, _) = samples.write("out")["signal"]
    modality = samples.modalities["signal"]
    item = modality.preprocess(modality.read(file))
    assert (item - samples.items["signal"][0]).abs().max() < 1e-4


def test_error_names_the_setting(registry: Registry) -> None:
    modality_class = registry.modality("pen_strokes")
    modality = modality_class(modality_class.Config(), {"mean": 0.0, "scale": 1.0})
    Path("short.txt").write_text("1\n2\n")
    with pytest.raises(ValueError, match="set length: 2 to accept it"):
        modality.preprocess(modality.read(Path("short.txt")))
    Path("nan.txt").write_text("nan\n" * 32)
    with pytest.raises(ValueError, match="not finite"):
        modality.preprocess(modality.read(Path("nan.txt")))


NOT_HERE = {
    *("imports-quickly", "imports-quietly", "works-quietly", "needs-no-network"),
    "joint-model-generates-any-from-any",
}
"""Checks in processes of their own, and slow ones; tests/test_outside.py runs them."""


@pytest.mark.parametrize(
    ("words", "make", "config"),
    [
        (["new-modality", "tag", "--inline"], modality_under_test, {}),
        (["new-dataset", "tag"], dataset_under_test, {"path": "mld-tag/measurements.csv"}),
        (["new-method", "tag"], method_under_test, {}),
    ],
    ids=["inline", "dataset", "method"],
)
def test_other_plugins_pass_the_kit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    make: Callable[..., Any],
    config: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    folder = Path("mld-tag")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= FILES_OF_ALL
    for name in names:
        text = (folder / name).read_text().lower()
        assert "newkind" not in text, name
        assert "newrole" not in text, name
    monkeypatch.syspath_prepend("mld-tag")
    modules = {**TABLE_MODULES, "tag": "mld_tag"}
    registry = Registry([EntryPoint(kind, module, "mld") for kind, module in modules.items()])
    try:
        load_spec(folder / "tag.yaml", registry)
        runner = CheckRunner(make("tag", config, registry=registry))
        results = [runner.run(name) for name in runner.checks if name not in NOT_HERE]
        assert {r.check: r.reason for r in results if r.failed} == {}
        tests = runpy.run_path(str(folder / "tests/test_tag.py"))
        (test_name,) = (
            name for name in tests if name.startswith("test_") and "conformance" not in name
        )
        arguments = (
            [tmp_path] if "tmp_path" in inspect.signature(tests[test_name]).parameters else []
        )
        tests[test_name](*arguments)
    finally:
        sys.modules.pop("mld_tag", None)
