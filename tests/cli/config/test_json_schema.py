"""The JSON Schemas: what they include, and how a validator explains an error by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mld.bench.suite_schema import suite_schema
from mld.config.json_schema import spec_schema
from mld.config.yaml_document import Document
from mld_core import Registry

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SPEC = {
    "name": "a",
    "data": {"kind": "table"},
    "modalities": {"left": {"kind": "dots", "latent_dim": 4}},
}


def errors_of(schema: dict[str, Any], value: Any) -> list[str]:
    Draft202012Validator.check_schema(schema)
    errors = Draft202012Validator(schema).iter_errors(value)
    return [f"{error.json_path}: {error.message}" for error in errors]


def test_schema_includes_the_installed_kinds(registry):
    schema = spec_schema(registry)
    modality = schema["properties"]["modalities"]["additionalProperties"]
    assert modality["properties"]["kind"] == {"enum": ["dots"]}
    dots = schema["$defs"]["kind.dots"]
    assert dots["properties"]["kind"] == {"const": "dots", "description": "Dots on a grid."}
    assert dots["properties"]["size"]["maximum"] == 64
    assert dots["required"] == ["kind", "latent_dim"]
    of_data = schema["$defs"]["kind.table"]["properties"]
    missing = {"if": {"type": "object"}, "then": {"$ref": "#/$defs/MissingSpec"}}
    assert of_data["missing"]["allOf"] == [missing]
    assert of_data["on_invalid"]["enum"] == ["error", "empty", "drop"]
    assert schema["properties"]["diffuse"]["properties"]["method"] == {"enum": ["mld", "guess"]}
    assert {"method", "steps", "luck"} <= set(schema["$defs"]["kind.guess"]["properties"])
    assert set(references(schema)) <= {f"#/$defs/{name}" for name in schema["$defs"]}


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if "$ref" in schema else []
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from references(inner)


WRONG_SPECS = [
    ({"data": {"kind": "tabel"}}, "$.data.kind: 'tabel' is not one of ['table']"),
    ({"data": {"kind": "table", "pth": "a"}}, "$.data: Additional properties are not allowed"),
    ({"data": 3}, "$.data: 3 is not of type 'object'"),
    ({"modalities": {"left": {"latent_dim": 4}}}, "$.modalities.left: 'kind' is a required"),
    (
        {"modalities": {"left": {"kind": "dots", "latent_dim": "x"}}},
        "$.modalities.left.latent_dim: 'x' is not of type 'integer'",
    ),
    ({"diffuse": {"stpes": 3}}, "$.diffuse: Additional properties are not allowed ('stpes' was"),
    ({"diffuse": {"method": "gues"}}, "$.diffuse.method: 'gues' is not one of ['mld', 'guess']"),
    ({"diffuse": {"method": "guess", "luck": "x"}}, "$.diffuse.luck: 'x' is not of type 'number'"),
    ({"diffuse": {"network": {"kind": "mlp"}}}, "$.diffuse.network.kind: 'mlp' is not one of ["),
    ({"generate": {"guidance": "much"}}, "$.generate.guidance: 'much' is not of type 'number', 'o"),
    ({"generate": {"guidance": {"jont": 1}}}, "$.generate.guidance: Additional properties are no"),
    ({"compute": {"threads": 0}}, "$.compute.threads: 0 is less than the minimum of 1"),
]
WRONG_SUITES = [
    ({"seeds": 3}, "$.seeds: 3 is not of type 'array'"),
    ({"sampler": {}}, "$: Additional properties are not allowed ('sampler' was unexpected)"),
    ({"modalities": "al"}, "$.modalities: 'al' is not one of ['base', 'all']"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_SPECS)
def test_an_error_of_a_spec_is_explained_in_one_sentence(registry, change, message):
    assert errors_of(spec_schema(registry), SPEC) == []
    (error,) = errors_of(spec_schema(registry), {**SPEC, **change})
    assert error.startswith(message)
    assert len(error) < 120


@pytest.mark.parametrize(("change", "message"), WRONG_SUITES)
def test_an_error_of_a_suite_is_explained_in_one_sentence(change, message):
    (error,) = errors_of(suite_schema(), {"name": "a", "spec": "a.yaml", **change})
    assert error.startswith(message)


def test_specs_and_suites_of_benchmarks_fit_the_schemas() -> None:
    schemas = {False: spec_schema(Registry()), True: suite_schema()}
    for path in BENCHMARKS.rglob("*.yaml"):
        is_suite = path.parent.name == "suites"
        assert errors_of(schemas[is_suite], Document.read(path).value) == [], path
