"""AdaptedEquations: the equation with the constants of many tasks, and adaptations of many tasks in batches."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.batches import chunks, one_task, whole
from metaest.estimators.equations.checks import (
    arranged,
    check_rows,
    require_finite_curve,
)
from metaest.estimators.equations.covariates import TOLERANCE
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.tables import many_table
from metaest.estimators.equations.task_rows import arranged_tasks
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.exceptions import TaskError
from metaest.functional import Observations
from metaest.tasks import TaskSet

__all__ = ["AdaptedEquations"]


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
        self.n_features_in_ = tasks.X.shape[1] if feature_names is None else len(feature_names)
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
        tasks = arranged_tasks(Columns(self), self._fitted, tasks, "predict")
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
            log_sigma = self._fitted.population.log_sigma
            curves = np.asarray(self._fitted.model.predicted(phi, log_sigma, observations).numpy())
        X, real = observations.by_task().numpy(), observations.mask.numpy() > 0
        for i in np.flatnonzero((~np.isfinite(curves) & real).any(axis=0)):
            where = f"task {self.tasks.name_of(int(chosen[i]))!r}"
            function = self._fitted.function
            require_finite_curve(function, X[i, real[:, i]], curves[real[:, i], i], where)
        return curves
