"""Few-shot scores of labels: adapt on the support of each task, score the labels of its query."""

from abc import abstractmethod
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

from metaest.estimators.modes import in_plain_modes
from metaest.estimators.scoring import row_weights
from metaest.exceptions import filters_kept
from metaest.tasks import TaskSet

__all__ = ["FewShotScores", "Predicted"]


class Predicted(NamedTuple):
    """Query rows of all tasks.

    Attributes
    ----------
    truth, prediction : ndarray of int, shape (n_query_rows,)
        Classes, as numbered in the task.
    rows, task : ndarray of int, shape (n_query_rows,)
        Row numbers in the TaskSet, and task numbers.
    """

    truth: NDArray[np.intp]
    prediction: NDArray[np.intp]
    rows: NDArray[np.intp]
    task: NDArray[np.intp]


class FewShotScores:
    """The scores of a classifier of tasks; a subclass predicts their query rows."""

    scoring: str = "accuracy"

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        """Few-shot score: adapt on the support of each task, score the labels of its query.

        Parameters
        ----------
        X, y, groups : as in `fit`
        sample_weight : array-like of shape (n_rows,), optional; weights of flat query rows

        Returns
        -------
        float
            Accuracy, balanced accuracy or macro F1, as `scoring` says: over the query rows of all tasks together; the
            latter two, where each task has labels of its own, the mean over tasks.
        """
        tasks, predicted = self._predicted(X, y, groups)
        weight = (
            None
            if sample_weight is None
            else row_weights(sample_weight, groups, int(tasks.offsets[-1]))[predicted.rows]
        )
        if self.scoring == "accuracy" or self._shares_labels():
            return _score(self.scoring, predicted.truth, predicted.prediction, weight)
        ends = np.concatenate([[0], np.cumsum(np.bincount(predicted.task, minlength=len(tasks)))])
        weights = [None if weight is None else weight[a:b] for a, b in pairwise(ends)]
        each = [
            _score(self.scoring, predicted.truth[a:b], predicted.prediction[a:b], w)
            for (a, b), w in zip(pairwise(ends), weights, strict=True)
        ]
        return float(np.mean(each))

    @in_plain_modes
    def task_scores(self, X: Any, y: Any = None, groups: Any = None) -> pd.Series:
        """Few-shot score of each task by itself.

        Parameters
        ----------
        X, y, groups : as in `fit`

        Returns
        -------
        Series
            One number a task, of the kind `scoring` names, indexed by the task's name.
        """
        tasks, predicted = self._predicted(X, y, groups)
        ends = np.concatenate([[0], np.cumsum(np.bincount(predicted.task, minlength=len(tasks)))])
        scores = [
            _score(self.scoring, predicted.truth[a:b], predicted.prediction[a:b], None) for a, b in pairwise(ends)
        ]
        return pd.Series(scores, index=pd.Index(tasks.names, name="task", tupleize_cols=False), name=self.scoring)

    @abstractmethod
    def _predicted(self, X: Any, y: Any, groups: Any) -> tuple[TaskSet, Predicted]:
        """Return the tasks that were given, and truth and prediction of their query rows."""

    @abstractmethod
    def _shares_labels(self) -> bool:
        """Tell whether labels mean the same in every task."""


@filters_kept()
def _score(kind: str, truth: NDArray[Any], prediction: NDArray[Any], weight: NDArray[Any] | None) -> float:
    if kind == "accuracy":
        return float(accuracy_score(truth, prediction, sample_weight=weight))
    if kind == "f1_macro":
        return float(f1_score(truth, prediction, average="macro", zero_division=0, sample_weight=weight))
    labels = np.unique(truth)
    recall = recall_score(truth, prediction, labels=labels, average="macro", zero_division=0, sample_weight=weight)
    return float(recall)
