from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mld.config.json_schema import spec_schema


def test_schema_includes_the_installed_kinds(registry):
    schema = spec_schema(registry)
    modality = schema["properties"]["modalities"]["additionalProperties"]
    assert modality["oneOf"] == [{"$ref": "#/$defs/kind.dots"}]
    assert modality["discriminator"] == {"propertyName": "kind"}
    dots = schema["$defs"]["kind.dots"]
    assert dots["properties"]["kind"] == {"const": "dots", "description": "Dots on a grid."}
    assert dots["properties"]["size"]["maximum"] == 64
    assert dots["required"] == ["kind", "latent_dim"]
    assert schema["properties"]["data"]["oneOf"] == [{"$ref": "#/$defs/kind.table"}]
    of_data = schema["$defs"]["kind.table"]["properties"]
    assert of_data["missing"]["anyOf"][0] == {"$ref": "#/$defs/MissingSpec"}
    assert of_data["on_invalid"]["enum"] == ["error", "empty", "drop"]
    assert {"$ref": "#/$defs/kind.guess"} in schema["properties"]["diffuse"]["anyOf"]
    assert {"method", "steps", "luck"} <= set(schema["$defs"]["kind.guess"]["properties"])
    assert set(references(schema)) <= {f"#/$defs/{name}" for name in schema["$defs"]}


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if "$ref" in schema else []
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from references(inner)
