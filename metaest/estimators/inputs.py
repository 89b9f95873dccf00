"""Checks of the tasks and rows that estimators are given, and of their columns and targets."""

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from metaest.exceptions import TaskError, UngroupedWarning, warn
from metaest.tasks import Task, TaskSet
from metaest.tasks.arrays import as_features, as_target, require_finite, require_numbers
from metaest.tasks.object_rows import ObjectRows, holds_objects
from metaest.tasks.reading import column_names_of, rows_of
from metaest.tasks.weighted_tasks import refuse_weights, with_weights, without_zeros

__all__ = [
    "as_rows",
    "as_tasks",
    "check_columns",
    "check_support_rows",
    "check_targets",
    "is_empty",
    "n_features_of",
    "no_rows",
    "refuse_tasks",
    "remember_columns",
    "remember_range",
    "remember_shape",
    "require_columns",
    "takes_objects",
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


def require_columns(tasks: TaskSet) -> TaskSet:
    """Return tasks whose rows are columns of numbers, and raise where they are images."""
    if tasks.X.ndim == 2:
        return tasks
    name, shape = tasks.name_of(0), tasks.X.shape[1:]
    raise TaskError(
        f"task {name!r}: rows of X have shape {shape}; columns are wanted: X of shape (n_rows, n_features)."
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


def takes_objects(model: Any) -> bool:
    """Tell whether the rows of a fitted model, or of a predictor adapted from it, are objects for a collate_fn."""
    return getattr(getattr(model, "_network", None), "collate_fn", None) is not None


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


def no_rows(model: Any, X: Any, y: Any, where: str) -> NDArray[np.float64] | None:
    """Return an X without rows where neither X nor y has one, and None where there are rows.

    Parameters
    ----------
    model : object
        Has ``n_features_in_``, and ``feature_names_in_`` where it was fitted on named columns.
    X, y : array-like
    where : str
        Name of the calling method, for the error message.
    """
    if not (is_empty(X) and is_empty(y)):
        return None
    if takes_objects(model):
        return np.empty(0, dtype=object)
    shape = np.shape(rows_of(X, where, "X"))
    if len(shape) > 1:
        check_columns(model, X, shape[1:], where)
    return np.empty((0, *getattr(model, "feature_shape_", (model.n_features_in_,))))


def refuse_tasks(X: Any, where: str, *, pairs: bool = True) -> None:
    """Raise a TaskError where tasks came instead of rows, as scorers by name hand them to ``predict``."""
    first = X[0] if isinstance(X, (list, tuple, np.ndarray)) and _depth(X) and len(X) else None
    # rows of an image may come as nested lists of two: a pair has a y with fewer dimensions than its X
    pair = pairs and first is not None and _is_pair(first) and _depth(first[1]) < _depth(first[0])
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


def remember_columns(model: Any, names: Any) -> None:
    """Set ``feature_names_in_``, or take it away where there are no names now."""
    if names is not None:
        model.feature_names_in_ = np.array(names, dtype=object)
    elif hasattr(model, "feature_names_in_"):
        del model.feature_names_in_


def remember_range(model: Any, X: NDArray[Any]) -> None:
    """Set ``feature_range_``, smallest and largest value of each column; take it away where there are images.

    Both are rounded outwards to two digits, so that they are no row's exact values.
    """
    if X.ndim != 2:
        if hasattr(model, "feature_range_"):
            del model.feature_range_
        return
    ends = ((X.min(axis=0), ROUND_FLOOR), (X.max(axis=0), ROUND_CEILING))
    model.feature_range_ = np.array([[_two_digits(float(value), way) for value in end] for end, way in ends])


def remember_shape(model: Any, X: NDArray[Any]) -> None:
    """Set ``n_features_in_`` and ``feature_shape_``, the shape of a row; take them away where rows are objects."""
    if not holds_objects(X):
        model.n_features_in_, model.feature_shape_ = X.shape[1], X.shape[1:]
        return
    for name in ("n_features_in_", "feature_shape_"):
        if hasattr(model, name):
            delattr(model, name)


def _two_digits(value: float, way: str) -> float:
    if not value:
        return 0.0
    exact = Decimal(repr(value))
    return float(exact.quantize(Decimal((0, (1,), exact.adjusted() - 1)), way))


def check_columns(model: Any, X: Any, shape: tuple[int, ...], where: str) -> None:
    """Raise where columns differ from those that a model was fitted on.

    Arrays without names, such as ``task.X``, are taken in column order, also where the model was fitted on names.

    Parameters
    ----------
    model : object
        Has ``n_features_in_``, and ``feature_names_in_`` where it was fitted on named columns.
    X : array-like, data frame or TaskSet
    shape : tuple of int
        Shape of a row of X: its number of columns, or the shape of an image.
    where : str
        Name of the calling method, which the error message adds to scikit-learn's.

    Raises
    ------
    TaskError
        When the number of columns, their names or their order differs.
    """
    if takes_objects(model):
        return
    names = X.feature_names if isinstance(X, TaskSet) else column_names_of(X)
    try:
        if names is not None:
            header = pd.DataFrame(np.zeros((1, len(names))), columns=list(names))
            validate_data(model, header, reset=False, skip_check_array=True)
        elif shape != (wanted := getattr(model, "feature_shape_", (model.n_features_in_,))):
            if len(shape) + len(wanted) > 2:
                moved = len(shape) == 3 and (shape[2], *shape[:2]) == wanted
                remedy = "; the channels come first: X.transpose(0, 3, 1, 2)" * moved
                raise ValueError(
                    f"rows of X have shape {shape}, but {type(model).__name__} is expecting {wanted}{remedy}"
                )
            raise ValueError(
                f"X has {shape[0]} features, but {type(model).__name__} is expecting {wanted[0]} features as input"
            )
    except ValueError as error:
        raise TaskError(f"{error} ({where})") from error


def check_support_rows(
    model: Any, single_target: bool, X: Any, y: Any, where: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows and targets of one new task, checked against the model that adapts to them."""
    if y is None:
        raise TaskError(f"{where}: y is missing; the observed values of the task's rows are wanted.")
    objects = takes_objects(model)
    X, y = X if objects else rows_of(X, where, "X"), rows_of(y, where, "y")
    nothing = no_rows(model, X, y, where)
    if nothing is not None:
        target = np.empty((0, model.n_outputs_)) if len(np.shape(y)) < 2 else np.asarray(y, dtype=np.float64)
        return nothing, check_targets(target, single_target, model.n_outputs_, where)
    rows, target, _ = as_rows(X, y, where, object_rows=objects)
    check_columns(model, X, rows.shape[1:], where)
    return rows, check_targets(target, single_target, model.n_outputs_, where)


def check_targets(y: NDArray[Any], single_target: bool, n_outputs: int, where: str) -> NDArray[Any]:
    """Return targets in the shape of those of the fit, or raise where their number is another."""
    if (1 if y.ndim == 1 else y.shape[1]) != n_outputs:
        raise TaskError(
            f"{where}: y has shape {y.shape}, but the model was fitted on {n_outputs} target{'s' * (n_outputs != 1)}."
        )
    return y.reshape(-1) if single_target else y.reshape(len(y), n_outputs)
