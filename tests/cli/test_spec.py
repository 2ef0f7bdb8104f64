from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from pydantic import Field, ValidationError, field_validator

from mld.config.json_schema import spec_schema
from mld.config.plugin_sections import KindSpec
from mld.config.sections import AutoencodeSpec, DiffuseSpec, TrainingSpec
from mld.config.spec import Spec, dump_spec, load_spec
from mld.config.starter import starter_spec
from mld_core import (
    Dataset,
    DatasetConfig,
    Modality,
    ModalityConfig,
    PluginError,
    Registry,
    SpecError,
    SpecPath,
    hookimpl,
)


class DotsConfig(ModalityConfig):
    size: int = Field(4, ge=1, le=64, description="dots on a side")
    shape: str = "round"

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str) -> str:
        if shape == "crash":
            raise TypeError("no such shape")
        if shape != "round":
            raise ValueError("must be round")
        return shape


class Dots(Modality):
    """Dots on a grid."""

    kind = "dots"
    Config = DotsConfig
    read = preprocess = autoencoder = classifier = write = examples = None


class TableConfig(DatasetConfig):
    path: SpecPath | None = None


class Rows(Dataset):
    """A table."""

    kind = "table"
    Config = TableConfig
    columns = classes = split = None


def plugin(kind: str, **hooks) -> ModuleType:
    module = ModuleType(kind)
    for name, provided in hooks.items():
        setattr(module, name, hookimpl(lambda provided=provided: [provided]))
    return module


PLUGINS = SimpleNamespace(
    dots=plugin("dots", register_modalities=Dots),
    table=plugin("table", register_datasets=Rows),
)

GOOD = """\
name: digits
data: {kind: table}
modalities:
  left: {kind: dots, latent_dim: 8}
  right: {kind: dots, latent_dim: 4, size: 9}
"""


@pytest.fixture
def registry() -> Registry:
    points = [EntryPoint(kind, f"{__name__}:PLUGINS.{kind}", "mld") for kind in ("dots", "table")]
    return Registry([*points, EntryPoint("broken", "a_module_that_is_not_there", "mld")])


@pytest.fixture
def load(tmp_path, monkeypatch, registry):
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str) -> Spec:
        source = Path("digits.yaml")
        source.write_text(text, encoding="utf-8")
        return load_spec(source, registry, overrides)

    return load


@pytest.fixture
def complaints(load):
    def complaints(text: str, *overrides: str) -> list[str]:
        with pytest.raises(SpecError) as caught:
            load(text, *overrides)
        return str(caught.value).splitlines()

    return complaints


def test_defaults_and_plugin_settings(load):
    spec = load(GOOD)
    assert spec.seed == 0
    assert list(spec.modalities) == ["left", "right"]
    assert spec.modalities["right"] == KindSpec(
        kind="dots", config=DotsConfig(latent_dim=4, size=9)
    )
    assert spec.autoencode == AutoencodeSpec(steps=2000, batch_size=128, learning_rate=1e-3)
    assert spec.diffuse.network.kind == "residual-mlp"
    assert spec.diffuse.p_conditional is None
    assert spec.generate.guidance == 1.0


def test_overrides_of_one_modality(load):
    spec = load(GOOD + "autoencode: {batch_size: 7, overrides: {left: {steps: 5}}}")
    assert spec.autoencode.of("left") == TrainingSpec(steps=5, batch_size=7, learning_rate=1e-3)
    assert spec.autoencode.of("right") == TrainingSpec(steps=2000, batch_size=7, learning_rate=1e-3)


def test_yaml_of_version_1_2(load):
    text = """\
name: no
data: {kind: table, path: on}
modalities: {yes: {kind: dots, latent_dim: 010}, 7: {kind: dots, latent_dim: 2}}
diffuse: {learning_rate: 1e-3, ema_decay: 5E-1, beta_max: 2e1}
"""
    spec = load(text)
    assert spec.name == "no"
    assert spec.data.config.path.name == "on"
    assert list(spec.modalities) == ["yes", "7"]
    assert spec.modalities["yes"].config.latent_dim == 10
    numbers = spec.diffuse.learning_rate, spec.diffuse.ema_decay, spec.diffuse.beta_max
    assert numbers == (0.001, 0.5, 20.0)


def test_paths_are_relative_to_the_spec(load, tmp_path):
    assert load(GOOD, "data.path=a/b.csv").data.config.path == tmp_path / "a" / "b.csv"


def test_paper_has_its_own_default(load):
    told = GOOD + "diffuse: {roles: paper}\ngenerate: {guidance: 0}"
    assert load(told).diffuse.p_conditional == 0.5


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "diffuse: {roles: paper, network: {kind: unet-mlp}}\ngenerate: {guidance: 0}",
        "generate: {guidance: {conditional: 2, joint: 0.5}, subsets: [[], [left]]}",
        "autoencode: {overrides: {left: {steps: 9}}}\ncompute: {threads: 2, devices: 1}",
        "evaluate: {learning_rate: 1e-5}",
    ],
)
@pytest.mark.parametrize("name", ["digits", "no", "1e3", "007", "null"])
def test_dump_loads_again_as_the_same(load, registry, tmp_path, name, rest):
    spec = load(GOOD.replace("digits", f"'{name}'", 1) + rest, "data.path=x.csv")
    elsewhere = tmp_path / "elsewhere" / "spec.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(dump_spec(spec))
    assert load_spec(elsewhere, registry) == spec
    assert yaml.safe_load(dump_spec(spec))["modalities"]["left"]["latent_dim"] == 8


def test_every_complaint_at_once_sorted_by_line(complaints):
    text = """\
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
autoencode: {batch_size: many, overrides: {lefd: {steps: 3}, left: {stesp: 3}}}
diffuse:
  stpes: 3
  roles: papr
  network: {kind: residul-mlp}
  p_conditional: 0.3
  beta_max: 0.01
  ema_decay: no
generate: {sampler: heum, steps: 1.5, steps: 3, guidance: lots,
  subsets: [[lefd], [left, left], [3]]}
evaluate:
compute: {devices: two, threads: 0, precision: on}
evaluate: {steps: true}
"""
    name = "must be a name of letters, digits, '_' and '-' other than 'joint'"
    no_kind = "(installed: broken, dots, table)"
    expected = f"""\
digits.yaml:1: name: must be a folder name of letters, digits, '_', '-' and '.', \
beginning with a letter or digit, not 'my digits'
digits.yaml:2: seed: must be at least 0, not -1
digits.yaml:3: data.kind: no plugin of kind 'tabel' is installed {no_kind}; did you mean 'table'?
digits.yaml:5: modalities.left.latent_dim: must be above 0, not 0
digits.yaml:5: modalities.left.siez: unknown field; did you mean 'size'?
digits.yaml:7: modalities.right.kind: no plugin of kind 'dot' is installed {no_kind}; \
did you mean 'dots'?
digits.yaml:8: modalities.joint: {name}, not 'joint'
digits.yaml:8: modalities.joint.kind: kind 'table' is a dataset, but a modality is required here
digits.yaml:9: modalities.a+b: {name}, not 'a+b'
digits.yaml:9: modalities.a+b.kind: kind 'broken' (? ?) cannot be used: \
needs the module a_module_that_is_not_there, which is missing: reinstall the plugin
digits.yaml:10: modalities.c.kind: missing (installed kinds: broken, dots, table)
digits.yaml:11: modalities.d.latent_dim: missing (numbers in the latent of one item)
digits.yaml:12: modalities.e: must be a mapping, not 'dots'
digits.yaml:13: autoencode.batch_size: must be a whole number, not 'many'
digits.yaml:13: autoencode.overrides.left.stesp: unknown field; did you mean 'steps'?
digits.yaml:15: diffuse.stpes: unknown field; did you mean 'steps'?
digits.yaml:16: diffuse.roles: must be one of 'three-role', 'paper', 'independent' or 'joint', \
not 'papr'; did you mean 'paper'?
digits.yaml:17: diffuse.network.kind: must be one of 'residual-mlp', 'unet-mlp', \
'per-subset', not 'residul-mlp'; did you mean 'residual-mlp'?
digits.yaml:20: diffuse.ema_decay: must be a number, not 'no'
digits.yaml:21: generate.sampler: must be one of 'dpm-solver++', 'sde-dpm-solver++', 'ddim', \
'heun', 'euler-maruyama', 'repaint' or 'inpaint', not 'heum'; did you mean 'heun'?
digits.yaml:21: generate.steps: must be a whole number, not 1.5
digits.yaml:21: generate.steps: given twice; the first is at digits.yaml:21
digits.yaml:21: generate.guidance: must be a number or {{conditional: a, joint: b}}, not 'lots'
digits.yaml:22: generate.subsets[2][0]: must be text, not 3
digits.yaml:23: evaluate: must be a mapping, not nothing
digits.yaml:24: compute.devices: must be auto or a whole number, not 'two'
digits.yaml:24: compute.threads: must be at least 1, not 0
digits.yaml:24: compute.precision: must be one of 'auto', '32-true', 'bf16-mixed' or \
'16-mixed', not 'on'
digits.yaml:25: evaluate: given twice; the first is at digits.yaml:23"""
    assert complaints(text) == expected.splitlines()


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (
            "diffuse: {p_conditional: 0.5}",
            "diffuse.p_conditional: is only valid with roles: paper (got three-role)",
        ),
        (
            "diffuse: {roles: paper}",
            "diffuse.roles: with roles: paper, generate.guidance must be 0, not 1.0: its "
            "network has no marginals, which guidance requires",
        ),
        (
            "diffuse: {roles: paper}\ngenerate: {guidance: {conditional: 0}}",
            "generate.guidance: with roles: paper, generate.guidance must be 0, not 1.0: its "
            "network has no marginals, which guidance requires",
        ),
        (
            "diffuse: {beta_min: 1, beta_max: 1}",
            "diffuse.beta_max: must be above beta_min (1.0), not 1.0",
        ),
        (
            "generate: {subsets: [[lefd]]}",
            "generate.subsets[0][0]: no modality 'lefd' (modalities: left, right); "
            "did you mean 'left'?",
        ),
        ("generate: {subsets: [[left, left]]}", "generate.subsets[0]: names 'left' twice"),
        (
            "autoencode: {overrides: {lefd: {steps: 3}}}",
            "autoencode.overrides.lefd: no modality 'lefd' (modalities: left, right); "
            "did you mean 'left'?",
        ),
        (
            "generate: {subsets: [[], [right, left]]}",
            "generate.subsets[1]: observes every modality, so nothing is left to generate",
        ),
        (
            "generate: {subsets: [[left], [left]]}",
            "generate.subsets[1]: is the same subset as an earlier one",
        ),
        (
            "generate: {subsets: joint}",
            "generate.subsets: must be auto or a list of lists of modalities, not 'joint'",
        ),
        ("generate: {guidance: -0.5}", "generate.guidance: must be at least 0, not -0.5"),
        (
            "generate: {guidance: {interval: [0.6, 0.1]}}",
            "generate.guidance.interval: must rise, not go from 0.6 to 0.1",
        ),
        (
            "generate: {guidance: {join: 1}}",
            "generate.guidance.join: unknown field; did you mean 'joint'?",
        ),
        (
            "diffuse: {network: {kind: unet-mlp, dropout: 0.1}}",
            "diffuse.network.dropout: unknown field; known: kind, width, depth",
        ),
        (
            "diffuse: {network: {width: 3}}",
            "diffuse.network.kind: missing; one of 'residual-mlp', 'unet-mlp', 'per-subset'",
        ),
        (
            "diffuse: {network: {kind: unet-mlp, width: []}}",
            "diffuse.network.width: must be a whole number, not a list",
        ),
        ("diffuse: {ema_decay: 1}", "diffuse.ema_decay: must be below 1, not 1"),
        ("diffuse: {learning_rate: .inf}", "diffuse.learning_rate: must be finite, not inf"),
        ("evaluate: {steps: true}", "evaluate.steps: must be a whole number, not true"),
        ("evaluate: {steps: '5'}", "evaluate.steps: must be a whole number, not '5'"),
        ("evaluate: [1]", "evaluate: must be a mapping, not a list"),
        ("evaluate: !odd {steps: 5}", "evaluate: the tag '!odd' has no meaning here; remove it"),
        ("evaluate: {[1]: 5}", "evaluate: a name must be a word, not a list or a mapping"),
    ],
)  # fmt: skip
def test_one_complaint(complaints, rest, expected):
    line = 6 + rest.count("\n")
    assert complaints(GOOD + rest) == [f"digits.yaml:{line}: {expected}"]


def test_no_complaint_about_a_default_that_stands_in_for_a_mistake(complaints):
    assert complaints(
        GOOD + "diffuse: {beta_min: x, beta_max: 0.05, roles: papr, ema_decay: 0}"
    ) == [
        "digits.yaml:6: diffuse.beta_min: must be a number, not 'x'",
        "digits.yaml:6: diffuse.roles: must be one of 'three-role', 'paper', 'independent' "
        "or 'joint', not 'papr'; did you mean 'paper'?",
    ]
    assert complaints(GOOD + "diffuse: {roles: paper}\ngenerate: {guidance: x}") == [
        "digits.yaml:7: generate.guidance: must be a number or {conditional: a, joint: b}, not 'x'"
    ]


def test_values_that_yaml_cannot_give(complaints):
    assert complaints(GOOD + "evaluate: {steps: !!int five}") == [
        "digits.yaml:6: evaluate.steps: 'five' cannot be read as int",
        "digits.yaml:6: evaluate.steps: must be a whole number, not 'five'",
    ]
    assert complaints(GOOD + "evaluate: &a {steps: *a}") == [
        "digits.yaml:6: evaluate.steps: an alias that contains itself",
        "digits.yaml:6: evaluate.steps: must be a whole number, not nothing",
    ]


def test_a_plugins_own_validator(complaints, load):
    assert complaints(GOOD, "modalities.left.shape=oval") == [
        "--set modalities.left.shape: must be round, not 'oval'"
    ]
    with pytest.raises(PluginError) as caught:
        load(GOOD, "modalities.left.shape=crash")
    assert str(caught.value) == "kind 'dots': its Config failed: TypeError: no such shape"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("diffuse.stpes=3", "--set diffuse.stpes: unknown field; did you mean 'steps'?"),
        ("diffuse={stpes: 3}", "--set diffuse: diffuse.stpes: unknown field; "
         "did you mean 'steps'?"),
        ("evaluate.steps=", "--set evaluate.steps: must be a whole number, not nothing"),
        ("evaluate.steps=[", "--set evaluate.steps: not YAML: expected the node content, "
         "but found '<stream end>' (while parsing a flow node)"),
        ("seed.x=3", "--set seed.x: seed holds no named values, so none can be set"),
        ("seed", "--set seed: an override is written path=value, as in diffuse.steps=500"),
        ("a..b=1", "--set a..b: an override is written path=value, as in diffuse.steps=500"),
        ("modalities.left.latent_dim=0", "--set modalities.left.latent_dim: must be above 0, "
         "not 0"),
    ],
)  # fmt: skip
def test_overrides_say_set(complaints, override, expected):
    assert complaints("seed: 0\n" + GOOD, override) == [expected]


def test_overrides_are_yaml_and_come_before_validation(load):
    broken = GOOD + "evaluate: {steps: none}\n"
    overrides = ["evaluate.steps=7", "diffuse.learning_rate=1e-4", "generate.subsets=[[left]]"]
    spec = load(broken, *overrides)
    assert (spec.evaluate.steps, spec.diffuse.learning_rate) == (7, 1e-4)
    assert spec.generate.subsets == [["left"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "digits.yaml:1: not YAML: expected ',' or ']', but got '<stream end>' "
         "(while parsing a flow sequence)"),
        ("name: x\n\tseed: 1", "digits.yaml:2: not YAML: found character '\\t' that cannot start "
         "any token (while scanning for the next token)"),
        ("name: x\n---\nname: y", "digits.yaml:2: not YAML: but found another document "
         "(expected a single document in the stream)"),
        ("name: x\nseed: \x07", "digits.yaml:2: not YAML: the character U+0007 is not allowed"),
        ("- name: x", "digits.yaml:1: must be a mapping, not a list"),
        ("", "digits.yaml:1: must be a mapping, not nothing"),
    ],
)  # fmt: skip
def test_not_a_spec(complaints, text, expected):
    assert complaints(text) == [expected]


def test_missing_sections_and_no_modality(complaints):
    assert complaints("seed: 1") == [
        "digits.yaml:1: data: missing (where rows come from: a dataset's kind and its settings)",
        "digits.yaml:1: modalities: missing (by column of the dataset: a modality's kind and its "
        "settings)",
        "digits.yaml:1: name: missing (the experiment's name, and its folder's)",
    ]
    assert complaints("name: x\ndata: {kind: table}\nmodalities: {}") == [
        "digits.yaml:3: modalities: at least one is needed"
    ]


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


def test_a_byte_order_mark_is_no_matter(load):
    assert load("\ufeff" + GOOD) == load(GOOD)


def test_only_named_kinds_are_imported(load, registry, monkeypatch):
    tried = []
    entry = registry.entry
    monkeypatch.setattr(registry, "entry", lambda kind: tried.append(kind) or entry(kind))
    load(GOOD)
    assert set(tried) == {"dots", "table"}


def test_specs_made_in_python_are_checked_too():
    dots = KindSpec(kind="dots", config=DotsConfig(latent_dim=1))
    data = KindSpec(kind="table", config=TableConfig())
    assert Spec(name="x", data=data, modalities={"a": dots}).diffuse == DiffuseSpec()
    with pytest.raises(ValidationError, match=r"modalities\.joint.*\n.*must be a name of letters"):
        Spec(name="x", data=data, modalities={"joint": dots})


def test_schema_offers_the_installed_kinds(registry):
    schema = spec_schema(registry)
    offered = schema["properties"]["modalities"]["additionalProperties"]
    assert offered["oneOf"] == [{"$ref": "#/$defs/kind.dots"}]
    assert offered["discriminator"] == {"propertyName": "kind"}
    dots = schema["$defs"]["kind.dots"]
    assert dots["properties"]["kind"] == {"const": "dots", "description": "Dots on a grid."}
    assert dots["properties"]["size"]["maximum"] == 64
    assert dots["required"] == ["kind", "latent_dim"]
    assert schema["properties"]["data"]["oneOf"] == [{"$ref": "#/$defs/kind.table"}]
    named = set(_references(schema))
    assert named <= {f"#/$defs/{name}" for name in schema["$defs"]}


def _references(told):
    if isinstance(told, dict):
        yield from [told["$ref"]] if "$ref" in told else []
        told = list(told.values())
    if isinstance(told, list):
        for inner in told:
            yield from _references(inner)


def test_required_versions_are_demanded(load):
    spec = GOOD + "requires: {pluggy: '>=1', Packaging: ''}\n"
    assert load(spec).requires == {"pluggy": ">=1", "Packaging": ""}
    installed = version("pluggy")
    with pytest.raises(SpecError) as caught:
        load(GOOD + "requires: {mld-absent: '>=0.1', pluggy: '<1', numpy: newer}\n")
    assert sorted(str(caught.value).splitlines()) == [
        "digits.yaml:6: requires.mld-absent: is not installed: pip install 'mld-absent>=0.1'",
        "digits.yaml:6: requires.numpy: must be versions such as '>=0.1,<0.3', not 'newer'",
        f"digits.yaml:6: requires.pluggy: must be <1, and {installed} is installed: "
        "pip install 'pluggy<1'",
    ]
    with pytest.raises(SpecError, match=r"requires\.torch: must be text, not 2\.8"):
        load(GOOD + "requires: {torch: 2.8}\n")


def test_starter_spec_is_a_spec_with_the_defaults(load, registry):
    text = starter_spec("mine", {"left": "dots", "right": "dots"}, registry)
    spec = load(text.replace("kind: examples", "kind: table"))
    assert spec == load(
        "name: mine\ndata: {kind: table}\n"
        "modalities: {left: {kind: dots, latent_dim: 16}, right: {kind: dots, latent_dim: 16}}"
    )
    assert "  steps: 20  # solver steps\n" in text
    assert "  # p_conditional: null  # share of rows" in text


def test_importing_the_spec_loads_no_torch():
    script = "import sys, mld.config.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (
            "diffuse: {network: {kind: per-subset}}",
            "diffuse.network.kind: per-subset trains a network for each pair of observed and "
            "generated modalities and is only valid with roles: paper (got three-role)",
        ),
        (
            "diffuse: {method: guess}",
            "diffuse.method: no plugin of kind 'guess' is installed "
            "(installed: broken, dots, table)",
        ),
    ],
)
def test_variants_that_do_not_fit(complaints, line, complaint):
    assert complaints(f"{GOOD}{line}") == [f"digits.yaml:6: {complaint}"]


def test_in_painting_is_the_only_way_to_condition_a_joint_network(complaints):
    told = f"{GOOD}diffuse: {{roles: joint}}\ngenerate: {{subsets: [[]]}}"
    assert complaints(told) == [
        "digits.yaml:6: diffuse.roles: with roles: joint, generate.guidance must be 0, not 1.0: "
        "its network has no marginals, which guidance requires"
    ]
    told = f"{GOOD}diffuse: {{roles: joint}}\ngenerate: {{guidance: 0}}"
    assert complaints(told) == [
        "digits.yaml:7: generate.sampler: roles: joint conditions only by in-painting: sampler "
        "must be inpaint, not dpm-solver++"
    ]
