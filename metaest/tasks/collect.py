"""Bring single tasks, pairs and mappings of them together: a list of tasks with the same columns, and their names."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.object_rows import ObjectRows, holds_objects
from metaest.tasks.reading import column_names_of
from metaest.tasks.task import Task

__all__ = ["as_members", "as_names", "check_alike", "column_names", "same_name"]


def column_names(
    given: Sequence[str] | None, of_data: tuple[str, ...] | None, n_columns: int, argument: str
) -> tuple[str, ...] | None:
    """Return the names given, or else those that the data have, as a tuple of the right length."""
    if given is None:
        return of_data
    if isinstance(given, str) or len(given) != n_columns:
        raise TaskError(f"{argument} must be a list of {n_columns} names, got {given!r}.")
    return tuple(given)


def as_members(tasks: Any, *, object_rows: bool = False) -> list[Task]:
    """Return tasks, (X, y) pairs, or a mapping of names to these, as a list of tasks; pairs are named by position.

    Parameters
    ----------
    tasks : iterable of Task or (X, y) pairs, or mapping of name to Task or (X, y)
    object_rows : bool, default=False
        Whether the rows of each X are objects of a user's own type.
    """
    if isinstance(tasks, Mapping) and not hasattr(tasks, "toarray"):  # a DOK sparse matrix is a dict
        members = _members_of_mapping(tasks, object_rows)
    elif isinstance(tasks, (str, bytes)) or not isinstance(tasks, Iterable):
        raise TaskError(f"a sequence of tasks is wanted, got {type(tasks).__name__}.")
    else:
        members = [_as_task(i, task, f"task {i}", object_rows) for i, task in enumerate(tasks)]
    if not members:
        raise TaskError("no tasks were given; at least one is needed.")
    return members


def _members_of_mapping(tasks: Mapping[Any, Any], object_rows: bool) -> list[Task]:
    if tasks and all(_is_column(value) for value in tasks.values()):
        name, column = next(iter(tasks.items()))
        raise TaskError(
            f"a mapping of columns was passed ({name!r} holds {len(column)} values), and tasks are wanted: a mapping "
            "of task name to (X, y). Make a data frame of the columns, pandas.DataFrame(mapping), and read tasks from "
            "it by TaskSet.from_frame(frame, task=..., target=...)."
        )
    members = []
    for name, value in tasks.items():
        if isinstance(value, Task) and not same_name(value.name, name):
            raise TaskError(
                f"task {name!r}: the Task under this key is called {value.name!r}; give both the same name, or pass a "
                "list of tasks, which needs no keys."
            )
        if column_names_of(value) is not None:
            raise TaskError(
                f"task {name!r}: an (X, y) pair is wanted, got a data frame; pass its columns in two parts: "
                "(frame[features], frame[target])."
            )
        members.append(_as_task(name, value, f"task {name!r}", object_rows))
    return members


def _is_column(value: Any) -> bool:
    """Tell whether the value of a mapping is one row of numbers or words, as a column of a table is."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_scalar, value[:2]))
    return (
        getattr(value, "ndim", len(getattr(value, "shape", ()))) == 1
        or hasattr(value, "to_pylist")
        or (isinstance(value, Sequence) and not isinstance(value, (str, bytes)))
    )


def _is_scalar(cell: Any) -> bool:
    return cell.ndim == 0 if hasattr(cell, "ndim") else isinstance(cell, (str, bytes)) or not hasattr(cell, "__len__")


def _as_task(name: Hashable, task: Any, where: str, object_rows: bool) -> Task:
    """Return a task as it is, and an (X, y) pair as a task of this name."""
    if isinstance(task, Task):
        return task
    if not isinstance(task, (tuple, list)) or len(task) != 2:
        raise TaskError(f"{where}: an (X, y) pair is wanted, got {type(task).__name__}.")
    X, y = task
    rows: Any = ObjectRows(X, where) if object_rows else X
    return Task(name, rows, y)


def same_name(name: Any, other: Any) -> bool:
    """Tell whether two names are equal; arrays and missing values, whose comparison is no yes or no, are not."""
    equal = name == other
    return isinstance(equal, (bool, np.bool_)) and bool(equal)


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
    if holds_objects(task.X) or holds_objects(first.X):
        if task.X.dtype != first.X.dtype:
            kinds = ["objects" if holds_objects(one.X) else "numbers" for one in (task, first)]
            raise TaskError(f"{where}: its rows are {kinds[0]}, but those of task {first.name!r} are {kinds[1]}.")
    else:
        _check_features(first, task, where)
    if (task.y.dtype.kind == "U") != (first.y.dtype.kind == "U"):
        kinds = ["words" if one.y.dtype.kind == "U" else "numbers" for one in (task, first)]
        raise TaskError(
            f"{where}: its labels are {kinds[0]}, but those of task {first.name!r} are {kinds[1]} (labels of mixed "
            "types); write all as words, or all as numbers."
        )
    if task.y.shape[1:] != first.y.shape[1:] or task.target_names != first.target_names:
        raise TaskError(
            f"{where}: y has shape {task.y.shape} and names {_list(task.target_names)}, but task {first.name!r} has "
            f"shape {first.y.shape} and names {_list(first.target_names)}; all tasks need the same targets."
        )
    if task.level_labels is not first.level_labels and dict(task.level_labels or {}) != dict(first.level_labels or {}):
        raise TaskError(
            f"{where}: its numbers of levels or outputs stand for other labels than those of task {first.name!r}; read "
            "both from one data frame by TaskSet.from_frame."
        )
    if (task.sample_weight is None) != (first.sample_weight is None):
        weighted, bare = (task, first) if first.sample_weight is None else (first, task)
        raise TaskError(
            f"task {weighted.name!r} carries a sample_weight, but task {bare.name!r} has none; give all tasks weights, "
            "or none."
        )


def _check_features(first: Task, task: Task, where: str) -> None:
    """Raise when a task has other columns than the first one."""
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


def _list(names: tuple[str, ...] | None) -> str:
    return "unnamed" if names is None else str(list(names))
