from __future__ import annotations

import os

from mld_tiny import Rows, Tiny

os.write(1, b"printed below Python\n")


class LoudToImport(Tiny):
    """A few numbers; raw is a list of floats."""


class LoudRows(Rows):
    """Rows."""
