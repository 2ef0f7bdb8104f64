"""Which versions of plugins' distributions a spec demands, and which a run was made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mld.config.validation_errors import ConfigErrors, FieldError

if TYPE_CHECKING:
    from mld_core import Registry


def met(requires: dict[str, str]) -> dict[str, str]:
    """The requirements themselves, by distribution. Findings where one does not hold here."""
    if found := list(_unmet(requires)):
        raise ConfigErrors(found)
    return requires


def _unmet(requires: Mapping[str, str]) -> Iterator[FieldError]:
    for name, versions in requires.items():
        try:
            wanted = SpecifierSet(versions)
        except InvalidSpecifier:
            yield (name,), f"must be versions such as '>=0.1,<0.3', not {versions!r}"
            continue
        line = f"pip install '{name}{wanted}'"
        try:
            installed = version(name)
        except (PackageNotFoundError, ValueError):
            yield (name,), f"is not installed: {line}"
            continue
        if not wanted.contains(installed, prereleases=True):
            yield (name,), f"must be {versions}, and {installed} is installed: {line}"


def version_mismatches(made_with: Mapping[str, str], registry: Registry) -> list[str]:
    """A sentence for each kind that a run was made with and that another version supplies now.

    `made_with` is the `plugins` of a run's provenance: "distribution version" by kind.
    """
    installed = registry.installed()
    return [
        f"kind {kind!r} is now of {installed[kind]}, and this run was made with {told}"
        for kind, told in made_with.items()
        if installed.get(kind, told) != told
    ]
