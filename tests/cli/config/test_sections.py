"""The limits of single settings, and of settings in relation to each other."""

from __future__ import annotations

import pytest

from mld.config.sections import GenerateSpec
from mld_core import SpecError

PAPER = "diffuse: {roles: paper, network: {kind: per-subset}}\ngenerate: {guidance: 0}\n"


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        # One setting.
        ("generate: {guidance: -1.5}", "generate.guidance: must be at least -1, not -1.5"),
        ("generate: {guidance: 1.0e+300}", "generate.guidance: must be at most 1e+06, not 1e+300"),
        ("generate: {guidance: .inf}", "generate.guidance: must be finite, not inf"),
        (
            "generate: {guidance: {joint: 1.0e+39}}",
            "generate.guidance.joint: must be at most 1e+06, not 1e+39",
        ),
        (
            "generate: {guidance: {join: 1}}",
            "generate.guidance.join: unknown field; did you mean 'joint'?",
        ),
        (
            "generate: {guidance: {interval: [0.6, 0.1]}}",
            "generate.guidance.interval: must rise, not go from 0.6 to 0.1",
        ),
        (
            "generate: {guidance: {interval: [0.6]}}",
            "generate.guidance.interval[1]: missing",
        ),
        (
            "generate: {subsets: joint}",
            "generate.subsets: must be auto or a list of lists of modalities, not 'joint'",
        ),
        (
            "diffuse: {network: {kind: unet-mlp, dropout: 0.1}}",
            "diffuse.network.dropout: unknown field; known: kind, width, depth",
        ),
        (
            "diffuse: {network: {width: 3}}",
            "diffuse.network.kind: missing; one of 'residual-mlp', 'unet-mlp', 'transformer', "
            "'per-subset'",
        ),
        (
            "diffuse: {network: {kind: unet-mlp, width: []}}",
            "diffuse.network.width: must be a whole number, not a list",
        ),
        (
            "diffuse: {network: {kind: unet-mlp, width: 100}}",
            "diffuse.network.width: must be a multiple of 8, not 100",
        ),
        (
            "diffuse: {network: {kind: transformer, width: 100, heads: 8}}",
            "diffuse.network.width: must be a multiple of heads (8), not 100",
        ),
        ("diffuse: {beta_min: 0}", "diffuse.beta_min: must be above 0, not 0"),
        ("diffuse: {ema_decay: 1}", "diffuse.ema_decay: must be below 1, not 1"),
        ("diffuse: {learning_rate: .inf}", "diffuse.learning_rate: must be finite, not inf"),
        (
            "diffuse: {method: gues}",
            "diffuse.method: no plugin of kind 'gues' is installed "
            "(installed: broken, dots, guess, table); did you mean 'guess'?",
        ),
        (
            "diffuse: {method: guess, lukc: 1}",
            "diffuse.lukc: unknown field; did you mean 'luck'?",
        ),
        (
            "diffuse: {method: guess, stepz: 1}",
            "diffuse.stepz: unknown field; did you mean 'steps'?",
        ),
        ("evaluate: {steps: true}", "evaluate.steps: must be a whole number, not true"),
        ("evaluate: {steps: '5'}", "evaluate.steps: must be a whole number, not '5'"),
        ("evaluate: [1]", "evaluate: must be a mapping, not a list"),
        # Settings of one section.
        (
            "diffuse: {p_conditional: 0.5}",
            "diffuse.p_conditional: is only valid with roles: paper (got three-role)",
        ),
        (
            "diffuse: {purpose: information, roles: independent}",
            "diffuse.purpose: information is only valid with roles: three-role (got independent)",
        ),
        (
            "diffuse: {network: {kind: per-subset}}",
            "diffuse.network.kind: per-subset trains a network for each pair of observed and "
            "generated modalities and is only valid with roles: paper (got three-role)",
        ),
        (
            "diffuse: {beta_min: 1, beta_max: 1}",
            "diffuse.beta_max: must be above beta_min (1.0), not 1.0",
        ),
        (
            "diffuse: {beta_min: 1, beta_max: 160}",
            "diffuse.beta_max: beta_min + beta_max must be at most 160 (beyond, the signal left "
            "at time 1 is too small for float32), not 1.0 + 160.0",
        ),
        (
            "diffuse: {shift: {left: 40}}",
            "diffuse.shift.left: must be at most 20, not 40",
        ),
        ("generate: {subsets: [[left, left]]}", "generate.subsets[0]: names 'left' twice"),
        (
            "generate: {subsets: [[left], [left]]}",
            "generate.subsets[1]: is the same subset as an earlier one",
        ),
        # Settings of several sections.
        (
            "autoencode: {overrides: {lefd: {steps: 3}}}",
            "autoencode.overrides.lefd: no modality 'lefd' (modalities: left, right); "
            "did you mean 'left'?",
        ),
        (
            "generate: {subsets: [[lefd]]}",
            "generate.subsets[0][0]: no modality 'lefd' (modalities: left, right); "
            "did you mean 'left'?",
        ),
        (
            "generate: {subsets: [[], [right, left]]}",
            "generate.subsets[1]: observes every modality, so nothing is left to generate",
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
            "diffuse: {roles: joint}\ngenerate: {guidance: 0}",
            "generate.sampler: roles: joint conditions only by in-painting: sampler must be "
            "inpaint, not dpm-solver++",
        ),
        (
            "compute: {devices: 2}\ndiffuse: {batch_size: 15}",
            "diffuse.batch_size: must be a multiple of compute.devices (2), not 15",
        ),
        (
            "compute: {devices: 2, nodes: 4}\ndiffuse: {batch_size: 20}",
            "diffuse.batch_size: must be a multiple of compute.nodes x compute.devices (8), not 20",
        ),
        (
            "compute: {devices: 2}\nautoencode: {overrides: {left: {batch_size: 3}}}",
            "autoencode.overrides.left.batch_size: must be a multiple of compute.devices (2), "
            "not 3",
        ),
    ],
)
def test_one_error(errors, rest, expected):
    line = 6 + rest.count("\n")
    assert errors(rest) == [f"digits.yaml:{line}: {expected}"]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (
            "{rate: 0.6, mechanism: by-label}",
            "data.missing.rate: with mechanism: by-label, a rate is at most 0.5 (the last class "
            "misses twice as much), not 0.6",
        ),
        (
            "{rate: {left: 0.6}, mechanism: by-label}",
            "data.missing.rate.left: with mechanism: by-label, a rate is at most 0.5 (the last "
            "class misses twice as much), not 0.6",
        ),
        (
            "{rate: {lefd: 0.6}}",
            "data.missing.rate.lefd: no modality 'lefd' (modalities: left, right); "
            "did you mean 'left'?",
        ),
        ("{rate: 1}", "data.missing.rate: must be below 1, not 1"),
        (
            "{rate: no}",
            "data.missing.rate: must be a number, or a mapping of numbers, not 'no'",
        ),
    ],
)
def test_errors_of_missing_cells(errors, missing, expected):
    assert errors("", f"data.missing={missing}") == [f"--set data.missing: {expected}"]


def test_guidance_of_roles_that_generate_jointly(errors):
    assert errors("diffuse: {roles: joint}\ngenerate: {subsets: [[]]}") == [
        "digits.yaml:6: diffuse.roles: with roles: joint, generate.guidance must be 0, not 1.0: "
        "its network has no marginals, which guidance requires"
    ]


def test_per_subset_networks_of_few_modalities(errors, load):
    names = ["left", "right", "c", "d"]
    modalities = [f"modalities.{name}={{kind: dots, latent_dim: 1}}" for name in names]
    assert load(PAPER, *modalities).diffuse.network.kind == "per-subset"
    assert errors(PAPER, *modalities, "modalities.e={kind: dots, latent_dim: 1}") == [
        "digits.yaml:6: diffuse.network.kind: per-subset supports at most 4 modalities, not 5, "
        "for which it would train 31 networks"
    ]


def test_sampling_overrides_are_validated():
    spec = GenerateSpec(steps=7)
    assert spec.with_overrides(sampler="ddim") == GenerateSpec(steps=7, sampler="ddim")
    with pytest.raises(SpecError) as caught:
        spec.with_overrides(sampler="dimm", steps=0, guidance=float("nan"))
    assert str(caught.value) == (
        "sampler: must be one of 'dpm-solver++', 'sde-dpm-solver++', 'ddim', 'heun', "
        "'euler-maruyama', 'repaint' or 'inpaint', not 'dimm'; did you mean 'ddim'?; "
        "steps: must be above 0, not 0; guidance: must be finite, not nan"
    )


def test_training_options_are_dumped_only_if_they_are_used(load):
    """So that specs without them keep their fingerprints."""
    options = {"patience": 3, "time_limit": 60.0, "micro_batch_size": 8}
    plain = load().model_dump(mode="json")
    sections = ("autoencode", "diffuse", "evaluate")
    assert not any(plain[section].keys() & options for section in sections)
    settings = [f"{name}.{key}={value}" for name in sections for key, value in options.items()]
    used = load("", *settings).model_dump(mode="json")
    for section in sections:
        assert used[section] == {**plain[section], **options}
