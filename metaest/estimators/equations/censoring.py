"""Observations below a limit of quantification, which are known to lie below it and no more."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import warn
from metaest.tasks import TaskSet

__all__ = ["as_recorded", "just_below", "tasks_just_below", "warn_of_values_at_limit"]


def just_below(limit: float | None, y: NDArray[Any]) -> NDArray[Any]:
    """Return y with the greatest number below the limit in place of every number below it.

    What a laboratory writes for a value below its limit of quantification (0, -9999, half the limit) is a code. One
    number for all codes, put in place before anything looks at y, keeps scales, starts and orders of rows from them.
    """
    if limit is None or not (y < limit).any():
        return y
    return np.where(y < limit, np.nextafter(limit, -np.inf), y.astype(np.float64))


def tasks_just_below(limit: float | None, tasks: TaskSet) -> TaskSet:
    """Return the tasks with :func:`just_below` applied to their targets."""
    y = just_below(limit, tasks.y)
    if y is tasks.y:
        return tasks
    return tasks.with_rows(y=y)


def warn_of_values_at_limit(limit: float | None, y: NDArray[Any], where: str) -> None:
    """Warn of observations that equal the limit: they count as measured, though often written for values below it."""
    n = 0 if limit is None else int((y == y.dtype.type(limit)).sum())
    if n:
        how = "observation equals" if n == 1 else "observations equal"
        warn(
            f"{where}: {n} {how} limit={limit:g}, which counts as measured; where the limit was written for a value "
            "below it, write a lower number, such as 0."
        )


def as_recorded(limit: float | None, truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[Any]:
    """Return what would be recorded if predictions came true: at least the limit where the truth lies below it."""
    return prediction if limit is None else np.where(truth < limit, np.maximum(prediction, truth), prediction)
