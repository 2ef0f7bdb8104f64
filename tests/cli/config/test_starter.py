from __future__ import annotations

import pytest

from mld.config.starter import starter_spec
from mld_core import SpecError


def test_starter_spec_has_the_defaults(load_text, registry):
    text = starter_spec("mine", {"left": "dots", "right": "dots"}, registry)
    spec = load_text(text.replace("kind: examples", "kind: table"))
    assert spec == load_text(
        "name: mine\ndata: {kind: table}\n"
        "modalities: {left: {kind: dots, latent_dim: 16}, right: {kind: dots, latent_dim: 16}}"
    )
    assert "  steps: 20  # solver steps\n" in text
    assert "  # p_conditional: null  # share of rows" in text


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
