"""Adaptations of many tasks in batches: their posteriors, predictions of their query rows, a guard's answers."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.estimators.equations.batches import chunks, rows_of, whole
from metaest.estimators.equations.censoring import as_recorded
from metaest.estimators.equations.checks import check_tasks, check_values, warn_of_many
from metaest.estimators.equations.correlation import check_times_of_tasks
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.row_accuracy import relative_accuracy
from metaest.estimators.equations.task_rows import prepared, require_finite_tasks
from metaest.estimators.guard import Answers, FittedGuard
from metaest.exceptions import DivergenceError
from metaest.functional.progress import progress
from metaest.tasks import TaskSet, split_tasks

__all__ = ["adapt_tasks", "guard_answers", "posterior_of_many", "query_predictions", "with_answers_of"]


def posterior_of_many(fitted: FittedEquation, tasks: TaskSet, *, verbose: bool = False) -> Posterior:
    """Adapt to all rows of every task, a bounded number of tasks at a time; `verbose` shows a progress bar."""
    check_tasks(fitted.function, tasks)
    fitted.row_accuracy.check_tasks(tasks)
    check_times_of_tasks(fitted.model.noise.correlation, tasks)
    design = fitted.design_of_tasks(tasks)
    parts, order = [], []
    for chosen in progress(chunks(tasks.sizes), verbose, "adaptations", "task", len(tasks), len):
        parts.append(fitted.posterior(design.take(torch.from_numpy(chosen)), whole(tasks, chosen)))
        order.append(chosen)
    joined = parts[0] if len(parts) == 1 else Posterior.join(parts)
    numbers = np.concatenate(order)
    if (np.diff(numbers) == 1).all():
        return joined
    return joined.take(torch.from_numpy(np.argsort(numbers)))


def adapt_tasks(
    fitted: FittedEquation, compiled: FittedEquation, tasks: TaskSet, *, verbose: bool = False
) -> Posterior:
    """Adapt to all rows of every task, with the errors and warnings of one `adapt` a task.

    Parameters
    ----------
    fitted : FittedEquation
    compiled : FittedEquation
        The same, as it adapts to so many rows.
    tasks : TaskSet
    verbose : bool, default=False
        Whether to show a progress bar.
    """
    posterior = posterior_of_many(compiled, tasks, verbose=verbose)
    require_finite_tasks(fitted, posterior, tasks, "adapt_many")
    warn_of_many(fitted, posterior, tasks.names)
    return posterior


def query_predictions(
    fitted: FittedEquation,
    tasks: TaskSet,
    support_size: Any,
    split: str,
    rng: np.random.Generator,
    *,
    verbose: bool = False,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

    Returns
    -------
    truth, prediction : ndarray of shape (n_query_rows,)
        Equal where both lie beyond the same limit.
    rows : ndarray of shape (n_query_rows,)
        Their row numbers in the TaskSet.

    Raises
    ------
    DivergenceError
        When a prediction is not finite; the message names the task.
    """
    tasks = prepared(fitted, tasks)
    check_times_of_tasks(fitted.model.noise.correlation, tasks)
    drawn = split_tasks(tasks, np.arange(len(tasks)), support_size, split, rng)
    design = fitted.design_of_tasks(tasks)
    predictions, numbers = [], []
    for chosen in progress(chunks(tasks.sizes), verbose, "tasks scored", "task", len(tasks), len):
        support = rows_of(tasks, drawn.support[chosen], drawn.support_mask[chosen])
        query = rows_of(tasks, drawn.query[chosen], drawn.query_mask[chosen])
        posterior = fitted.posterior(design.take(torch.from_numpy(chosen)), support)
        with torch.no_grad():
            curves = fitted.model.predicted(posterior.phi, fitted.population.log_sigma, query).T.numpy()
        mask = drawn.query_mask[chosen]
        bad = np.flatnonzero((~np.isfinite(curves) & mask).any(axis=1))
        if len(bad):
            name = tasks.name_of(int(chosen[bad[0]]))
            rows = drawn.query[chosen[bad[0]]][drawn.query_mask[chosen[bad[0]]]]
            values = curves[bad[0]][mask[bad[0]]]
            check_values(fitted.function, tasks.X[rows], values, f"task {name!r}")
            raise DivergenceError(f"task {name!r}: the equation is not finite in a row that is to be predicted.")
        predictions.append(curves[mask])
        numbers.append(drawn.query[chosen][mask])
    rows = np.concatenate(numbers)
    truth, prediction = tasks.y[rows].astype(np.float64).reshape(-1), np.concatenate(predictions)
    return truth, as_recorded(fitted.bounds, tasks.X[rows], truth, prediction), rows


def guard_answers(fitted: FittedEquation, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for a guard to compare with the population."""
    truth, adapted, rows = query_predictions(fitted, tasks, None, "random", np.random.default_rng(0))
    center, observations = fitted.point(fitted.design_of_tasks(tasks)).center, whole(tasks)
    with torch.no_grad():
        log_sigma = fitted.population.log_sigma
        curves = fitted.model.predicted(center, log_sigma, observations)
        accuracy = relative_accuracy(fitted.model.noise, curves, log_sigma, observations)
    real = observations.mask.T.numpy() > 0
    population = as_recorded(fitted.bounds, tasks.X[rows], truth, curves.T.numpy()[real][rows])
    weight = None if accuracy is None else accuracy.T.numpy()[real][rows]
    return Answers(truth[:, None], adapted[:, None], population[:, None], rows, weight)


def with_answers_of(guard: FittedGuard, fitted: FittedEquation) -> FittedGuard:
    """Return the same guard that adapts as `fitted` does, such as in machine code."""
    return replace(guard, answer=partial(guard_answers, fitted))
