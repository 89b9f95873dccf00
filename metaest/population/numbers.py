"""Numbers and mappings by name, as a population is given them, checked in words."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["as_float", "as_names", "as_text"]


def as_float(value: Any, where: str, above: float | None = None) -> float:
    """Return a finite number, or raise an error that begins with `where`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{where} must be a number, got {value!r}.")
    number = float(value)
    if not math.isfinite(number) or (above is not None and not number > above):
        raise ValueError(f"{where} must be finite{'' if above is None else f' and above {above:g}'}, got {value!r}.")
    return number


def as_names(given: Any, where: str) -> dict[str, Any]:
    """Return a mapping by name, or raise a TypeError."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"{where} must be a dict by name, got {given!r}.")
    return dict(given)


def as_text(value: Any, where: str) -> str:
    """Return a text, or raise a TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{where} must be text, got {value!r}.")
    return value
