"""AdaptedEquations: the equation with the constants of many tasks, and adaptations of many tasks in batches."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.batches import chunks, one_task, rows_of, whole
from metaest.estimators.equations.censoring import as_recorded, tasks_just_below
from metaest.estimators.equations.checks import (
    arranged,
    check_rows,
    check_tasks,
    check_values,
    require_finite_curve,
)
from metaest.estimators.equations.correlation import check_times_of_tasks
from metaest.estimators.equations.covariates import TOLERANCE
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.row_accuracy import relative_accuracy
from metaest.estimators.equations.tables import many_table
from metaest.estimators.guard import Answers, FittedGuard, Guard
from metaest.estimators.inputs import tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.exceptions import DivergenceError, TaskError
from metaest.functional import Observations
from metaest.functional.progress import progress
from metaest.tasks import TaskSet, split_tasks

__all__ = [
    "AdaptedEquations",
    "guard_answers",
    "posterior_of_many",
    "query_predictions",
    "with_answers_of",
]


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
        Both no lower than the limit of quantification in rows whose observation lies below it.
    rows : ndarray of shape (n_query_rows,)
        Their row numbers in the TaskSet.

    Raises
    ------
    DivergenceError
        When a prediction is not finite; the message names the task.
    """
    limit = fitted.limit
    tasks = tasks_just_below(limit, tasks)
    check_times_of_tasks(fitted.model.noise.correlation, tasks)
    drawn = split_tasks(tasks, np.arange(len(tasks)), support_size, split, rng)
    design = fitted.design_of_tasks(tasks)
    predictions, numbers = [], []
    for chosen in progress(chunks(tasks.sizes), verbose, "tasks scored", "task", len(tasks), len):
        support = rows_of(tasks, drawn.support[chosen], drawn.support_mask[chosen])
        query = rows_of(tasks, drawn.query[chosen], drawn.query_mask[chosen])
        posterior = fitted.posterior(design.take(torch.from_numpy(chosen)), support)
        with torch.no_grad():
            curves = fitted.model.curve(posterior.phi, query).T.numpy()
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
    return truth, as_recorded(limit, truth, prediction), rows


def guard_answers(fitted: FittedEquation, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for a guard to compare with the population."""
    truth, adapted, rows = query_predictions(fitted, tasks, None, "random", np.random.default_rng(0))
    center, observations = fitted.point(fitted.design_of_tasks(tasks)).center, whole(tasks)
    with torch.no_grad():
        curves = fitted.model.curve(center, observations)
        log_sigma = fitted.population.log_sigma
        accuracy = relative_accuracy(fitted.model.noise, curves, log_sigma, observations)
    real = observations.mask.T.numpy() > 0
    population = as_recorded(fitted.limit, truth, curves.T.numpy()[real][rows])
    weight = None if accuracy is None else accuracy.T.numpy()[real][rows]
    return Answers(truth[:, None], adapted[:, None], population[:, None], rows, weight)


def with_answers_of(guard: FittedGuard, fitted: FittedEquation) -> FittedGuard:
    """Return the same guard that adapts as `fitted` does, such as in machine code."""
    return replace(guard, answer=partial(guard_answers, fitted))


class AdaptedEquations(AdaptedPredictors[AdaptedEquation]):
    """The predictors of many tasks, adapted in one call by ``adapt_many``; a sequence in the order of the tasks.

    Attributes
    ----------
    params_ : DataFrame
        One row a task: the value of each constant, ``<name>_standard_error``, ``<name>_shrinkage`` (the share of the
        variance between tasks that the task's rows leave) and ``status``.
    tasks : TaskSet
        The tasks that were adapted to.
    guards_ : list of Guard or None
        The guard's decision on each adaptation, and why; None without ``guard=True``.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import make_sinusoids
    >>> def wave(X, amplitude, phase):
    ...     return amplitude * torch.sin(X[:, 0] + phase)
    >>> tasks = make_sinusoids(60, 10, noise=0.1, random_state=0)
    >>> constants = {"amplitude": Parameter(2.0, lower=0), "phase": Parameter(1.5)}
    >>> model = EquationRegressor(wave, constants).fit(tasks[:30])
    >>> adapted = model.adapt_many(tasks[30:])
    >>> adapted
    AdaptedEquations(30 tasks)
    >>> adapted.predict([[0.0], [1.0]]).shape
    (30, 2)
    """

    # attributes that a file holds
    _written_fields = (
        "_fitted", "_posterior", "tasks", "_unguarded", "_judge", "guards_", "_conformal", "n_features_in_",
        "feature_names_in_",
    )  # fmt: skip

    def __init__(
        self,
        fitted: FittedEquation,
        posterior: Posterior,
        tasks: TaskSet,
        feature_names: Any = None,
        conformal: Calibration | None = None,
        judge: FittedGuard | None = None,
        guards: list[Guard] | None = None,
    ) -> None:
        self._fitted, self._posterior, self.tasks = fitted, posterior, tasks
        self._unguarded, self._judge = posterior, judge
        self.guards_ = guards
        if guards is not None:
            self._keep_shares(guards)
        self._conformal = conformal
        self.n_features_in_ = tasks.X.shape[1]
        if feature_names is not None:
            self.feature_names_in_ = feature_names

    def _one(self, i: int) -> AdaptedEquation:
        task = self.tasks[i]
        names = Columns(self).names
        single = self._unguarded.take(slice(i, i + 1))
        return AdaptedEquation._make(
            self._fitted,
            single,
            task.X,
            task.y.reshape(-1),
            self.n_features_in_,
            names,
            self._judge,
            self._conformal,
            weight=None if task.sample_weight is None else np.asarray(task.sample_weight),
            guard=None if self.guards_ is None else self.guards_[i],
        )

    def _keep_shares(self, guards: list[Guard]) -> None:
        """Mix each posterior with the prior, by the share that the guard says."""
        share = torch.tensor([guard.share for guard in guards], dtype=torch.float64)
        if bool((share < 1).any()):
            prior = self._fitted.prior(self._fitted.design_of_tasks(self.tasks))
            self._posterior = self._fitted.mixed(self._posterior, prior, share)

    @cached_property
    def _params(self) -> pd.DataFrame:
        return many_table(self._fitted, self._posterior, self.tasks.names)

    @property
    @in_plain_modes
    def params_(self) -> pd.DataFrame:
        """The constants of every task, one row a task."""
        return self._params.copy()

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the same rows for every task, or each task's own rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or TaskSet, sequence of Task \
or of (X, y) pairs, or mapping of name to (X, y)
            Tasks must be those that were adapted to, in the same order; their rows may be others.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows), or (n_rows_of_all_tasks,) for a TaskSet

        Raises
        ------
        TaskError
            When the columns are not those of the fit, the tasks are others, or the equation is not finite in a row.
        """
        X = tasks_by_name(X)
        if isinstance(X, TaskSet):
            return self._predict_tasks(X)
        columns = Columns(self)
        X, further = arranged(columns.names, self._fitted.function, X, "predict")
        rows = columns.rows(X, "predict")
        rows = rows if further is None else np.column_stack([rows, further])
        check_rows(self._fitted.function, rows, None, "predict")
        if self._fitted.covariates.columns:
            raise TaskError("predict: with covariates every task has rows of its own; pass a TaskSet.")
        sizes = np.full(len(self), len(rows))
        return np.concatenate([self._curves(chosen, one_task(rows, copies=len(chosen))).T for chosen in chunks(sizes)])

    def _predict_tasks(self, tasks: TaskSet) -> NDArray[Any]:
        Columns(self).check(tasks, tasks.X.shape[1:], "predict")
        check_rows(self._fitted.function, tasks.X, None, "predict")
        self._require_same(tasks)
        before, now = (self._fitted.covariates.of_tasks(t) for t in (self.tasks, tasks))
        other = np.argwhere(np.abs(now - before) > TOLERANCE * np.abs(before))
        if len(other):
            i, j = other[0]
            raise TaskError(
                f"task {tasks.name_of(i)!r}: column {self._fitted.covariates.labels[j]!r} is a covariate; "
                f"it is {now[i, j]:g}, but {before[i, j]:g} in the rows adapted to."
            )
        result = np.empty(len(tasks.X))
        for chosen in chunks(tasks.sizes):
            observations = whole(tasks, chosen)
            curves = self._curves(chosen, observations).T
            real = observations.mask.T.numpy() > 0
            rows = tasks.offsets[:-1][chosen][:, None] + np.arange(real.shape[1])
            result[rows[real]] = curves[real]
        return result

    def _curves(self, chosen: NDArray[np.intp], observations: Observations) -> NDArray[Any]:
        with torch.no_grad():
            phi = self._posterior.phi[:, torch.from_numpy(chosen)]
            curves = np.asarray(self._fitted.model.curve(phi, observations).numpy())
        X, real = observations.by_task().numpy(), observations.mask.numpy() > 0
        for i in np.flatnonzero((~np.isfinite(curves) & real).any(axis=0)):
            where = f"task {self.tasks.name_of(int(chosen[i]))!r}"
            function = self._fitted.function
            require_finite_curve(function, X[i, real[:, i]], curves[real[:, i], i], where)
        return curves
