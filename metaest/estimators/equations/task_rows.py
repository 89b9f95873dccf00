"""The rows of one task as the equation takes them, checked, and the adaptation to them."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators import inputs
from metaest.estimators.columns import Columns
from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.censoring import check_bounds, coded, coded_tasks, warn_of_values_at_limit
from metaest.estimators.equations.checks import (
    arranged,
    check_rows,
    require_positive,
    require_positive_tasks,
    require_usable,
    warn_of_adaptation,
)
from metaest.estimators.equations.correlation import check_times
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.noises import check_outputs, numbered_outputs, tasks_with_numbers
from metaest.estimators.equations.outcomes import (
    check_outcomes,
    check_outcomes_of_tasks,
    check_predicted,
    refuse_outcome,
)
from metaest.exceptions import TaskError
from metaest.functional import SolveCode
from metaest.functional.equations.censoring import Bounds
from metaest.tasks import TaskSet
from metaest.tasks.reading import rows_of

__all__ = [
    "adapt_rows",
    "arranged_tasks",
    "limits_of_tasks",
    "prepared",
    "refuse_guard",
    "refuse_levels",
    "require_finite_tasks",
    "rows_to_predict",
    "support_rows",
    "support_tasks",
]

# targets times this must have finite squares: the search squares y in units of its standard deviation
SQUARE_MARGIN = 1e50


def support_rows(
    columns: Columns, fitted: FittedEquation, X: Any, y: Any, sample_weight: Any, where: str
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None, bool]:
    """Return the rows of one task that have a weight above zero, as the equation takes them.

    Parameters
    ----------
    columns : Columns
        Those of the fit.
    fitted : FittedEquation
    X, y, sample_weight
        As ``adapt`` takes them.
    where : str
        How messages begin.

    Returns
    -------
    X, y, weight : ndarray, ndarray, ndarray or None
    further : bool
        Whether X has further columns that the fit did not have.
    """
    X, further = arranged(columns.names, fitted.function, _numbered(fitted, X, where), where)
    rows, target = columns.support_rows(X, y, where, single_target=True, n_outputs=1)
    rows = rows if further is None else np.column_stack([rows, further])
    warn_of_values_at_limit(fitted.bounds, rows, target, where)
    check_bounds(fitted.bounds, rows, target, where, logarithmic=fitted.model.noise.logarithmic)
    target = coded(fitted.bounds, rows, target.reshape(-1))
    check_outputs(fitted.model.noise, rows, where)
    rows, target, weight = fitted.row_accuracy.weighted_rows(rows, target, sample_weight, where)
    if fitted.model.noise.logarithmic:
        require_positive(target, where)
    check_outcomes(fitted.model.noise, rows, target, where)
    if weight is not None:
        refuse_outcome(fitted.model.noise, f"{where}, sample_weight", "leave the weights out")
    return rows, target, weight, further is not None


def _numbered(fitted: FittedEquation, X: Any, where: str) -> Any:
    """Return rows with numbers for outputs in words."""
    return numbered_outputs(fitted.model.noise, rows_of(X, where, "X"), where) if fitted.outputs else X


def support_tasks(
    columns: Columns, fitted: FittedEquation, tasks: Any, sample_weight: Any, where: str = "adapt_many"
) -> TaskSet:
    """Return the tasks of ``adapt_many``, or another method, as the equation takes them; `columns` are of the fit."""
    refuse_levels(fitted, where)
    taken = inputs.require_columns(inputs.as_tasks(tasks, weighs=True, sample_weight=sample_weight))
    if taken.sample_weight is None:
        fitted.row_accuracy.warn_of_ones(where)
    taken = arranged_tasks(columns, fitted, taken, where)
    inputs.check_targets(taken.y, True, 1, where)
    warn_of_values_at_limit(fitted.bounds, taken.X, taken.y, where)
    return prepared(fitted, taken)


def refuse_levels(fitted: FittedEquation, where: str) -> None:
    """Raise a ValueError where units within tasks are not counted yet."""
    if fitted.levels is not None:
        raise ValueError(f"{where} is not there yet for models with levels=; fit one without levels for it.")


def refuse_guard(guarded: bool, where: str, covariates: Any = None) -> None:
    """Raise a ValueError where an adaptation to units is to be guarded, or is given covariates apart from rows."""
    if guarded:
        raise ValueError(f"{where}: the guard does not judge units within tasks yet; pass guard=False.")
    if covariates is not None:
        raise ValueError(f"{where}: with levels the rows of a unit bring its covariates; covariates= is not taken.")


def arranged_tasks(columns: Columns, fitted: FittedEquation, tasks: TaskSet, where: str) -> TaskSet:
    """Return tasks with the columns of the fit, checked, and further ones that the equation takes beside them."""
    names = tasks.feature_names
    frame, further = tasks.X, None
    if names is not None and (columns.names is None or list(names) != columns.names.tolist()):
        given = pd.DataFrame(tasks.X, columns=list(names))
        frame, further = arranged(columns.names, fitted.function, given, where)
    if further is None:
        columns.check(tasks, tasks.X.shape[1:], where)
        return tasks
    columns.check(frame, np.shape(frame)[1:], where)
    return TaskSet.from_checked(
        np.column_stack([frame, further]), tasks.y, tasks.offsets, tasks.names, sample_weight=tasks.sample_weight
    )


def prepared(fitted: FittedEquation, tasks: TaskSet) -> TaskSet:
    """Return tasks with one number for all observations beyond a limit; what the noise does not allow is refused."""
    tasks = tasks_with_numbers(fitted.model.noise, tasks)
    for task in tasks if fitted.outputs else ():
        check_outputs(fitted.model.noise, task.X, f"task {task.name!r}")
    tasks = limits_of_tasks(fitted.bounds, tasks, logarithmic=fitted.model.noise.logarithmic)
    if fitted.model.noise.logarithmic:
        require_positive_tasks(tasks)
    check_outcomes_of_tasks(fitted.model.noise, tasks)
    if tasks.sample_weight is not None:
        refuse_outcome(fitted.model.noise, "sample_weight", "leave the weights out")
    return tasks


def limits_of_tasks(bounds: Bounds, tasks: TaskSet, *, logarithmic: bool) -> TaskSet:
    """Return tasks with one number for all observations beyond a limit; limits that contradict are refused."""
    for task in tasks if bounds.by_column else ():
        check_bounds(bounds, task.X, task.y, f"task {task.name!r}", logarithmic=logarithmic)
    return coded_tasks(bounds, tasks)


def rows_to_predict(columns: Columns, fitted: FittedEquation, X: Any, where: str) -> NDArray[Any]:
    """Return rows as the equation takes them, whatever their covariates; `columns` are those of the fit."""
    if fitted.levels is not None:
        _, X = fitted.levels.columns.extended(X, where)
        X = _numbered(fitted, X, where)
        further, rows = None, fitted.levels.columns.split(columns.rows(X, where))[1]
    else:
        X, further = arranged(columns.names, fitted.function, _numbered(fitted, X, where), where)
        rows = columns.rows(X, where)
    rows = rows if further is None else np.column_stack([rows, further])
    check_rows(fitted.function, rows, None, where)
    fitted.row_accuracy.check(rows, where)
    check_outputs(fitted.model.noise, rows, where)
    check_predicted(fitted.model.noise, rows, where)
    return np.asarray(rows)


def adapt_rows(
    fitted: FittedEquation, X: NDArray[Any], y: NDArray[Any], where: str, weight: NDArray[np.float64] | None = None
) -> Posterior:
    """Adapt to the rows of one task, with an error where the equation fails and warnings where the rows say little."""
    check_rows(fitted.function, X, y, where)
    fitted.row_accuracy.check(X, where)
    check_times(fitted.model.noise.correlation, X, where)
    design = fitted.design(fitted.covariates.of_rows(X, where, equation=fitted.function)[None])
    posterior = fitted.posterior(design, one_task(X, y, weight=weight))
    if int(posterior.code[0]) == SolveCode.NOT_FINITE:
        _refuse(fitted, fitted.point(design).center, X, y, weight, where)
    warn_of_adaptation(fitted, posterior, len(X), where)
    return posterior


def require_finite_tasks(fitted: FittedEquation, posterior: Posterior, tasks: TaskSet, where: str) -> None:
    """Raise the TaskError of `adapt` for the first task whose search found no finite likelihood; it names the task."""
    lost = torch.nonzero(posterior.code == SolveCode.NOT_FINITE)[:, 0].tolist()
    if lost:
        i, center = lost[0], fitted.point(fitted.design_of_tasks(tasks)).center
        task, others = tasks[i], len(lost) - 1
        several = f" (and {others} other{'s' * (others > 1)})" * (others > 0)
        name = f"{where}: task {tasks.name_of(i)!r}{several}"
        _refuse(fitted, center[:, i : i + 1], task.X, task.y, task.sample_weight, name)


def _refuse(
    fitted: FittedEquation,
    center: Tensor,
    X: NDArray[Any],
    y: NDArray[Any],
    weight: NDArray[np.float64] | None,
    where: str,
) -> None:
    """Raise a TaskError for rows of a task at which nothing finite was found."""
    require_usable(fitted.model, center, X, where)
    with np.errstate(over="ignore"):
        squared = np.square(y * SQUARE_MARGIN) * (1.0 if weight is None else weight.reshape(-1, *[1] * (y.ndim - 1)))
    if not np.isfinite(squared).all():
        row = int(np.argmax(squared.reshape(len(y), -1).max(axis=1)))
        weighted = "" if weight is None else f" with sample_weight {weight[row]:.3g}"
        raise TaskError(
            f"{where}: y is {y[row]} in support row {row}{weighted}, too large for its square; check its unit."
        )
    raise TaskError(f"{where}: the equation is not finite near the population's constants, in some row of X.")
