"""Progress of a worker process, sent to its parent and shown there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from itertools import count
from typing import Any, ParamSpec, TypeVar

RELAY_SECONDS = 0.1
"""The shortest time between two states of the same work that are sent, but for the last one."""

Parameters = ParamSpec("Parameters")
Show = TypeVar("Show", bound=Callable[..., None])

OpenProgress = Callable[..., AbstractContextManager[Callable[..., None]]]

Report = tuple[tuple[int, int], OpenProgress, tuple[Any, ...], tuple[Any, ...] | None]
"""The process and number of some work, how to show its progress, and its state; None at its end."""

_send: Callable[[Report], None] | None = None
_numbers = count()


def relay_progress(send: Callable[[Report], None]) -> None:
    """In a worker: have all progress of this process sent instead of shown."""
    global _send
    _send = send


@contextmanager
def hidden_progress() -> Iterator[None]:
    """Show no progress of this process until the block ends."""
    global _send
    before, _send = _send, lambda report: None
    try:
        yield
    finally:
        _send = before


def shown_by_parent(
    open_progress: Callable[Parameters, AbstractContextManager[Show]],
) -> Callable[Parameters, AbstractContextManager[Show]]:
    """Decorates a function of a module that opens the progress of some work.

    In a worker, its arguments and the states of the work are sent to the parent, which calls it.
    """

    @wraps(open_progress)
    def open_here_or_in_parent(
        *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> AbstractContextManager[Show]:
        if _send is None:
            return open_progress(*args, **kwargs)
        return _relayed(_send, open_here_or_in_parent, args)  # type: ignore[return-value]

    return open_here_or_in_parent


@contextmanager
def _relayed(
    send: Callable[[Report], None], open_progress: OpenProgress, args: tuple[Any, ...]
) -> Iterator[Callable[..., None]]:
    work, due_at = (os.getpid(), next(_numbers)), 0.0
    unsent: tuple[Any, ...] | None = None

    def send_state(*state: Any) -> None:
        nonlocal due_at, unsent
        now, unsent = time.monotonic(), state
        if now >= due_at:
            send((work, open_progress, args, state))
            due_at, unsent = now + RELAY_SECONDS, None

    try:
        yield send_state
    finally:
        if unsent is not None:
            send((work, open_progress, args, unsent))
        send((work, open_progress, args, None))


def show_relayed_progress(receive: Callable[[], Report | None]) -> None:
    """In the parent: show the progress of all workers until a None comes."""
    shows: dict[tuple[int, int], tuple[Callable[..., None], ExitStack]] = {}
    with ExitStack() as unfinished:
        while (report := receive()) is not None:
            work, open_progress, args, state = report
            if state is None:
                if work in shows:
                    shows.pop(work)[1].close()
                continue
            if work not in shows:
                stack = unfinished.enter_context(ExitStack())
                shows[work] = stack.enter_context(open_progress(*args)), stack
            shows[work][0](*state)
