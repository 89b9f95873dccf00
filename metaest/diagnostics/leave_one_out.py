"""Leave-one-task-out: each task predicted from a few of its rows by methods that saw only the others."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.networks.threads import one_thread
from metaest.exceptions import (
    DivergenceError,
    IdentifiabilityWarning,
    OvershootWarning,
    TaskError,
    UnlikelyTaskWarning,
    quiet,
)
from metaest.functional.progress import Bar
from metaest.tasks import Task, TaskSet, TasksLike
from metaest.tasks.columns import require_frame
from metaest.tasks.task import check_support

__all__ = ["LeaveOneOut", "leave_one_task_out"]

Method = Callable[[TaskSet], Any]


class LeaveOneOut(NamedTuple):
    """Results of :func:`leave_one_task_out`.

    Attributes
    ----------
    errors : DataFrame
        The support sets, with one column more for each method: the mean squared error over the task's other rows, in
        the squared units of the target; infinite where the adaptation diverged.
    models : dict
        Task name -> method name -> what the method made of all the other tasks.
    tasks : TaskSet
    """

    errors: pd.DataFrame
    models: dict[Any, dict[str, Any]]
    tasks: TaskSet


def leave_one_task_out(
    methods: Mapping[str, Method],
    tasks: TasksLike,
    support_sets: pd.DataFrame,
    *,
    n_jobs: int = -1,
    progress: bool = False,
) -> LeaveOneOut:
    """Fit every method on all tasks but one, adapt it to given rows of that one, and predict its other rows.

    Parameters
    ----------
    methods : mapping of str to callable
        Name -> function from the other tasks to something with ``adapt(X, y)`` and ``predict(X)``.
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        Where rows have weights, ``adapt`` is given them as ``sample_weight``, and errors are weighted means.
    support_sets : DataFrame
        One row an adaptation: columns ``task`` (a name) and ``support`` (a tuple of row numbers within the task; empty
        for the prediction without adaptation); other columns are kept.
    n_jobs : int, default=-1
        Processes, one task each at a time; each computes on one thread.
    progress : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    LeaveOneOut

    Raises
    ------
    TypeError
        When `methods` is no mapping of names to functions.
    TaskError
        When `support_sets` lacks a column, or names rows that the task does not have.
    KeyError
        When it names a task that is not there.

    Notes
    -----
    Warnings of single adaptations (``OvershootWarning``, ``IdentifiabilityWarning``, ``UnlikelyTaskWarning``) are not
    repeated here.

    Examples
    --------
    >>> import pandas as pd
    >>> from metaest import MAMLRegressor
    >>> from metaest.diagnostics import leave_one_task_out, pooled
    >>> from metaest_datasets import load_orange
    >>> model = MAMLRegressor(max_iter=20, random_state=0)
    >>> sets = pd.DataFrame({"task": ["1", "2"], "support": [(1, 4), (1, 4)]})
    >>> methods = {"maml": model.fit, "pooled": lambda others: pooled(model, others)}
    >>> leave_one_task_out(methods, load_orange(), sets, n_jobs=1).errors.columns.tolist()
    ['task', 'support', 'maml', 'pooled']
    """
    tasks = tasks if isinstance(tasks, TaskSet) else TaskSet(tasks)
    if not isinstance(methods, Mapping) or not methods or not all(map(callable, methods.values())):
        raise TypeError(f"methods must map names to functions of the other tasks, got {methods!r}.")
    require_frame(support_sets, {"task": "task", "support": "support"}, "support_sets")
    for name, support in zip(support_sets["task"], support_sets["support"], strict=True):
        n_rows = len(tasks.task(name))
        if len(check_support(support, n_rows, f"support_sets: task {name!r}")) == n_rows:
            raise TaskError(
                f"support_sets: task {name!r}: its support holds all {n_rows} rows; none is left to predict."
            )
    wanted = set(support_sets["task"])
    held_out = [i for i, name in enumerate(tasks.names.tolist()) if name in wanted]
    jobs = (
        joblib.delayed(_one_task)(methods, tasks, i, support_sets[support_sets["task"] == tasks[i].name])
        for i in held_out
    )
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    with Bar(progress, len(held_out), "left out", "task") as bar:
        results = {}
        for i, result in zip(held_out, parallel(jobs), strict=True):
            results[tasks[i].name] = result
            bar.advance()
    errors = pd.concat([frame for frame, _ in results.values()]).sort_index()
    return LeaveOneOut(errors, {name: fitted for name, (_, fitted) in results.items()}, tasks)


def _one_task(
    methods: Mapping[str, Method], tasks: TaskSet, i: int, sets: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    others, task = tasks[np.delete(np.arange(len(tasks)), i)], tasks[i]
    # small networks are slower on several threads, and the left-out tasks fill the machine; a warning would be said
    # once for each adaptation, hundreds of times
    with one_thread(), quiet(OvershootWarning, IdentifiabilityWarning, UnlikelyTaskWarning):
        fitted = {name: method(others) for name, method in methods.items()}
        for name, model in fitted.items():
            if getattr(model, "_output_column", None) is not None:
                raise ValueError(
                    f"methods: {name!r} has several outputs, whose errors are in several units; predict tasks "
                    "that were left out and compare the errors of each output."
                )
        errors = _errors(fitted, task, sets)
    return sets.assign(**errors), fitted


def _errors(fitted: dict[str, Any], task: Task, sets: pd.DataFrame) -> dict[str, list[float]]:
    return {
        name: [_squared_error(model, task, np.array(support, dtype=int)) for support in sets["support"]]
        for name, model in fitted.items()
    }


def _squared_error(model: Any, task: Task, support: NDArray[Any]) -> float:
    query = np.setdiff1d(np.arange(len(task)), support)
    weight = None if task.sample_weight is None else np.asarray(task.sample_weight)
    try:
        weights = {} if weight is None else {"sample_weight": weight[support]}
        predictor = model.adapt(task.X[support], task.y[support], **weights) if len(support) else model
    except DivergenceError:
        return np.inf
    with np.errstate(over="ignore"):
        square = np.square(predictor.predict(task.X[query]) - task.y[query])
    beyond = ~np.isfinite(square).reshape(len(query), -1).all(axis=1)
    if beyond.any():
        row = query[beyond.argmax()]
        raise TaskError(f"task {task.name!r}: the squared error of row {row} is beyond 1.8e308; check the unit of y.")
    return float(square.mean() if weight is None else np.average(square, weights=weight[query]))
