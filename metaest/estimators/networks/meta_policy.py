"""What is a policy's own among meta-learned networks: actions, utilities, and stretches of time."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.inputs import as_rows, as_tasks, check_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted_policy import AdaptedPolicy, as_outcomes, outcome_rows
from metaest.estimators.networks.base import MetaNetwork, feature_names
from metaest.estimators.networks.building import build_parts, goes_on
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.images import require_channels_first
from metaest.estimators.networks.network import require_finite_weights, within_range
from metaest.estimators.networks.policies import PolicyNetwork, PolicyPlan, PolicySource, adapted_params
from metaest.exceptions import TaskError
from metaest.functional import Rows, Utility
from metaest.tasks import TaskSet

__all__ = ["MetaPolicy"]


class MetaPolicy(MetaNetwork):
    """A mix-in for meta-learned networks that act."""

    utility: Any
    limit: float
    risk_aversion: float
    cost: float
    support_size: Any
    query_size: Any
    gap: int
    check_plausibility: bool

    @in_plain_modes
    def adapt(self, X: Any, y: Any) -> AdaptedPolicy:
        """Adapt to one new task from a look at it; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)
            In order of time, without gaps. Without rows (``adapt([], [])``), actions are those of `predict`.
        y : array-like of shape (n_times,) or (n_times, 2)
            Outcomes, and scales where the fit had them.

        Returns
        -------
        AdaptedPolicy

        Raises
        ------
        TaskError
            When the rows cannot be used.
        DivergenceError
            When the adaptation becomes non-finite.
        """
        check_is_fitted(self)
        rows, target = outcome_rows(self, self._network, X, y, "adapt")
        plan = self._plan()
        return AdaptedPolicy._make(self._network, plan, self._params, None, rows, target, feature_names(self))

    @in_plain_modes
    def adapt_many(self, tasks: Any) -> list[AdaptedPolicy]:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or sequence of (X, y) pairs

        Returns
        -------
        list of AdaptedPolicy
        """
        check_is_fitted(self)
        known = as_tasks(tasks)
        check_columns(self, known, known.X.shape[1:], "adapt_many")
        as_outcomes(self._network, known.y, "adapt_many")
        network, plan, names = self._network, self._plan(), feature_names(self)
        columns, sizes = np.arange(int(known.sizes.max())), known.sizes[:, None]
        numbers = torch.from_numpy(known.offsets[:-1][:, None] + np.minimum(columns, sizes - 1))
        network.require_codes(known)
        place = partial(row_of_task, known)
        X = within_range(network.scale_features(known.X), network.dtype, "X", place)[numbers]
        y = within_range(network.outcomes(known.y), network.dtype, "y", place)[numbers]
        support = Rows(X, y, torch.from_numpy(columns < sizes).to(network.dtype))
        params = adapted_params(network, plan, self._params, support, self.batching_)
        require_finite_weights(params, known)
        return [
            AdaptedPolicy._make(
                network,
                plan,
                self._params,
                {name: own[i].clone() for name, own in params.items()},
                task.X,
                task.y,
                names,
            )
            for i, task in enumerate(known)
        ]

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the actions for a task of which nothing has been seen.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)

        Returns
        -------
        ndarray of shape (n_times,)
        """
        check_is_fitted(self)
        rows, _, _ = as_rows(X, None, "predict")
        check_columns(self, X, rows.shape[1:], "predict")
        actions: NDArray[Any] = self._network.act(self._plan().zero_shot(self._params), rows)
        return actions

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        """Return the mean utility over tasks: each is looked at for `support_size` rows, and judged by all that follow.

        Parameters
        ----------
        X, y, groups : as in `fit`
        sample_weight : None
            Utilities know no weights of rows.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        if sample_weight is not None:
            raise TaskError("score: a utility in order of time knows no sample_weight.")
        tasks = as_tasks(X, y, groups)
        check_columns(self, X if y is not None else tasks, tasks.X.shape[1:], "score")
        as_outcomes(self._network, tasks.y, "score")
        source = self._source(self._network, tasks, self._plan(), np.random.default_rng(self._seed), training=False)
        return float(source.utilities(self._params, self.batching_, verbose=bool(self.verbose)).mean())

    def _read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        tasks = require_channels_first(as_tasks(X, y, groups), self.check_plausibility)
        if tasks.y.ndim == 2 and tasks.y.shape[1] > 2:
            raise TaskError(f"y has {tasks.y.shape[1]} columns; outcomes, or outcomes and scales, are wanted.")
        return tasks

    def _build(self, training: TaskSet, tasks: TaskSet) -> PolicyNetwork:
        n_targets = 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
        if goes_on(self):
            known: PolicyNetwork = replace(deepcopy(self._network), utility=self._utility(training))
            return known
        forward, parts = build_parts(self, training, 1)
        return PolicyNetwork(forward, **parts, utility=self._utility(training), n_targets=n_targets)

    def _utility(self, training: TaskSet) -> Utility:
        y = training.y.reshape(len(training.y), -1).astype(np.float64)
        with np.errstate(over="ignore"):
            earned = y[:, 0] * (y[:, 1] if y.shape[1] == 2 else 1.0)
            unit = float(np.sqrt(np.square(earned).mean()))
        if not np.isfinite(unit):
            raise TaskError(
                f"y: outcomes as large as {np.abs(earned).max():.2g} have no finite square; check the unit."
            )
        if unit == 0:
            raise TaskError("y: all outcomes are 0 in all tasks; there is nothing to earn, and nothing to learn.")
        return Utility(self.utility, self.limit, self.risk_aversion, self.cost, unit)

    def _plan_of(self, network: Any) -> PolicyPlan:
        return PolicyPlan.of(self, network.forward).of_utility(network.utility)

    def _source(
        self, network: Any, tasks: TaskSet, plan: Any, rng: np.random.Generator, *, training: bool
    ) -> PolicySource:
        query = self.query_size if training else None
        return PolicySource(network, tasks, plan, rng, self.support_size, self.gap, query)

    def _can_judge(self) -> bool:
        return False

    def _remember(self, tasks: TaskSet) -> None:
        self.n_outputs_ = 1
