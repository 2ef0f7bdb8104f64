from __future__ import annotations

import time

from mld_tiny import Rows, Tiny
from mld_tiny_method import TinyMethod

time.sleep(0.4)


class SlowToImport(Tiny):
    """A few numbers; raw is a list of floats."""


class SlowRows(Rows):
    """Rows."""


class SlowMethod(TinyMethod):
    """Linear maps between latents."""
