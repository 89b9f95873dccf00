"""Bring single tasks and pairs together: same columns, distinct kinds of names, support rows side by side."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.task import Task

__all__ = ["as_names", "as_pair", "as_task", "check_alike", "column_names"]


def column_names(
    given: Sequence[str] | None, found: tuple[str, ...] | None, n_columns: int, what: str
) -> tuple[str, ...] | None:
    """Return the names given, or else those found with the data, as a tuple of the right length."""
    if given is None:
        return found
    if isinstance(given, str) or len(given) != n_columns:
        raise TaskError(f"{what} must be a list of {n_columns} names, got {given!r}.")
    return tuple(given)


def as_pair(pair: Any, where: str) -> tuple[Any, Any]:
    """Return what should be an (X, y) pair, or raise an error that begins with `where`."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TaskError(f"{where}: an (X, y) pair is wanted, got {type(pair).__name__}.")
    return pair[0], pair[1]


def as_task(task: Any, position: int) -> Task:
    """Return a task as it is, and an (X, y) pair as a task named by its position."""
    if isinstance(task, Task):
        return task
    return Task(position, *as_pair(task, f"task {position}"))


def as_names(names: Sequence[Hashable]) -> NDArray[Any]:
    """Return names as an array of integers or strings where all are, and of objects otherwise."""
    kinds = {type(name) for name in names}
    if kinds == {int} or (kinds == {str} and not any(str(name).endswith("\0") for name in names)):
        plain = np.array(names)
        if plain.dtype.kind in "iuU":  # whole numbers beyond 64 bits stay what they are
            return plain
    array = np.empty(len(names), dtype=object)
    for i, name in enumerate(names):  # a slice would take tuples apart
        array[i] = name
    return array


def check_alike(first: Task, task: Task) -> None:
    """Raise when a task has other columns or targets than the first one."""
    where = f"task {task.name!r}"
    if task.X.shape[1:] != first.X.shape[1:] and task.X.ndim + first.X.ndim > 4:
        raise TaskError(
            f"{where}: rows of X have shape {task.X.shape[1:]}, but those of task {first.name!r} {first.X.shape[1:]}; "
            "all tasks need the same features."
        )
    if task.X.shape[1] != first.X.shape[1]:
        raise TaskError(
            f"{where}: X has {task.X.shape[1]} columns, but task {first.name!r} has {first.X.shape[1]}; "
            "all tasks need the same features."
        )
    if task.feature_names != first.feature_names:
        raise TaskError(
            f"{where}: the columns of X are {_list(task.feature_names)}, but those of task {first.name!r} are "
            f"{_list(first.feature_names)}; give all tasks the same names in the same order."
        )
    if (task.y.dtype.kind == "U") != (first.y.dtype.kind == "U"):
        kinds = ["words" if own.y.dtype.kind == "U" else "numbers" for own in (task, first)]
        raise TaskError(
            f"{where}: its labels are {kinds[0]}, but those of task {first.name!r} are {kinds[1]} (labels of mixed "
            "types); write all as words, or all as numbers."
        )
    if task.y.shape[1:] != first.y.shape[1:] or task.target_names != first.target_names:
        raise TaskError(
            f"{where}: y has shape {task.y.shape} and names {_list(task.target_names)}, but task {first.name!r} has "
            f"shape {first.y.shape} and names {_list(first.target_names)}; all tasks need the same targets."
        )
    if (task.sample_weight is None) != (first.sample_weight is None):
        weighted, bare = (task, first) if first.sample_weight is None else (first, task)
        raise TaskError(
            f"task {weighted.name!r} carries a sample_weight, but task {bare.name!r} has none; give all tasks weights, "
            "or none."
        )


def _list(names: tuple[str, ...] | None) -> str:
    return "unnamed" if names is None else str(list(names))
