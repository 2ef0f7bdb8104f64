"""Suites as files: axes, overrides and errors with their location."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest

from mld.bench.grid import grid
from mld.bench.suite import load_suite
from mld.bench.trials import make_trials
from mld_core import Registry, SpecError


def test_command_line_overrides_the_suites_set(write_suite: Callable[..., Path]) -> None:
    path = write_suite(more="set: {diffuse.steps: 9, evaluate: {steps: 8}}")
    trials = list(grid(load_suite(path, ["diffuse.steps=3", "evaluate.steps=4"])))
    assert {document.value["diffuse"]["steps"] for _, document in trials} == {3}
    assert {document.value["evaluate"]["steps"] for _, document in trials} == {4}


@pytest.mark.parametrize(
    ("override", "axis"),
    [
        ("seed=7", "seeds"),
        (" seed = 7", "seeds"),
        ("compute.threads=4", "threads"),
        ("generate.guidance=2", "guidance"),
        ("data.missing.rate=0.5", "missing"),
        ("generate.steps=9", "samplers"),
        ("diffuse.network.width=8", "methods"),
    ],
)
def test_command_line_cannot_override_an_axis(
    write_suite: Callable[..., Path], override: str, axis: str
) -> None:
    network = "diffuse.network: {kind: residual-mlp}"
    methods = f"\n  mld: {{{network}}}\n  paper: {{{network}, diffuse.roles: paper}}"
    axes = "guidance: [0, 1]\nmissing: [0, 0.5]\nsamplers: [{steps: 2}, {steps: 3}]"
    path = write_suite(methods=methods, more=axes)
    name = override.partition("=")[0].strip()
    with pytest.raises(SpecError, match=f"^--set {name}: conflicts with the suite's `{axis}`"):
        load_suite(path, [override])


def test_command_line_overrides_what_some_trials_set(write_suite: Callable[..., Path]) -> None:
    axes = "samplers: [{steps: 2}, {sampler: heun}]"
    path = write_suite(methods="\n  mld: {}\n  paper: {diffuse.roles: paper}", more=axes)
    trials = list(grid(load_suite(path, ["generate.steps=9", "diffuse.roles=independent"])))
    values = {
        (document.value["diffuse"]["roles"], document.value["generate"]["steps"])
        for _, document in trials
    }
    assert values == {("independent", 2), ("independent", 9), ("paper", 2), ("paper", 9)}


def test_base_spec_inside_the_suite(write_suite: Callable[..., Path], base_text: str) -> None:
    inline = ("spec: base.yaml", f"spec:{indent(base_text, '  ')}")
    within, beside = (
        make_trials(load_suite(write_suite(*changes)), Registry()) for changes in ([inline], [])
    )
    assert [trial.key for trial in within] == [trial.key for trial in beside]


def test_command_line_replaces_seeds(write_suite: Callable[..., Path]) -> None:
    trials = make_trials(load_suite(write_suite(), seeds=[2, 0]), Registry())
    seeds = [trial.coordinates.seed for trial in trials if trial.coordinates.method == "mld"]
    assert seeds == [2, 0]
    first = make_trials(load_suite(write_suite()), Registry())[0]
    same = next(trial for trial in trials if trial.coordinates == first.coordinates)
    assert first.key == same.key
    with pytest.raises(SpecError, match="seeds: contains 1 more than once"):
        load_suite(write_suite(), seeds=[1, 1])


def test_command_line_overrides_the_base_spec(write_suite: Callable[..., Path]) -> None:
    trials = make_trials(load_suite(write_suite(), ["data.train=50"]), Registry())
    assert all("train: 50" in trial.spec for trial in trials)
    with pytest.raises(SpecError, match="an override is written path=value"):
        make_trials(load_suite(write_suite(), ["data.train"]), Registry())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("seeds: [0, 1]", "seds: [0]"),
            "suite.yaml:8: seds: unknown field; did you mean",
        ),
        (("seeds: [0, 1]", "seeds: []"), "suite.yaml:8: seeds: "),
        (("[[a, b]]", "al"), "suite.yaml:4: modalities: must be base, all, or a list of lists"),
        (("[[a, b]]", "al"), "not 'al'; did you mean 'all'?"),
        (("[0, 1]", "[0, 0, 0]"), "suite.yaml:8: seeds: contains 0 more than once"),
        (
            ("[[a, b]]", "[[a, b], [b, a]]"),
            "suite.yaml:4: modalities: contains ['a', 'b'] more than once",
        ),
        (("[[a, b]]", "[[a, b, a]]"), "suite.yaml:4: modalities[0]: contains a more than once"),
        (
            ("seeds: [0, 1]", "missing: [0, 0.0]"),
            "suite.yaml:8: missing: contains 0.0 more than once",
        ),
        (
            ("seeds: [0, 1]", "guidance: [1, 1.0]"),
            "suite.yaml:8: guidance: contains 1.0 more than once",
        ),
        (
            ("seeds: [0, 1]", "guidance: [0]\nsamplers: [{steps: 3}, {guidance.joint: 1}]"),
            "suite.yaml:9: samplers[1].guidance: conflicts with the suite's `guidance`; remove one",
        ),
        (
            ("seeds: [0, 1]", "set: {seed: 3}"),
            "suite.yaml:8: set.seed: conflicts with the suite's `seeds`; set it there",
        ),
        (
            ("seeds: [0, 1]", "set:\n  compute:\n    threads: 4"),
            "suite.yaml:10: set.compute.threads: conflicts with the suite's `threads`; set it",
        ),
        (("seeds: [0, 1]", "guidance: [some]"), "suite.yaml:8: guidance[0]: must be a number or"),
        (("base.yaml", "bas.yaml"), "bas.yaml: cannot be read"),
        (("name: small", "name: a/b"), "suite.yaml:2: name: "),
    ],
)
def test_errors_name_file_and_line(
    write_suite: Callable[..., Path], change: tuple[str, str], message: str
) -> None:
    path = write_suite(change)
    with pytest.raises(SpecError) as raised:
        load_suite(path)
    assert message in str(raised.value).replace(f"{path.parent}/", "")
