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
    kinds = [entry.kind for entry in registry.entries() if entry.role == "modality"]
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
