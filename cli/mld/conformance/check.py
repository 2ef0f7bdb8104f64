"""A check of the conformance kit, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

from torch import Tensor

Role = Literal["modality", "dataset", "method"]
Status = Literal["passed", "skipped", "failed", "expected failure", "unexpected pass"]
CheckFunction = Callable[[Any], None]


@dataclass(frozen=True)
class Check:
    """One requirement of the plugin contract, and the function that tests it.

    Args:
        description: the requirement in one line.
        roles: the kinds of plugin that it applies to.
        slow: run only on request.
        run: takes the plugin under test; returns if the requirement is met, otherwise raises
            CheckFailed or CheckSkipped.
    """

    name: str
    description: str
    roles: tuple[Role, ...]
    slow: bool
    run: CheckFunction


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; `reason` is empty if it passed."""

    check: str
    status: Status
    seconds: float
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether this result makes the whole kit fail; an unexpected pass does."""
        return self.status in ("failed", "unexpected pass")


class CheckFailed(Exception):
    """A requirement is not met; the message says what was seen and what to do."""


class CheckSkipped(Exception):
    """A check does not apply to a plugin; the message says why."""


def check(*roles: Role, slow: bool = False) -> Callable[[CheckFunction], Check]:
    """Turn a function into a Check, named and described by the function's name and docstring."""

    def decorate(function: CheckFunction) -> Check:
        name = function.__name__.replace("_", "-")
        return Check(name, (function.__doc__ or "").strip(), roles, slow, function)

    return decorate


def require(condition: bool, message: str) -> None:
    """Raise CheckFailed with the message unless the condition holds."""
    if not condition:
        raise CheckFailed(message)


def is_finite(x: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; integers never do."""
    return bool(x.isfinite().all())


def describe(x: Tensor) -> str:
    """Dtype and shape of a tensor, for messages."""
    return f"{x.dtype} of shape {tuple(x.shape)}"


def is_svg(content: bytes) -> bool:
    """Whether a file holds an SVG picture."""
    try:
        return ElementTree.fromstring(content).tag.rpartition("}")[2] == "svg"
    except ElementTree.ParseError:
        return False
