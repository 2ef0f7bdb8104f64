"""The grid: which trials a suite has, and the spec of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mld.bench.grid import grid
from mld.bench.suite import load_suite
from mld_core import SpecError

RATES = [step / 1000 for step in range(101)]


def test_grid_is_the_product_of_its_axes(write_suite: Callable[..., Path]) -> None:
    axes = (
        "samplers: {few: {steps: 2}}\nmissing: [0, 0.5]\nguidance: [0, {conditional: 1, joint: 2}]"
    )
    trials = list(grid(load_suite(write_suite(("[[a, b]]", "all"), more=axes))))
    assert len(trials) == 4 * 2 * 2 * 2 * 2 - 4 * 2 * 2  # `paper` sets its guidance itself
    variant = "mld · missing 0.5 · few · w 1/2"
    coordinates, document = next(
        (coordinates, document)
        for coordinates, document in trials
        if (coordinates.modalities, coordinates.variant) == (("a", "b"), variant)
    )
    assert str(coordinates) == f"a+b, {variant}, seed 0"
    assert document.value == {
        "name": "base",
        "data": {"kind": "examples", "train": 60, "validation": 20, "test": 20}
        | {"missing": {"rate": 0.5}},
        "modalities": {name: {"kind": "text", "latent_dim": 4, "max_bytes": 32} for name in "ab"},
        "autoencode": {"steps": 5, "overrides": {"b": {"steps": 6}}},
        "diffuse": {"steps": 5, "batch_size": 16}
        | {"network": {"kind": "residual-mlp", "width": 16, "depth": 1}},
        "generate": {"steps": 2, "num_samples": 20, "num_previews": 0, "subsets": [[], ["a"]]}
        | {"guidance": {"conditional": 1, "joint": 2}},
        "evaluate": {"steps": 5},
        "seed": 0,
        "compute": {"threads": 1},
    }


def test_settings_of_a_method_are_not_varied(write_suite: Callable[..., Path]) -> None:
    methods = """
  mld: {}
  heun: {generate: {sampler: heun, steps: 3}}
  baseline: {diffuse: {method: other, steps: 7}}"""
    axes = "samplers: [{sampler: ddim, steps: 2}, {steps: 3}]\nguidance: [0, 1]"
    trials = list(grid(load_suite(write_suite(methods=methods, more=axes))))
    assert [coordinates.variant for coordinates, _ in trials] == [
        "mld · ddim 2 · w 0",
        "mld · ddim 2 · w 1",
        "mld · 3 · w 0",
        "mld · 3 · w 1",
        "heun · w 0",
        "heun · w 1",
        "baseline",
    ]
    assert trials[4][1].value["generate"] == {"sampler": "heun", "steps": 3, "guidance": 0}
    assert trials[6][1].value["diffuse"] == {"method": "other", "steps": 7}


def test_missing_rate_of_a_method_is_not_varied(write_suite: Callable[..., Path]) -> None:
    methods = """
  gaps: {data.missing.rate: 0.3}
  more: {data: {kind: examples, missing: {rate: 0.4}}}
  complete: {data.missing: null}
  guided: {generate.guidance.joint: 3.0}"""
    for axis, labels in (
        ("samplers: {weak: {guidance: {joint: 0.5}}}", ["weak"]),
        ("guidance: [0, 1]", ["w 0", "w 1"]),
    ):
        path = write_suite(methods=methods, more=f"{axis}\nmissing: [0, 0.5]")
        trials = list(grid(load_suite(path)))
        assert [coordinates.variant for coordinates, _ in trials] == [
            *(f"{name} · {label}" for name in ("gaps", "more", "complete") for label in labels),
            "guided · missing 0",
            "guided · missing 0.5",
        ]
        missing = [document.value["data"]["missing"] for _, document in trials[:-2]]
        assert missing[:: len(labels)] == [{"rate": 0.3}, {"rate": 0.4}, None]
        assert trials[-1][1].value["generate"]["guidance"] == {"joint": 3.0}


def test_missing_rate_0_removes_that_of_the_base(write_suite: Callable[..., Path]) -> None:
    base = (("test: 20}", "test: 20, missing: {rate: {a: 0.1, c: 0.2}}}"),)
    of_base, none, half = (
        document.value["data"].get("missing")
        for more in ("", "missing: [0, 0.5]")
        for coordinates, document in grid(load_suite(write_suite(base=base, more=more)))
        if (coordinates.method, coordinates.seed) == ("mld", 0)
    )
    assert (of_base, none, half) == ({"rate": {"a": 0.1}}, None, {"rate": 0.5})


def test_baseline_settings_of_absent_modalities_go(write_suite: Callable[..., Path]) -> None:
    settings = "{method: other, rescale: {a: 1, c: 2}, shape: {a: 1, wide: 2}}"
    path = write_suite(methods=f"\n  baseline: {{diffuse: {settings}}}")
    (document,) = [document for _, document in grid(load_suite(path))]
    assert document.value["diffuse"]["rescale"] == {"a": 1}
    assert document.value["diffuse"]["shape"] == {"a": 1, "wide": 2}


@pytest.mark.parametrize(
    ("replaced", "more"),
    [
        (("[[a, b]]", "all"), f"missing: {RATES}\nguidance: {RATES}"),
        (("seeds: [0, 1]", f"seeds: {[*range(101)]}"), f"missing: {RATES}"),
        (("seeds: [0, 1]", f"seeds: {[*range(5001)]}"), ""),
    ],
)
def test_the_number_of_trials_is_bounded(
    write_suite: Callable[..., Path], replaced: tuple[str, str], more: str
) -> None:
    path = write_suite(replaced, more=more)
    with pytest.raises(SpecError, match=r"suite\.yaml:\d: its axes multiply to more than 10,000"):
        next(grid(load_suite(path)))
