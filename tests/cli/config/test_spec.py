"""Specs as users write them: defaults, overrides, dumps, and all errors at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from pydantic import ValidationError

from mld.config.plugin_sections import KindSpec, ModalitySpec
from mld.config.sections import AutoencodeSpec, DiffuseSpec, TrainingSpec
from mld.config.spec import Spec, dump_spec, load_spec
from mld_core import PluginError, SpecError


def test_defaults_and_plugin_settings(load, registry):
    spec = load()
    assert spec.seed == 0
    assert list(spec.modalities) == ["left", "right"]
    dots_config = registry.modality("dots").Config
    assert spec.modalities["right"] == ModalitySpec(
        kind="dots", config=dots_config(latent_dim=4, size=9)
    )
    assert spec.autoencode == AutoencodeSpec(steps=2000, batch_size=128, learning_rate=1e-3)
    assert spec.diffuse.network.kind == "residual-mlp"
    assert spec.diffuse.p_conditional is None
    assert spec.generate.guidance == 1.0


def test_overrides_of_one_modality(load):
    spec = load("autoencode: {batch_size: 7, overrides: {left: {steps: 5}}}")
    assert spec.autoencode.of("left") == TrainingSpec(steps=5, batch_size=7, learning_rate=1e-3)
    assert spec.autoencode.of("right") == TrainingSpec(steps=2000, batch_size=7, learning_rate=1e-3)


def test_settings_of_a_method(load):
    spec = load("diffuse: {method: guess, steps: 7, luck: 0.1}")
    assert (spec.diffuse.method, spec.diffuse.steps, spec.diffuse.config.luck) == ("guess", 7, 0.1)


def test_paths_are_relative_to_the_spec(load, tmp_path):
    assert load("", "data.path=a/b.csv").data.config.path == tmp_path / "a" / "b.csv"


def test_default_p_conditional_of_paper_roles(load):
    spec = load("diffuse: {roles: paper}\ngenerate: {guidance: 0}")
    assert spec.diffuse.p_conditional == 0.5


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "diffuse: {roles: paper, network: {kind: unet-mlp}}\ngenerate: {guidance: 0}",
        "diffuse: {method: guess, luck: 1}",
        "generate: {guidance: {conditional: 2, joint: 0.5}, subsets: [[], [left]]}",
        "autoencode: {overrides: {left: {steps: 9}}}\ncompute: {threads: 2, devices: 1}",
        "evaluate: {learning_rate: 1e-5}",
    ],
)
@pytest.mark.parametrize("name", ["digits", "no", "1e3", "007", "null"])
def test_dump_loads_as_an_equal_spec(load, registry, tmp_path, name, rest):
    spec = load(rest, f"name='{name}'", "data.path=x.csv")
    elsewhere = tmp_path / "elsewhere" / "spec.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(dump_spec(spec))
    assert load_spec(elsewhere, registry) == spec
    assert yaml.safe_load(dump_spec(spec))["modalities"]["left"]["latent_dim"] == 8


MANY_ERRORS = """\
name: my digits
seed: -1
data: {kind: tabel}
modalities:
  left: {kind: dots, latent_dim: 0, siez: 3}
  right:
    kind: dot
  joint: {kind: table}
  a+b: {kind: broken}
  c: {latent_dim: 3}
  d: {kind: dots}
  e: dots
autoencode: {batch_size: many, overrides: {left: {stesp: 3}}}
diffuse:
  stpes: 3
  roles: papr
  network: {kind: residul-mlp}
  ema_decay: no
generate: {sampler: heum, steps: 1.5, steps: 3, guidance: lots,
  subsets: [[lefd], [left, left], [3]]}
evaluate:
compute: {devices: two, threads: 0, precision: on}
evaluate: {steps: true}
"""


def test_all_errors_at_once_sorted_by_line(text_errors):
    name = "must be a name of letters, digits, '_' and '-' other than 'joint'"
    no_kind = "(installed: broken, dots, guess, table)"
    expected = f"""\
1: name: must be a folder name of letters, digits, '_', '-' and '.', \
beginning with a letter or digit, not 'my digits'
2: seed: must be at least 0, not -1
3: data.kind: no plugin of kind 'tabel' is installed {no_kind}; did you mean 'table'?
5: modalities.left.latent_dim: must be above 0, not 0
5: modalities.left.siez: unknown field; did you mean 'size'?
7: modalities.right.kind: no plugin of kind 'dot' is installed {no_kind}; did you mean 'dots'?
8: modalities.joint: {name}, not 'joint'
8: modalities.joint.kind: kind 'table' is a dataset, but a modality is required here
9: modalities.a+b: {name}, not 'a+b'
9: modalities.a+b.kind: kind 'broken' (? ?) cannot be used: \
needs the module a_module_that_is_not_there, which is missing: reinstall the plugin
10: modalities.c.kind: missing (installed kinds: broken, dots, guess, table)
11: modalities.d.latent_dim: missing (width of the latent of one item)
12: modalities.e: must be a mapping, not 'dots'
13: autoencode.batch_size: must be a whole number, not 'many'
13: autoencode.overrides.left.stesp: unknown field; did you mean 'steps'?
15: diffuse.stpes: unknown field; did you mean 'steps'?
16: diffuse.roles: must be one of 'three-role', 'paper', 'independent' or 'joint', \
not 'papr'; did you mean 'paper'?
17: diffuse.network.kind: must be one of 'residual-mlp', 'unet-mlp', \
'transformer', 'per-subset', not 'residul-mlp'; did you mean 'residual-mlp'?
18: diffuse.ema_decay: must be a number, not 'no'
19: generate.sampler: must be one of 'dpm-solver++', 'sde-dpm-solver++', 'ddim', \
'heun', 'euler-maruyama', 'repaint' or 'inpaint', not 'heum'; did you mean 'heun'?
19: generate.steps: must be a whole number, not 1.5
19: generate.steps: given twice; the first is at digits.yaml:19
19: generate.guidance: must be a number or {{conditional: a, joint: b}}, not 'lots'
20: generate.subsets[2][0]: must be text, not 3
21: evaluate: must be a mapping, not nothing
22: compute.devices: must be auto or a whole number, not 'two'
22: compute.threads: must be at least 1, not 0
22: compute.precision: must be one of 'auto', '32-true', 'bf16-mixed' or '16-mixed', not 'on'
23: evaluate: given twice; the first is at digits.yaml:21"""
    assert text_errors(MANY_ERRORS) == [f"digits.yaml:{line}" for line in expected.splitlines()]


def test_no_error_about_a_default_beside_an_invalid_value(errors):
    assert errors("diffuse: {beta_min: x, beta_max: 0.05, roles: papr, ema_decay: 0}") == [
        "digits.yaml:6: diffuse.beta_min: must be a number, not 'x'",
        "digits.yaml:6: diffuse.roles: must be one of 'three-role', 'paper', 'independent' "
        "or 'joint', not 'papr'; did you mean 'paper'?",
    ]
    assert errors("diffuse: {roles: paper}\ngenerate: {guidance: x}") == [
        "digits.yaml:7: generate.guidance: must be a number or {conditional: a, joint: b}, not 'x'"
    ]


def test_missing_sections_and_no_modality(text_errors):
    assert text_errors("seed: 1") == [
        "digits.yaml:1: data: missing (where rows come from: a dataset's kind and its settings)",
        "digits.yaml:1: modalities: missing (by column of the dataset: a modality's kind and its "
        "settings)",
        "digits.yaml:1: name: missing (the experiment's name, and its folder's)",
    ]
    assert text_errors("name: x\ndata: {kind: table}\nmodalities: {}") == [
        "digits.yaml:3: modalities: at least one is needed"
    ]


def test_validator_of_a_plugin(errors, load):
    assert errors("", "modalities.left.shape=oval") == [
        "--set modalities.left.shape: must be round, not 'oval'"
    ]
    with pytest.raises(PluginError) as caught:
        load("", "modalities.left.shape=crash")
    assert str(caught.value) == "kind 'dots': its Config failed: TypeError: no such shape"


@pytest.mark.parametrize(
    ("rest", "path", "old", "new"),
    [
        ("autoencode: {updates: 3}", "autoencode.updates", "updates", "steps"),
        ("autoencode: {overrides: {left: {batch: 3}}}", "autoencode.overrides.left.batch",
         "batch", "batch_size"),
        ("diffuse: {updates: 3}", "diffuse.updates", "updates", "steps"),
        ("diffuse: {ema: 0.9}", "diffuse.ema", "ema", "ema_decay"),
        ("diffuse: {method: guess, updates: 3}", "diffuse.updates", "updates", "steps"),
        ("diffuse: {method: guess, batch: 3}", "diffuse.batch", "batch", "batch_size"),
        ("generate: {per_subset: 3}", "generate.per_subset", "per_subset", "num_samples"),
        ("generate: {rendered: 3}", "generate.rendered", "rendered", "num_previews"),
        ("judge: {updates: 3}", "judge", "judge", "evaluate"),
        ("", "data.missing.mechanism", "random", "mcar"),
        ("", "data.missing.mechanism", "label", "by-label"),
    ],
)  # fmt: skip
def test_old_names_are_errors_that_name_the_new(errors, rest, path, old, new):
    overrides = [] if rest else [f"data.missing={{rate: 0.1, mechanism: {old}}}"]
    location = "digits.yaml:6" if rest else "--set data.missing"
    assert errors(rest, *overrides) == [f"{location}: {path}: `{old}` is now called `{new}`"]


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("diffuse.updates=3", "diffuse.updates: `updates` is now called `steps`"),
        ("judge.steps=3", "judge.steps: judge: `judge` is now called `evaluate`"),
        # Only a section that has the new name ever had the old one.
        ("compute.updates=3", "compute.updates: unknown field; known: accelerator, devices, "
         "nodes, precision, items, threads, compile"),
        ("diffuse.per_subset=3", "diffuse.per_subset: unknown field; known: method, roles, "
         "purpose, p_conditional, network, steps, batch_size, learning_rate, balance, shift, "
         "beta_min, beta_max, ema_decay, keep, patience, time_limit, micro_batch_size"),
    ],
)  # fmt: skip
def test_old_names_in_overrides(errors, override, error):
    assert errors("", override) == [f"--set {error}"]


def test_only_named_kinds_are_imported(load, registry, monkeypatch):
    kinds = []
    entry = registry.entry
    monkeypatch.setattr(registry, "entry", lambda kind: kinds.append(kind) or entry(kind))
    load()
    assert set(kinds) == {"dots", "table"}


def test_specs_made_in_python_are_checked_too(registry):
    dots = KindSpec(kind="dots", config=registry.modality("dots").Config(latent_dim=1))
    data = KindSpec(kind="table", config=registry.dataset("table").Config())
    assert Spec(name="x", data=data, modalities={"a": dots}).diffuse == DiffuseSpec()
    with pytest.raises(ValidationError, match=r"modalities\.joint.*\n.*must be a name of letters"):
        Spec(name="x", data=data, modalities={"joint": dots})


def test_unreadable_files(tmp_path, registry):
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "none.yaml", registry)
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9t\xe9")
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "latin.yaml", registry)
    assert (
        str(caught.value) == f"{tmp_path}/latin.yaml: is not UTF-8 text: invalid continuation byte"
    )


def test_importing_the_spec_loads_no_torch():
    script = "import sys, mld.config.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_judge_of_pairs_needs_two_modalities(errors, load):
    one = "modalities={left: {kind: dots, latent_dim: 2}}"
    assert load("", one).evaluate.judge == "auto"
    (message,) = errors("evaluate: {judge: both}", one)
    assert message.endswith("evaluate.judge: both is only valid with several modalities (got one)")


def test_an_override_given_twice_is_an_error(errors, load):
    message = "--set diffuse.steps: given twice"
    assert errors("", "diffuse.steps=5", "seed=1", "diffuse.steps=5") == [message]
    assert load("", "diffuse={steps: 5, batch_size: 6}", "diffuse.steps=7").diffuse.steps == 7
