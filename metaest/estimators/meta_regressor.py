"""What is a regressor's own among meta-learned networks: `adapt` to one task, `predict` without, the few-shot R2."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.adapted import AdaptedRegressor, check_support_rows, predict_rows
from metaest.estimators.building import build_regression
from metaest.estimators.episodes import RegressionSource
from metaest.estimators.inputs import as_tasks
from metaest.estimators.meta_network import MetaNetwork, feature_names
from metaest.estimators.network import RegressionNetwork
from metaest.estimators.plan import Plan
from metaest.estimators.scoring import FewShotScore
from metaest.tasks import TaskSet

__all__ = ["MetaRegressor"]


class MetaRegressor(MetaNetwork, FewShotScore):
    """A mix-in for meta-learned networks that predict numbers."""

    support_size: Any
    split: str

    def adapt(self, X: Any, y: Any) -> AdaptedRegressor:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        AdaptedRegressor

        Raises
        ------
        TaskError
            When the rows cannot be used.
        DivergenceError
            When the adaptation becomes non-finite.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        rows, target = check_support_rows(self, self._network.single_target, X, y, "adapt")
        return AdaptedRegressor._adapt(self._network, self._plan(), self._params, rows, target, feature_names(self))

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict without adapting: the answer for a task of which nothing is known yet.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation of an observation as well; with ``inner_solver="bayes"`` only.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), or two of them
        """
        check_is_fitted(self)
        plan = self._plan()
        return predict_rows(self, self._network, plan.zero_shot(self._params), plan, X, return_std)

    @property
    def _single_target(self) -> bool:
        single: bool = self._network.single_target
        return single

    def _read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        return as_tasks(X, y, groups)

    def _build(self, training: TaskSet, tasks: TaskSet) -> RegressionNetwork:
        return build_regression(self, training)

    def _source(
        self, network: RegressionNetwork, tasks: TaskSet, plan: Plan, rng: np.random.Generator, *, training: bool
    ) -> RegressionSource:
        return RegressionSource(network, tasks, plan, rng, self.support_size, self.split)

    def _remember(self, tasks: TaskSet) -> None:
        self._y_mean = tasks.y.mean(axis=0, dtype=np.float64)
        self.n_outputs_ = 1 if tasks.y.ndim == 1 else tasks.y.shape[1]

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        source = self._source(self._network, tasks, self._plan(), rng, training=False)
        return source.predict_queries(self._params, self.batching_)
