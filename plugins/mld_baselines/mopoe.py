"""The method `mopoe`."""

from __future__ import annotations

from mld_baselines.rival import Rival, RivalConfig
from mld_core import Method, hookimpl


class Mopoe(Rival):
    """A mixture over all subsets of products of experts (Sutter, Daunhawer and Vogt 2021)."""

    kind = "mopoe"
    Config = RivalConfig
    vae = "MoPoE"
    drawn_by_row = True


@hookimpl
def register_methods() -> list[type[Method]]:
    """The method of this module."""
    return [Mopoe]
