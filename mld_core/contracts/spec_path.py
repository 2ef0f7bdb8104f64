"""Paths in a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator


def _resolve_from_spec(path: Path, info: Any) -> Path:
    # Not annotated as pydantic's ValidationInfo: that protocol cannot be checked at run time.
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path.expanduser()


SpecPath = Annotated[Path, AfterValidator(_resolve_from_spec)]
"""A path in a spec or in a dataset's Config, relative to the folder of the spec."""
