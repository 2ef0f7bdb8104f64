"""Libraries that are imported where they are used, since that takes seconds."""

from __future__ import annotations

from importlib import util


def require_library(name: str) -> None:
    """ModuleNotFoundError if a library is not installed, as its import would raise it."""
    if util.find_spec(name) is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
