from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, create_model

from mld.config.json_schema import spec_schema
from mld.config.plugin_description import required_latent_dim
from mld.config.spec import load_spec
from mld.config.starter import _plugin_settings, starter_spec
from mld.config.yaml_document import Document
from mld_core import ModalityConfig, Registry, SpecError


def test_starter_spec_has_the_defaults(load_text, registry):
    text = starter_spec("mine", {"left": "dots", "right": "dots"}, registry)
    spec = load_text(text.replace("kind: examples", "kind: table"))
    assert spec == load_text(
        "name: mine\ndata: {kind: table}\n"
        "modalities: {left: {kind: dots, latent_dim: 16}, right: {kind: dots, latent_dim: 16}}"
    )
    assert "  steps: 20  # solver steps\n" in text
    assert "    size: 4  # dots on a side\n    shape: round\n" in text
    assert text.startswith("# yaml-language-server: $schema=mld.schema.json\n")
    assert "  # p_conditional: null  # share of rows" in text


LIMITS = {
    "ge=32": (Field(ge=32), 32),
    "gt=100": (Field(gt=100, lt=110), 101),
    "le=8": (Field(ge=2, le=8), 8),
    "lt=8": (Field(lt=8), 7),
    "multiple": (Field(multiple_of=24), 24),
    "default": (Field(5, ge=2), None),
}


@pytest.mark.parametrize(("field", "expected"), LIMITS.values(), ids=LIMITS)
def test_a_required_latent_dim_is_within_its_range(field: Any, expected: int | None) -> None:
    config_class = create_model("Config", __base__=ModalityConfig, latent_dim=(int, field))
    guessed = required_latent_dim(config_class)
    assert guessed == ({} if expected is None else {"latent_dim": expected})
    config_class(**guessed)


def test_required_settings_that_cannot_be_guessed_are_comments() -> None:
    config_class = create_model(
        "Config",
        __base__=ModalityConfig,
        latent_dim=(int, Field(description="width of the latent")),
        rate=(int, Field(description="samples per second")),
    )
    assert _plugin_settings(config_class) == [
        "    latent_dim: 16  # width of the latent",
        "    # rate:  # required: samples per second",
    ]


def test_starter_specs_of_all_installed_modalities_are_valid(tmp_path: Path) -> None:
    registry = Registry()
    entries = [entry for entry in registry.entries() if entry.role == "modality"]
    # A starter cannot guess where weights are.
    kinds = [e.kind for e in entries if "weights" not in e.plugin_class.Config.model_fields]
    assert len(kinds) >= 7
    path = tmp_path / "all.yaml"
    path.write_text(starter_spec("all", {kind: kind for kind in kinds}, registry))
    spec = load_spec(path, registry)
    assert [modality.kind for modality in spec.modalities.values()] == kinds
    schema = Draft202012Validator(spec_schema(registry))
    assert [*schema.iter_errors(Document.read(path).value)] == []


def test_starter_spec_quotes_names(load_text, registry):
    text = starter_spec("1e3", {"7": "dots", "null": "dots"}, registry)
    spec = load_text(text.replace("kind: examples", "kind: table"))
    assert (spec.name, list(spec.modalities)) == ("1e3", ["7", "null"])


@pytest.mark.parametrize(
    ("name", "modality", "kind", "message"),
    [
        ("a/b", "left", "dots", "name: must be a folder name"),
        ("a", "joint", "dots", "modalities.joint: must be a name of letters"),
        ("a", "left", "dost", "did you mean 'dots'?"),
        ("a", "left", "table", "kind 'table' is a dataset"),
        ("a", "left", "broken", "kind 'broken' .* cannot be used"),
    ],
)
def test_starter_spec_of_invalid_names(registry, name, modality, kind, message):
    with pytest.raises(SpecError, match=message):
        starter_spec(name, {modality: kind}, registry)


SIZES = {
    "image of 32 pixels": ("image", {"size": 32}, None),
    "image of 64 pixels": ("image", {"size": 64}, {"channels": 4, "downsampling": 8}),
    "image of 256 pixels": ("image", {"size": 256}, {"channels": 4, "downsampling": 8}),
    "short text": ("text", {"max_bytes": 32}, None),
    "text": ("text", {"max_bytes": 64}, {"channels": 16, "downsampling": 4}),
    "long text": ("text", {"max_bytes": 1024}, {"channels": 32, "downsampling": 8}),
    "half a second": ("audio", {"seconds": 0.5}, None),
    "two seconds": ("audio", {"seconds": 2}, {"channels": 32, "downsampling": 4}),
    "ten seconds": (
        "audio",
        {"seconds": 10, "sample_rate": 16_000},
        {"channels": 16, "downsampling": 8},
    ),
    "a width that is given": ("image", {"size": 64, "latent_dim": 100}, None),
}


@pytest.mark.parametrize(("kind", "settings", "latent"), SIZES.values(), ids=SIZES)
def test_starter_spec_has_a_latent_for_its_size(
    tmp_path: Path, kind: str, settings: dict[str, Any], latent: dict[str, int] | None
) -> None:
    registry, path = Registry(), tmp_path / "a.yaml"
    modalities = {"x": kind, "word": "text"}
    path.write_text(starter_spec("a", modalities, registry, {"x": settings}))
    spec = load_spec(path, registry)
    config = spec.modalities["x"].config.model_dump()
    assert {name: config[name] for name in settings} == settings
    assert config.get("latent") == latent
    assert spec.diffuse.network.kind == ("residual-mlp" if latent is None else "transformer")
    assert [*spec.autoencode.overrides] == ([] if latent is None else ["x"])
    schema = Draft202012Validator(spec_schema(registry))
    assert [*schema.iter_errors(Document.read(path).value)] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lift": {"size": 3}}, "lift: no modality of this name .*; did you mean 'left'?"),
        ({"left": 3}, "left: write a setting as left.SETTING=VALUE"),
        ({"left": {"sise": 3}}, "left.sise: unknown field; did you mean 'size'?"),
        ({"left": {"size": "large"}}, "left.size: must be a whole number"),
    ],
)
def test_starter_spec_of_invalid_settings(
    registry: Registry, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        starter_spec("a", {"left": "dots"}, registry, settings)
