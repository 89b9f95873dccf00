"""Checks of settings that are no rows: whole numbers, true or false, choices, ranges, seeds."""

from typing import Any, TypeGuard

import numpy as np

from metaest.exceptions import TaskError
from metaest.tasks.numbers import as_vector

__all__ = ["as_flag", "as_generator", "as_range", "as_whole", "is_whole"]


def is_whole(value: Any) -> TypeGuard[int]:
    """Tell whether a value is a whole number of Python or numpy; true and false are none, nor are durations.

    The class of numpy's durations is derived from that of its whole numbers, and ``isinstance`` takes them for such.
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def as_whole(value: Any, where: str, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number in a range; true and false are none."""
    whole = is_whole(value)
    if not whole or value < least or (most is not None and value > most):
        wanted = f"from {least:,} on" if most is None else f"from {least:,} to {most:,}"
        shown = repr(value) if not whole or abs(int(value)) < 10**18 else "a number beyond 1e18"
        raise TaskError(f"{where} must be a whole number {wanted}, got {shown}.")
    return int(value)


def as_flag(value: Any, where: str) -> bool:
    """Return true or false."""
    if not isinstance(value, (bool, np.bool_)):
        raise TaskError(f"{where} must be True or False, got {value!r}.")
    return bool(value)


def as_range(value: Any, where: str, *, least: float = -np.inf) -> tuple[float, float]:
    """Return the ends of a range, the lower one first."""
    ends = as_vector(value, f"{where} must be a pair (low, high)")
    if len(ends) != 2 or not least <= ends[0] <= ends[1] or not np.isfinite(ends[1] - ends[0]):
        at_least = "" if least == -np.inf else f" with low at least {least:g}"
        raise TaskError(f"{where} must be a pair (low, high){at_least}, got {ends.tolist()}.")
    return float(ends[0]), float(ends[1])


def as_generator(random_state: Any, where: str = "random_state") -> np.random.Generator:
    """Return numpy's generator of a seed, or the one that was passed."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is not None:
        random_state = as_whole(random_state, f"{where}, unless it is None or a Generator,", least=0)
    return np.random.default_rng(random_state)
