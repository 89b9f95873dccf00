"""AdaptedGaussians: a Gaussian model of tasks conditioned on the rows of many tasks, in batches."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import require_flag
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.gaussian.adapted import AdaptedGaussian
from metaest.estimators.gaussian.conditioning import (
    Batch,
    conditioned_tasks,
    moments_before,
    moments_of_all,
    moments_of_tasks,
)
from metaest.estimators.gaussian.prior import Moments, TaskPrior
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import require_columns, tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.tasks import TaskSet

__all__ = ["AdaptedGaussians"]


class AdaptedGaussians(AdaptedPredictors[AdaptedGaussian]):
    """The predictors of many tasks, made by ``adapt_many``; a sequence in the order of the tasks.

    Attributes
    ----------
    tasks : TaskSet
        What was adapted to.
    guards_ : list of Guard or None
        What the guard kept of each adaptation, and why; None without ``guard=True``.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.

    Examples
    --------
    >>> from metaest import HierarchicalGPRegressor
    >>> from metaest_datasets import load_orange
    >>> trees = load_orange()
    >>> model = HierarchicalGPRegressor(random_state=0).fit(trees[:3])
    >>> adapted = model.adapt_many(trees[3:])
    >>> adapted
    AdaptedGaussians(2 tasks)
    >>> adapted.predict([[200.0], [900.0]]).shape
    (2, 2)
    >>> adapted[1]
    AdaptedGaussian(1 feature, adapted on 7 rows)
    """

    # attributes that a file holds
    _written_fields = ("_prior", "_conformal", "tasks", "_judge", "guards_", "n_features_in_", "feature_names_in_")

    def __init__(
        self,
        prior: TaskPrior,
        tasks: TaskSet,
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
        *,
        verbose: bool = False,
    ) -> None:
        self._prior, self.tasks, self._judge, self._conformal = prior, tasks, judge, conformal
        self.n_features_in_ = tasks.X.shape[1]
        if feature_names is not None:
            self.feature_names_in_ = feature_names
        self._batches = conditioned_tasks(prior, tasks, verbose=verbose)
        self.guards_: list[Guard] | None = None if judge is None else judge.judge_tasks(tasks)

    @cached_property
    def _batches(self) -> list[Batch]:
        """The tasks given their rows, some at a time."""
        return conditioned_tasks(self._prior, self.tasks)

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name != "_batches"}

    def _one(self, i: int) -> AdaptedGaussian:
        task = self.tasks[i]
        return AdaptedGaussian._adapt(
            self._prior,
            task.X,
            task.y.reshape(-1),
            Columns(self).names,
            self._judge,
            self._conformal,
            None if self.guards_ is None else self.guards_[i],
        )

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the same rows for every task, or each task's own rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or TaskSet, sequence of Task \
or of (X, y) pairs, or mapping of name to (X, y)
            Tasks must be those that were adapted to, in the same order; their rows may be others.
        return_std : bool, default=False
            Whether to return standard deviations of observations as well, noise included.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows), or (n_rows_of_all_tasks,) for a TaskSet, or two of them

        Raises
        ------
        TaskError
            When the columns are not those of the fit, the tasks are others, or a prediction is not finite.
        """
        require_flag(return_std, "return_std")
        columns, spread = Columns(self), bool(return_std)
        X = tasks_by_name(X)
        if isinstance(X, TaskSet):
            columns.check(require_columns(X), X.X.shape[1:], "predict")
            self._require_same(X)
            adapted = moments_of_tasks(self._batches, self.tasks, X, spread=spread)
            rows, task = X.X, np.repeat(np.arange(len(self)), X.sizes)
        else:
            rows, task = columns.rows(X, "predict"), np.arange(len(self))[:, None]
            adapted = moments_of_all(self._batches, rows, self.tasks, spread=spread)
        mean, variance = self._kept(adapted, rows, task, spread=spread)
        return mean if variance is None else (mean, np.sqrt(variance + self._prior.noise_variance))

    def _kept(self, adapted: Moments, X: NDArray[Any], task: NDArray[np.intp], *, spread: bool) -> Moments:
        """Return moments on the share of the way from the population's that each task's guard keeps."""
        if self.guards_ is None or all(guard.share == 1 for guard in self.guards_):
            return adapted
        share = np.array([guard.share for guard in self.guards_])[task]
        return adapted.mixed(moments_before(self._prior, X, "predict", spread=spread), share)
