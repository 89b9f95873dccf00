"""A policy adapted to one task, as `adapt` returns it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import Tags, TargetTags

from metaest.estimators.columns import Columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.adapted import HoldsNetwork
from metaest.estimators.networks.policies import PolicyNetwork
from metaest.estimators.predictor import AdaptedPredictor
from metaest.exceptions import DivergenceError, TaskError
from metaest.functional import Params
from metaest.tasks.reading import rows_of

__all__ = ["AdaptedPolicy", "as_outcomes", "outcome_rows", "utility_of"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedPolicy(HoldsNetwork, AdaptedPredictor):
    """A policy adapted to one task; made by ``adapt``, never changed afterwards.

    Attributes
    ----------
    X_support_, y_support_ : ndarray
        The rows it was adapted on, in order of time.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.
    module_ : torch.nn.Module
        A copy of the network with the adapted weights; it works on standardised columns, and its output z stands for
        the action ``limit * tanh(z)``.

    See Also
    --------
    MAMLPolicy : The model whose ``adapt`` makes it.
    """

    _network: PolicyNetwork
    _adaptation: Adaptation
    _meta: Params
    _params: Params
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int

    @classmethod
    def _make(
        cls,
        network: PolicyNetwork,
        adaptation: Adaptation,
        meta: Params,
        params: Params | None,
        X: Any,
        y: Any,
        names: Any,
    ) -> "AdaptedPolicy":
        X, y = np.array(X), np.array(y)
        if not len(X):
            params = adaptation.zero_shot(meta)
        elif params is None:
            params = network.adapt(
                adaptation.start(meta), adaptation.solver(meta), network.rows(X, network.outcomes(y))
            )
        adapted = cls(network, adaptation, meta, params, X, y, X.shape[1])
        if names is not None:
            object.__setattr__(adapted, "feature_names_in_", names)
        X.flags.writeable = y.flags.writeable = False
        return adapted

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the action at every row.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)

        Returns
        -------
        ndarray of shape (n_times,)
            Between minus and plus ``limit``. The action at a row depends on that row alone.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or a value is missing.
        """
        return self._network.act(self._params, Columns(self).rows(X, "predict"))

    @in_plain_modes
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the utility of the actions at rows in order of time.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)
        y : array-like of shape (n_times,) or (n_times, 2)
        sample_weight : None
            A utility of rewards in order of time knows no weights.

        Returns
        -------
        float
        """
        if sample_weight is not None:
            raise TaskError("score: rows in order of time cannot be weighted; leave sample_weight out.")
        if y is None:
            raise TaskError("score: y is missing; the outcomes of the rows are wanted.")
        rows, target = Columns(self).rows_with_targets(X, y, "score")
        outcomes = as_outcomes(self._network, target, "score")
        utility = utility_of(self._network, self._network.act(self._params, rows), outcomes)
        if not np.isfinite(utility):
            raise DivergenceError(
                "score: the utility is not finite: squares of outcomes overflow; check the unit of y."
            )
        return utility

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any) -> "AdaptedPolicy":
        """Return a new policy adapted on the rows seen so far and these, which come after them, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)
        y : array-like of shape (n_times,) or (n_times, 2)

        Returns
        -------
        AdaptedPolicy
        """
        columns = Columns(self)
        rows, target = outcome_rows(columns, self._network, X, y, "partial_adapt")
        if len(self.X_support_):
            rows = np.concatenate([self.X_support_, rows])
            target = np.concatenate([self.y_support_, target])
        return self._make(
            self._network,
            self._adaptation,
            self._meta,
            None,
            rows,
            target,
            columns.names,
        )

    def __sklearn_tags__(self) -> Tags:
        return Tags(estimator_type=None, target_tags=TargetTags(required=True))


def outcome_rows(
    columns: Columns, network: PolicyNetwork, X: Any, y: Any, where: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows and outcomes of one new task, checked against the columns of the fit; there may be none."""
    if y is None:
        raise TaskError(f"{where}: y is missing; the outcomes of the rows are wanted.")
    X, y = rows_of(X, where, "X"), rows_of(y, where, "y")
    nothing = columns.no_rows(X, y, where)
    if nothing is not None:
        return nothing, np.empty((0, 2) if network.n_targets == 2 else 0)
    rows, target = columns.rows_with_targets(X, y, where)
    return rows, as_outcomes(network, target, where)


def as_outcomes(network: PolicyNetwork, y: NDArray[Any], where: str) -> NDArray[Any]:
    """Return outcomes of shape (n_rows,) or (n_rows, 2), as in the fit."""
    n = 1 if y.ndim == 1 else y.shape[1]
    if n != network.n_targets:
        raise TaskError(f"{where}: y has {n} column(s), but the policy was fitted on {network.n_targets}.")
    return y.reshape(-1) if n == 1 else y


def utility_of(network: PolicyNetwork, actions: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the utility of actions with these outcomes."""
    acted = torch.from_numpy(actions.astype(np.float64))[None]
    outcomes = torch.from_numpy(y.reshape(len(y), -1).astype(np.float64))[None]
    mask = torch.ones_like(acted)
    rewards = network.utility.rewards(acted, outcomes, mask)
    return float(network.utility.of_rewards(rewards, mask)[0])
