"""The hooks that a plugin may implement; each returns classes."""

from __future__ import annotations

import pluggy

from mld_core.contracts.dataset import Dataset
from mld_core.contracts.method import Method
from mld_core.contracts.modality import Modality

hookspec = pluggy.HookspecMarker("mld")
hookimpl = pluggy.HookimplMarker("mld")

MLD_API = 1
"""The version of the plugin contract. A plugin's module may state its own `MLD_API`: where the two
differ, it is not used. It rises when a plugin written for the version before would break."""


@hookspec
def register_modalities() -> list[type[Modality]]:  # type: ignore[empty-body]
    """The modality that this plugin supplies; its kind is the entry point's name."""


@hookspec
def register_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """The dataset that this plugin supplies; its kind is the entry point's name."""


@hookspec
def register_methods() -> list[type[Method]]:  # type: ignore[empty-body]
    """The method that this plugin supplies; its kind is the entry point's name."""
