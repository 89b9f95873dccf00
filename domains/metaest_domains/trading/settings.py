"""Checks of the settings of trading functions: whole numbers of days, and numbers in a range."""

from numbers import Real
from typing import Any

import numpy as np

__all__ = ["as_cost", "as_days", "as_number"]


def as_days(value: Any, name: str, where: str, *, least: int = 1) -> int:
    """Return a whole number of days."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{where}: {name} must be a whole number of days from {least} on, got {value!r}.")
    return int(value)


def as_number(value: Any, name: str, where: str) -> float:
    """Return a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{where}: {name} must be a number above 0, got {value!r}.")
    return float(value)


def as_cost(value: Any, where: str) -> float:
    """Return the cost of a change of position by one, as a share of capital."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ValueError(
            f"{where}: cost of a change of position by one must be at least 0 and below 1 (0.0005: 5 basis "
            f"points), got {value!r}."
        )
    return float(value)
