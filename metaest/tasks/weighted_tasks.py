"""Tasks with weights of their rows: weights given to all of them, refused, or of zero."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.support import SupportRows
from metaest.tasks.task_set import TaskSet
from metaest.tasks.weights import as_weights, require_weights

__all__ = ["refuse_weights", "with_weights", "without_zeros"]


def with_weights(tasks: TaskSet, sample_weight: Any) -> TaskSet:
    """Return tasks with weights of their rows, one task after the other."""
    if tasks.sample_weight is not None:
        raise TaskError("the tasks already carry a sample_weight; pass weights once.")
    weight = as_weights(sample_weight, len(tasks.X), "tasks")

    def locate(row: int) -> tuple[str, int]:
        i, row_in_task = tasks.place_of(row)
        return f"task {tasks.name_of(i)!r}", row_in_task

    require_weights(weight, locate)
    return tasks.with_rows(sample_weight=weight)


def refuse_weights(tasks: TaskSet) -> None:
    """Raise a TaskError when tasks carry weights of rows."""
    if tasks.sample_weight is not None:
        raise TaskError(
            f"task {tasks.name_of(0)!r} carries a sample_weight, and this estimator weighs all rows alike; "
            "leave the weights out (EquationRegressor takes them)."
        )


def without_zeros(tasks: TaskSet) -> TaskSet:
    """Return tasks without their rows of weight zero; numbers of support rows follow.

    Raises
    ------
    TaskError
        When nothing is left of a task.
    """
    if tasks.sample_weight is None or bool((tasks.sample_weight > 0).all()):
        return tasks
    is_weighted = tasks.sample_weight > 0
    offsets = np.concatenate([[0], np.cumsum(is_weighted)])[tasks.offsets]
    empty = np.flatnonzero(np.diff(offsets) == 0)
    if len(empty):
        raise TaskError(
            f"task {tasks.name_of(int(empty[0]))!r}: the weights of all its rows are zero; leave the task out."
        )
    supports: list[NDArray[np.intp] | None] = []
    for i in range(len(tasks) if tasks.carries_support else 0):
        support, present = tasks.support_of(i), is_weighted[tasks.offsets[i] : tasks.offsets[i + 1]]
        supports.append(None if support is None else (np.cumsum(present) - 1)[support[present[support]]])
    return type(tasks).from_checked(
        tasks.X[is_weighted],
        tasks.y[is_weighted],
        offsets,
        tasks.names,
        feature_names=tasks.feature_names,
        target_names=tasks.target_names,
        support=None if all(support is None for support in supports) else SupportRows(supports),
        sample_weight=tasks.sample_weight[is_weighted],
        level_labels=tasks.level_labels,
    )
