"""Runs that start from a finished one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mld.config.spec import Spec, load_spec
from mld.inference.trained_run import load
from mld.pipeline.estimate import estimate
from mld.pipeline.plan import plan
from mld.pipeline.run import run
from mld.pipeline.starting_run import open_starting_run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import Registry, RunDirError, SpecError

FEW = ("generate.subsets=[[]]", "generate.num_samples=20", "evaluate.steps=2")


@pytest.fixture
def continued(spec_file: Path, finished_run: Path, registry: Registry) -> Callable[..., Spec]:
    """A spec that starts from the finished run, with overrides."""

    def spec(*overrides: str) -> Spec:
        return load_spec(spec_file, registry, [f"start_from={finished_run}", *overrides])

    return spec


def test_a_path_is_relative_to_the_spec_and_dumped_only_if_given(
    small_run: Any, tmp_path: Path, registry: Registry
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(small_run.SPEC)
    assert "start_from" not in load_spec(path, registry).model_dump(mode="json")
    spec = load_spec(path, registry, ["start_from=runs/a"])
    assert spec.model_dump(mode="json")["start_from"] == str(tmp_path.resolve() / "runs/a")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["modalities.left.latent_dim=8"], r"modalities\.left\.latent_dim: 4 -> 8"),
        (["modalities={other: {kind: points, latent_dim: 4}}"], r'left\.kind: "points" -> nothing'),
        (["diffuse.network.width=32"], r"diffuse\.network\.width: 64 -> 32"),
        (["diffuse.network={kind: unet-mlp}"], r"diffuse\.network\.kind: .*unet-mlp"),
        (["diffuse.beta_max=10.0"], r"diffuse\.beta_max: 20\.0 -> 10\.0"),
        (["diffuse={method: relay}"], r"only mld's own method .* this spec names another, 'relay'"),
        (["diffuse.shift={left: 1.0}"], r"diffuse\.shift"),
    ],
)
def test_what_a_run_has_learnt_cannot_change(
    continued: Callable[..., Spec], registry: Registry, overrides: list[str], message: str
) -> None:
    with pytest.raises(SpecError, match=rf"(?s)start_from: .*{message}"):
        open_starting_run(continued(*overrides), registry)


def test_what_is_no_finished_run_is_named(
    make_spec: Callable[..., Spec], registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(RunDirError, match=r"start_from: .*gone is not a run directory"):
        open_starting_run(make_spec(f"start_from={tmp_path / 'gone'}"), registry)


def test_a_run_cannot_start_from_itself(
    continued: Callable[..., Spec], finished_run: Path, registry: Registry
) -> None:
    with pytest.raises(SpecError, match="is this run's own folder"):
        run(continued(), finished_run, registry)


def test_a_dry_run_leaves_out_the_autoencoders_that_are_taken(
    continued: Callable[..., Spec], registry: Registry
) -> None:
    spec = continued("modalities.more={kind: points, latent_dim: 3}", "diffuse.steps=7")
    names = [job.name for job in plan(spec, registry).jobs]
    assert names == ["autoencode/more", "diffuse", *(f"classify/{n}" for n in spec.modalities)]


@pytest.mark.slow
def test_the_loss_starts_where_it_ended(
    continued: Callable[..., Spec], finished_run: Path, registry: Registry, tmp_path: Path
) -> None:
    def validations(path: Path) -> list[float]:
        events = [e for e in RunDir(path).read_events() if e.get("job") == "diffuse"]
        return [e["validation"] for e in events if e.get("validation") is not None]

    spec = continued(*FEW, "diffuse.learning_rate=1e-12", "diffuse.patience=1")
    out, store = tmp_path / "again", WeightStore(tmp_path / "store")
    run(spec, out, registry, store=store)
    assert validations(out)[0] == pytest.approx(min(validations(finished_run)), rel=1e-4)
    assert not any(e.get("job", "").startswith("autoencode") for e in RunDir(out).read_events())
    # The store tells trainings apart by the run from which they start.
    stored = [path.read_bytes() for path in store.root.rglob("*.safetensors")]
    assert sum(b"start_from" in content for content in stored) == 1


@pytest.mark.slow
def test_more_rows_and_one_more_modality(
    continued: Callable[..., Spec], finished_run: Path, registry: Registry, tmp_path: Path
) -> None:
    overrides = ["modalities.more={kind: points, latent_dim: 3}", "data.train=440"]
    spec = continued(*FEW, *overrides, "diffuse.steps=3", "autoencode.steps=20")
    out, store = tmp_path / "more", WeightStore(tmp_path / "store")
    run(spec, out, registry, store=store)
    earlier, more = load(finished_run, registry), load(out, registry)
    for name, modality in earlier.modalities.items():
        assert more.modalities[name].facts == modality.facts
        states = earlier.autoencoders[name].state_dict(), more.autoencoders[name].state_dict()
        assert all(torch.equal(x, states[1][key]) for key, x in states[0].items())
    trained = [e["job"] for e in RunDir(out).read_events() if e["event"] == "train"]
    assert {job for job in trained if job.startswith("autoencode")} == {"autoencode/more"}
    scales = more.generator.scales
    for name, scale in earlier.generator.scales.items():
        assert torch.equal(scales[name].mean, scale.mean)
        assert torch.equal(scales[name].std, scale.std)
    record = RunDir(out).read_json(RunDir(out).provenance)["start_from"]
    start = open_starting_run(spec, registry)
    assert start is not None
    assert record == {"run": str(finished_run), "digest": start.digest}
    assert "started from" in RunDir(out).report.read_text()
    estimated = estimate(spec, registry, RunDir(tmp_path / "later"), store)
    assert {each.note for each in estimated.stages} != {"finished"}
    estimated = estimate(spec, registry, RunDir(out), store)
    assert {each.note for each in estimated.stages} == {"finished"}
    # The same command again recomputes nothing.
    events = len(RunDir(out).read_events())
    run(spec, out, registry, store=store)
    states = {e["state"] for e in RunDir(out).read_events()[events:] if e["event"] == "stage"}
    assert states == {"reused"}
