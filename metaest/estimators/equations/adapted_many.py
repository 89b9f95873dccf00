"""The equation with the constants of many tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import Tags, TargetTags

from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.batches import chunks, one_task, whole
from metaest.estimators.equations.checks import arranged, check_rows, check_tasks, require_finite_curve
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.estimators.equations.tables import many_table
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import as_rows, check_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import Stamped
from metaest.exceptions import TaskError
from metaest.functional import Observations
from metaest.functional.progress import progress
from metaest.tasks import TaskSet

__all__ = ["AdaptedEquations", "posterior_of_many"]


def posterior_of_many(calibrated: Calibrated, tasks: TaskSet, *, verbose: bool = False) -> Posterior:
    """Adapt to all rows of every task, a bounded number of tasks at a time; `verbose` shows a progress bar."""
    check_tasks(calibrated.model.equation.function, tasks)
    calibrated.weighing.check_tasks(tasks)
    covariates = calibrated.covariates.of_tasks(tasks)
    design = calibrated.covariates.design(covariates, len(calibrated.table))
    parts, order = [], []
    for chosen in progress(chunks(tasks.sizes), verbose, "adaptations", "task", len(tasks), len):
        parts.append(calibrated.posterior(design.take(torch.from_numpy(chosen)), whole(tasks, chosen)))
        order.append(chosen)
    joined = parts[0] if len(parts) == 1 else Posterior.join(parts)
    numbers = np.concatenate(order)
    if (np.diff(numbers) == 1).all():
        return joined
    return joined.take(torch.from_numpy(np.argsort(numbers)))


class AdaptedEquations(Stamped, Sequence[AdaptedEquation]):
    """The predictors of many tasks, adapted in one call by ``adapt_many``; a sequence in the order of the tasks.

    Attributes
    ----------
    params_ : DataFrame
        One row a task: the value of each constant, ``<name>_standard_error``, ``<name>_shrinkage`` (the share of the
        variance between tasks that the task's rows leave) and ``status``.
    tasks : TaskSet
        What was adapted to.
    guards_ : list of Guard or None
        What the guard kept of each adaptation, and why; None without ``guard=True``.

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

    _is_adapted = True
    # what a file holds of it
    _written_fields = (
        "_calibrated", "_posterior", "tasks", "_adapted", "_judge", "guards_", "_conformal", "n_features_in_",
        "feature_names_in_",
    )  # fmt: skip

    def __init__(
        self,
        calibrated: Calibrated,
        posterior: Posterior,
        tasks: TaskSet,
        model: Any,
        judge: FittedGuard | None = None,
        guards: list[Guard] | None = None,
    ) -> None:
        self._calibrated, self._posterior, self.tasks = calibrated, posterior, tasks
        self._adapted, self._judge = posterior, judge
        self.guards_ = guards
        if guards is not None:
            self._keep_shares(guards)
        self._conformal = model._conformal
        self.n_features_in_ = tasks.X.shape[1]
        names = getattr(model, "feature_names_in_", None)
        if names is not None:
            self.feature_names_in_ = names

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        i = range(len(self))[int(index)]
        task = self.tasks[i]
        names = getattr(self, "feature_names_in_", None)
        single = self._adapted.take(slice(i, i + 1))
        return AdaptedEquation._make(
            self._calibrated,
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

    def __iter__(self) -> Iterator[AdaptedEquation]:
        return (self[i] for i in range(len(self)))

    def __sklearn_tags__(self) -> Tags:
        return Tags(estimator_type=None, target_tags=TargetTags(required=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} task{'s' * (len(self) != 1)})"

    def _keep_shares(self, guards: list[Guard]) -> None:
        """Keep of each posterior the share that the guard says."""
        share = torch.tensor([guard.share for guard in guards], dtype=torch.float64)
        if bool((share < 1).any()):
            calibrated = self._calibrated
            covariates = calibrated.covariates.of_tasks(self.tasks)
            prior = calibrated.prior(calibrated.covariates.design(covariates, len(calibrated.table)))
            self._posterior = calibrated.mixed(self._posterior, prior, share)

    @cached_property
    def _params(self) -> pd.DataFrame:
        return many_table(self._calibrated, self._posterior, self.tasks.names)

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
        X : array-like or data frame of shape (n_rows, n_features), or TaskSet
            A TaskSet must hold the same tasks in the same order; its rows may be others.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows), or (n_rows_of_all_tasks,) for a TaskSet

        Raises
        ------
        TaskError
            When the columns are not those of the fit, the tasks are others, or the equation is not finite in a row.
        """
        if isinstance(X, TaskSet):
            return self._predict_tasks(X)
        X, further = arranged(self, self._calibrated.model.equation.function, X, "predict")
        rows, _, _ = as_rows(X, None, "predict")
        check_columns(self, X, rows.shape[1:], "predict")
        rows = rows if further is None else np.column_stack([rows, further])
        check_rows(self._calibrated.model.equation.function, rows, None, "predict")
        if self._calibrated.covariates.columns:
            raise TaskError("predict: with covariates every task has rows of its own; pass a TaskSet.")
        sizes = np.full(len(self), len(rows))
        return np.concatenate([self._curves(chosen, one_task(rows, copies=len(chosen))).T for chosen in chunks(sizes)])

    def _predict_tasks(self, tasks: TaskSet) -> NDArray[Any]:
        check_columns(self, tasks, tasks.X.shape[1:], "predict")
        check_rows(self._calibrated.model.equation.function, tasks.X, None, "predict")
        if tasks.names.tolist() != self.tasks.names.tolist():
            raise TaskError("predict: the tasks are not those adapted to, in the same order.")
        before, now = (self._calibrated.covariates.of_tasks(t) for t in (self.tasks, tasks))
        other = np.argwhere(np.abs(now - before) > 1e-6 * np.abs(before))
        if len(other):
            i, j = other[0]
            raise TaskError(
                f"task {tasks.name_of(i)!r}: column {self._calibrated.covariates.labels[j]!r} is a covariate; "
                f"it is {now[i, j]:g}, but {before[i, j]:g} in the rows adapted to."
            )
        result = np.empty(len(tasks.X))
        for chosen in chunks(tasks.sizes):
            observations = whole(tasks, chosen)
            curves = self._curves(chosen, observations).T
            kept = observations.mask.T.numpy() > 0
            rows = tasks.offsets[:-1][chosen][:, None] + np.arange(kept.shape[1])
            result[rows[kept]] = curves[kept]
        return result

    def _curves(self, chosen: NDArray[np.intp], observations: Observations) -> NDArray[Any]:
        with torch.no_grad():
            phi = self._posterior.phi[:, torch.from_numpy(chosen)]
            curves = np.asarray(self._calibrated.model.curve(phi, observations).numpy())
        X, real = observations.by_task().numpy(), observations.mask.numpy() > 0
        for i in np.flatnonzero((~np.isfinite(curves) & real).any(axis=0)):
            where = f"task {self.tasks.name_of(int(chosen[i]))!r}"
            function = self._calibrated.model.equation.function
            require_finite_curve(function, X[i, real[:, i]], curves[real[:, i], i], where)
        return curves
