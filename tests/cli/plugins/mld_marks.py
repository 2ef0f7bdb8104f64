"""The inline one of the two small modalities."""

from __future__ import annotations

from mld_points import Marks

from mld_core import hookimpl


@hookimpl
def register_modalities():
    return [Marks]
