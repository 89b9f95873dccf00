"""Observations beyond a limit of quantification, which are known to lie there and no more; limits may differ by row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError, warn
from metaest.functional.equations.censoring import Bound, Bounds, Column
from metaest.tasks import TaskSet

__all__ = [
    "as_recorded",
    "bounds_of",
    "check_bounds",
    "coded",
    "coded_tasks",
    "is_beyond",
    "meets",
    "shown",
    "warn_of_values_at_limit",
]


def bounds_of(settings: Any, names: Sequence[Any] | None) -> Bounds:
    """Return the limits that an estimator or its settings name, as numbers or columns of X; `names` are the columns'.

    Raises
    ------
    ValueError
        When a limit names no column of X; the message names the setting.
    """
    return Bounds(*(_bound(getattr(settings, name), name, names) for name in Bounds._fields))


def _bound(value: Any, setting: str, names: Sequence[Any] | None) -> Bound:
    if value is None or not isinstance(value, str):
        return None if value is None else float(value)
    if names is None or value not in list(names):
        has = "the columns have no names" if names is None else f"it has {list(names)}"
        raise ValueError(f"{setting}: there is no column {value!r} in X; {has}. A limit of all rows is a number.")
    return Column(list(names).index(value), value)


def shown(bound: Bound) -> float | str | None:
    """Return a limit as the user wrote it: a number, or the name of a column."""
    return bound.label if isinstance(bound, Column) else bound


def is_beyond(bounds: Bounds, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which observations lie below their limit, and which above their upper one."""
    limit, _, upper = bounds.of_rows(X, y.shape)
    no = np.zeros(y.shape, dtype=bool)
    return (no if limit is None else y < limit), (no if upper is None else y > upper)


def coded(bounds: Bounds, X: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Return y with the number next to its limit in place of every number beyond it.

    What a laboratory writes for a value below its limit of quantification (0, -9999, half the limit) is a code. One
    number for all codes, put in place before anything looks at y, keeps scales, starts and orders of rows from them.
    """
    below, above = is_beyond(bounds, X, y)
    ends: Any = bounds.of_rows(X, y.shape)
    for beyond, end, way in ((below, ends.limit, -np.inf), (above, ends.upper_limit, np.inf)):
        if beyond.any():
            y = np.where(beyond, np.nextafter(end, way), y.astype(np.float64))
    return y


def coded_tasks(bounds: Bounds, tasks: TaskSet) -> TaskSet:
    """Return the tasks with :func:`coded` applied to their targets."""
    if not bounds.censors:
        return tasks
    y = coded(bounds, tasks.X, tasks.y)
    return tasks if y is tasks.y else tasks.with_rows(y=y)


def check_bounds(bounds: Bounds, X: NDArray[Any], y: NDArray[Any], where: str, *, logarithmic: bool = False) -> None:
    """Raise a TaskError where limits of one task contradict one another, naming the row.

    Parameters
    ----------
    bounds : Bounds
    X, y : ndarray of shape (n_rows, n_features), (n_rows,)
    where : str
        How the message begins.
    logarithmic : bool, default=False
        Whether the logarithm of y is normal, which has no limit at zero.
    """
    if not bounds.censors or not len(y):
        return
    y = y.reshape(-1)
    limit, start, upper = (
        None if end is None else np.broadcast_to(np.asarray(end, dtype=np.float64), y.shape)
        for end in bounds.of_rows(X, y.shape)
    )
    below, above = is_beyond(bounds, X, y)
    faults = []
    if limit is not None and start is not None:
        faults.append((below & (start >= limit), f"limit_from={shown(bounds.limit_from)!r} is not below the limit"))
    if limit is not None and upper is not None:
        faults.append((limit > upper, f"limit={shown(bounds.limit)!r} is above the upper limit"))
    if limit is not None and logarithmic:
        faults.append((below & (limit <= 0), "noise='lognormal' needs a limit above 0, as all observations are; it is"))
    if upper is not None and logarithmic:
        faults.append((above & (upper <= 0), "noise='lognormal' needs an upper limit above 0"))
    for wrong, what in faults:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            ends = ", ".join(
                f"{name}={float(end[row]):g}"
                for name, end in zip(Bounds._fields, (limit, start, upper), strict=True)
                if end is not None
            )
            raise TaskError(f"{where}: row {row}: {what} ({ends}).")


def warn_of_values_at_limit(bounds: Bounds, X: NDArray[Any], y: NDArray[Any], where: str) -> None:
    """Warn of observations that equal a limit: they count as measured, though often written for values beyond it."""
    limit, _, upper = bounds.of_rows(X, y.shape)
    for name, end, bound, side, remedy in (
        ("limit", limit, bounds.limit, "below", "a lower number, such as 0"),
        ("upper_limit", upper, bounds.upper_limit, "above", "a greater number"),
    ):
        n = 0 if end is None else int((y == np.asarray(end).astype(y.dtype)).sum())
        if n:
            how = "observation equals" if n == 1 else "observations equal"
            which = f"{bound:g}" if isinstance(bound, float) else repr(shown(bound))
            warn(
                f"{where}: {n} {how} {name}={which}, which counts as measured; where the limit was written for a value "
                f"{side} it, write {remedy}."
            )


def as_recorded(bounds: Bounds, X: NDArray[Any], truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[Any]:
    """Return what would be recorded if predictions came true: the truth's code where both lie beyond a limit.

    Elsewhere a prediction is as far from the truth as from the interval in which the truth is known to lie.
    """
    if not bounds.censors:
        return prediction
    below, above = is_beyond(bounds, X, truth)
    _, start, _ = bounds.of_rows(X, truth.shape)
    lowest = truth if start is None else truth + np.minimum(prediction - start, 0)
    prediction = np.where(below, np.maximum(prediction, lowest), prediction)
    return np.where(above, np.minimum(prediction, truth), prediction)


def meets(
    bounds: Bounds, X: NDArray[Any], truth: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any]
) -> NDArray[np.bool_]:
    """Tell whether intervals hold the truth, or meet the interval in which it is known to lie."""
    inside = (lower <= truth) & (truth <= upper)
    if not bounds.censors:
        return inside
    below, above = is_beyond(bounds, X, truth)
    limit, start, end = bounds.of_rows(X, truth.shape)
    if limit is not None:
        inside |= below & (lower <= limit) & (True if start is None else upper >= start)
    if end is not None:
        inside |= above & (upper >= end)
    return inside
