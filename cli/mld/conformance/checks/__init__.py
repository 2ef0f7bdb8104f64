"""All checks of the conformance kit, and the page that lists them."""

from __future__ import annotations

from typing import get_args

from mld.conformance.check import Check, Role
from mld.conformance.checks import (
    autoencoder,
    classifier,
    config,
    datasets,
    files,
    integration,
    items,
    methods,
    networks,
    optional,
    side_effects,
)

CHECK_MODULES = (
    config,
    items,
    files,
    autoencoder,
    networks,
    classifier,
    optional,
    datasets,
    methods,
    side_effects,
    integration,
)
CHECKS: dict[Role, dict[str, Check]] = {
    role: {
        check.name: check
        for module in CHECK_MODULES
        for check in vars(module).values()
        if isinstance(check, Check) and role in check.roles
    }
    for role in get_args(Role)
}
"""Every check of a role by name, in the order in which they run."""

INTRODUCTION = """\
# Checks of the conformance kit

`mld check KIND` runs these checks on a plugin. This page is the output of `mld check --list`.
"""


def all_checks() -> list[Check]:
    """Every check once, those of modalities first."""
    return list({check.name: check for role in CHECKS.values() for check in role.values()}.values())


def checks_as_markdown() -> str:
    """A page with each check's name, the plugins that it applies to, and what it requires."""
    rows = [("check", "of a", "requirement"), ("---", "---", "---")]
    for check in all_checks():
        rows.append((f"`{check.name}`", _listed(check.roles), check.description))
    name_len, roles_len, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"| {name:{name_len}} | {roles:{roles_len}} | {text} |" for name, roles, text in rows]
    return "\n".join([INTRODUCTION, *lines])


def _listed(roles: tuple[Role, ...]) -> str:
    *others, last = roles
    return f"{', '.join(others)} and {last}" if others else last
