"""IndicatorClassifier: classes by regressions on their indicators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from metaest.selection.labels import indicator_of
from metaest.tasks import Task, TaskSet, place_among

__all__ = ["AdaptedIndicators", "IndicatorClassifier", "Indicators"]

# least probability of a class: a regression may give less than nothing
LEAST = 0.01


@dataclass(frozen=True)
class Indicators:
    """Regressors of the indicators of classes, and their labels; with two classes, that of the second alone."""

    models: tuple[Any, ...]
    labels: NDArray[Any]

    def probabilities(self, predictors: Sequence[Any], X: NDArray[Any]) -> NDArray[np.float64]:
        """Return probabilities: predictions within [LEAST, 1], divided by their sum."""
        values = np.column_stack([np.asarray(one.predict(X), dtype=np.float64).reshape(len(X)) for one in predictors])
        if len(self.labels) == 2:
            values = np.column_stack([1 - values[:, 0], values[:, 0]])
        values = values.clip(LEAST, 1 - LEAST)
        return np.asarray(values / values.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class AdaptedIndicators:
    """A classifier of one task."""

    fitted: Indicators
    predictors: tuple[Any, ...]

    @property
    def classes_(self) -> NDArray[Any]:
        """All labels."""
        return self.fitted.labels

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Predict the probabilities of the classes, in their order."""
        return self.fitted.probabilities(self.predictors, X)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict labels."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class IndicatorClassifier(ClassifierMixin, BaseEstimator):
    """Labels that tasks share, by one regression over tasks for each class; a candidate of AutoMetaClassifier.

    The error that a regression on indicators makes small, the square, is that of Brier for probabilities.

    Parameters
    ----------
    regressor : estimator
        With ``fit(tasks)``, ``adapt`` and ``predict``.
    """

    _fitted: Indicators

    def __init__(self, regressor: Any) -> None:
        self.regressor = regressor

    def fit(self, tasks: TaskSet) -> Self:
        """Learn from checked tasks."""
        labels = np.unique(tasks.y)
        columns = range(len(labels)) if len(labels) != 2 else [1]
        models = [clone(self.regressor).fit(self._indicating(tasks, labels, k)) for k in columns]
        self._fitted = Indicators(tuple(models), labels)
        self.n_tasks_ = len(tasks)
        return self

    @property
    def classes_(self) -> NDArray[Any]:
        """All labels."""
        return self._fitted.labels

    def adapt(self, X: NDArray[Any], y: NDArray[Any]) -> AdaptedIndicators:
        """Adapt to the rows of one task."""
        place_among(y.ravel(), self.classes_, lambda row: "adapt")  # a class that is not met has no indicator
        truth = indicator_of(y, self.classes_)
        truth = truth if truth.shape[1] != 2 else truth[:, 1:]
        predictors = (model.adapt(X, truth[:, k]) for k, model in enumerate(self._fitted.models))
        return AdaptedIndicators(self._fitted, tuple(predictors))

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Predict probabilities before adaptation."""
        return self._fitted.probabilities(self._fitted.models, X)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict labels before adaptation."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    @staticmethod
    def _indicating(tasks: TaskSet, labels: NDArray[Any], k: int) -> TaskSet:
        """Return tasks whose targets are indicators of one class."""
        return TaskSet([Task(task.name, task.X, (task.y.ravel() == labels[k]).astype(float)) for task in tasks])
