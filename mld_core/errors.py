"""What can go wrong, and the exit code that says so.

MLDError
├── SpecError       3   the spec is wrong, or names a kind that is not installed
├── PluginError     4   plugins clash, or one breaks its contract at work
├── DataError       5   the data do not match the spec
├── ArtefactError   6   a run directory is incomplete, corrupt, locked or made by another spec
└── NumericalError  7   NaN or infinity
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller."""

    DONE = 0
    BUG = 1
    USAGE = 2
    SPEC = 3
    PLUGIN = 4
    DATA = 5
    ARTEFACT = 6
    NUMERICAL = 7
    PARTIAL = 8
    INTERRUPTED = 130


class MLDError(Exception):
    """A mistake that the user can mend; its message says where, what and what to do."""

    exit_code: ExitCode


class SpecError(MLDError):
    """The spec is wrong."""

    exit_code = ExitCode.SPEC


class PluginError(MLDError):
    """A plugin breaks its contract, or two claim the same kind."""

    exit_code = ExitCode.PLUGIN


class DataError(MLDError):
    """An item cannot be read, or does not fit what the spec says of it."""

    exit_code = ExitCode.DATA


class ArtefactError(MLDError):
    """A run directory is incomplete, corrupt, locked, or made by another spec."""

    exit_code = ExitCode.ARTEFACT


class NumericalError(MLDError):
    """A loss, a latent or a sample is NaN or infinite."""

    exit_code = ExitCode.NUMERICAL
