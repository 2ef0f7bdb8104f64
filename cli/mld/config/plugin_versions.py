"""Versions of plugins' distributions: those a spec requires, and those a run was made with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mld.config.validation_errors import FieldError, raise_config_errors
from mld_core.errors import SpecError
from mld_core.plugins.discovery import installed_version

if TYPE_CHECKING:
    from mld_core import Registry

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]* [0-9][A-Za-z0-9.+!_-]*")
"""A distribution and its version, as provenance names them."""


def check_requirements(requires: dict[str, str]) -> dict[str, str]:
    """The version specifiers by distribution, unchanged. ConfigErrors if one is not fulfilled."""
    raise_config_errors(_requirement_errors(requires))
    return requires


def _requirement_errors(requires: Mapping[str, str]) -> Iterator[FieldError]:
    for name, versions in requires.items():
        try:
            specifiers = SpecifierSet(versions)
        except InvalidSpecifier:
            yield (name,), f"must be versions such as '>=0.1,<0.3', not {versions!r}"
            continue
        remedy = f"pip install '{name}{specifiers}'"
        try:
            installed = installed_version(name)
        except (PackageNotFoundError, ValueError):
            yield (name,), f"is not installed: {remedy}"
            continue
        if not specifiers.contains(installed, prereleases=True):
            yield (name,), f"must be {versions}, and {installed} is installed: {remedy}"


def check_plugins(made_with: Mapping[str, str], registry: Registry) -> None:
    """SpecError with the pip command if kinds that a run was made with are not installed.

    `made_with` is as of `version_mismatches`.
    """
    installed = {*registry.kinds, *registry.blocked}
    missing = {kind: made_with[kind] for kind in sorted({*made_with} - installed)}
    if not missing:
        return
    lines = [f"  kind {kind!r} of {release}" for kind, release in missing.items()]
    # A run may come from a stranger: nothing but a name and a version is shown as a command.
    releases = sorted({release for release in missing.values() if _RELEASE.fullmatch(release)})
    words = " ".join(f"'{release.replace(' ', '==')}'" for release in releases)
    advice = f": pip install {words}" if releases else ""
    raise SpecError("\n".join([f"it needs plugins that are not installed{advice}", *lines]))


def version_mismatches(made_with: Mapping[str, str], registry: Registry) -> list[str]:
    """A sentence for each kind whose distribution or version differs from a run's.

    `made_with` is the `plugins` of the run's provenance: "distribution version" by kind.
    """
    installed = registry.installed()
    return [
        f"kind {kind!r} is now of {installed[kind]}, and this run was made with {recorded}"
        for kind, recorded in made_with.items()
        if installed.get(kind, recorded) != recorded
    ]
