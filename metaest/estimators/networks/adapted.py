"""The predictor `adapt` returns: one patient's, one alloy's, one asset's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from metaest.estimators.arguments import require_choice, require_flag
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration, ConformalInterval, conformal_interval
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import n_features_of
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.episodes import LEAST_FOR_STATISTICS
from metaest.estimators.networks.regression import RegressionNetwork
from metaest.estimators.predictor import AdaptedPredictor
from metaest.exceptions import TaskError
from metaest.functional import Params
from metaest.functional.modules.context import CONTEXT

__all__ = ["AdaptedRegressor", "HoldsNetwork", "center_and_scale", "require_conformal", "require_statistics"]


class HoldsNetwork:
    """A predictor with weights of its own."""

    _network: Any
    _params: Params

    @property
    def context_(self) -> NDArray[Any]:
        """The context vector of the task."""
        if CONTEXT not in self._params:
            raise AttributeError("context_: the model was fitted with context_dim=0.")
        context: NDArray[Any] = self._params[CONTEXT].cpu().numpy().copy()
        return context

    @property
    @in_plain_modes
    def module_(self) -> nn.Module:
        """A copy of the network with the adapted weights."""
        module: nn.Module = self._network.forward.as_module(self._params)
        return module


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedRegressor(HoldsNetwork, AdaptedPredictor):
    """A regressor adapted to one task; made by ``adapt``, never changed afterwards.

    Adapted on no rows, it gives the predictions of the model before adaptation. It holds its own weights and shares
    nothing that changes with the model it came from or with its siblings, so threads may use it freely and it can be
    pickled on its own.

    Attributes
    ----------
    X_support_, y_support_ : ndarray
        The rows it was adapted on.
    n_features_in_ : int or None
        None where rows are objects.
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.
    module_ : torch.nn.Module
        A copy of the network with the adapted weights; it works on standardised columns, and on the context vector as
        its last ones where there is one.
    context_ : ndarray of shape (context_dim,)
        Where the task lies among the others; only with `context_dim` above 0.
    guard_ : Guard or None
        What the guard kept of the adaptation, and why; None without ``guard=True``. Predictions follow it, ``module_``
        and ``context_`` are those of the adaptation itself.

    See Also
    --------
    MAMLRegressor : The model whose ``adapt`` makes it.
    FewShotRegressor : The same as an ordinary regressor whose ``fit`` adapts.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> model = MAMLRegressor(max_iter=50, random_state=0).fit(make_sinusoids(20, random_state=0))
    >>> adapted = model.adapt([[-1.0], [0.5], [2.0]], [0.3, 0.9, -0.2])
    >>> adapted
    AdaptedRegressor(1 feature, adapted on 3 rows)
    >>> adapted.predict([[1.0], [3.0]]).shape
    (2,)
    >>> adapted.partial_adapt([[3.0]], [-0.9])
    AdaptedRegressor(1 feature, adapted on 4 rows)
    """

    _network: RegressionNetwork
    _adaptation: Adaptation
    _meta: Params
    _params: Params
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int | None
    guard_: Guard | None = None
    _judge: FittedGuard | None = None
    _conformal: Calibration | None = None

    @classmethod
    def _adapt(
        cls,
        network: RegressionNetwork,
        adaptation: Adaptation,
        meta: Params,
        X: NDArray[Any],
        y: NDArray[Any],
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
        params: Params | None = None,
    ) -> "AdaptedRegressor":
        X, y = np.array(X), np.array(y)
        if not len(X):
            params = adaptation.zero_shot(meta)
        elif params is None:
            require_statistics(adaptation, X)
            params = network.adapt(
                adaptation.start(meta), adaptation.solver(meta), network.rows(X, network.scale_targets(y))
            )
        guard = None if judge is None else judge.judge(X, y)
        adapted = cls(network, adaptation, meta, params, X, y, n_features_of(X), guard, judge, conformal)
        if feature_names is not None:
            object.__setattr__(adapted, "feature_names_in_", feature_names)
        if X.ndim > 2:
            object.__setattr__(adapted, "feature_shape_", X.shape[1:])
        X.flags.writeable = y.flags.writeable = False
        return adapted

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation of an observation as well; with ``inner_solver="bayes"`` or
            "evidence" only.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), or two of them
            In the units of y; in float64 unless X is float32.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or a value is missing.
        ValueError
            When a standard deviation is asked of a model that has none.
        """
        adapted = predict_rows(Columns(self), self._network, self._params, self._adaptation, X, return_std)
        share = 1.0 if self.guard_ is None else self.guard_.share
        if share == 1:
            return adapted
        start = self._adaptation.zero_shot(self._meta)
        population = predict_rows(Columns(self), self._network, start, self._adaptation, X, return_std)
        if not return_std:
            return population + share * (adapted - population)
        (mean, sd), (before, sd_before) = adapted, population
        variance = share * sd**2 + (1 - share) * sd_before**2 + share * (1 - share) * (mean - before) ** 2
        return before + share * (mean - before), np.sqrt(variance)

    @in_plain_modes
    def predict_interval(
        self, X: Any, level: float = 0.9, method: str = "conformal", simultaneous: bool = False
    ) -> ConformalInterval:
        """Return the ends of an interval for every row of this task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        level : float, default=0.9
            Between 0 and 1. The interval holds with this probability or more over new tasks adapted as the calibration
            tasks were.
        method : {"conformal"}
            After ``calibrate`` of the model this was adapted from.
        simultaneous : bool, default=False
            Whether all observations of the task shall lie inside at once, rather than a single one.

        Returns
        -------
        ConformalInterval
            Unpacks as ``lower, upper``, ndarrays of the shape of the predictions.

        Raises
        ------
        ValueError
            When a setting makes no sense, or the model was not calibrated for this number of support rows.
        TaskError
            As in `predict`.

        Warns
        -----
        CoverageWarning
            When the level cannot be promised.
        """
        require_conformal(method)
        guarded = self.guard_ is not None
        return conformal_interval(self, X, level, simultaneous, size=len(self.X_support_), guarded=guarded)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        return center_and_scale(self.predict, self._adaptation, X)

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any) -> "AdaptedRegressor":
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        AdaptedRegressor
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        columns, single = Columns(self), self._network.single_target
        rows, target = columns.support_rows(X, y, "partial_adapt", single_target=single, n_outputs=self.n_outputs_)
        if len(self.X_support_):
            rows = np.concatenate([self.X_support_, rows])
            target = np.concatenate([self.y_support_, target])
        return self._adapt(
            self._network,
            self._adaptation,
            self._meta,
            rows,
            target,
            columns.names,
            self._judge,
            self._conformal,
        )

    @property
    def n_outputs_(self) -> int:
        """Number of targets."""
        return len(self._network.targets_scaling.mean)


def require_statistics(adaptation: Adaptation, X: NDArray[Any], where: str = "adapt") -> None:
    """Raise when statistics are wanted of a support that has none."""
    if adaptation.needs_statistics and len(X) < LEAST_FOR_STATISTICS:
        raise TaskError(
            f"{where}: batch normalisation takes its statistics from support rows and needs {LEAST_FOR_STATISTICS}, "
            f"got {len(X)}; set batch_statistics='per-step'."
        )


def require_conformal(method: Any) -> None:
    """Raise a ValueError when a network is asked for another interval than it has."""
    require_choice(method, "method", ["conformal"])


def center_and_scale(predict: Callable[..., Any], adaptation: Adaptation, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what `predict` predicts and the scale of its errors: a standard deviation where there is one, else 1."""
    if adaptation.head is not None and adaptation.head.bayesian:
        mean, sd = predict(X, return_std=True)
        return mean, sd
    mean = predict(X)
    return mean, np.ones_like(mean)


def predict_rows(
    columns: Columns, network: RegressionNetwork, params: Params, adaptation: Adaptation, X: Any, return_std: bool
) -> Any:
    """Return predictions of rows, checked against the columns of the fit; where asked for, standard deviations too."""
    require_flag(return_std, "return_std")
    rows = columns.rows(X, "predict")
    mean = network.predict(params, rows)
    if not return_std:
        return mean
    if adaptation.head is None or not adaptation.head.bayesian:
        raise ValueError(
            "return_std needs a model with inner_solver='bayes' or 'evidence'; others have no predictive variance."
        )
    return mean, network.predict_sd(params, adaptation.head, rows)
