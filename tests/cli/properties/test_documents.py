"""Any text as a spec or a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

SPEC = """\
name: mine
seed: 3
requires: {mld-toolkit: '>=0.1'}
data: {kind: examples, train: 40, validation: 10, test: 10, missing: {rate: {a: 0.1}}}
modalities:
  a: {kind: text, latent_dim: 4, max_bytes: 16, too_long: truncate}
  b: {kind: image, latent_dim: 4, size: 8, channels: 1}
autoencode: {steps: 5, batch_size: 4, learning_rate: 0.01, overrides: {a: {steps: 6}}}
diffuse:
  roles: three-role
  network: {kind: residual-mlp, width: 16, depth: 1, dropout: 0.1}
  steps: 5
  balance: 0.5
  beta_min: 0.1
  beta_max: 20
generate:
  sampler: ddim
  steps: 2
  num_samples: 4
  guidance: {conditional: 1, joint: 2, interval: [0.1, 0.6]}
  subsets: [[], [a]]
evaluate: {steps: 5}
compute: {accelerator: cpu, threads: 1, precision: 32-true}
"""
SUITE = """\
name: many
spec: base.yaml
set: {diffuse.steps: 9, generate.subsets: auto}
modalities: all
methods: {mld: {}, other: {diffuse: {method: mvae, steps: 5}}}
seeds: [0, 1]
missing: [0, 0.5]
samplers: {few: {steps: 2}, more: {sampler: heun}}
guidance: [0, {conditional: 1, joint: 2}]
threads: 1
published: [{method: x, metric: joint_coherence, value: 0.5, source: there}]
"""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a", "auto", "mld", "text", "image", "examples", "manifest", "/dev/zero"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PIECES = st.text(st.sampled_from("[]{}:,-&*!|>'\"%@`#?<~ \t\n\r\0\x85\u2028\ufeffa1."), max_size=6)


def inner_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of each value in a document but the document itself."""
    if not isinstance(value, dict | list):
        return []
    paths = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        paths += [(*path, key), *inner_paths(inner, (*path, key))]
    return paths


@st.composite
def with_other_values(draw: Any, text: str) -> bytes:
    """A document in which one to three values or names are replaced, removed or added."""
    document = yaml.safe_load(text)
    for _ in range(draw(st.integers(1, 3))):
        paths = inner_paths(document)
        if not paths:
            break
        *path, key = draw(st.sampled_from(paths))
        parent = document
        for name in path:
            parent = parent[name]
        match draw(st.sampled_from(["replace", "replace", "remove", "rename"])):
            case "replace":
                parent[key] = draw(VALUES)
            case "remove":
                del parent[key]
            case "rename":
                value = parent.pop(key)
                name = draw(st.text(max_size=8))
                if isinstance(parent, dict):
                    parent[name] = value
                else:
                    parent.insert(0, value)
    return yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")


@st.composite
def with_other_characters(draw: Any, text: str) -> bytes:
    """A document in which a few characters are replaced by some that mean something in YAML."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 6)))
        text = text[:start] + draw(PIECES) + text[stop:]
    return text.encode()


def documents(text: str) -> st.SearchStrategy[bytes]:
    return (
        with_other_values(text)
        | with_other_characters(text)
        | VALUES.map(lambda value: yaml.safe_dump(value).encode("utf-8", "surrogatepass"))
        | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
        | st.binary()
    )


def test_any_spec(for_any: Any, outcome: Any) -> None:
    path = Path("spec.yaml")
    path.write_text(SPEC)
    assert outcome("spec", "validate", path).exit_code == 0

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert outcome("spec", "validate", path).exit_code in (0, 3, 4)

    for_any(40, documents(SPEC), check)


def test_any_suite(for_any: Any, outcome: Any) -> None:
    path, base = Path("suite.yaml"), Path("base.yaml")
    path.write_text(SUITE)
    base.write_text(SPEC)
    assert outcome("bench", path, "--dry-run").exit_code == 0

    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert outcome("bench", path, "--dry-run").exit_code in (0, 3, 4, 5, 8)

    for_any(15, documents(SUITE), check)


def test_any_override(for_any: Any, outcome: Any) -> None:
    Path("spec.yaml").write_text(SPEC)
    paths = inner_paths(yaml.safe_load(SPEC))
    names = st.sampled_from([".".join(map(str, path)) for path in paths])
    values = VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)) | PIECES

    def check(override: tuple[str, str]) -> None:
        result = outcome("run", Path("spec.yaml"), "--dry-run", "--set", "=".join(override))
        assert result.exit_code in (0, 2, 3, 4, 5)

    for_any(20, st.tuples(names | st.text(), values | st.text()), check)
