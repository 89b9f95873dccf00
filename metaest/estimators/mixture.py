"""Mean and standard deviation of a mixture of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mixed"]


def mixed(weights: Sequence[float], parts: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of a mixture of distributions."""
    mean = sum(w * part[0] for w, part in zip(weights, parts, strict=True))
    variance = sum(w * (part[1] ** 2 + (part[0] - mean) ** 2) for w, part in zip(weights, parts, strict=True))
    return np.asarray(mean), np.sqrt(variance)
