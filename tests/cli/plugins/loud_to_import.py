from __future__ import annotations

import os

from mld_tiny import Rows, Tiny
from mld_tiny_method import TinyMethod

os.write(1, b"printed below Python\n")


class LoudToImport(Tiny):
    """A few numbers; raw is a list of floats."""


class LoudRows(Rows):
    """Rows."""


class LoudMethod(TinyMethod):
    """Linear maps between latents."""
