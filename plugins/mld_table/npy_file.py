"""Bounded reading of .npy files."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from mld_core import stat_regular_file

MAX_HEADER_BYTES = 2**16
MAX_ITEM_BYTES = 16
"""Bytes of the widest number, a long double."""


def read_npy(path: Path, max_numbers: int) -> np.ndarray[Any, Any]:
    """The array in an .npy file. ValueError if it is none or too large, OSError if unreadable."""
    size = stat_regular_file(path).st_size
    limit = max_numbers * MAX_ITEM_BYTES + MAX_HEADER_BYTES
    if size > limit:
        raise ValueError(f"the file has {size:,} bytes, and at most {limit:,} are read")
    try:
        # Mapped, so that a header that promises more than the file holds is an error.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError("the file is empty, not an .npy file") from error
    except (ValueError, TokenError) as error:  # the latter of a header without an end
        raise ValueError(f"not an .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError("an .npz file holds several arrays: save one with numpy.save")
    return np.array(array)
