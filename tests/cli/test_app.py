"""The front door: what a user types, sees and gets back."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mld.app import app

PLUGINS = Path(__file__).parent / "plugins"
SPEC = """\
name: bad
data: {kind: examples, train: 40, validation: 10, test: 10}
modalities:
  word: {kind: text, latent_dim: 4}
  digit: {kind: image, latent_dim: 4, size: 8, channels: 1}
generate: {steps: 5}
"""


@pytest.fixture
def mld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


@pytest.fixture
def small(mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The same, where the small test modalities are installed and small.yaml is theirs."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    import small_run

    monkeypatch.setattr("mld_core.plugins.registry.Registry", small_run.registry)
    Path("small.yaml").write_text(small_run.SPEC)
    return mld


QUICK = [
    "--set",
    "autoencode.steps=20",
    "--set",
    "diffuse.steps=20",
    "--set",
    "evaluate.steps=20",
]


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        (
            "steps: 5",
            "stepps: 5",
            3,
            "bad.yaml:6: generate.stepps: unknown field; did you mean 'steps'?",
        ),
        (
            "kind: image",
            "kind: imge",
            3,
            "bad.yaml:5: modalities.digit.kind: no plugin of kind 'imge' is installed",
        ),
        (
            "steps: 5",
            "steps: many",
            3,
            "bad.yaml:6: generate.steps: must be a whole number, not 'many'",
        ),
        ("size: 8", "size: -8", 3, "bad.yaml:5: modalities.digit.size: must be at least 8, not -8"),
        ("steps: 5", "steps: 5, steps: 6", 3, "bad.yaml:6: generate.steps: given twice"),
        ("{steps: 5}", "[steps, 5]", 3, "bad.yaml:6: generate: must be a mapping"),
        ("{steps: 5}", "{steps: 5", 3, "bad.yaml:7: "),
        ("steps: 5", "sampler: dmp-solver++", 3, "did you mean 'dpm-solver++'?"),
        ("test: 10}", "test: 10}\nseed: -1", 3, "bad.yaml:3: seed: must be at least 0, not -1"),
    ],
)
def test_a_bad_spec_gets_one_clear_message(
    mld: Callable[..., Result], old: str, new: str, code: int, message: str
) -> None:
    assert old in SPEC
    Path("bad.yaml").write_text(SPEC.replace(old, new))
    done = mld("run", "bad.yaml")
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert [path.name for path in Path.cwd().iterdir()] == ["bad.yaml"]


def test_a_missing_spec_is_a_spec_error(mld: Callable[..., Result]) -> None:
    done = mld("run", "absent.yaml")
    assert done.exit_code == 3
    assert "absent.yaml" in done.stderr


def test_a_small_number_in_scientific_notation_is_a_number(mld: Callable[..., Result]) -> None:
    Path("bad.yaml").write_text(SPEC + "autoencode: {learning_rate: 1e-3}\n")
    done = mld("spec", "validate", "bad.yaml", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["autoencode"]["learning_rate"] == 0.001


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("picture", "absent.png", "absent.png cannot be read: No such file or directory"),
        ("picture", "torn.png", "rows.csv:18"),
        ("sound", "torn.wav", "rows.csv:18"),
        ("molecule", "C1CC(", "rows.csv:18"),
    ],
)
def test_a_bad_cell_in_row_17_is_named(
    mld: Callable[..., Result], column: str, cell: str, message: str
) -> None:
    from PIL import Image

    Path("torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    Path("torn.wav").write_bytes(b"RIFF\x04\x00\x00\x00WAVE torn")
    Image.new("L", (8, 8), 200).save("good.png")
    kinds = {"picture": "image", "sound": "audio", "molecule": "molecule"}
    rows = [f"word {row}," for row in range(30)]
    rows[16] = f"word 16,{cell}"
    Path("rows.csv").write_text("\n".join([f"word,{column}", *rows]) + "\n")
    Path("own.yaml").write_text(
        "name: own\ndata: {kind: manifest, path: rows.csv}\nmodalities:\n"
        "  word: {kind: text, latent_dim: 4}\n"
        f"  {column}: {{kind: {kinds[column]}, latent_dim: 4}}\n"
    )
    done = mld("run", "own.yaml")
    assert done.exit_code == 5, done.output
    assert message in done.stderr
    assert cell in done.stderr
    assert column in done.stderr
    assert "Traceback" not in done.output
    assert not Path("runs").exists()


def test_a_modality_without_its_library_names_the_pip_line(
    mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        own for own in sys.modules if own.partition(".")[0] in ("mld_molecule", "selfies")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "selfies", None)
    Path("bad.yaml").write_text(SPEC.replace("kind: text", "kind: molecule"))
    done = mld("run", "bad.yaml")
    assert done.exit_code == 3, done.output
    assert "pip install 'mld-toolkit[molecule]'" in done.stderr


def test_run_sample_and_report(small: Callable[..., Result]) -> None:
    done = small("run", "small.yaml", *QUICK)
    assert done.exit_code == 0, done.output
    assert "joint coherence" in done.stdout
    assert done.stdout.splitlines()[-1] == str(Path("runs/small/report.html"))
    given = "4 0 4 0 5 0"
    done = small(
        "sample", "runs/small", "--given", f"right={given}", "--want", "left", "-n", "3", "--json"
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["nfe"] == 20
    assert [Path(path).is_file() for path in told["files"]["left"]] == [True] * 3
    provenance = Path("runs/small/provenance.json")
    provenance.write_text(
        provenance.read_text().replace('"points": "?"', '"points": "mld-old 0.1"')
    )
    done = small("sample", "runs/small", "--out", "more")
    told = "warning: runs/small: kind 'points' is now of ?, and this run was made with mld-old 0.1"
    assert done.stderr.splitlines()[0] == told
    provenance.write_text(provenance.read_text().replace("mld-old 0.1", "?"))
    assert len(done.stdout.splitlines()) == 3
    assert "\t" in next(line for line in done.stdout.splitlines() if "right" in line)
    assert small("report", "runs/small").stdout.strip() == str(Path("runs/small/report.html"))
    done = small("run", "small.yaml", *QUICK, "--set", "evaluate.steps=21")
    assert done.exit_code == 6
    assert "spec.steps: 20 -> 21" in done.stderr


def test_the_plan_is_printed_and_nothing_is_written(small: Callable[..., Result]) -> None:
    done = small("run", "small.yaml", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "rows: train 400, validation 60, test 60" in done.stdout
    assert "autoencode/left: 58 parameters, 300 steps of 32 rows" in done.stdout
    assert "joint: 60 samples of 40 evaluations" in done.stdout
    assert [path.name for path in Path.cwd().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sample", "."], 6, "no run directory"),
        (["sample", ".", "--given", "digit"], 2, "NAME=DATUM"),
        (["report", "."], 6, "has not finished stage evaluate"),
        (["run", "small.yaml", "--from-stage", "dream"], 2, "no stage 'dream'"),
        (["spec", "init", "x", "-m", "foo"], 2, "-m/--modality must be NAME=KIND, not 'foo'"),
        (["spec", "init", "x", "-m", "a=marks", "-m", "a=marks"], 2, "names 'a' twice"),
        (["spec", "init", "x", "-m", "a=mark"], 3, "did you mean 'marks'?"),
        (["spec", "init", "x", "-m", "a=examples"], 3, "'examples' is a dataset"),
        (
            ["spec", "init", "x", "-m", "joint=marks"],
            3,
            "modalities.joint: must be a name of letters",
        ),
        (["spec", "init", "my x", "-m", "a=marks"], 3, "name: must be a folder name"),
        (["run", "small.yaml", "--set", "diffuse.steps=-1"], 3, "--set diffuse.steps"),
        (["fly"], 2, "fly"),
    ],
)
def test_wrong_commands_exit_as_documented(
    small: Callable[..., Result], words: list[str], code: int, message: str
) -> None:
    done = small(*words)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_our_own_mistakes_show_a_traceback(
    small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("mld.pipeline.run.cache_latents", broken)
    done = small("run", "small.yaml", *QUICK)
    assert done.exit_code == 1
    assert "KeyError: 'ours'" in done.stderr
    assert "please report it" in done.stderr
    assert "KeyError: 'ours'" in Path("runs/small/error.txt").read_text()


def test_whoever_reads_the_output_may_stop_reading(
    small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*args: Any, **kwargs: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("typer.echo", unread)
    done = small("spec", "schema")
    assert done.exit_code == 1
    assert done.stderr == ""


def test_ctrl_c_says_how_to_go_on(
    small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mld.pipeline.run.cache_latents", interrupted)
    done = small("run", "small.yaml", *QUICK)
    assert done.exit_code == 130
    assert "interrupted; re-run the same command to resume" in done.stderr


def test_plugins_are_listed_by_what_they_supply(small: Callable[..., Result]) -> None:
    lines = small("modalities", "--strict").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["marks", "modality"], ["points", "modality"]]
    told = json.loads(small("modalities", "--json").stdout)
    assert told[0]["role"] == "modality"
    assert told[0]["summary"].startswith("Six numbers in the manifest's cell")
    lines = small("datasets").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["examples", "dataset"],
        ["manifest", "dataset"],
    ]
    assert [entry["kind"] for entry in json.loads(small("datasets", "--json").stdout)] == [
        "examples",
        "manifest",
    ]
    assert small("methods").stdout.split()[:2] == ["relay", "method"]
    assert [entry["kind"] for entry in json.loads(small("methods", "--json").stdout)] == ["relay"]


def test_a_plugin_can_be_blocked(
    small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = small("--no-plugin", "marks", "run", "small.yaml")
    assert done.exit_code == 3, done.output
    assert "kind 'marks' (? ?) cannot be used: blocked by MLD_NO_PLUGINS, --no-plugin or" in (
        done.stderr
    )
    assert os.environ["MLD_NO_PLUGINS"] == ""
    done = small("--no-plugin", "points", "--no-plugin", "marks", "modalities", "--strict")
    assert done.exit_code == 0, done.output
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["marks", "blocked"],
        ["points", "blocked"],
    ]
    done = small("--no-plugin", "point", "modalities")
    assert done.exit_code == 4
    assert "'point', which is not an installed kind" in done.stderr
    monkeypatch.setenv("MLD_NO_PLUGINS", "point")
    assert small("--version").exit_code == 4
    monkeypatch.setenv("MLD_NO_PLUGINS", "")
    monkeypatch.setenv("MLD_PLUGINS", "marks")
    lines = small("modalities").stdout.splitlines()
    assert [line.split()[:2] for line in lines if "points" in line] == [["points", "blocked"]]


def test_init_writes_a_spec_that_is_right_and_overwrites_nothing(
    small: Callable[..., Result],
) -> None:
    assert small("spec", "init", "mine", "-m", "a=points", "-m", "b=marks").exit_code == 0
    done = small("spec", "validate", "mine.yaml")
    assert done.exit_code == 0, done.output
    assert "kind: marks" in done.stdout
    assert small("spec", "init", "mine", "-m", "a=points").exit_code == 2


def test_the_schema_knows_the_installed_kinds(small: Callable[..., Result]) -> None:
    schema = json.loads(small("spec", "schema").stdout)
    assert {"kind.points", "kind.marks", "kind.manifest"} <= set(schema["$defs"])


def test_version_tells_torch_and_the_plugins(mld: Callable[..., Result]) -> None:
    lines = mld("--version").stdout.splitlines()
    assert lines[0].startswith("mld-toolkit ")
    assert lines[1].startswith("torch ")
    assert any(line.startswith("plugin text: mld-toolkit") for line in lines)
