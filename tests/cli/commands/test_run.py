"""`mld run`, then `mld sample` and `mld report` of the run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from mld.commands.run import _print_scores, _warn_of_busy_cores
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES


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
def test_errors_of_specs(
    mld: Callable[..., Result], old: str, new: str, code: int, message: str, offline_spec: str
) -> None:
    assert old in offline_spec
    Path("bad.yaml").write_text(offline_spec.replace(old, new))
    result = mld("run", "bad.yaml")
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert [path.name for path in Path.cwd().iterdir()] == ["bad.yaml"]


def test_the_first_process_of_a_launcher_prints_the_plan_alone(
    mld_small: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    second = mld_small("run", "small.yaml", "--dry-run")
    assert (second.exit_code, second.output) == (0, "")
    monkeypatch.setenv("RANK", "0")
    first = mld_small("run", "small.yaml", "--dry-run", "--set", "compute.nodes=2")
    assert first.exit_code == 0, first.output
    assert "devices 2" in first.stdout


def test_a_run_on_several_nodes_needs_a_launcher(mld_small: Callable[..., Result]) -> None:
    result = mld_small("run", "small.yaml", "--set", "compute.nodes=2")
    assert result.exit_code == 3, result.output
    assert "compute.nodes: 2 x 1 devices need as many processes" in result.stderr
    assert not Path("runs").exists()


def test_a_missing_spec(mld: Callable[..., Result]) -> None:
    result = mld("run", "absent.yaml")
    assert result.exit_code == 3
    assert "absent.yaml" in result.stderr


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("picture", "absent.png", "absent.png cannot be read: No such file or directory"),
        ("picture", "torn.png", "rows.csv:18"),
        ("sound", "torn.wav", "rows.csv:18"),
        ("molecule", "C1CC(", "rows.csv:18"),
    ],
)
def test_an_unreadable_cell(
    mld: Callable[..., Result], column: str, cell: str, message: str
) -> None:
    from PIL import Image

    Path("torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    Path("torn.wav").write_bytes(b"RIFF\x04\x00\x00\x00WAVE torn")
    Image.new("L", (8, 8), 200).save("good.png")
    kinds = {"picture": "image", "sound": "audio", "molecule": "molecule"}
    rows = [f"word {row}," + (cell if 16 <= row < 20 else "") for row in range(30)]
    Path("rows.csv").write_text("\n".join([f"word,{column}", *rows]) + "\n")
    Path("table.yaml").write_text(
        "name: table\ndata: {kind: manifest, path: rows.csv}\nmodalities:\n"
        "  word: {kind: text, latent_dim: 4}\n"
        f"  {column}: {{kind: {kinds[column]}, latent_dim: 4}}\n"
    )
    result = mld("run", "table.yaml")
    assert result.exit_code == 5, result.output
    assert message in result.stderr
    assert cell in result.stderr
    assert column in result.stderr
    assert "Traceback" not in result.output
    assert not Path("runs").exists()


def test_a_missing_library_names_the_pip_line(
    mld: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, offline_spec: str
) -> None:
    for name in [
        module for module in sys.modules if module.partition(".")[0] in ("mld_molecule", "selfies")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "selfies", None)
    Path("bad.yaml").write_text(offline_spec.replace("kind: text", "kind: molecule"))
    result = mld("run", "bad.yaml")
    assert result.exit_code == 3, result.output
    assert "pip install 'mld-toolkit[molecule]'" in result.stderr


def test_scores_are_coherence_and_the_first_metrics_against_the_truth(
    write_run: Callable[..., RunDir],
    add_retrieval: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir = write_run(tmp_path / "run", labelled=False, num_previews=0)
    scores = run_dir.read_json(run_dir.metrics)
    first = scores["conditional_metrics"][0]
    second = {**first, "metric": "mcd", "value": 0.5}
    undefined = {**second, "given": ["digit"], "target": "molecule", "value": None}
    of_draws = {**first, "metric": "crps", "against": "draws", "value": 0.125}
    scores["conditional_metrics"] += [second, undefined, of_draws]
    spread = scores["modalities"]["tone"]["metrics"]
    spread |= {"mcd": spread["log-spectral distance"], "crps": spread["log-spectral distance"]}
    run_dir.write_json(run_dir.metrics, scores)
    _print_scores(run_dir)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 3
    assert lines[0] == "digit to tone: log-spectral distance 0.265 dB, crps 0.125 dB"
    assert "digit to word: exact match 0.395" in lines
    coherent = write_run(tmp_path / "labelled", num_previews=0)
    _print_scores(coherent)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 4 * 3
    assert all("coherence" in line for line in lines)
    assert "digit to tone: coherence 0.785, log-spectral distance 0.265 dB" in lines
    assert "digit to molecule: coherence 0.565" in lines
    add_retrieval(coherent, 0.7)
    _print_scores(coherent)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "joint retrieval 0.700 (n = 500, ceiling 0.900, chance 0.010)"
    assert "digit to molecule: coherence 0.565, retrieval 0.350" in lines


def test_run_sample_and_report(mld_small: Callable[..., Result], quick: list[str]) -> None:
    result = mld_small("run", "small.yaml", *quick)
    assert result.exit_code == 0, result.output
    assert "joint coherence" in result.stdout
    assert result.stdout.splitlines()[-1] == str(Path("runs/small/report.html"))
    assert "kept: items of left, right, third in memory (0.0 MB); latents (0.0 MB)" in result.stderr
    given = "4 0 4 0 5 0"
    result = mld_small(
        "sample", "runs/small", "--given", f"right={given}", "--want", "left", "-n", "3", "--json"
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["nfe"] == 20
    assert [Path(path).is_file() for path in printed["files"]["left"]] == [True] * 3
    run_dir = RunDir(Path("runs/small"))
    provenance = run_dir.read_json(run_dir.provenance)
    plugins = {**provenance["plugins"], "points": "mld-old 0.1"}
    run_dir.write_json(run_dir.provenance, {**provenance, "plugins": plugins})
    result = mld_small("sample", "runs/small", "--out", "more")
    warning = (
        "warning: runs/small: kind 'points' is now of ?, and this run was made with mld-old 0.1"
    )
    assert result.stderr.splitlines()[0] == warning
    run_dir.write_json(run_dir.provenance, provenance)
    assert len(result.stdout.splitlines()) == 3
    assert "\t" in next(line for line in result.stdout.splitlines() if "right" in line)
    assert mld_small("report", "runs/small").stdout.strip() == str(Path("runs/small/report.html"))
    result = mld_small("run", "small.yaml", *quick[:-1], "evaluate.steps=21")
    assert result.exit_code == 6
    assert "evaluate.steps: 20 -> 21" in result.stderr
    result = mld_small("run", "small.yaml", *quick, "--set", "compute.threads=2")
    assert result.exit_code == 6
    assert "threads: 1 -> 2: go on with --set compute.threads=1" in result.stderr
    assert "--from-stage" not in result.stderr
    resolved = Path("runs/small/spec.yaml")
    resolved.write_text(f"# my note\n{resolved.read_text()}")
    result = mld_small("run", str(resolved), "--out", "runs/small")
    assert result.exit_code == 6
    assert "belongs to the run and would be overwritten" in result.stderr
    assert resolved.read_text().startswith("# my note")


def test_a_run_does_not_overwrite_files_of_the_user(
    mld_small: Callable[..., Result], quick: list[str]
) -> None:
    Path("report.html").write_text("my own page")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    result = mld_small("run", "small.yaml", "--out", ".", *quick)
    assert result.exit_code == 6
    assert result.stderr.startswith("error: . is not empty and not made by this command")
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_dry_run_prints_the_plan_alone(mld_small: Callable[..., Result]) -> None:
    result = mld_small("run", "small.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "rows: train 400, validation 60, test 60" in result.stdout
    assert "autoencode/left: 58 parameters, 300 steps of 32 rows" in result.stdout
    assert "joint: 60 samples of 40 evaluations" in result.stdout
    table = result.stdout.partition("\n\n")[2].splitlines()
    assert table[0].split() == ["stage", "time", "memory", "disk", "store", "temporary"]
    assert [line.split()[0] for line in table[1:]] == [*STAGE_NAMES, "total"]
    assert len({line.index("MB") for line in table[1:]}) == 1
    assert [path.name for path in Path.cwd().iterdir()] == ["small.yaml"]


@pytest.mark.parametrize(
    ("threads", "idle", "warns"),
    [(2, 0.9, True), (2, 1.8, False), (2, 5.0, False), (1, 0.1, False)],
)
def test_busy_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    threads: int,
    idle: float,
    warns: bool,
) -> None:
    monkeypatch.setattr("mld.runtime.processor.idle_cores", lambda: idle)
    _warn_of_busy_cores(threads)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("--set compute.threads=1 is faster" in captured.err) == warns
