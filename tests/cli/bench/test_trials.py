"""Trials: frozen specs, keys, errors, and the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mld.bench.suite import load_suite
from mld.bench.trials import Trial, make_trials, schedule
from mld.config.spec import load_spec
from mld_core import Registry, SpecError


def test_frozen_spec_is_complete_and_its_key_stable(
    trials: list[Trial], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    assert len({trial.key for trial in trials}) == 4
    path = tmp_path / "frozen.yaml"
    path.write_text(trials[0].spec)
    spec = load_spec(path, Registry())
    assert list(spec.modalities) == ["a", "b"]
    assert spec.autoencode.of("b").steps == 6
    again = make_trials(load_suite(write_suite()), Registry())
    assert [trial.key for trial in again] == [trial.key for trial in trials]


def test_trials_that_share_a_network_are_far_apart(write_suite: Callable[..., Path]) -> None:
    path = write_suite(("[[a, b]]", "all"), methods="\n  mld: {}\nseeds: [0, 1]\nguidance: [0, 1]")
    trials = make_trials(load_suite(path), Registry())
    order = [
        (
            "+".join(trial.coordinates.modalities),
            trial.coordinates.seed,
            trial.coordinates.guidance_label,
        )
        for trial in schedule(trials)
    ]
    assert order[:4] == [("a+b+c", 0, "0"), ("a+b+c", 1, "0"), ("a+b", 0, "0"), ("a+b", 1, "0")]
    assert {strength for _, _, strength in order[:8]} == {"0"}
    assert {strength for _, _, strength in order[8:]} == {"1"}


def test_sampling_does_not_change_the_network_key(write_suite: Callable[..., Path]) -> None:
    path = write_suite(("  paper:", "  unguided: {generate.guidance: 0}\n  paper:"))
    trials = make_trials(load_suite(path), Registry())
    networks = {
        (trial.coordinates.method, trial.coordinates.seed): trial.network_key for trial in trials
    }
    assert networks["mld", 0] == networks["unguided", 0]
    assert len(set(networks.values())) == 4
    last = [trial.coordinates.method for trial in schedule(trials)[4:]]
    assert last == ["unguided", "unguided"]


def test_errors_of_single_trials(write_suite: Callable[..., Path]) -> None:
    path = write_suite(
        ("paper: {", "nope: {diffuse: {method: nope}}\n  paper: {"),
        ("[[a, b]]", "[[a, b], [a, bb]]"),
    )
    trials = make_trials(load_suite(path), Registry())
    errors = {
        str(trial.coordinates): trial.error.replace(f"{path.parent}/", "")
        for trial in trials
        if trial.error
    }
    assert len(errors) == 2 + 3 * 2
    assert "suite.yaml:7: diffuse.method: no plugin of kind 'nope'" in errors["a+b, nope, seed 0"]
    error = (
        "suite.yaml:4: modalities[1][1]: no modality 'bb' (modalities of the base spec: a, b, c)"
    )
    assert errors["a+bb, mld, seed 1"] == f"{error}; did you mean 'b'?"


@pytest.mark.parametrize(
    ("subsets", "message"),
    [("[[], [c], a]", "subsets[2]: must be a list"), ("[[3]]", "subsets[0][0]: must be text")],
)
def test_invalid_subsets_are_errors_of_the_spec(
    write_suite: Callable[..., Path], subsets: str, message: str
) -> None:
    path = write_suite(base=(("[[], [a], [b, c]]", subsets),))
    with pytest.raises(SpecError) as raised:
        make_trials(load_suite(path), Registry())
    assert f"base.yaml:10: generate.{message}" in str(raised.value)


def test_base_spec_with_one_modality_has_no_sets(
    write_suite: Callable[..., Path], base_text: str
) -> None:
    every = ("[[a, b]]", "all")
    lines = "".join(f"  {name}: {{kind: text, latent_dim: 4, max_bytes: 32}}\n" for name in "bc")
    one_modality = (
        (lines, ""),
        (", overrides: {b: {steps: 6}, c: {steps: 7}}", ""),
        ("[], [a], [b, c]", "[]"),
    )
    path = write_suite(every, base=one_modality)
    message = r"suite.yaml:4: modalities: no set of two or more: the base spec has only a$"
    with pytest.raises(SpecError, match=message):
        make_trials(load_suite(path), Registry())
    write_suite(every, base=((base_text, "modalities: 3"),))
    with pytest.raises(SpecError, match=r"base.yaml:1: modalities: must be"):
        make_trials(load_suite(path), Registry())


def test_error_common_to_all_trials_is_listed_once(write_suite: Callable[..., Path]) -> None:
    path = write_suite(
        ("  mld: {}\n", ""), ("roles: paper", "roles: papr"), base=(("steps: 6", "steps: 0"),)
    )
    with pytest.raises(SpecError) as raised:
        make_trials(load_suite(path), Registry())
    lines = [line.rpartition("/")[2] for line in str(raised.value).splitlines()]
    assert sorted(lines) == [
        "base.yaml:8: autoencode.overrides.b.steps: must be above 0, not 0",
        "suite.yaml:6: diffuse.roles: must be one of 'three-role', 'paper', 'independent' or "
        "'joint', not 'papr'; did you mean 'paper'?",
    ]
