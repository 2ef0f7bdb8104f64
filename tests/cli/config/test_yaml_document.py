"""YAML files and overrides, and where their errors are."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from mld.config.yaml_document import Document
from mld_core import SpecError


def test_scalars_of_yaml_1_2(load_text):
    text = """\
name: no
data: {kind: table, path: on}
modalities: {yes: {kind: dots, latent_dim: 010}, 7: {kind: dots, latent_dim: 2}}
diffuse: {learning_rate: 1e-3, ema_decay: 5E-1, beta_max: 2e1}
"""
    spec = load_text(text)
    assert spec.name == "no"
    assert spec.data.config.path.name == "on"
    assert list(spec.modalities) == ["yes", "7"]
    assert spec.modalities["yes"].config.latent_dim == 10
    numbers = spec.diffuse.learning_rate, spec.diffuse.ema_decay, spec.diffuse.beta_max
    assert numbers == (0.001, 0.5, 20.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "not YAML: expected ',' or ']', but got '<stream end>' "
         "(while parsing a flow sequence)"),
        ("name: x\n\tseed: 1", "not YAML: found character '\\t' that cannot start "
         "any token (while scanning for the next token)"),
        ("name: x\n---\nname: y", "not YAML: but found another document "
         "(expected a single document in the stream)"),
        ("name: x\nseed: \x07", "not YAML: the character U+0007 is not allowed"),
        ("[" * 5000, "not YAML: it is nested too deeply"),
        ("- name: x", "must be a mapping, not a list"),
        ("", "must be a mapping, not nothing"),
    ],
)  # fmt: skip
def test_text_that_is_no_spec(text_errors, text, expected):
    line = 2 if "\n" in text else 1
    assert text_errors(text) == [f"digits.yaml:{line}: {expected}"]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("evaluate: !odd {steps: 5}",
         ["evaluate: the tag '!odd' has no meaning here; remove it"]),
        ("evaluate: {[1]: 5}", ["evaluate: a name must be a word, not a list or a mapping"]),
        ("evaluate: {steps: !!int five}",
         ["evaluate.steps: 'five' cannot be read as int",
          "evaluate.steps: must be a whole number, not 'five'"]),
        ("evaluate: {steps: !!bool maybe}",
         ["evaluate.steps: 'maybe' cannot be read as bool",
          "evaluate.steps: must be a whole number, not 'maybe'"]),
        ("evaluate: &a {steps: *a}",
         ["evaluate.steps: an alias that contains itself",
          "evaluate.steps: must be a whole number, not nothing"]),
    ],
)  # fmt: skip
def test_values_that_yaml_cannot_give(errors, rest, expected):
    assert errors(rest) == [f"digits.yaml:6: {error}" for error in expected]


def test_deep_nesting_is_an_error(text_errors):
    deepest = "a" + "[0]" * 49
    assert f"digits.yaml:1: {deepest}: is nested too deeply (more than 50 levels)" in text_errors(
        "a: " + "[" * 60 + "]" * 60
    )


def test_a_byte_order_mark_is_ignored(load_text, load):
    valid = load()
    assert load_text("\ufeff" + Path("digits.yaml").read_text()) == valid


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("diffuse.stpes=3", "diffuse.stpes: unknown field; did you mean 'steps'?"),
        ("diffuse={stpes: 3}", "diffuse: diffuse.stpes: unknown field; did you mean 'steps'?"),
        ("evaluate.steps=", "evaluate.steps: must be a whole number, not nothing"),
        ("evaluate.steps=[", "evaluate.steps: not YAML: expected the node content, "
         "but found '<stream end>' (while parsing a flow node)"),
        ("seed.x=3", "seed.x: seed holds no named values, so none can be set"),
        ("seed", "seed: an override is written path=value, as in diffuse.steps=500"),
        ("a..b=1", "a..b: an override is written path=value, as in diffuse.steps=500"),
        ("modalities.left.latent_dim=0", "modalities.left.latent_dim: must be above 0, not 0"),
    ],
)  # fmt: skip
def test_errors_of_overrides(errors, override, expected):
    assert errors("seed: 0\n", override) == [f"--set {expected}"]


def test_overrides_are_yaml_and_precede_validation(load):
    overrides = ["evaluate.steps=7", "diffuse.learning_rate=1e-4", "generate.subsets=[[left]]"]
    spec = load("evaluate: {steps: none}\n", *overrides)
    assert (spec.evaluate.steps, spec.diffuse.learning_rate) == (7, 1e-4)
    assert spec.generate.subsets == [["left"]]


def test_overrides_alone():
    assert Document.parse_overrides(["a.b=1", "a.c=[x, 2]"]) == {"a": {"b": 1, "c": ["x", 2]}}
    with pytest.raises(SpecError, match=r"^--set a: an override is written path=value"):
        Document.parse_overrides(["a"])


def test_aliases_expand_to_a_bounded_number_of_values(text_errors, load_text):
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise(names)
    ]
    (error,) = text_errors("\n".join(lines))
    assert error.endswith("more than 10,000 values, counting what aliases repeat")
    (error,) = text_errors("a: [" + "x, " * 10_000 + "]")
    assert error.startswith("digits.yaml:1: a[")
    used = load_text("name: x\ndata: {kind: table}\nmodalities:\n  a: &a {kind: dots, "
                     "latent_dim: 8}\n  b: *a")  # fmt: skip
    assert used.modalities["a"] == used.modalities["b"]


@pytest.mark.parametrize("merged", ["*b", "[*b, *b]", "{kind: dots}"])
def test_a_merge_key_is_refused(text_errors, merged):
    text = f"modalities:\n  a: &b {{kind: dots}}\n  c: {{<<: {merged}, latent_dim: 8}}"
    message = "modalities.c.<<: mappings cannot be merged here: write the settings out"
    assert text_errors(text) == [f"digits.yaml:3: {message}"]


def test_files_that_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_text("a: " + "x" * 2**20)
    for name, message in (
        ("pipe", "cannot be read: it is a named pipe, not a regular file"),
        ("large", "cannot be read: it has 1,048,579 bytes, and at most 1,048,576 are read"),
    ):
        path = tmp_path / f"{name}.yaml"
        with pytest.raises(SpecError) as caught:
            Document.read(path)
        assert str(caught.value) == f"{path}: {message}"
