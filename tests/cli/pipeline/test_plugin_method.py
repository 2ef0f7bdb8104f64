"""Another method through the same corridor, and the built-in method's own variants."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mld.config.spec import dump_spec, load_spec
from mld.inference.information import information
from mld.inference.trained_run import TrainedRun, load
from mld.pipeline.plan import plan
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld_core import PluginError, Registry, SpecError

PLUGINS = Path(__file__).parents[1] / "plugins"
RELAY = "diffuse={method: relay, steps: 300, batch_size: 32, learning_rate: 0.01}"
SMALL = ["diffuse.steps=60", "autoencode.steps=60", "evaluate.steps=30", "generate.guidance=0"]
Told = Callable[..., Any]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    sys.path.insert(0, str(PLUGINS))
    import small_run

    yield small_run.registry()
    sys.path.remove(str(PLUGINS))


@pytest.fixture(scope="module")
def told(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Told:
    import small_run

    path = tmp_path_factory.mktemp("spec") / "small.yaml"
    path.write_text(small_run.SPEC)
    return lambda *overrides: load_spec(path, registry, overrides)


@pytest.fixture(autouse=True, scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLD_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="module")
def done(told: Told, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    folder = tmp_path_factory.mktemp("done") / "relay"
    run(told(RELAY), RunDir(folder), registry)
    return load(folder, registry)


def test_a_method_is_judged_as_the_built_in_one(done: TrainedRun) -> None:
    scores = done.run_dir.read_json(done.run_dir.metrics)
    shares = {
        (*row["given"], row["target"]): row["value"] for row in scores["conditional_coherence"]
    }
    assert shares["left", "right"] > 0.6  # chance is 0.1
    assert set(scores["nfe"].values()) == {1.0}
    assert "relay" in done.run_dir.read_json(done.run_dir.provenance)["plugins"]


def test_it_decodes_with_networks_of_its_own(done: TrainedRun) -> None:
    made = done.sample({"left": torch.tensor([4.0, 0, 0, 0, 1, 0])}, n=3)
    z = made.latents["right"]
    assert torch.equal(made.items["right"], done.generator.decoders["right"].decode(z))
    assert not torch.allclose(made.items["right"], done.autoencoders["right"].decode(z), atol=1e-3)
    again = done.sample({"left": torch.tensor([4.0, 0, 0, 0, 1, 0])}, n=3)
    assert torch.equal(again.items["right"], made.items["right"])


def test_what_only_a_score_network_knows_is_refused(done: TrainedRun) -> None:
    with pytest.raises(SpecError, match="trained by another method, relay"):
        information(done)
    with pytest.raises(SpecError, match="another method"):
        done.sample(n=1, steps=3)


def test_the_same_command_reads_it_back(done: TrainedRun, told: Told, registry: Registry) -> None:
    before = done.run_dir.network.stat().st_mtime_ns
    run(told(RELAY), done.run_dir, registry)
    assert done.run_dir.network.stat().st_mtime_ns == before


def test_its_spec_comes_back_whole(told: Told, registry: Registry, tmp_path: Path) -> None:
    spec = told(RELAY, "diffuse.noise=0.3")
    path = tmp_path / "again.yaml"
    path.write_text(dump_spec(spec))
    again = load_spec(path, registry)
    assert again == spec
    assert again.diffuse.config.noise == 0.3
    assert plan(spec, registry).jobs[3].parameters > 100


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("diffuse.noise=-1", SpecError, "diffuse.noise: must be at least 0, not -1"),
        ("diffuse.nois=1", SpecError, "diffuse.nois: unknown field; did you mean 'noise'"),
        ("diffuse.noise=x", SpecError, r"^--set diffuse.noise: must be a number, not 'x'$"),
        ("diffuse.steps=0", SpecError, "diffuse.steps: must be above 0, not 0"),
        ("diffuse.fail=modalities", SpecError, "method: relay: takes no such modalities"),
        ("diffuse.fail=loss", PluginError, "method 'relay': loss failed: KeyError"),
        (
            "diffuse.fail=sample",
            PluginError,
            "method 'relay': sample did not return 60 rows of 'left'",
        ),
    ],
)
def test_what_goes_wrong_is_told(
    told: Told, registry: Registry, tmp_path: Path, override: str, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        run(told(RELAY, *SMALL[1:3], override), RunDir(tmp_path / "run"), registry)
    # What can be known at once is said before anything is trained.
    assert RunDir(tmp_path / "run").is_complete("autoencode") is (error is PluginError)


def test_incomplete_rows_train_or_are_counted(
    told: Told, registry: Registry, tmp_path: Path
) -> None:
    gaps = "data.missing={rate: 0.5}"
    for fail, dropped in ("", False), ("incomplete", True):
        run_dir = RunDir(tmp_path / f"run{fail}")
        run(told(RELAY, *SMALL[1:3], gaps, f"diffuse.fail={fail!r}"), run_dir, registry)
        assert bool(run_dir.stage_metadata("diffuse")["incomplete"]) is dropped


@pytest.mark.parametrize(
    "overrides",
    [
        ["diffuse.roles=joint", "generate.sampler=inpaint", "generate.steps=20"],
        ["diffuse.roles=paper", "diffuse.network={kind: per-subset, width: 16, depth: 1}"],
        ["diffuse.roles=independent"],
    ],
)
def test_variants_go_through_the_corridor(
    told: Told, registry: Registry, tmp_path: Path, overrides: list[str]
) -> None:
    run_dir = RunDir(tmp_path / "run")
    run(told(*SMALL, *overrides), run_dir, registry)
    assert len(run_dir.read_json(run_dir.metrics)["conditional_coherence"]) == 9


def test_a_trained_score_network_is_found_in_the_store(
    told: Told, registry: Registry, tmp_path: Path
) -> None:
    overrides = [*SMALL, "diffuse.steps=61"]
    first, second = RunDir(tmp_path / "first"), RunDir(tmp_path / "second")
    run(told(*overrides), first, registry)
    run(told(*overrides, "generate.steps=5"), second, registry)
    assert first.ema.read_bytes() == second.ema.read_bytes()
    stored = [event["job"] for event in second.read_events() if event["event"] == "store"]
    assert "diffuse" in stored


@pytest.mark.parametrize(
    "missing",
    [
        "{rate: {left: 0.9}}",
        "{rate: 0.66}",
        "{rate: {third: 0.97}}",
        "{rate: 0.5, mechanism: by-label}",
    ],
)
def test_rows_with_gaps_train_without_nan(
    told: Told, registry: Registry, tmp_path: Path, missing: str
) -> None:
    """A modality in a tenth of the rows, rows with one modality, one absent from whole batches."""
    run_dir = RunDir(tmp_path / "run")
    run(told(*SMALL, "diffuse.batch_size=16", f"data.missing={missing}"), run_dir, registry)
    losses = [event["loss"] for event in run_dir.read_events() if event["event"] == "train"]
    assert losses
    assert all(loss == loss for loss in losses)
