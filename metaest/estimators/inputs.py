"""Checks of the tasks and rows that estimators are given, and of their targets."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning

from metaest.exceptions import TaskError, UngroupedWarning, warn
from metaest.tasks import Task, TaskSet
from metaest.tasks.arrays import as_features, as_target, require_finite, require_numbers
from metaest.tasks.object_rows import ObjectRows, holds_objects
from metaest.tasks.reading import column_names_of
from metaest.tasks.weighted_tasks import refuse_weights, with_weights, without_zeros

__all__ = [
    "as_rows",
    "as_tasks",
    "check_targets",
    "is_empty",
    "n_features_of",
    "refuse_tasks",
    "require_columns",
    "require_one_target",
    "tasks_by_name",
]


def _is_pair(item: Any) -> bool:
    """Tell whether `item` is (X, y) with a two-dimensional X, and not a flat row of two numbers or words."""
    if not isinstance(item, (tuple, list)) or len(item) != 2 or isinstance(item[0], str):
        return False
    X = item[0]
    return _depth(X) >= 2 or (isinstance(X, (tuple, list)) and len(X) == 0)


def _depth(values: Any) -> int:
    """Return the number of dimensions of an array or a data frame, and how deep a list is nested."""
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple):
        return len(shape)
    if isinstance(values, (tuple, list)):
        return 1 + (_depth(values[0]) if len(values) else 0)
    return 2 if column_names_of(values) is not None else 0


def _is_flat_pair(item: Any) -> bool:
    """Tell whether `item` is (X, y) with one-dimensional X and y of one length."""
    return isinstance(item, tuple) and len(item) == 2 and _depth(item[0]) == _depth(item[1]) == 1


def as_tasks(
    X: Any,
    y: Any = None,
    groups: Any = None,
    *,
    labels: bool = False,
    alone: bool = False,
    weighs: bool = False,
    sample_weight: Any = None,
    object_rows: bool = False,
) -> TaskSet:
    """Return a TaskSet from whichever form of input came.

    Parameters
    ----------
    X : TaskSet, sequence of Task or (X, y), dict of name to (X, y), or array-like of shape (n_rows, n_features)
    y : array-like, optional
        With flat rows only.
    groups : array-like of shape (n_rows,), optional
        The task of each flat row. Without it all rows are one task, and a warning says so.
    labels : bool, default=False
        Whether y may hold labels; otherwise it is made float.
    alone : bool, default=False
        Whether a single task is accepted without a warning.
    weighs : bool, default=False
        Whether rows may have weights; otherwise tasks that carry some are refused.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of flat rows, or of the rows of all tasks one after the other.
    object_rows : bool, default=False
        Whether rows are objects: each X is then a list of rows.

    Returns
    -------
    TaskSet

    Raises
    ------
    TaskError
        When the input is none of these forms, or a task in it is not usable.
    """
    if isinstance(X, Task):
        raise TaskError(f"one single task was passed; a sequence of tasks is wanted: [{X!r}].")
    if isinstance(X, Iterator):
        raise TaskError("an iterator was passed, which can be read once only; pass TaskSet(tasks) or list(tasks).")
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:  # tasks indexed as an array
        X = list(X)
    tasks_given = (
        isinstance(X, TaskSet)
        or (isinstance(X, Mapping) and not hasattr(X, "toarray"))  # a DOK sparse matrix is a dict
        or (isinstance(X, (list, tuple)) and len(X) > 0 and (isinstance(X[0], Task) or _is_pair(X[0])))
        or (object_rows and y is None and isinstance(X, (list, tuple)) and len(X) > 0)
    )
    if tasks_given:
        given = X if isinstance(X, TaskSet) else TaskSet(X, object_rows=object_rows)
        if y is not None or groups is not None:
            raise TaskError("tasks were passed together with y or groups; tasks carry their own y and names.")
        if sample_weight is not None:
            given = with_weights(given, sample_weight)
        return _with_targets(given, labels, weighs, object_rows)
    if isinstance(X, (list, tuple)) and len(X) == 0 and y is None:
        raise TaskError("no tasks were given; at least one is needed.")
    if y is None and isinstance(X, (list, tuple)) and all(_is_flat_pair(item) for item in X):
        raise TaskError("task 0: X has one dimension; a column is wanted, of shape (n_rows, 1): X.reshape(-1, 1).")
    if y is None:
        raise TaskError(
            "y is missing: this estimator requires y to be passed, but the target y is None. "
            "Pass a sequence of tasks, or X and y with groups."
        )
    if object_rows:
        X = ObjectRows(X)
    if groups is not None:
        whole = TaskSet.from_arrays(X, y, groups, sample_weight=sample_weight)
        return _with_targets(whole, labels, weighs, object_rows)
    whole = _with_targets(TaskSet([as_task(X, y, "all rows", sample_weight)]), labels, weighs, object_rows)
    if alone:
        return whole
    warn(
        "no groups were given, so all rows are taken as one single task and nothing is learned across tasks; "
        "pass groups= (the task of each row) or a sequence of tasks. Groups given to cross_validate or GridSearchCV "
        "reach fit only under sklearn.set_config(enable_metadata_routing=True).",
        UngroupedWarning,
    )
    return whole


def tasks_by_name(X: Any, *, object_rows: bool = False) -> Any:
    """Return tasks that came as a mapping or a sequence as a TaskSet, and rows as they are.

    Raises
    ------
    TaskError
        When a mapping holds something else than tasks.
    """
    if isinstance(X, (list, tuple)) and len(X):
        return TaskSet(X) if isinstance(X[0], Task) or (not object_rows and _holds_task(X[0])) else X
    if not isinstance(X, Mapping) or hasattr(X, "toarray"):  # a DOK sparse matrix is a dict
        return X
    if not all(isinstance(item, (Task, tuple)) for item in X.values()):
        raise TaskError(
            "predict: a mapping of names to rows alone was passed; a mapping of name to (X, y), a TaskSet of the tasks "
            "that were adapted to, or the same rows for all tasks are wanted. What y holds does not matter."
        )
    return TaskSet(X, object_rows=object_rows)


def _holds_task(item: Any) -> bool:
    """Tell whether `item` is (X, y) and no row of an image: a y has fewer dimensions than its X."""
    return _is_pair(item) and _depth(item[1]) < _depth(item[0])


def require_columns(tasks: TaskSet) -> TaskSet:
    """Return tasks whose rows are columns of numbers, and raise where they are images."""
    if tasks.X.ndim == 2:
        return tasks
    name, shape = tasks.name_of(0), tasks.X.shape[1:]
    raise TaskError(
        f"task {name!r}: rows of X have shape {shape}; columns are wanted: X of shape (n_rows, n_features)."
    )


def require_one_target(tasks: TaskSet, remedy: str, *, flat: bool) -> None:
    """Raise a TaskError where there are several targets, and warn of a column where `flat` rows came with one.

    Parameters
    ----------
    tasks : TaskSet
    remedy : str
        What the error message says beside the number of targets.
    flat : bool
        Whether the tasks came as flat rows.
    """
    if tasks.y.ndim == 2 and tasks.y.shape[1] != 1:
        raise TaskError(f"y has {tasks.y.shape[1]} targets; {remedy}.")
    if tasks.y.ndim == 2 and flat:
        warn(
            "A column-vector y was passed when a 1d array was expected; it is taken as y.ravel().",
            DataConversionWarning,
        )


def _with_targets(tasks: TaskSet, labels: bool, weighs: bool, object_rows: bool) -> TaskSet:
    """Return tasks whose y is float, unless it may hold labels, and whose rows all count."""
    _require_kind(tasks.X, object_rows, f"task {tasks.name_of(0)!r}: its")
    if not weighs:
        refuse_weights(tasks)
    if not labels and tasks.y.dtype.kind != "f":
        tasks = tasks.with_rows(y=require_numbers(tasks.y, f"task {tasks.name_of(0)!r}"))
    return without_zeros(tasks)


def as_task(X: Any, y: Any, name: str, sample_weight: Any = None) -> Task:
    """Return flat rows as one task."""
    rows, feature_names = as_features(X, name)
    if len(rows) == 0:
        raise TaskError(f"{name}: Found array with 0 sample(s) while a minimum of 1 is required.")
    return Task(name, rows, y, feature_names=feature_names, sample_weight=sample_weight)


def _require_kind(X: NDArray[Any], object_rows: bool, whose: str) -> None:
    """Raise a TaskError where rows are objects and numbers are wanted, or the other way round."""
    if holds_objects(X) and not object_rows:
        raise TaskError(
            f"{whose} rows are objects of type {type(X[0]).__name__}; numbers are wanted. MAMLRegressor and "
            "MAMLClassifier take such rows with collate_fn=, a function that makes a tensor of a list of rows."
        )
    if object_rows and not holds_objects(X):
        raise TaskError(
            f"{whose} rows are numbers, and collate_fn= takes lists of rows: pass (X, y) pairs, or "
            "TaskSet(pairs, object_rows=True)."
        )


def n_features_of(X: NDArray[Any]) -> int | None:
    """Return the number of columns of rows, or channels of images; None of objects."""
    return None if holds_objects(X) else int(X.shape[1])


def as_rows(
    X: Any, y: Any, where: str, *, labels: bool = False, object_rows: bool = False
) -> tuple[Any, Any, tuple[str, ...] | None]:
    """Return checked X, y (None where y is None) and the column names; error messages begin with `where`.

    Targets are made float, unless they may be labels. With `object_rows`, X is a list of rows that are objects.
    """
    refuse_tasks(X, where, pairs=not object_rows)
    rows, names = as_features(ObjectRows(X, where) if object_rows and not isinstance(X, ObjectRows) else X, where)
    if len(rows) == 0:
        raise TaskError(f"{where}: Found array with 0 sample(s) while a minimum of 1 is required.")
    _require_kind(rows, object_rows, f"{where}:")
    require_finite(rows, "X", names, lambda row: (where, row))
    if y is None:
        return rows, None, names
    target, target_names = as_target(y, len(rows), where)
    target = target if labels else require_numbers(target, where)
    require_finite(target, "y", target_names, lambda row: (where, row))
    return rows, target, names


def is_empty(values: Any) -> bool:
    """Tell whether an array, a data frame or a list has no rows."""
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple):  # modules and classes have an attribute of this name, too
        return len(shape) > 0 and shape[0] == 0
    return isinstance(values, (list, tuple)) and len(values) == 0


def refuse_tasks(X: Any, where: str, *, pairs: bool = True) -> None:
    """Raise a TaskError where tasks came instead of rows, as scorers by name hand them to ``predict``."""
    first = X[0] if isinstance(X, (list, tuple, np.ndarray)) and _depth(X) and len(X) else None
    pair = pairs and first is not None and _holds_task(first)
    if not (isinstance(X, (Task, TaskSet)) or isinstance(first, Task) or pair):
        return
    if "adapt" in where:
        raise TaskError(f"{where}: tasks were passed where the rows of one task are wanted: {where}(task.X, task.y).")
    raise TaskError(
        f"{where}: tasks were passed where rows are wanted. A scorer by name, such as scoring='r2' or 'accuracy', "
        "calls predict and measures the model before adaptation; use metaest.scorers.few_shot_r2(shots=...), "
        "few_shot_accuracy(shots=...) or another scorer from there, or leave scoring unset. To predict rows of a task, "
        "adapt to some of its rows first."
    )


def check_targets(y: NDArray[Any], single_target: bool, n_outputs: int, where: str) -> NDArray[Any]:
    """Return targets in the shape of those of the fit, or raise where their number is another."""
    if (1 if y.ndim == 1 else y.shape[1]) != n_outputs:
        raise TaskError(
            f"{where}: y has shape {y.shape}, but the model was fitted on {n_outputs} target{'s' * (n_outputs != 1)}."
        )
    return y.reshape(-1) if single_target else y.reshape(len(y), n_outputs)
