"""The hooks of a plugin; it implements one, which returns the class it supplies."""

from __future__ import annotations

import pluggy

from mld_core.contracts.dataset import Dataset
from mld_core.contracts.method import Method
from mld_core.contracts.modality import Modality
from mld_core.contracts.tracker import Tracker

hookspec = pluggy.HookspecMarker("mld")
hookimpl = pluggy.HookimplMarker("mld")

MLD_API = 1
"""Version of the plugin contract, increased by every incompatible change. A plugin's module may
define `MLD_API` as the version it was written for; if the two differ, the plugin is not used."""


@hookspec
def register_modalities() -> list[type[Modality]]:  # type: ignore[empty-body]
    """The modality that this plugin supplies; its kind is the entry point's name."""


@hookspec
def register_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """The dataset that this plugin supplies; its kind is the entry point's name."""


@hookspec
def register_methods() -> list[type[Method]]:  # type: ignore[empty-body]
    """The method that this plugin supplies; its kind is the entry point's name."""


@hookspec
def register_trackers() -> list[type[Tracker]]:  # type: ignore[empty-body]
    """The tracker that this plugin supplies; its kind is the entry point's name."""
