from __future__ import annotations

import time

from mld_tiny import Rows, Tiny

time.sleep(0.4)


class SlowToImport(Tiny):
    """A few numbers; raw is a list of floats."""


class SlowRows(Rows):
    """Rows."""
