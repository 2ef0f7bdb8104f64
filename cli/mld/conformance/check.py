"""What is checked: every check by its name, and what came of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

Role = Literal["modality", "dataset"]
Status = Literal["passed", "failed", "skipped", "known failure", "unexpected pass"]
Function = Callable[[Any], None]


@dataclass(frozen=True)
class Check:
    """One promise of a plugin, and the function that sees whether it is kept.

    Args:
        name: as shown, and as a known failure is declared.
        family: the checks that it stands with.
        promise: what a plugin that passes keeps, in one line.
        roles: the plugins that make it.
        slow: run only where asked for.
        run: takes the subject; returns where the promise is kept, raises Broken or Skipped else.
    """

    name: str
    family: str
    promise: str
    roles: tuple[Role, ...]
    slow: bool
    run: Function


@dataclass(frozen=True)
class Record:
    """What came of one check; `reason` is empty where it passed."""

    check: str
    status: Status
    seconds: float
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether the kit as a whole fails for it; an unexpected pass counts."""
        return self.status in ("failed", "unexpected pass")


class Broken(Exception):
    """A promise that is not kept: what was seen, and what to do."""


class Skipped(Exception):
    """Why a check has nothing to say about a plugin."""


def check(*roles: Role, slow: bool = False) -> Callable[[Function], Check]:
    """Make a function a check, which its own name and docstring name and tell."""

    def made(function: Function) -> Check:
        return Check(
            name=function.__name__.replace("_", "-"),
            family=function.__module__.rpartition(".")[2],
            promise=(function.__doc__ or "").strip(),
            roles=roles,
            slow=slow,
            run=function,
        )

    return made


def demand(kept: bool, otherwise: str) -> None:
    """Broken, with what was seen and what to do, unless kept."""
    if not kept:
        raise Broken(otherwise)


def skip(reason: str) -> NoReturn:
    """Leave a check out."""
    raise Skipped(reason)
