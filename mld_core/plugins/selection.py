"""Which of the installed plugins may be used."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from importlib.metadata import EntryPoint

from mld_core.errors import PluginError

ALL = "1"
"""In the place of a name: block every plugin."""

_ALLOWED = "MLD_PLUGINS or Registry(allowed=...)"
_BLOCKED = "MLD_NO_PLUGINS, --no-plugin or Registry(blocked=...)"


class Selection:
    """The user's choice among installed plugins. PluginError if it names one that is not."""

    def __init__(
        self, points: list[EntryPoint], allowed: Collection[str], blocked: Collection[str]
    ) -> None:
        names = {name for point in points for name in _names(point)}
        self._allowed = set(allowed)
        self._blocked = set(blocked)
        for source, chosen in ((_ALLOWED, self._allowed), (_BLOCKED, self._blocked - {ALL})):
            for name in sorted(chosen - names):
                known = ", ".join(sorted(names)) or "none"
                raise PluginError(
                    f"{source} names {name!r}, which is no installed kind or distribution "
                    f"(installed: {known}){did_you_mean(name, names)}"
                )

    def blocked_by(self, point: EntryPoint) -> str:
        """What keeps a plugin out; "" if nothing does."""
        if self._blocked & {*_names(point), ALL}:
            return _BLOCKED
        return _ALLOWED if self._allowed and not self._allowed & _names(point) else ""


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
