"""The list of all checks, as `mld check --list` prints it and docs/checks.md holds it."""

from __future__ import annotations

from mld.conformance.check import Check
from mld.conformance.runner import CHECKS

INTRODUCTION = """\
# Checks of the conformance kit

`mld check KIND` runs these checks on a plugin. This page is the output of `mld check --list`.
"""


def all_checks() -> list[Check]:
    """Every check once, those of modalities first."""
    return list({check.name: check for role in CHECKS.values() for check in role.values()}.values())


def checks_as_markdown() -> str:
    """A page with each check's name, the plugins that it applies to, and what it requires."""
    rows = [
        (f"`{check.name}`", " and ".join(check.roles), check.description) for check in all_checks()
    ]
    header = ("check", "of a", "requirement")
    name_width, roles_width, _ = (
        max(map(len, column)) for column in zip(header, *rows, strict=True)
    )
    lines = [
        f"| {name:{name_width}} | {roles:{roles_width}} | {description} |"
        for name, roles, description in (header, ("---", "---", "---"), *rows)
    ]
    return "\n".join([INTRODUCTION, *lines])
