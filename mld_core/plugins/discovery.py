"""Discovery of plugins in this environment, even if metadata of some distributions are damaged."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions

from mld_core.errors import describe_exception

GROUP = "mld"


def installed_points() -> list[EntryPoint]:
    """The plugins' entry points, without those of distributions whose metadata cannot be read.

    Of distributions with the same name, the first on the path that has any is used.
    """
    points: dict[object, list[EntryPoint]] = {}
    for distribution in distributions():
        if plugins := _plugins_of(distribution):
            points.setdefault(_name(distribution) or distribution, plugins)
    return [point for plugins in points.values() for point in plugins]


def installed_version(name: str) -> str:
    """The version of a distribution, without regard to damaged copies of its metadata.

    PackageNotFoundError if it is not installed.
    """
    for distribution in distributions(name=name):
        if not _problem(distribution):
            return distribution.version
    raise PackageNotFoundError(name)


def damaged_distributions() -> list[str]:
    """A sentence for each distribution whose metadata cannot be read or are there twice.

    Those installed twice count if they or their namesakes have plugins.
    """
    sentences = []
    namesakes: dict[tuple[str, str], list[Distribution]] = defaultdict(list)
    # By their place, since a path may list a folder twice.
    for distribution in {_place(each): each for each in distributions()}.values():
        if problem := _problem(distribution):
            place = _place(distribution)
            sentences.append(f"{place} is damaged ({problem}): delete it and reinstall its package")
        else:
            folder = str(distribution.locate_file(""))
            namesakes[folder, distribution.name.lower()].append(distribution)
    for (folder, name), copies in namesakes.items():
        if len(copies) > 1 and any(map(_plugins_of, copies)):
            versions = " and ".join(sorted(distribution.version for distribution in copies))
            sentences.append(
                f"{name} is installed twice in {folder}, as {versions}: uninstall and reinstall it"
            )
    return sentences


def _plugins_of(distribution: Distribution) -> list[EntryPoint]:
    try:
        return list(distribution.entry_points.select(group=GROUP))
    except Exception:
        return []  # `damaged_distributions` says why


def _name(distribution: Distribution) -> str | None:
    try:
        return distribution.name
    except Exception:
        return None


def _problem(distribution: Distribution) -> str:
    """Why the metadata of a distribution cannot be used; "" if they can."""
    try:
        complete = distribution.metadata["Name"] and distribution.metadata["Version"]
        distribution.entry_points  # noqa: B018
    except Exception as error:
        return describe_exception(error)
    return "" if complete else "its METADATA are missing or without name and version"


def _place(distribution: Distribution) -> str:
    """The folder of a distribution's metadata, if it is known."""
    return str(getattr(distribution, "_path", distribution.locate_file("")))
