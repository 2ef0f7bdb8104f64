"""A plugin's method through the pipeline, and the variants of mld's own method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mld.config.spec import dump_spec, load_spec
from mld.data.latent_files import load_latents
from mld.data.loading import layout_of
from mld.inference.information import information
from mld.inference.trained_run import TrainedRun, load
from mld.pipeline.joint_method import Conditioning
from mld.pipeline.plan import plan
from mld.pipeline.plugin_method import LatentPluginGenerator
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld_core import JointModel, PluginError, Registry, SpecError
from mld_core.diffusion.standardiser import Standardiser

RELAY = "diffuse={method: relay, steps: 300, batch_size: 32, learning_rate: 0.01}"
BRIEF_RELAY = RELAY.replace("300", "20")
BRIEF = ["autoencode.steps=20", "evaluate.steps=5", "generate.num_samples=20"]
SMALL = [*BRIEF, "diffuse.steps=15", "generate.guidance=0"]
MakeSpec = Callable[..., Any]


@pytest.fixture(scope="module")
def relay_run(
    make_spec: MakeSpec, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> TrainedRun:
    folder = tmp_path_factory.mktemp("runs") / "relay"
    run(make_spec(RELAY), RunDir(folder), registry)
    return load(folder, registry)


def test_a_plugin_method_is_evaluated_like_mlds(relay_run: TrainedRun) -> None:
    scores = relay_run.run_dir.read_json(relay_run.run_dir.metrics)
    coherence = {
        (*row["given"], row["target"]): row["value"] for row in scores["conditional_coherence"]
    }
    assert coherence["left", "right"] > 0.6  # chance is 0.1
    assert set(scores["nfe"].values()) == {1.0}
    assert "relay" in relay_run.run_dir.read_json(relay_run.run_dir.provenance)["plugins"]


def test_it_decodes_with_its_own_networks(relay_run: TrainedRun) -> None:
    samples = relay_run.sample({"left": torch.tensor([4.0, 0, 0, 0, 1, 0])}, n=3)
    z = samples.latents["right"]
    assert torch.equal(samples.items["right"], relay_run.generator.decoders["right"].decode(z))
    assert not torch.allclose(
        samples.items["right"], relay_run.autoencoders["right"].decode(z), atol=1e-3
    )
    again = relay_run.sample({"left": torch.tensor([4.0, 0, 0, 0, 1, 0])}, n=3)
    assert torch.equal(again.items["right"], samples.items["right"])


def test_what_needs_a_score_network_is_an_error(relay_run: TrainedRun) -> None:
    with pytest.raises(SpecError, match="trained by another method, relay"):
        information(relay_run)
    with pytest.raises(SpecError, match="another method"):
        relay_run.sample(n=1, steps=3)


def test_a_second_run_reuses_it(
    relay_run: TrainedRun, make_spec: MakeSpec, registry: Registry
) -> None:
    before = relay_run.run_dir.network.stat().st_mtime_ns
    run(make_spec(RELAY), relay_run.run_dir, registry)
    assert relay_run.run_dir.network.stat().st_mtime_ns == before


def test_its_spec_round_trips(make_spec: MakeSpec, registry: Registry, tmp_path: Path) -> None:
    spec = make_spec(RELAY, "diffuse.noise=0.3")
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
        ("diffuse.fail=modalities", SpecError, "method: relay: these modalities are not supported"),
        ("diffuse.fail=loss", PluginError, "method 'relay': loss failed: KeyError"),
        (
            "diffuse.fail=sample",
            PluginError,
            "method 'relay': sample did not return 20 rows of 'left'",
        ),
    ],
)
def test_errors_of_a_plugin_method(
    make_spec: MakeSpec, registry: Registry, tmp_path: Path, override: str, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        run(make_spec(BRIEF_RELAY, *BRIEF, override), RunDir(tmp_path / "run"), registry)
    # Errors of the spec come before anything is trained.
    assert RunDir(tmp_path / "run").is_complete("autoencode") is (error is PluginError)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_incomplete_rows_are_used_or_counted(
    make_spec: MakeSpec, registry: Registry, tmp_path: Path
) -> None:
    missing = "data.missing={rate: 0.5}"
    for fail, dropped in ("", False), ("incomplete", True):
        run_dir = RunDir(tmp_path / f"run{fail}")
        overrides = [*BRIEF, missing, f"diffuse.fail={fail!r}"]
        run(make_spec(BRIEF_RELAY, *overrides), run_dir, registry)
        assert bool(run_dir.stage_metadata("diffuse")["incomplete"]) is dropped


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_method_on_latents_that_is_fitted_in_closed_form(
    small_run: Any, spec_file: Path, tmp_path: Path
) -> None:
    registry = small_run.registry({"gaussian": "mld_baselines.gaussian"})
    overrides = [
        "diffuse={method: gaussian}",
        "data.missing={rate: 0.3}",
        *BRIEF,
    ]
    spec, run_dir = load_spec(spec_file, registry, overrides), RunDir(tmp_path / "run")
    planned = plan(spec, registry)
    assert not [job for job in planned.jobs if job.name == "diffuse"]
    run(spec, run_dir, registry)
    network = run_dir.network.read_bytes()
    assert run_dir.stage_metadata("diffuse")["parameters"] == {"diffuse": 13 + 13**2}
    assert not [e for e in run_dir.read_events() if e["event"] == "train" and e["job"] == "diffuse"]
    trained = load(run_dir.path, registry)
    assert trained.generator.decoders == trained.autoencoders

    # Its samples are those of the normal distribution of the latents of the training rows.
    latents = load_latents(layout_of(trained.modalities), run_dir)
    z, complete = latents.train.z, latents.train.present.all(1)
    left = torch.tensor([4.0, 0, 0, 0, 1, 0])
    samples = trained.sample({"left": left}, want=["third"], n=2000).latents["third"]
    assert samples.std(0).min() > 0.01 * z[complete].std()
    given = trained.encode({"left": left})["left"]
    ones = torch.ones(int(complete.sum()), 1)
    regression = torch.linalg.lstsq(torch.cat([z[complete][:, :4], ones], 1), z[complete][:, 9:])
    expected = torch.cat([given, torch.ones(1, 1)], 1) @ regression.solution
    assert (samples.mean(0) - expected).abs().max() < 0.3 * z[complete].std(0).max()

    run_dir.invalidate_from("diffuse")
    run(spec, run_dir, registry)
    assert run_dir.network.read_bytes() == network


def test_latents_that_never_vary_do_not_vary_in_samples(registry: Registry) -> None:
    class Noise(JointModel):
        def loss(self, items: Any, present: Any) -> Any: ...

        def sample(self, given: Any, wanted: Any, n: int) -> Any:
            assert torch.equal(given["a"], torch.full((n, 1), 2.0))
            return {"b": torch.randn(n, 3)}

    a = Standardiser(torch.ones(1), 3 * torch.ones(1), torch.tensor([False]))
    dead = torch.tensor([False, True, False])
    b = Standardiser(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([10.0, 1.0, 1.0]), dead)
    generator = LatentPluginGenerator("noise", Noise({}), {}, {"a": a, "b": b})
    conditioning = Conditioning({}, {"a": torch.full((50, 1), 7.0)})
    samples = generator.sample(conditioning, ["b"], range(50)).latents["b"]
    assert samples[:, 1].eq(6).all()
    assert 7 < samples[:, 0].std() < 14
    assert 0.7 < samples[:, 2].std() < 1.4


@pytest.mark.parametrize(
    "overrides",
    [
        ["diffuse.roles=joint", "generate.sampler=inpaint"],
        ["diffuse.roles=paper", "diffuse.network={kind: per-subset, width: 16, depth: 1}"],
        ["diffuse.roles=independent"],
    ],
)
def test_variants_of_mlds_method(
    make_spec: MakeSpec, registry: Registry, tmp_path: Path, overrides: list[str]
) -> None:
    run_dir = RunDir(tmp_path / "run")
    run(make_spec(*SMALL, *overrides), run_dir, registry)
    assert len(run_dir.read_json(run_dir.metrics)["conditional_coherence"]) == 9


def test_a_score_network_is_reused_from_the_store(
    make_spec: MakeSpec, registry: Registry, tmp_path: Path
) -> None:
    overrides = [*SMALL, "diffuse.ema_decay=0.98"]
    first, second = RunDir(tmp_path / "first"), RunDir(tmp_path / "second")
    run(make_spec(*overrides), first, registry)
    run(make_spec(*overrides, "generate.steps=5"), second, registry)
    assert first.ema.read_bytes() == second.ema.read_bytes()
    stored = [event["job"] for event in second.read_events() if event["event"] == "store"]
    assert "diffuse" in stored


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "missing",
    [
        "{rate: {left: 0.9}}",
        "{rate: 0.66}",
        "{rate: {third: 0.97}}",
        "{rate: 0.5, mechanism: by-label}",
    ],
)
def test_missing_cells_train_without_nan(
    make_spec: MakeSpec, registry: Registry, tmp_path: Path, missing: str
) -> None:
    """A modality in a tenth of the rows, rows with one modality, one absent from whole batches."""
    run_dir = RunDir(tmp_path / "run")
    run(make_spec(*SMALL, "diffuse.batch_size=16", f"data.missing={missing}"), run_dir, registry)
    losses = [event["loss"] for event in run_dir.read_events() if event["event"] == "train"]
    assert losses
    assert all(loss == loss for loss in losses)
