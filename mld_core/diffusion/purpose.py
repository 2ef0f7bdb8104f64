"""What a network is trained for, which decides how training draws times and roles.

Kept apart from the drawing (`multi_time.py`, `roles.py`), so that a spec is checked without torch.
"""

from __future__ import annotations

from typing import Literal

Purpose = Literal["samples", "information"]
"""samples: most time is spent where the class of a sample is decided, and most rows are joint or
conditional. information: all noise levels that an integral of errors crosses, and all densities,
marginals among them, are trained, since the difference of their errors biases every measure."""
