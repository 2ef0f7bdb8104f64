"""Every block of code in the docs is valid, and runs, on data and runs that are made for it."""

from __future__ import annotations

import csv
import os
import shutil
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from code_blocks import LANGUAGES, PAGES, ROOT, Block, blocks_of, mld_arguments, parse_blocks
from typer.testing import CliRunner

from mld.app import app
from mld.bench.grid import grid
from mld.bench.suite import load_suite
from mld.commands.bench import SUITE
from mld.config.spec import load_spec
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry
from mld_core.information.estimator import surprisal

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
NOT_RUN = {
    "installs packages",
    "needs Docker",
    "needs Slurm",
    "needs a plugin of yours",
    "needs several machines",
    "needs the network",
}
"""All reasons for which a block is not run."""

QUICK_NETWORK = "{kind: residual-mlp, width: 32, depth: 1}"
QUICK = {
    "autoencode": {"steps": 4, "batch_size": 16},
    "diffuse": {"steps": 4, "batch_size": 16, "network": yaml.safe_load(QUICK_NETWORK)},
    "generate": {"num_samples": 2, "steps": 2, "draws": 1},
    "evaluate": {"steps": 4},
    "compute": {"threads": 1},
}
"""Settings of a run that is there to be used, not to be good."""

SLOW_PAGES = ["docs/tutorial.md", "docs/data.md", "docs/suites.md"]
"""Those whose blocks train or rehearse."""


def where(block: Block) -> str:
    """The name of a block in the results of tests."""
    return f"{block.page}:{block.line}"


def runnable(page: str) -> list[Block]:
    """The blocks of a page that are run here."""
    return [
        block
        for block in blocks_of(page)
        if not block.tagged and block.language in ("bash", "python")
    ]


def test_every_block_has_a_language_that_tests_know() -> None:
    unknown = [where(b) for b in BLOCKS if b.language not in (*LANGUAGES, "text") and not b.tagged]
    assert not unknown, f"fence these as ```text, or tag them: {unknown}"
    others = [
        (where(block), words[0])
        for block in BLOCKS
        for words in block.commands
        if not block.tagged and words[0] not in ("mld", "make")
    ]
    assert not others, "tag these as <!-- not run: REASON -->, or fence them as ```text"


def test_blocks_that_are_not_run_say_why() -> None:
    assert {block.not_run for block in BLOCKS if block.not_run} == NOT_RUN
    assert [where(b) for b in BLOCKS if b.run_by and not (ROOT / b.run_by).is_file()] == []


def test_tags_stand_directly_before_their_block() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        tags = text.count("<!-- not run: ") + text.count("<!-- run by ")
        assert tags == sum(block.tagged for block in blocks_of(page)), page
    (first, second) = parse_blocks(
        "<!-- not run: needs Slurm -->\n\n    srun mld run a.yaml\n\nThen\n\n    mld run b.yaml\n",
        "x",
    )
    assert (first.not_run, second.tagged) == ("needs Slurm", False)
    assert mld_arguments(first.commands[0]) == ["run", "a.yaml"]


@pytest.mark.parametrize("page", [*PAGES, "benchmarks/README.md"])
def test_commands_and_their_options_exist(page: str) -> None:
    for block in blocks_of(page):
        for words in block.commands:
            arguments = mld_arguments(words)
            if arguments and not arguments[0].startswith("-"):
                parse(arguments)


def parse(words: list[str]) -> None:
    """Let typer read the words of a command, and not run it."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        # `mld bench` has a command without a name of its own, for a suite.
        name, *rest = words if words[0] in command.commands else [SUITE, *words]
        command, words = command.commands[name], rest
    command.make_context(command.name, list(words))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=where)
def test_toml_is_valid(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "yaml" and not b.tagged], ids=where
)
def test_specs_are_valid(block: Block, tmp_path: Path) -> None:
    """A block is a spec, a suite, or some sections of a spec."""
    section = yaml.safe_load(block.text)
    if "spec" in section:
        (tmp_path / "suite.yaml").write_text(block.text)
        (tmp_path / section["spec"]).write_text((ROOT / "benchmarks/digits.yaml").read_text())
        assert list(grid(load_suite(tmp_path / "suite.yaml")))
        return
    path = tmp_path / "spec.yaml"
    path.write_text(block.text if is_spec(block) else yaml.safe_dump(with_rest(section)))
    assert load_spec(path, Registry()).name


def is_spec(block: Block) -> bool:
    """Whether a block of YAML is a whole spec."""
    return {"name", "data", "modalities"} <= set(yaml.safe_load(block.text))


def with_rest(section: dict[str, Any]) -> dict[str, Any]:
    """Some sections of a spec with those that it needs besides."""
    modalities = {"tone": {"kind": "audio", "latent_dim": 8}, "word": {"kind": "text"}}
    modalities["word"]["latent_dim"] = 8
    return {"name": "part", "data": {"kind": "examples"}, "modalities": modalities, **section}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "csv"], ids=where)
def test_tables_have_the_columns_of_the_spec_that_follows(block: Block) -> None:
    rows = list(csv.reader(block.text.splitlines()))
    assert len({len(row) for row in rows}) == 1
    later = [b for b in blocks_of(block.page) if b.line > block.line and b.language == "yaml"]
    assert set(yaml.safe_load(later[0].text)["modalities"]) <= set(rows[0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs and tables that the docs speak of, the runs barely trained."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(ROOT / "benchmarks/digits.yaml", folder)
    readme = [block for block in blocks_of("README.md") if block.language in ("csv", "yaml")]
    header = readme[0].text.splitlines()[0]
    lines = [header]
    for row in range(30):
        Image.new("RGB", (64, 64), (8 * row, 60, 90)).save(folder / f"{row}.jpg")
        split = ("train", "validation", "test")[row % 3]
        caption = "" if row == 5 else f"bird {row}"
        lines.append(f"{row}.jpg,{caption},{('wren', 'owl')[row % 2]},{split}")
    (folder / "birds.csv").write_text("\n".join(lines) + "\n")
    (folder / "birds.yaml").write_text(readme[1].text)
    birds = yaml.safe_load(readme[1].text)
    (folder / "spec.yaml").write_text(
        yaml.safe_dump({**birds, **QUICK, "name": "spec"}, sort_keys=False)
    )
    molecules = [f"C1{'C' * (1 + n % 8)}C1{'C' * (n // 8)}c1ccccc1" for n in range(40)]
    lines = [f"{smiles},{-len(smiles) / 10}" for smiles in molecules]
    (folder / "solubility.csv").write_text("\n".join(["SMILES,logS (mol/L)", *lines]) + "\n")
    digits = yaml.safe_load((ROOT / "benchmarks/digits.yaml").read_text())
    digits |= {"data": {"kind": "examples", "train": 40, "validation": 10, "test": 10}}
    store = WeightStore(folder / "store")
    for spec in ({**digits, **QUICK}, {**birds, **QUICK}):
        spec["generate"] = {**spec["generate"], "subsets": [[], [list(spec["modalities"])[1]]]}
        path = folder / "quick.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        run(load_spec(path, Registry()), RunDir(folder / "runs" / spec["name"]), store=store)
        path.unlink()
    return folder


@pytest.fixture
def workplace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder with finished runs, as the working directory."""
    folder = tmp_path / "docs"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    for module in ("score", "information"):  # few noise levels are quick and less exact
        monkeypatch.setattr(f"mld.inference.{module}.surprisal", partial(surprisal, nodes=16))
    return folder


def run_page(page: str) -> dict[str, object]:
    """Run the blocks of a page in order, each training with few steps; returns Python's names."""
    names: dict[str, object] = {}
    for block in blocks_of(page):
        if block.language == "yaml" and not block.tagged:
            document = yaml.safe_load(block.text)
            if "spec" in document:
                small = yaml.safe_dump(smaller(document), sort_keys=False)
                Path(f"{document['name']}.yaml").write_text(small)
            elif is_spec(block):
                Path(f"{document['name']}.yaml").write_text(block.text)
        if block in runnable(page) and block.language == "python":
            text = block.text.replace("range(1200)", "range(90)")
            exec(compile(text, where(block), "exec"), names)
        for words in block.commands if block in runnable(page) else []:
            if words[0] == "mld":
                run_command(words[1:], where(block))
    return names


def smaller(suite: dict[str, Any]) -> dict[str, Any]:
    """A suite with one trial a method: a dry run rehearses each, which takes seconds."""
    suite = {key: value for key, value in suite.items() if key != "modalities"}
    axes = ("seeds", "guidance", "missing")
    return suite | {axis: suite[axis][:1] for axis in axes if axis in suite}


def run_command(words: list[str], place: str) -> None:
    """Run a command of mld, which must succeed."""
    if words[0] == "run":
        words = [*words, *(f"--set={key}={yaml.safe_dump(value)}" for key, value in QUICK.items())]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (place, words, result.output)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page in SLOW_PAGES else ())
        for page in PAGES
        if runnable(page)
    ],
)
@pytest.mark.usefixtures("workplace")
def test_blocks_run(page: str) -> None:
    run_page(page)
    expected = {
        "docs/sampling.md": ["sevens/digit/0003.png", "captions.csv"],
        "docs/queries.md": ["filled/birds.csv", "birds.scores.csv"],
        "docs/guidance.md": ["guided/digit/0003.png"],
        "docs/tutorial.md": ["circles/picture/0003.png", "filled/shapes.csv", "filled/report.html"],
    }
    missing = [path for path in expected.get(page, []) if not os.path.exists(path)]
    assert not missing
