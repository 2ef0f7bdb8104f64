"""Versions of plugins' distributions: those a spec requires, and those a run was made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mld.config.validation_errors import FieldError, raise_config_errors
from mld_core.plugins.discovery import installed_version

if TYPE_CHECKING:
    from mld_core import Registry


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
