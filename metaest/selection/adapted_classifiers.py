"""AdaptedAutoClassifiers: the chosen classifiers adapted to many tasks at once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import n_features_of, tasks_by_name
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.selection.adapted_classifier import AdaptedAutoClassifier
from metaest.selection.answers import adapted_many
from metaest.selection.class_ensemble import ClassEnsemble
from metaest.selection.labels import classes_of
from metaest.tasks import TaskSet

__all__ = ["AdaptedAutoClassifiers"]


class AdaptedAutoClassifiers(AdaptedPredictors[AdaptedAutoClassifier]):
    """The classifiers of many tasks, made by ``adapt_many``; a sequence in the order of the tasks.

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
        "_ensemble", "tasks", "_judge", "guards_", "n_features_in_", "feature_names_in_", "feature_shape_",
    )  # fmt: skip

    def __init__(
        self,
        ensemble: ClassEnsemble,
        tasks: TaskSet,
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
    ) -> None:
        self._ensemble, self.tasks, self._judge = ensemble, tasks, judge
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

    def _one(self, i: int) -> AdaptedAutoClassifier:
        task, n_features, labels = self.tasks[i], self.n_features_in_, self._ensemble.labels
        assert n_features is not None
        y = task.y.ravel()
        adapted = AdaptedAutoClassifier(
            self._ensemble,
            task.X,
            y,
            n_features,
            None if self.guards_ is None else self.guards_[i],
            self._judge,
            classes_=classes_of(labels, y, f"task {task.name!r}"),
        )
        adapted.__dict__["_predictors"] = tuple(predictors[i] for predictors in self._predictors)
        for name in ("feature_names_in_", "feature_shape_"):
            if hasattr(self, name):
                object.__setattr__(adapted, name, getattr(self, name))
        return adapted

    @in_plain_modes
    def predict_proba(self, X: Any) -> Any:
        """Predict probabilities of the same rows for every task, or of each task's own rows.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width), or \
TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
            Tasks must be those that were adapted to, in the same order; their rows may be others.

        Returns
        -------
        list of ndarray of shape (n_rows, n_classes)
            One array a task, in the order of its ``classes_``.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or the tasks are others.
        """
        return [one.predict_proba(rows) for one, rows in zip(self, self._rows(X), strict=True)]

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels of the same rows for every task, or of each task's own rows.

        Parameters
        ----------
        X : as `predict_proba` takes it

        Returns
        -------
        ndarray of shape (n_tasks, n_rows); for a TaskSet (n_rows_of_all_tasks,)

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or the tasks are others.
        """
        X = tasks_by_name(X)
        parts = [one.predict(rows) for one, rows in zip(self, self._rows(X), strict=True)]
        return np.concatenate(parts) if isinstance(X, TaskSet) else np.stack(parts)

    def _rows(self, X: Any) -> list[NDArray[Any]]:
        """Return the rows to predict for each task, checked."""
        X, columns = tasks_by_name(X), Columns(self)
        if isinstance(X, TaskSet):
            columns.check(X, X.X.shape[1:], "predict")
            self._require_same(X)
            return [task.X for task in X]
        return [columns.rows(X, "predict")] * len(self)
