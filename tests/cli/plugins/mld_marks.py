"""The inline modality of `mld_points`."""

from __future__ import annotations

from mld_points import Marks

from mld_core import hookimpl


@hookimpl
def register_modalities():
    return [Marks]
