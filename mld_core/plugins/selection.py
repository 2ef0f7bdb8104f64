"""Selection among the installed plugins, by kind or by distribution."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint

from mld_core.errors import PluginError, did_you_mean

ALL = "1"
"""In place of a name: blocks every plugin."""

_ALLOWED = "MLD_PLUGINS or Registry(allowed=...)"
_BLOCKED = "MLD_NO_PLUGINS, --no-plugin or Registry(blocked=...)"


class Selection:
    """Which of the installed plugins may be used.

    Args:
        points: all installed plugins.
        allowed, blocked: names of plugins, as in Registry. PluginError if one is not installed.
    """

    def __init__(
        self, points: list[EntryPoint], allowed: Collection[str], blocked: Collection[str]
    ) -> None:
        self._allowed, self._blocked = set(allowed), set(blocked)
        names = {name for point in points for name in _names(point)}
        for source, selected in ((_ALLOWED, self._allowed), (_BLOCKED, self._blocked - {ALL})):
            for name in sorted(selected - names):
                installed = ", ".join(sorted(names)) or "none"
                raise PluginError(
                    f"{source} names {name!r}, which is not an installed kind or distribution "
                    f"(installed: {installed}){did_you_mean(name, names)}"
                )

    def blocked_by(self, point: EntryPoint) -> str:
        """The setting that blocks a plugin; "" if none does."""
        if self._blocked & {*_names(point), ALL}:
            return _BLOCKED
        return _ALLOWED if self._allowed and not self._allowed & _names(point) else ""


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution of an entry point, each "?" if unknown.

    An interrupted uninstallation can leave an entry point without its distribution's metadata.
    """
    return _name_and_version(point.dist) if point.dist else ("?", "?")


@lru_cache(maxsize=1024)
def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    # Cached: each of the two parses the whole metadata, which include the README.
    try:
        return distribution.name or "?", distribution.version or "?"
    except UnicodeDecodeError:
        return "?", "?"


def origin(point: EntryPoint) -> str:
    """Distribution and module of an entry point."""
    return f"{distribution_of(point)[0]} {point.value}"


def _names(point: EntryPoint) -> set[str]:
    """Names by which a plugin can be selected: kind and distribution, as written and normalised."""
    distribution, _ = distribution_of(point)
    return {point.name, distribution, re.sub(r"[-_.]+", "-", distribution).lower()}
