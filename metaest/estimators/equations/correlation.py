"""The correlation of residuals as settings ask for it: the column of times, and times that cannot be used."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.equations.settings import FitSettings
from metaest.exceptions import TaskError
from metaest.functional import Correlation
from metaest.tasks import TaskSet

__all__ = ["check_times", "check_times_of_tasks", "correlation_of", "time_column"]

# names of a column that holds times
TIME_NAMES = ("time", "t")
# shortest correlation time, in smallest distances of two rows: nothing is left of a correlation between them
SHORTEST = 0.05
# longest correlation time, in longest tasks: a residual is hardly told from a shift of the whole task
LONGEST = 100.0


def time_column(equation: Any, tasks: TaskSet) -> int | None:
    """Return the column that holds times: as the equation says, by its name, or the only one; None where it is open.

    An equation says it by an attribute ``time_column``, a number.
    """
    stated = getattr(equation, "time_column", None)
    if stated is not None:
        return int(stated)
    names = [str(name).lower() for name in tasks.feature_names or ()]
    for name in TIME_NAMES:
        if names.count(name) == 1:
            return names.index(name)
    return 0 if tasks.X.shape[1] == 1 else None


def correlation_of(settings: FitSettings, equation: Any, tasks: TaskSet) -> Correlation | None:
    """Return the correlation that settings ask for, with the range in which its time is searched.

    Raises
    ------
    ValueError
        When it is open which column holds the times, or there is no such column.
    TaskError
        When no task has two rows, or two rows of a task have the same time.
    """
    if settings.noise_correlation is None:
        return None
    if not (tasks.sizes > 1).any():
        raise TaskError("noise_correlation: no task has more than one row, so that nothing shows a correlation.")
    if settings.noise_correlation == "ar1":
        return Correlation("ar1")
    column = _column(settings.correlation_time, equation, tasks)
    label = column if tasks.feature_names is None else tasks.feature_names[column]
    correlation = Correlation("car1", column, str(label))
    check_times_of_tasks(correlation, tasks)
    times = [np.sort(task.X[:, column].astype(np.float64)) for task in tasks]
    smallest = min(float(np.diff(t).min()) for t in times if len(t) > 1)
    longest = max(float(np.ptp(t)) for t in times)
    return Correlation("car1", column, str(label), SHORTEST * smallest, LONGEST * longest)


def _column(label: str | int | None, equation: Any, tasks: TaskSet) -> int:
    """Return the number of the column of times."""
    names = tasks.feature_names
    if label is None:
        column = time_column(equation, tasks)
        if column is None:
            has = f"{tasks.X.shape[1]} columns" if names is None else f"the columns {list(names)}"
            raise ValueError(
                f"noise_correlation='car1': which column of X holds the times? X has {has}; write correlation_time=."
            )
        return column
    if isinstance(label, str):
        if names is None or label not in names:
            has = "the columns have no names" if names is None else f"it has {list(names)}"
            raise ValueError(f"correlation_time: there is no column {label!r} in X; {has}.")
        return list(names).index(label)
    if not 0 <= label < tasks.X.shape[1]:
        raise ValueError(f"correlation_time: {label!r} is no column of X, which has {tasks.X.shape[1]} columns.")
    return int(label)


def check_times(correlation: Correlation | None, X: NDArray[Any], where: str) -> None:
    """Raise a TaskError where two rows of one task have the same time: their residuals would have to be the same."""
    if correlation is None or correlation.column is None or len(X) < 2:
        return
    times = X[:, correlation.column].astype(np.float64)
    order = np.argsort(times, kind="stable")
    same = np.flatnonzero(np.diff(times[order]) == 0)
    if len(same):
        first, second = sorted(order[same[0] : same[0] + 2].tolist())
        raise TaskError(
            f"{where}: column {correlation.label!r} is {times[first]:g} in rows {first} and {second}; with "
            "noise_correlation='car1' the rows of a task need different times: take the mean of repeated "
            "measurements, with their number as sample_weight."
        )


def check_times_of_tasks(correlation: Correlation | None, tasks: TaskSet) -> None:
    """Raise a TaskError where two rows of a task have the same time, naming the task."""
    if correlation is not None and correlation.column is not None:
        for task in tasks:
            check_times(correlation, task.X, f"task {task.name!r}")
