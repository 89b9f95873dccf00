"""Data of a fit: values below a limit of quantification, and warnings about data that do not determine the model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning

from metaest.exceptions import TaskError, warn
from metaest.tasks import TaskSet

__all__ = ["as_recorded", "ask_about_limit", "check_data", "just_below", "without_codes"]

# cells of padding, and how many times the rows themselves, from where a fit gets slow and large
MUCH_PADDING, PADDING_RATIO = 1_000_000, 20


def just_below(limit: float | None, y: NDArray[Any]) -> NDArray[Any]:
    """Return y with the greatest number below the limit in place of every number below it.

    What a laboratory writes for a value below its limit of quantification (0, -9999, half the limit) is a code. Put in
    place before anything looks at y, one number for all codes keeps scales, starts and orders of rows from them.
    """
    if limit is None or not (y < limit).any():
        return y
    return np.where(y < limit, np.nextafter(limit, -np.inf), y.astype(np.float64))


def ask_about_limit(limit: float | None, y: NDArray[Any], where: str) -> None:
    """Warn of observations that equal the limit: they count as measured, though often written for values below it."""
    n = 0 if limit is None else int((y == y.dtype.type(limit)).sum())
    if n:
        how = "observation equals" if n == 1 else "observations equal"
        warn(
            f"{where}: {n} {how} limit={limit:g}, which counts as measured; where the limit was written for a value "
            "below it, write a lower number, such as 0."
        )


def without_codes(tasks: TaskSet, limit: float | None) -> TaskSet:
    """Return the tasks with :func:`just_below` applied to their targets."""
    y = just_below(limit, tasks.y)
    if y is tasks.y:
        return tasks
    return tasks.with_rows(y=y)


def as_recorded(limit: float | None, truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[Any]:
    """Return what would be recorded if predictions came true: at least the limit where the truth lies below it."""
    return prediction if limit is None else np.where(truth < limit, np.maximum(prediction, truth), prediction)


def check_data(settings: Any, tasks: TaskSet, names: list[str], random: list[int], *, flat: bool) -> list[int]:
    """Warn of what these tasks cannot tell, and return the constants that may vary between them.

    Parameters
    ----------
    settings : estimator
    tasks : TaskSet
    names : list of str
        Of all constants.
    random : list of int
        Those that are asked to vary.
    flat : bool
        Whether the tasks came as flat rows.

    Returns
    -------
    list of int

    Raises
    ------
    TaskError
        When there are several targets.
    """
    if tasks.y.ndim == 2 and tasks.y.shape[1] != 1:
        raise TaskError(f"y has {tasks.y.shape[1]} targets; an equation gives one value a row.")
    if tasks.y.ndim == 2 and flat:
        _warn(
            "A column-vector y was passed when a 1d array was expected; it is taken as y.ravel().",
            DataConversionWarning,
        )
    y = tasks.y.reshape(-1)
    if settings.limit is not None:
        y = y[y >= settings.limit]
        if len(y) == 0:
            raise TaskError(
                f"y: all {len(tasks.y)} observations lie below limit={settings.limit:g}; some have to be above it."
            )
    if settings.limit is None and settings.noise == "proportional" and (y <= 0).any():
        row = int(np.flatnonzero(y <= 0)[0])
        task, row_in_task = tasks.place_of(row)
        _warn(
            f"noise='proportional', but y is {y[row]:g} in row {row_in_task} of task "
            f"{tasks.name_of(task)!r} ({int((y <= 0).sum())} rows in all are not above 0): noise in proportion "
            "to the curve hardly allows that; 'combined' does."
        )
    padding = len(tasks) * int(tasks.sizes.max()) - len(tasks.y)
    if padding > max(MUCH_PADDING, PADDING_RATIO * len(tasks.y)):
        longest = int(tasks.sizes.argmax())
        _warn(
            f"task {tasks.name_of(longest)!r} has {tasks.sizes[longest]} rows, half of the tasks at most "
            f"{np.median(tasks.sizes):.0f}: all are padded to the longest, which takes time and memory; thin out its "
            "rows, or split it."
        )
    return _may_vary(tasks, names, random, diagonal=settings.covariance == "diagonal")


def _may_vary(tasks: TaskSet, names: list[str], random: list[int], *, diagonal: bool) -> list[int]:
    if not random:
        return random
    if len(tasks) == 1:
        _warn(
            "one task says nothing about the variation between tasks: all constants are taken as shared, and adapting "
            "changes nothing."
        )
        return []
    m = len(random)
    if not diagonal and len(tasks) <= m:
        _warn(
            f"{len(tasks)} tasks cannot tell how {m} constants vary together ({', '.join(names[k] for k in random)}); "
            "let fewer vary (random=), or take covariance='diagonal'."
        )
    elif len(tasks.y) <= len(names) + m + 1:
        _warn(
            f"{len(tasks.y)} rows in all cannot tell {len(names)} constants, the variation of {m} of them and the "
            "noise apart; let fewer vary (random=)."
        )
    elif tasks.sizes.max() == 1 and m == len(names):
        _warn(
            "no task has more than one row, and all constants vary: variation between tasks and noise can hardly be "
            "told apart; standard errors and intervals mean little."
        )
    return random


def _warn(message: str, category: type[Warning] = UserWarning) -> None:
    warn(message, category)
