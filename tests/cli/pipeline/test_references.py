"""Autoencoders whose weights lie outside of the run, which refers to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from mld.config.spec import Spec, load_spec
from mld.inference.trained_run import load
from mld.pipeline.plan import plan
from mld.pipeline.run import run
from mld.storage.run_dir import RunDir
from mld.storage.weight_store import WeightStore
from mld_core import DataError, PluginError, Registry, RunDirError

SPEC = """
name: referring
data: {kind: examples, train: 40, validation: 20, test: 20}
modalities:
  fixed: {kind: frozen, weights: weights.safetensors}
  right: {kind: marks, latent_dim: 4}
autoencode: {steps: 2, batch_size: 8}
diffuse: {network: {kind: residual-mlp, width: 32, depth: 1}, steps: 2, batch_size: 8}
generate: {num_samples: 4, num_previews: 1, steps: 1}
evaluate: {steps: 2, batch_size: 8}
compute: {threads: 1}
"""


@pytest.fixture(scope="module")
def frozen(small_run: Any) -> ModuleType:
    import mld_frozen

    return mld_frozen


@pytest.fixture(scope="module")
def registry(small_run: Any) -> Registry:
    return small_run.registry({"frozen": "mld_frozen"})


@pytest.fixture
def spec(tmp_path: Path, registry: Registry, frozen: ModuleType) -> Spec:
    frozen.save_weights(tmp_path / "weights.safetensors")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return load_spec(tmp_path / "spec.yaml", registry)


@pytest.fixture
def run_it(tmp_path: Path, registry: Registry) -> Callable[..., RunDir]:
    def run_it(spec: Spec, **options: Any) -> RunDir:
        run_dir = RunDir(tmp_path / "run")
        run(spec, run_dir, registry, store=WeightStore(tmp_path / "store"), **options)
        return run_dir

    return run_it


@pytest.mark.slow
def test_a_run_refers_to_weights_that_it_does_not_hold(
    spec: Spec,
    run_it: Callable[..., RunDir],
    tmp_path: Path,
    registry: Registry,
    frozen: ModuleType,
) -> None:
    weights = tmp_path / "weights.safetensors"
    run_dir = run_it(spec)
    assert [path.stem for path in (run_dir.path / "autoencoders").iterdir()] == ["right"]
    recorded = json.loads(run_dir.provenance.read_text())["references"]
    reference = frozen.FrozenAutoencoder(weights).reference
    assert recorded == {"fixed": reference}
    run_it(spec)
    load(run_dir.path, registry).sample(want=["fixed"])

    shutil.copy(weights, tmp_path / "before.safetensors")
    frozen.save_weights(weights, scale=2.0)
    for attempt in (lambda: run_it(spec), lambda: load(run_dir.path, registry)):
        with pytest.raises(RunDirError) as error:
            attempt()
        lines = str(error.value).splitlines()
        assert "are not those that the run has used" in lines[0]
        assert lines[1].startswith(f'  fixed.sha256: "{reference["sha256"]}" -> "')
        assert "--from-stage data" in lines[-1]
    run_it(spec, from_stage="data")
    load(run_dir.path, registry)

    weights.unlink()
    with pytest.raises(DataError, match=r"modality 'fixed' .kind frozen.: the autoencoder cannot"):
        load(run_dir.path, registry)
    with pytest.raises(DataError, match="No such file"):
        plan(spec, registry)


def test_the_plan_counts_no_weights_that_the_run_does_not_hold(
    spec: Spec, registry: Registry, frozen: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    referring = plan(spec, registry)
    assert [job.name for job in referring.jobs][:1] == ["autoencode/right"]
    monkeypatch.setattr(frozen.FrozenAutoencoder, "reference", None)
    assert plan(spec, registry).megabytes > referring.megabytes


def test_an_autoencoder_with_a_reference_may_not_be_trainable(
    spec: Spec,
    registry: Registry,
    frozen: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frozen.FrozenAutoencoder, "requires_grad_", lambda self, requires: self)
    with pytest.raises(PluginError, match=r"'fixed' .*has trainable parameters"):
        plan(spec, registry)


@pytest.mark.slow
def test_a_method_that_trains_on_items_is_trained_again_for_other_weights(
    spec: Spec,
    run_it: Callable[..., RunDir],
    tmp_path: Path,
    registry: Registry,
    frozen: ModuleType,
) -> None:
    spec = load_spec(tmp_path / "spec.yaml", registry, ["diffuse={method: relay, steps: 2}"])
    before = load_file(run_it(spec).network)
    frozen.save_weights(tmp_path / "weights.safetensors", scale=2.0)
    after = load_file(run_it(spec, from_stage="data").network)
    name = next(name for name in before if name.endswith("modality_fixed.in_proj.weight"))
    assert (after[name] == 2 * before[name]).all()
