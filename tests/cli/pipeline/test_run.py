"""The pipeline over three tiny modalities, from spec to report, and runs that are loaded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mld
from mld.config.sections import GuidanceSpec
from mld.config.spec import Spec, load_spec
from mld.data.encoding import encode_present
from mld.inference.trained_run import load
from mld.pipeline.prepare import prepare, record_data_stage
from mld.pipeline.run import report, run
from mld.runtime.compute import resolve
from mld.runtime.context import RunContext
from mld.storage.files import partial_path
from mld.storage.run_dir import RunDir
from mld.storage.stages import STAGE_NAMES
from mld.storage.weight_store import WeightStore
from mld_core import DataError, NumericalError, OutputError, Registry, RunDirError, SpecError

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> RunDir:
    """A copy of the finished run, which a test may change."""
    return RunDir(Path(shutil.copytree(finished_run, tmp_path / "small")))


def states(run_dir: RunDir) -> dict[str, str]:
    """The last state of each stage."""
    events = [event for event in run_dir.read_events() if event["event"] == "stage"]
    return {event["stage"]: event["state"] for event in events}


def test_files_and_events_of_a_run(finished_run: Path) -> None:
    run_dir = RunDir(finished_run)
    assert states(run_dir) == dict.fromkeys(STAGE_NAMES, "finished")
    scores = json.loads(run_dir.metrics.read_text())
    assert scores["schema_version"] == 1
    assert set(scores["modalities"]) == {"left", "right", "third"}
    assert scores["joint_coherence"]["value"] > 0.6  # chance is 0.01
    assert scores["joint_coherence"]["low"] <= scores["joint_coherence"]["value"]
    assert scores["joint_ceiling"]["value"] > 0.9
    conditional = {
        (*row["given"], row["target"]): row["value"] for row in scores["conditional_coherence"]
    }
    assert len(conditional) == 9  # six of one to one, three of two to one
    assert min(conditional.values()) > 0.6
    against_truth = {(*row["given"], row["target"]): row for row in scores["conditional_metrics"]}
    assert against_truth.keys() == conditional.keys()
    assert {row["metric"] for row in against_truth.values()} == {"rms"}
    assert len(scores["frechet"]) == 12
    assert scores["nfe"] == {
        "joint": 40,
        "left": 30,
        "right": 30,
        "third": 30,
        "left+right": 20,
        "left+third": 20,
        "right+third": 20,
    }
    assert scores["modalities"]["left"]["metrics"]["rms"]["of"] == "reconstructions"
    assert (finished_run / "samples" / "left+right" / "third" / "0001.txt").is_file()
    assert "<html" in run_dir.report.read_text()
    assert not list((finished_run / "checkpoints").glob("*"))
    assert not run_dir.error.exists()


@pytest.fixture
def evaluate_again(
    finished_run: Path, run_copy: RunDir, registry: Registry, make_spec: Callable[..., Spec]
) -> Callable[..., dict[str, Any]]:
    """Recomputes a copy of the finished run from stage evaluate, and returns its metrics."""

    def recompute(*overrides: str) -> dict[str, Any]:
        store = WeightStore(finished_run.parent / "store")
        spec = make_spec(*overrides)
        run(spec, run_copy, registry, from_stage="evaluate", store=store)
        return run_copy.read_json(run_copy.metrics)

    return recompute


def test_a_judge_of_pairs_changes_no_other_metric(
    finished_run: Path, run_copy: RunDir, evaluate_again: Callable[..., dict[str, Any]]
) -> None:
    finished = RunDir(finished_run)
    before = finished.read_json(finished.metrics)
    assert "retrieval" not in before
    assert not finished.judge.exists()
    after = evaluate_again("evaluate.judge=both", "evaluate.steps=100")
    retrieval, warnings = after.pop("retrieval"), after.pop("warnings")
    assert before.pop("warnings") == []
    assert after == before
    assert retrieval["pairs"][0]["modalities"] == ["left", "right"]
    assert len(retrieval["conditional"]) == 9
    # Rows share their class, one of ten: of 60 rows, six match as well.
    assert 1 / 60 < retrieval["joint"]["real"]["at_1"]["value"] < 0.5
    assert retrieval["joint"]["real"]["at_10"]["value"] > 0.9
    (warning,) = warnings
    assert warning.startswith("Retrieval has fewer than 100 candidates")
    assert run_copy.judge.is_file()
    assert 'id="retrieval"' in run_copy.report.read_text()
    assert run_copy.stage_metadata("evaluate")["parameters"]["match"] > 0


def test_samples_are_judged_without_their_classes(
    evaluate_again: Callable[..., dict[str, Any]],
) -> None:
    scores = evaluate_again("evaluate.judge=retrieval", "evaluate.steps=2")
    assert scores["joint_coherence"] is None
    assert scores["conditional_coherence"] == []
    assert scores["modalities"]["left"]["classifier_accuracy"] is None
    assert scores["retrieval"]["joint"]


def test_a_run_from_the_path_of_a_spec(
    run_copy: RunDir,
    spec_file: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run_copy.path.parent)
    report = mld.run(str(spec_file), run_copy.path, registry)
    assert report == run_copy.report
    with pytest.raises(OutputError, match="belongs to the run and would be overwritten"):
        mld.run(run_copy.spec, run_copy.path, registry, overrides=["evaluate.steps=7"])
    with pytest.raises(RunDirError, match=r"evaluate\.steps: 100 -> 7"):
        mld.run(spec_file, run_copy.path, registry, overrides=["evaluate.steps=7"])
    Path("runs").mkdir()
    run_copy.path.rename("runs/small")
    assert mld.run(spec_file, registry=registry) == Path("runs/small/report.html")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_rows_with_nothing_recorded_are_reported(tmp_path: Path, registry: Registry) -> None:
    cell = "1 2 3 4 5 6"
    rows = [f"{'' if row in (0, 3, 7) else cell},{('train', 'test')[row % 2]}" for row in range(9)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,split", *rows]) + "\n")
    (tmp_path / "spec.yaml").write_text(
        "{name: a, data: {kind: manifest, path: rows.csv}, generate: {subsets: [[]]},\n"
        "modalities: {a: {kind: marks, latent_dim: 2}}}"
    )
    spec = load_spec(tmp_path / "spec.yaml", registry)
    run_dir = RunDir(tmp_path / "run")
    store, compute = WeightStore(tmp_path / "store"), resolve(spec.compute)
    context = RunContext(run_dir, store, compute, 0, spec.model_dump(mode="json"))
    with pytest.warns(UserWarning, match="left out: 3 rows") as caught, run_dir.claim():
        record_data_stage(prepare(spec, registry, context), context)
    message = "left out: 3 rows have nothing recorded (1 of train and 2 of test)"
    assert message in [str(warning.message) for warning in caught]
    assert message in [event.get("message") for event in run_dir.read_events()]


def test_the_second_run_recomputes_nothing(
    run_copy: RunDir,
    make_spec: Callable[..., Spec],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mld.training import train as loop

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a finished run trains nothing")

    monkeypatch.setattr(loop, "launch", forbidden)
    before = {path: path.stat().st_mtime_ns for path in run_copy.path.rglob("*.safetensors")}
    run(make_spec(), run_copy, registry)
    assert set(states(run_copy).values()) == {"reused"}
    assert before == {
        path: path.stat().st_mtime_ns for path in run_copy.path.rglob("*.safetensors")
    }


@pytest.mark.slow
def test_a_run_that_is_cut_short_says_so(
    run_copy: RunDir, make_spec: Callable[..., Spec], registry: Registry
) -> None:
    spec = make_spec("diffuse.time_limit=1e-9", "generate.subsets=[[]]")
    store = WeightStore(run_copy.path.parent / "store")
    with pytest.warns(UserWarning, match="diffuse was cut short after 1 of 500 steps"):
        run(spec, run_copy, registry, from_stage="diffuse", store=store)
    record = run_copy.read_json(run_copy.provenance)["trainings"]
    assert record["diffuse"] == {"reason": "time limit", "step": 1, "steps": 500, "best": 1}
    assert record["autoencode/left"]["reason"] == record["classify/left"]["reason"] == "steps"
    page = run_copy.report.read_text()
    assert "diffuse was cut short after 1 of 500 steps" in page
    assert page.count("ended early") == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_second_run_from_scratch_gives_the_same_bits(
    finished_run: Path, make_spec: Callable[..., Spec], registry: Registry, tmp_path: Path
) -> None:
    again = RunDir(tmp_path / "again")
    run(make_spec(), again, registry)
    for name in ("diffusion/network.safetensors", "diffusion/ema.safetensors"):
        assert (again.path / name).read_bytes() == (finished_run / name).read_bytes()
    assert scores_of(again) == scores_of(RunDir(finished_run))


def scores_of(run_dir: RunDir) -> dict[str, Any]:
    """The metrics of a run without times."""
    scores = run_dir.read_json(run_dir.metrics)
    del scores["seconds_per_sample"]
    return scores


def test_the_store_provides_autoencoders(
    finished_run: Path,
    make_spec: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
) -> None:
    other, store = RunDir(tmp_path / "other"), WeightStore(finished_run.parent / "store")
    spec = make_spec("diffuse.steps=30", "generate.num_samples=5", "compute.items=disk")
    run(spec, other, registry, store=store)
    jobs = {event["job"] for event in other.read_events() if event["event"] == "train"}
    assert jobs == {"diffuse"}
    shared = {event["job"] for event in other.read_events() if event["event"] == "store"}
    assert shared == {
        f"{job}/{name}" for job in ("autoencode", "classify") for name in ("left", "right", "third")
    }
    # The log tells where the items were, of 400, 60 and 60 rows, and what the store had.
    run(spec, other, registry, from_stage="evaluate", store=store)
    uses = [event for event in other.read_events() if event["event"] == "use"]
    assert {*uses[0]["trainings"]} == shared
    assert uses[0]["latents"] > 520 * 4 * 13
    for use, stored_before in zip(uses, (0, 520), strict=True):
        assert [*use["items"]] == ["left", "right", "third"]
        for record in use["items"].values():
            assert (record["place"], record["items"]) == ("disk", 520)
            assert record["stored_before"] == stored_before


def test_a_changed_spec_is_an_error_and_changes_nothing(
    run_copy: RunDir, make_spec: Callable[..., Spec], registry: Registry
) -> None:
    before = run_copy.spec.read_text()
    with pytest.raises(RunDirError) as caught:
        run(make_spec("diffuse.steps=501"), run_copy, registry)
    message = str(caught.value)
    assert "stage diffuse" in message
    assert "diffuse.steps: 500 -> 501" in message
    assert "--from-stage diffuse" in message
    assert run_copy.spec.read_text() == before


def test_from_stage_recomputes_that_stage_and_the_later_ones(
    run_copy: RunDir, make_spec: Callable[..., Spec], registry: Registry
) -> None:
    run(make_spec("generate.steps=5"), run_copy, registry, from_stage="generate")
    after = states(run_copy)
    assert [stage for stage, state in after.items() if state == "finished"] == [
        "generate",
        "evaluate",
        "report",
    ]
    assert json.loads(run_copy.metrics.read_text())["nfe"]["joint"] == 20


def test_samples_are_given_and_evaluated_on_the_chosen_split(
    run_copy: RunDir, make_spec: Callable[..., Spec], registry: Registry
) -> None:
    spec = make_spec("generate.split=validation")
    with pytest.raises(RunDirError, match=r'generate\.split: "test" -> "validation"'):
        run(spec, run_copy, registry)
    before = run_copy.read_json(run_copy.metrics)
    run(spec, run_copy, registry, from_stage="generate", store=WeightStore(run_copy.path / "store"))
    assert states(run_copy)["diffuse"] == "reused"
    scores = run_copy.read_json(run_copy.metrics)
    assert (before["split"], scores["split"]) == ("test", "validation")
    rows = run_copy.read_json(run_copy.samples("left") / "index.json")["rows"]
    assert all(row["id"].startswith("validation") for row in rows)
    # Chance is 0.1, as for samples or reconstructions of one split with the labels of the other.
    assert min(row["value"] for row in scores["conditional_coherence"]) > 0.6
    assert scores["joint_ceiling"]["value"] > 0.9
    for name, modality in scores["modalities"].items():
        assert modality["classifier_accuracy"]["value"] > 0.9
        for score in ("reconstruction_error", "reconstruction_frechet", "metrics"):
            assert modality[score] != before["modalities"][name][score]
    assert "evaluated them on validation rows" in run_copy.report.read_text()
    # A joint generator of Gaussians copies nothing.
    assert [*scores["memorisation"]] == [*scores["modalities"]]
    for score in scores["memorisation"].values():
        assert score["low"] < 0.75
        assert score["held_out_distance"] > 0


def test_samples_keep_the_order_of_the_modalities(
    spec_file: Path, registry: Registry, tmp_path: Path
) -> None:
    """Else a resumed evaluation would draw its bootstrap samples in another order."""
    text = spec_file.read_text()
    left, right = (
        next(x for x in text.splitlines() if f"  {name}:" in x) for name in ("left", "right")
    )
    path = tmp_path / "swapped.yaml"
    path.write_text(text.replace(left, "LEFT").replace(right, left).replace("LEFT", right))
    run_dir = RunDir(tmp_path / "run")
    run(load_spec(path, registry, ["autoencode.steps=5", "diffuse.steps=5"]), run_dir, registry)
    scores = run_dir.read_json(run_dir.metrics)
    assert list(scores["modalities"])[:2] == ["right", "left"]
    assert scores["pairwise_agreement"][0]["modalities"] == ["right", "left"]


@pytest.mark.parametrize(
    "name",
    [
        "modalities/left.json",
        "autoencoders/right.safetensors",
        "latents/test.npy",
        "latents/present.safetensors",
        "diffusion/ema.safetensors",
        "samples/left/index.json",
        "classifiers/left.safetensors",
        "metrics.json",
        "report.html",
        "provenance.json",
    ],
)
def test_a_corrupt_file_is_named(
    run_copy: RunDir, make_spec: Callable[..., Spec], registry: Registry, name: str
) -> None:
    path = run_copy.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunDirError, match=f"{name}.*--from-stage"):
        run(make_spec(), run_copy, registry)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "step"),
    [
        ("autoencode/left", 60),
        pytest.param("autoencode/third", 150, marks=pytest.mark.long),
        pytest.param("diffuse", 10, marks=pytest.mark.long),
        pytest.param("diffuse", 250, marks=pytest.mark.long),
        pytest.param("diffuse", 480, marks=pytest.mark.long),
    ],
)
def test_a_killed_run_resumes_to_the_same_bits(
    finished_run: Path, spec_file: Path, tmp_path: Path, job: str, step: int
) -> None:
    out, store = tmp_path / "small", tmp_path / "store"
    script = str(PLUGINS / "small_run.py")
    command = [sys.executable, script, str(spec_file), str(out), str(store)]
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def reached() -> bool:
        events = RunDir(out).read_events()
        return any(event.get("job") == job and event.get("step", 0) >= step for event in events)

    while not reached():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not RunDir(out).is_complete(job.partition("/")[0])
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for name in (
        "diffusion/network.safetensors",
        "diffusion/ema.safetensors",
        "autoencoders/left.safetensors",
    ):
        assert (out / name).read_bytes() == (finished_run / name).read_bytes()
    assert scores_of(RunDir(out)) == scores_of(RunDir(finished_run))


def test_a_run_that_stops_while_it_encodes_resumes_to_the_same_latents(
    run_copy: RunDir,
    finished_run: Path,
    make_spec: Callable[..., Spec],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = WeightStore(finished_run.parent / "store")
    trained = sum(event["event"] == "train" for event in run_copy.read_events())

    def interrupted(*arguments: Any) -> Iterator[Any]:
        yield next(encode_present(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mld.pipeline.encode.encode_present", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(make_spec(), run_copy, registry, from_stage="encode", store=store)
    assert not run_copy.is_complete("encode")
    assert run_copy.is_complete("autoencode")
    # What a killed process leaves behind.
    partial_path(run_copy.latents("train")).write_bytes(b"half an array")
    run(make_spec(), run_copy, registry, store=store)
    contents = [
        {path.name: path.read_bytes() for path in (folder / "latents").iterdir()}
        for folder in (run_copy.path, finished_run)
    ]
    assert contents[0] == contents[1]
    assert {"train.npy", "present.safetensors", "standardiser.safetensors"} < contents[0].keys()
    # The joint model's rows are the same, so that the store has its weights.
    assert trained == sum(event["event"] == "train" for event in run_copy.read_events())


def test_a_loaded_run_samples_and_encodes(
    finished_run: Path, registry: Registry, tmp_path: Path
) -> None:
    loaded = load(finished_run, registry)
    five = [4.0, 0.0, 4.0, 0.0, 5.0, 0.0]
    given = tmp_path / "five.txt"
    given.write_text(" ".join(map(str, five)))
    samples = loaded.sample(given={"left": given}, want=["right"], n=20, seed=3)
    assert samples.nfe == 20  # ten steps, guided by what was given
    assert samples.items["right"].shape == (20, 6)
    assert torch.equal(samples.items["left"][7], torch.tensor(five))
    assert (samples.items["right"][:, 4] - 5).abs().median() < 1
    files = samples.write(tmp_path / "out")
    assert [path.name for path in files["right"]][:2] == ["0000.txt", "0001.txt"]
    assert "left" not in files
    assert samples.cells("right")[0] == files["right"][0].read_text()
    again = loaded.sample(given={"left": given}, want=["right"], n=20, seed=3)
    assert torch.equal(again.items["right"], samples.items["right"])
    z = loaded.encode({"left": given, "right": "4 0 4 0 5 0"})
    assert {name: tuple(latent.shape) for name, latent in z.items()} == {
        "left": (1, 4),
        "right": (1, 5),
    }


def test_loading_warns_of_other_plugin_versions(run_copy: RunDir, registry: Registry) -> None:
    provenance = run_copy.read_json(run_copy.provenance)
    assert provenance["plugins"] == dict.fromkeys(["examples", "marks", "points"], "?")
    run_copy.write_json(
        run_copy.provenance,
        {**provenance, "plugins": {**provenance["plugins"], "points": "old 0.1"}},
    )
    with pytest.warns(UserWarning, match="kind 'points' is now of ., and this run was made with o"):
        load(run_copy.path, registry)


def test_sampling_overrides(finished_run: Path, registry: Registry) -> None:
    loaded = load(finished_run, registry)
    both = loaded.sample(n=2, sampler="ddim", steps=3, guidance=0.0)
    assert both.nfe == 3
    assert set(both.items) == {"left", "right", "third"}
    uneven = loaded.sample(
        given={"left": torch.zeros(6)}, n=1, guidance=GuidanceSpec(conditional=2, joint=0)
    )
    assert uneven.nfe == 20


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"given": {"lft": "x"}}, SpecError, "no modality 'lft' .it has left, right, third."),
        (
            {"want": ["middle"]},
            SpecError,
            r"no modality .middle. .it has left, right, third.",
        ),
        ({"given": {"right": "1 2"}}, DataError, "modality 'right', '1 2': 2 numbers, expected 6"),
        (
            {"given": {"left": "absent.txt"}},
            DataError,
            "modality 'left', 'absent.txt': .*No such file",
        ),
        (
            {"given": {"left": torch.zeros(6)}, "want": ["left"]},
            SpecError,
            r"disjoint .*overlap: \['left'\]",
        ),
    ],
)
def test_errors_of_sampling_requests(
    finished_run: Path,
    registry: Registry,
    request_: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        load(finished_run, registry).sample(**request_)


def test_loading_needs_a_finished_run(run_copy: RunDir, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"no spec\.yaml"):
        load(tmp_path, registry)
    run_copy.invalidate_from("diffuse")
    with pytest.raises(
        RunDirError, match="stage diffuse is incomplete; run `mld run SPEC` to finish it"
    ):
        load(run_copy.path, registry)


def test_a_corrupt_network_is_not_loaded(run_copy: RunDir, registry: Registry) -> None:
    data = bytearray(run_copy.ema.read_bytes())
    data[-1] ^= 1
    run_copy.ema.write_bytes(data)
    with pytest.raises(RunDirError, match=r"ema\.safetensors"):
        load(run_copy.path, registry)


def test_writing_the_report_again(
    run_copy: RunDir, make_spec: Callable[..., Spec], registry: Registry
) -> None:
    run_copy.report.unlink()
    assert report(run_copy) == run_copy.report
    run(make_spec(), run_copy, registry)
    assert states(run_copy)["report"] == "reused"


def test_a_report_that_cannot_be_written_again_stays(run_copy: RunDir) -> None:
    run_copy.spec.write_text("name: other\n")
    before = {path: path.read_bytes() for path in run_copy.path.rglob("*") if path.is_file()}
    with pytest.raises(RunDirError, match=r"spec\.yaml"):
        report(run_copy)
    after = {path: path.read_bytes() for path in before}
    assert {path.name for path in before if before[path] != after[path]} <= {".lock.json"}


def test_a_changed_sample_is_not_shown(run_copy: RunDir) -> None:
    before = run_copy.report.read_bytes()
    (run_copy.samples("joint") / "index.json").write_text("{}")
    with pytest.raises(RunDirError, match=r"joint/index\.json is not as stage generate wrote it"):
        report(run_copy)
    assert run_copy.report.read_bytes() == before


def manifest(folder: Path, labelled: bool, gaps: bool) -> Path:
    """A spec over a manifest of two columns, perhaps with missing cells and without labels."""
    lines = ["left,right,split" + (",label" if labelled else "")]
    for row in range(240):
        label = row % 10
        numbers = " ".join(
            str(v)
            for v in [4.0 * ((label >> b) & 1) + row % 7 / 50 for b in range(4)] + [label, 0.1]
        )
        (folder / f"{row}.txt").write_text(numbers)
        left = "" if gaps and row % 4 == 1 else f"{row}.txt"
        right = "" if gaps and row % 4 == 2 else numbers
        split = ("train", "train", "validation", "test")[row % 4]
        lines.append(f"{left},{right},{split}" + (f",{label}" if labelled else ""))
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "manifest.yaml").write_text(
        "name: manifest\n"
        "data: {kind: manifest, path: rows.csv}\n"
        "modalities: {left: {kind: points, latent_dim: 4}, right: {kind: marks, latent_dim: 4}}\n"
        "autoencode: {steps: 60, batch_size: 32, learning_rate: 0.01}\n"
        "diffuse: {network: {width: 32, depth: 1, kind: residual-mlp}, steps: 60, batch_size: 32}\n"
        "generate: {num_samples: 20, num_previews: 2, steps: 5}\n"
        "evaluate: {steps: 30, batch_size: 32}\n"
        "compute: {threads: 1}\n"
    )
    return folder / "manifest.yaml"


@pytest.mark.filterwarnings(
    "ignore:.*needs complete rows", "ignore:.*overfitting", "ignore:class .* has no item"
)
@pytest.mark.parametrize("roles", ["three-role", "paper", "independent"])
def test_rows_with_missing_cells(tmp_path: Path, registry: Registry, roles: str) -> None:
    overrides = [f"diffuse.roles={roles}", "generate.guidance=0"]
    spec = load_spec(manifest(tmp_path, labelled=True, gaps=True), registry, overrides)
    out = RunDir(tmp_path / "out")
    run(spec, out, registry)
    scores = json.loads(out.metrics.read_text())
    assert {tuple(row["given"]) for row in scores["conditional_coherence"]} == {
        ("left",),
        ("right",),
    }
    messages = [event["message"] for event in out.read_events() if event["event"] == "warning"]
    message = "roles: paper needs complete rows: 60 incomplete rows are left out"
    assert (message in messages) == (roles == "paper")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_without_labels(tmp_path: Path, registry: Registry) -> None:
    spec_file = manifest(tmp_path, labelled=False, gaps=False)
    out = RunDir(tmp_path / "out")
    run(load_spec(spec_file, registry), out, registry)
    scores = json.loads(out.metrics.read_text())
    assert scores["joint_coherence"] is None
    assert scores["conditional_coherence"] == []
    assert scores["modalities"]["left"]["classifier_accuracy"] is None
    assert not any(row["extractor"].startswith("latents") for row in scores["frechet"])
    assert all(row["value"] >= 0 for row in scores["frechet"])
    assert "no labels" in scores["warnings"][0]
    assert not any("Frechet" in message for message in scores["warnings"])
    assert not (out.path / "classifiers").exists()
    # Other autoencoders are measured by the same feature networks.
    other = RunDir(tmp_path / "other")
    run(load_spec(spec_file, registry, ["autoencode.steps=1"]), other, registry)
    others = json.loads(other.metrics.read_text())["frechet"]
    assert [row["extractor"] for row in others] == [row["extractor"] for row in scores["frechet"]]
    assert [row["value"] for row in others] != [row["value"] for row in scores["frechet"]]


def test_bad_data_write_nothing(tmp_path: Path, registry: Registry) -> None:
    spec_file = manifest(tmp_path, labelled=True, gaps=False)
    rows = (tmp_path / "rows.csv").read_text().replace("16.txt,", "16.txt,1 2 3 ", 1)
    (tmp_path / "rows.csv").write_text(rows)
    out = RunDir(tmp_path / "out")
    with pytest.raises(DataError, match=r"rows\.csv:18.*right.*9 numbers, expected 6"):
        run(load_spec(spec_file, registry), out, registry)
    assert not out.path.exists()


def test_nan_in_training_stops_the_run(
    make_spec: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mld.pipeline.diffusion_method import DenoisingObjective

    forward = DenoisingObjective.forward

    def poisoned(self: Any, batch: Any, generator: Any) -> Any:
        loss, parts = forward(self, batch, generator)
        poisoned.calls += self.training  # type: ignore[attr-defined]
        if self.training and poisoned.calls > 40:  # type: ignore[attr-defined]
            parts = {**parts, "right": parts["right"] * torch.nan}
            loss = loss * torch.nan
        return loss, parts

    poisoned.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(DenoisingObjective, "forward", poisoned)
    out = RunDir(tmp_path / "out")
    with pytest.raises(NumericalError, match=r"diffuse, step \d+: the loss of right \(nan\)"):
        run(make_spec(), out, registry)
    assert out.is_complete("encode")
    assert not out.is_complete("diffuse")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("empty", "other"), [("test", "validation"), ("validation", "test")])
def test_an_empty_split_cannot_be_evaluated_on(
    tmp_path: Path, registry: Registry, empty: str, other: str
) -> None:
    path = manifest(tmp_path, labelled=True, gaps=False)
    rows = tmp_path / "rows.csv"
    rows.write_text(rows.read_text().replace(f",{empty},", ",train,"))
    on_empty, on_other = [
        load_spec(path, registry, [f"generate.split={split}"]) for split in (empty, other)
    ]
    out = RunDir(tmp_path / "out")
    message = f"'manifest': the {empty} split has no rows, but samples are evaluated on it"
    with pytest.raises(DataError, match=message):
        run(on_empty, out, registry)
    run(on_other, out, registry)
    with pytest.raises(DataError, match=message):  # the data are complete, and not read again
        run(on_empty, out, registry, from_stage="generate")
    messages = [event["message"] for event in out.read_events() if event["event"] == "warning"]
    warned = any(message.startswith("the validation split has no rows") for message in messages)
    assert warned == (empty == "validation")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.train=1"], "the train split has 1 item of modality 'left', but at least 2"),
        (
            ["data.train=4", "data.missing={rate: 0.5}", "diffuse.roles=paper"],
            "roles: paper needs complete rows, and the train split has none",
        ),
    ],
)
def test_too_few_training_rows(
    make_spec: Callable[..., Spec],
    registry: Registry,
    tmp_path: Path,
    overrides: list[str],
    expected: str,
) -> None:
    with pytest.raises(DataError, match=expected):
        run(make_spec(*overrides, "generate.guidance=0"), RunDir(tmp_path / "out"), registry)
    assert not (tmp_path / "out").exists()
