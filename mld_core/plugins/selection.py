"""What the environment says about which plugins may be used.

MLD_PLUGINS lists kinds or distributions, and only these are used; MLD_NO_PLUGINS lists those that
are not, or is "1" for none at all.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint

from mld_core.errors import PluginError

_ONLY, _NONE = "MLD_PLUGINS", "MLD_NO_PLUGINS or --no-plugin"


class Selection:
    """The user's choice among installed plugins. PluginError if it names one that is not."""

    def __init__(self, points: list[EntryPoint]) -> None:
        names = {name for point in points for name in _names(point)}
        self._only = _listed("MLD_PLUGINS")
        self._none = _listed("MLD_NO_PLUGINS")
        for source, told in ((_ONLY, self._only), (_NONE, self._none - {"1"})):
            for name in sorted(told - names):
                known = ", ".join(sorted(names)) or "none"
                raise PluginError(
                    f"{source} names {name!r}, which is no installed kind or distribution "
                    f"(installed: {known}){did_you_mean(name, names)}"
                )

    def blocked_by(self, point: EntryPoint) -> str:
        """What keeps a plugin out; "" if nothing does."""
        if self._none & {*_names(point), "1"}:
            return _NONE
        return _ONLY if self._only and not self._only & _names(point) else ""


def _listed(variable: str) -> set[str]:
    return {name.strip() for name in os.environ.get(variable, "").split(",")} - {""}


def _names(point: EntryPoint) -> set[str]:
    """What a user may call a plugin: its kind, and its distribution as written or normalised."""
    distribution = origin(point)[0]
    return {point.name, distribution, re.sub(r"[-_.]+", "-", distribution).lower()}


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, if any is near."""
    nearest = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def origin(point: EntryPoint) -> tuple[str, str]:
    """The distribution that an entry point comes from, and the module that it names."""
    return distribution_of(point)[0], point.value


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """The distribution that an entry point comes from, and its version; "?" is one unknown.

    An uninstallation that was cut short leaves entry points without the metadata that name it.
    """
    told = (point.dist.name, point.dist.version) if point.dist else (None, None)
    return told[0] or "?", told[1] or "?"
