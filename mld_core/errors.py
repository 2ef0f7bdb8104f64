"""Exceptions for errors that the user can correct, and their exit codes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

MAX_ERRORS_SHOWN = 10
"""How many errors of one kind a message lists."""


class ExitCode(IntEnum):
    """Exit codes of `mld`."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SPEC = 3
    PLUGIN = 4
    DATA = 5
    RUN_DIR = 6
    NUMERICAL = 7
    PARTIAL = 8
    NODE = 9
    INTERRUPTED = 130


class MLDError(Exception):
    """An error that the user can correct; its message says where, what and what to do."""

    exit_code: ExitCode


class SpecError(MLDError):
    """The spec is invalid, or names a kind that is not installed."""

    exit_code = ExitCode.SPEC


class PluginError(MLDError):
    """A plugin violates its contract, or two claim the same kind."""

    exit_code = ExitCode.PLUGIN


class DataError(MLDError):
    """An item cannot be read, or does not match the spec."""

    exit_code = ExitCode.DATA


class LimitError(ValueError):
    """A datum that a larger value of a setting would accept.

    Args:
        message: what is too large, and what to do.
        setting: the setting's name.
        needed: the least value of it with which this datum can be used.
    """

    def __init__(self, message: str, setting: str, needed: int | float) -> None:
        super().__init__(message, setting, needed)
        self.message, self.setting, self.needed = message, setting, needed

    def __str__(self) -> str:
        return self.message


class ReadError(ValueError):
    """A datum that cannot be read.

    Args:
        source: the file, or the text of the cell.
        reason: the error of reading it.
    """

    def __init__(self, source: str, reason: ValueError | OSError) -> None:
        super().__init__(source, reason)
        self.source, self.reason = source, reason

    def __str__(self) -> str:
        return f"{self.source}: {describe_reason(self.reason)}"


class RunDirError(MLDError):
    """A run directory is incomplete, corrupt, locked or of another spec."""

    exit_code = ExitCode.RUN_DIR


class OutputError(MLDError):
    """An output cannot be written, or something of the user's lies in its place."""

    exit_code = ExitCode.RUN_DIR


class NumericalError(MLDError):
    """A loss, a latent or a sample is NaN or infinite."""

    exit_code = ExitCode.NUMERICAL


class NodeError(MLDError):
    """Another process of the run has failed, or cannot be reached.

    Args:
        exit_code: that of the other process, if it has one.
    """

    def __init__(self, message: str, exit_code: int = ExitCode.NODE) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(exit_code)


@contextmanager
def plugin_call(description: str, passes: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Guard around a call of a plugin's code: an exception becomes a PluginError.

    Args:
        description: what was called, as in "kind 'tide': write"; the message begins with it.
        passes: exceptions that the plugin may raise, which are left as they are, as are those that
            say that there is not enough memory.
    """
    try:
        yield
    except passes:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise PluginError(f"{description} failed: {describe_exception(error)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, numpy or torch says that there is not enough memory."""
    # torch has a class for that of GPUs alone, and importing it would take seconds.
    names = [each.__name__ for each in type(error).__mro__]
    return bool({"MemoryError", "OutOfMemoryError"} & {*names}) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def describe_exception(error: BaseException) -> str:
    """Type and message of an exception: "ValueError: not a number"."""
    return f"{type(error).__name__}: {error}"


def describe_reason(error: ValueError | OSError) -> str:
    """The message of an error; of the operating system's, without its number and the file."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def first_errors(errors: Sequence[str]) -> list[str]:
    """The first ten errors, and how many more there are."""
    hidden = len(errors) - MAX_ERRORS_SHOWN
    more = [f"... and {hidden} more"] if hidden > 0 else []
    return [*errors[:MAX_ERRORS_SHOWN], *more]


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """End of a message about an unknown word: the nearest known one, or "" if none is near."""
    nearest = difflib.get_close_matches(str(word), list(words), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
