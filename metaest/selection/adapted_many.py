"""AdaptedAutos: the chosen models adapted to many tasks at once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import n_features_of, tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.selection.adapted import AdaptedAuto
from metaest.selection.answers import adapted_many, of_rows, of_tasks
from metaest.selection.ensemble import Ensemble
from metaest.tasks import TaskSet
from metaest.tasks.record import read_only

__all__ = ["AdaptedAutos"]


class AdaptedAutos(AdaptedPredictors[AdaptedAuto]):
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
    """

    # attributes that a file holds
    _written_fields = (
        "_ensemble", "_conformal", "tasks", "_judge", "guards_", "n_features_in_", "feature_names_in_",
        "feature_shape_",
    )  # fmt: skip

    def __init__(
        self,
        ensemble: Ensemble,
        tasks: TaskSet,
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
    ) -> None:
        self._ensemble, self.tasks, self._judge, self._conformal = ensemble, tasks, judge, conformal
        self.n_features_in_ = n_features_of(tasks.X)
        if tasks.X.ndim > 2:
            self.feature_shape_ = tasks.X.shape[1:]
        if feature_names is not None:
            self.feature_names_in_ = feature_names
        self._predictors  # noqa: B018 - errors are those of adapt_many, not of the first prediction
        self.guards_: list[Guard] | None = None if judge is None else judge.judge_tasks(tasks)

    @cached_property
    def _predictors(self) -> tuple[Any, ...]:
        """The predictors of every member."""
        return tuple(adapted_many(member.name, member.model, self.tasks) for member in self._ensemble.members)

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name != "_predictors"}

    def _one(self, i: int) -> AdaptedAuto:
        task, n_features = self.tasks[i], self.n_features_in_
        assert n_features is not None
        adapted = AdaptedAuto(
            self._ensemble,
            task.X,
            task.y,
            n_features,
            None if self.guards_ is None else self.guards_[i],
            self._judge,
            self._conformal,
        )
        adapted.__dict__["_predictors"] = tuple(predictors[i] for predictors in self._predictors)
        for name in ("feature_names_in_", "feature_shape_"):
            if hasattr(self, name):
                object.__setattr__(adapted, name, getattr(self, name))
        return adapted

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
        ndarray of shape (n_tasks, n_rows) or (n_tasks, n_rows, n_targets); for a TaskSet (n_rows_of_all_tasks,) or \
(n_rows_of_all_tasks, n_targets)

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or the tasks are others.
        """
        X, columns, shape = tasks_by_name(X), Columns(self), self._ensemble.shape
        members = list(zip(self._ensemble.members, self._predictors, strict=True))
        if isinstance(X, TaskSet):
            columns.check(X, X.X.shape[1:], "predict")
            self._require_same(X)
            rows, task = X.X, np.repeat(np.arange(len(self)), X.sizes)
            parts = [of_tasks(member.name, predictors, X, shape) for member, predictors in members]
        else:
            rows, task = read_only(columns.rows(X, "predict").view()), np.arange(len(self))[:, None]
            parts = [of_rows(member.name, predictors, rows, shape) for member, predictors in members]
        adapted = np.asarray(sum(w * part for w, part in zip(self._ensemble.weights, parts, strict=True)))
        if self.guards_ is None or all(guard.share == 1 for guard in self.guards_):
            return adapted
        population = self._ensemble.predict(rows)
        share = np.array([guard.share for guard in self.guards_])[task]
        share = share.reshape(share.shape + (1,) * (adapted.ndim - share.ndim))
        return np.asarray(population + share * (adapted - population))
