"""The few-shot R2: query rows of all tasks together, around the mean of the training targets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.inputs import as_tasks, check_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted import check_targets
from metaest.estimators.predictor import scale_of, score_weights
from metaest.tasks import TaskSet
from metaest.tasks.grouping import sort_by_group

__all__ = ["FewShotScore", "r2_around", "row_weights"]


class FewShotScore:
    """The ``score`` of a meta-model; a subclass adapts and predicts in ``_query_predictions``."""

    n_outputs_: int
    _single_target: Any
    _seed: int
    _y_mean: NDArray[Any]
    # whether weights of rows weigh in the adaptation as well
    _weighs = False

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        r"""Few-shot R2: adapt on the support of each task, score the prediction of its query.

        .. math:: R^2 = 1 - \sum_t \sum_{i \in \mathrm{query}_t} (y_i - \hat y_i)^2 \Big/
                  \sum_t \sum_{i \in \mathrm{query}_t} (y_i - \bar y)^2

        over the query rows of all tasks together, with the mean :math:`\bar y` of the training targets, so that it
        is defined for a single row.

        Adaptations are not guarded; the scorers of :mod:`metaest.scorers` take ``guard=True``.

        Parameters
        ----------
        X, y, groups : as in `fit`
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows in the sums; the adaptation of an equation weighs its support rows by them as well.

        Returns
        -------
        float
            The mean over targets where there are several.
        """
        check_is_fitted(self)
        weights = {"weighs": True, "sample_weight": sample_weight} if self._weighs else {}
        tasks = as_tasks(X, y, groups, **weights)
        check_columns(self, X if y is not None else tasks, tasks.X.shape[1:], "score")
        check_targets(tasks.y, self._single_target, self.n_outputs_, "score")
        weight = np.ones(len(tasks.X)) if tasks.sample_weight is None else tasks.sample_weight
        if sample_weight is not None and not self._weighs:
            weight = row_weights(sample_weight, groups, len(tasks.X))
        truth, prediction, rows = self._query_predictions(tasks, np.random.default_rng(self._seed))
        return r2_around(truth, prediction, self._y_mean, weight[rows])

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        """Return truth and prediction of the query rows, and their row numbers in the TaskSet."""
        raise NotImplementedError


def r2_around(truth: NDArray[Any], prediction: NDArray[Any], center: Any, weight: NDArray[Any]) -> float:
    """Return R2 with its denominator around `center`, averaged over targets.

    Parameters
    ----------
    truth, prediction : ndarray of shape (n_rows,) or (n_rows, n_targets)
    center : float or ndarray of shape (n_targets,)
    weight : ndarray of shape (n_rows,)

    Returns
    -------
    float
        Where the truth does not differ from the centre: 1 for a perfect prediction, 0 otherwise.
    """
    size = scale_of(truth, prediction, center)  # so that squares neither overflow nor vanish
    residual = weight @ np.square(truth / size - prediction / size)
    spread = weight @ np.square(truth / size - center / size)
    safe = np.where(spread > 0, spread, 1.0)
    return float(np.mean(np.where(spread > 0, 1 - residual / safe, residual == 0)))


def row_weights(sample_weight: Any, groups: Any, n_rows: int) -> NDArray[Any]:
    """Return the weights of flat rows in the order of their TaskSet."""
    weight = np.asarray(score_weights(sample_weight, n_rows))
    return weight if groups is None else weight[sort_by_group(groups, n_rows)[1]]
