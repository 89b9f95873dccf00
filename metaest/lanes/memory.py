"""Memory that vectors can be read from."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["aligned"]


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros at an address that vectors can be read from."""
    raw = np.zeros(size * dtype.itemsize + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)
