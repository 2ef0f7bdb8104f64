"""Checks of types and shapes of calls, each kind of call once.

Whether a call fulfils its annotations depends on the types of what is given and returned, on shapes
and dtypes, and on words: training and sampling make many thousand calls that are alike in these.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any

from beartype import beartype
from torch import Tensor


def check_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A type checker for jaxtyping: beartype, for calls unlike all that have passed before."""
    checked = beartype(function)
    passed: set[Hashable] = set()

    @wraps(function)
    def check(*args: Any, **kwargs: Any) -> Any:
        seen = (*map(kind, args), *((name, kind(value)) for name, value in kwargs.items()))
        if seen in passed:
            return function(*args, **kwargs)
        result = checked(*args, **kwargs)
        passed.add(seen)
        return result

    return check


def kind(value: Any) -> Hashable:
    """The type of a value, with the shapes and dtypes of tensors and with words."""
    if isinstance(value, Tensor):
        return type(value), value.shape, value.dtype
    if isinstance(value, str | type):
        return value
    if isinstance(value, dict):
        return dict, *((kind(key), kind(each)) for key, each in value.items())
    if isinstance(value, list):
        return list, frozenset(map(kind, value))
    if isinstance(value, tuple):
        return type(value), *map(kind, value)
    return type(value)
