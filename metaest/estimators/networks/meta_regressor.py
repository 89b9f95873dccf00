"""What is a regressor's own among meta-learned networks: `adapt` to one task, `predict` without, the few-shot R2."""

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.calibrating import Calibrating
from metaest.estimators.conformal import ConformalInterval
from metaest.estimators.inputs import as_tasks, check_columns
from metaest.estimators.judge import Answers, spread_of
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adaptation import Plan
from metaest.estimators.networks.adapted import (
    AdaptedRegressor,
    center_and_scale,
    check_support_rows,
    check_targets,
    predict_rows,
    require_conformal,
    require_statistics,
)
from metaest.estimators.networks.adapted_many import AdaptedRegressors
from metaest.estimators.networks.base import MetaNetwork, feature_names
from metaest.estimators.networks.building import build_regression
from metaest.estimators.networks.episodes import RegressionSource
from metaest.estimators.networks.images import require_channels_first
from metaest.estimators.networks.network import RegressionNetwork
from metaest.estimators.networks.serving import adapter_for, adapts_compiled, padded_support
from metaest.estimators.scoring import FewShotScore
from metaest.estimators.seen import SeenTasks
from metaest.functional import Params
from metaest.tasks import TaskSet

__all__ = ["MetaRegressor"]


class MetaRegressor(MetaNetwork, Calibrating, FewShotScore):
    """A mix-in for meta-learned networks that predict numbers."""

    support_size: Any
    split: str
    compile: Any
    check_plausibility: bool

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedRegressor:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Without rows (``adapt([], [])``), predictions are those of the model before adaptation.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it; see
            :class:`Guard`; None is no. The first call learns from the training tasks how to judge, which takes a
            moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on, as many
            as windows and horizon overlap.

        Returns
        -------
        AdaptedRegressor

        Raises
        ------
        TaskError
            When the rows cannot be used.
        DivergenceError
            When the adaptation becomes non-finite.
        ValueError
            When gap is not a whole number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        rows, target = check_support_rows(self, self._network.single_target, X, y, "adapt")
        judge = self._judge(gap) if whether_guarded(guard, gap, self.guard_by_default) else None
        plan = self._plan()
        params = self._served(plan, rows, target) if len(rows) and adapts_compiled(self.compile, 1) else None
        return AdaptedRegressor._adapt(
            self._network, plan, self._params, rows, target, feature_names(self), judge, self._conformal, params
        )

    @in_plain_modes
    def adapt_many(self, tasks: Any, *, guard: bool = False, gap: int = 0) -> AdaptedRegressors:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task, to rounding.

        With ``compile=True``, or with "auto" from 2,000 tasks on, the inner steps are taken in machine code.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or sequence of (X, y) pairs
        guard : bool, default=False
            Whether to judge each adaptation as ``adapt(guard=True)`` does; one batch judges all tasks.
        gap : int, default=0
            For the guard, as in `adapt`.

        Returns
        -------
        AdaptedRegressors

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        ValueError
            When gap is no number of rows.
        DivergenceError
            When an adaptation becomes non-finite.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        known = as_tasks(tasks)
        check_columns(self, known, known.X.shape[1:], "adapt_many")
        check_targets(known.y, self._network.single_target, self.n_outputs_, "adapt_many")
        return AdaptedRegressors(self, known, self._judge(gap) if whether_guarded(guard, gap, False) else None)

    def _served(self, plan: Plan, X: NDArray[Any], y: NDArray[Any]) -> Params | None:
        """Return parameters adapted in machine code, or None where torch has to do it."""
        require_statistics(plan, X)
        support = self._network.rows(X, self._network.scale_targets(y))
        adapter = adapter_for(self._network, plan, self._params, len(X), support)
        if adapter is None:
            return None
        adapted, good = adapter(padded_support(support, adapter.n_rows))
        return {name: torch.from_numpy(own[0]) for name, own in adapted.items()} if good[0] else None

    @in_plain_modes
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

    @in_plain_modes
    def predict_interval(
        self, X: Any, level: float = 0.9, method: str = "conformal", simultaneous: bool = False
    ) -> ConformalInterval:
        """Return the ends of an interval for every row of a task of which nothing is known yet; see `calibrate`.

        Parameters
        ----------
        X, level, method, simultaneous
            As :meth:`AdaptedRegressor.predict_interval` takes them.

        Returns
        -------
        ConformalInterval
            Unpacks as ``lower, upper``.

        Raises
        ------
        ValueError
            When a setting makes no sense, or the model was not calibrated.
        TaskError
            As in `predict`.
        """
        require_conformal(method)
        return self._conformal_interval(X, level, simultaneous)

    def _center_and_scale(self, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        return center_and_scale(self, self._plan(), X)

    @property
    def _single_target(self) -> bool:
        single: bool = self._network.single_target
        return single

    def _read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        return require_channels_first(as_tasks(X, y, groups), self.check_plausibility)

    def _build(self, training: TaskSet, tasks: TaskSet) -> RegressionNetwork:
        return build_regression(self, training)

    def _source(
        self, network: RegressionNetwork, tasks: TaskSet, plan: Plan, rng: np.random.Generator, *, training: bool
    ) -> RegressionSource:
        return RegressionSource(network, tasks, plan, rng, self.support_size, self.split)

    def _remember(self, tasks: TaskSet) -> None:
        self._seen, self._conformal = SeenTasks.learn(tasks, self._seed), None
        self._y_mean = tasks.y.mean(axis=0, dtype=np.float64)
        self.n_outputs_ = 1 if tasks.y.ndim == 1 else tasks.y.shape[1]

    def _answers(self, plan: Plan) -> Any:
        return partial(_answers, self._network, plan, self._params, self.batching_)

    def _spread(self, tasks: TaskSet) -> NDArray[np.float64]:
        return spread_of(tasks.y)

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        source = self._source(self._network, tasks, self._plan(), rng, training=False)
        return source.predict_queries(self._params, self.batching_, verbose=bool(self.verbose))


def _answers(network: RegressionNetwork, plan: Plan, meta: Params, batching: str, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for a judge."""
    source = RegressionSource(network, tasks, plan, np.random.default_rng(0), None, "random")
    truth, adapted, rows = source.predict_queries(meta, batching)
    population = network.predict(plan.zero_shot(meta), tasks.X[rows])
    shape = len(rows), -1
    return Answers(truth.reshape(shape), adapted.reshape(shape), population.astype(np.float64).reshape(shape), rows)
