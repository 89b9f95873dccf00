"""What every meta-learned network shares: `fit` on tasks, `adapt` to one, `predict` without."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from metaest.estimators.adapted import AdaptedRegressor, check_support_rows, predict_rows
from metaest.estimators.episodes import Source
from metaest.estimators.inputs import as_tasks, remember_columns
from metaest.estimators.network import Network
from metaest.estimators.plan import Plan
from metaest.estimators.scoring import FewShotScore
from metaest.estimators.training import history_frame, meta_train
from metaest.functional import GradientDescent, Rate, Solver
from metaest.tasks import TaskSet

__all__ = ["MetaNetwork"]


class MetaNetwork(FewShotScore):
    """A mix-in for estimators whose settings describe a network and how it is meta-learned."""

    support_size: Any
    split: str
    random_state: Any
    meta_gradient: str
    inner_solver: str
    _validate_params: Any  # of BaseEstimator

    # groups are requested by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Meta-learn from many tasks.

        Parameters
        ----------
        X : TaskSet, sequence of Task, sequence of (X, y) pairs, or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row; without it all rows are one task, and a warning says so.

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        DivergenceError
            When the meta-loss becomes non-finite; what was fitted before is kept.
        """
        self._validate_params()
        tasks = as_tasks(X, y, groups)
        trained = meta_train(self, tasks, seed := int(check_random_state(self.random_state).randint(2**31 - 1)))
        forward = trained.network.forward
        module = forward.as_module(Plan.of(self, forward).start(trained.params))  # may fail: before anything is set
        self.module_ = module
        self._network: Network = trained.network
        self._params = trained.params
        self._implicit = self.meta_gradient == "implicit"
        solver = self._solver()
        self.inner_lr_ = _as_arrays(solver.rate) if isinstance(solver, GradientDescent) else None
        self._seed = seed
        self._y_mean = tasks.y.mean(axis=0, dtype=np.float64)
        self.history_ = history_frame(trained.history)
        self.n_iter_ = len(trained.history)
        self.n_tasks_ = len(tasks)
        self.n_features_in_, self.n_outputs_ = tasks.X.shape[1], 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
        self.batching_, self.batching_reason_ = trained.batching, trained.batching_reason
        remember_columns(self, tasks.feature_names)
        return self

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
        names = getattr(self, "feature_names_in_", None)
        plan = self._plan()
        start, solver = plan.start(self._params), plan.solver(self._params)
        return AdaptedRegressor._adapt(self._network, start, solver, rows, target, names)

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
        start, solver = plan.start(self._params), plan.solver(self._params)
        return predict_rows(self, self._network, start, solver, X, return_std)

    @property
    def _single_target(self) -> bool:
        return self._network.single_target

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        source = Source(self._network, tasks, self.support_size, self.split, rng)
        plan = self._plan()
        return source.predict_queries(plan.start(self._params), plan.solver(self._params), self.batching_)

    def _plan(self) -> Plan:
        if (self.meta_gradient == "implicit") != self._implicit and self.inner_solver == "gradient":
            raise ValueError(
                f"meta_gradient={self.meta_gradient!r} was set after the fit; with 'implicit', and with it alone, "
                "tasks are held to their start; fit anew."
            )
        return Plan.of(self, self._network.forward)

    def _solver(self) -> Solver:
        return self._plan().solver(self._params)


def _as_arrays(rate: Rate) -> Any:
    """Return rates as numpy knows them; those of each step as the last axis of one array a parameter."""
    if isinstance(rate, dict):
        return {name: own.cpu().numpy().copy() for name, own in rate.items()}
    if isinstance(rate, (int, float, Tensor)):
        return float(rate)
    return {name: np.array([float(step[name]) for step in rate]) for name in rate[0]}
