"""JSON Schema of a suite, for editors."""

from __future__ import annotations

from typing import Any

from mld.bench.suite import SuiteSpec
from mld.config.json_schema import published_schema


def suite_schema() -> dict[str, Any]:
    """JSON Schema of a suite; the settings of specs in it are not described."""
    return published_schema({**SuiteSpec.model_json_schema(), "title": "Suite of mld experiments"})
