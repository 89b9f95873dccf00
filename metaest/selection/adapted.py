"""AdaptedAuto: the predictor of one task, an average of adapted predictors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import require_choice, require_flag
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration, ConformalInterval, conformal_interval
from metaest.estimators.guard import FittedGuard
from metaest.estimators.mixture import mixed
from metaest.estimators.modes import in_plain_modes
from metaest.selection.average import AdaptedAverage
from metaest.selection.ensemble import Ensemble, weighted

__all__ = ["AdaptedAuto", "center_and_scale"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedAuto(AdaptedAverage):
    """The chosen models adapted to one task; made by ``adapt`` of an AutoMetaRegressor, never changed afterwards.

    Attributes
    ----------
    X_support_, y_support_ : ndarray
        The rows it was adapted on.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.
    members_ : dict of str to adapted predictor
        Of the candidates chosen, by name; where no rows were given, the models themselves.
    weights_ : dict of str to float
        Weights of their predictions.
    guard_ : Guard or None
        What the guard kept of the adaptation, and why; None without ``guard=True``.

    See Also
    --------
    AutoMetaRegressor : The model whose ``adapt`` makes it.

    Examples
    --------
    >>> from metaest import AutoMetaRegressor, MAMLRegressor
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(12, random_state=0)
    >>> candidates = [("bayes", MAMLRegressor(inner_solver="bayes", max_iter=20, random_state=0))]
    >>> model = AutoMetaRegressor(candidates=candidates, random_state=0).fit(tasks[:11])
    >>> model.adapt(tasks[11].X[:3], tasks[11].y[:3]).weights_
    {'bayes': 1.0}
    """

    _conformal: Calibration | None = None

    @classmethod
    def _adapt(
        cls,
        ensemble: Ensemble,
        X: NDArray[Any],
        y: NDArray[Any],
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
    ) -> "AdaptedAuto":
        made: AdaptedAuto = cls._made(ensemble, X, y, feature_names, judge, _conformal=conformal)
        return made

    @property
    def n_outputs_(self) -> int:
        """Number of targets."""
        return 1 if self.y_support_.ndim == 1 else self.y_support_.shape[1]

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation as well; where all chosen candidates have one.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), or two of them

        Raises
        ------
        TaskError
            When the columns are not those of the fit, or a value is missing.
        ValueError
            When a standard deviation is asked of a model that has none.
        """
        require_flag(return_std, "return_std")
        rows = Columns(self).rows(X, "predict")
        spread = bool(return_std)
        if spread:
            self._ensemble.require_std()
        values = weighted(self._ensemble, list(self._predictors), rows, spread=spread)
        share = 1.0 if self.guard_ is None else self.guard_.share
        if share == 1:
            return values
        population = self._ensemble.predict(rows, spread=spread)
        if spread:
            return mixed([share, 1 - share], [values, population])
        return population + share * (values - population)

    @in_plain_modes
    def predict_interval(
        self, X: Any, level: float = 0.9, method: str = "conformal", simultaneous: bool = False
    ) -> ConformalInterval:
        """Return the ends of a conformal interval for every row, after ``calibrate`` of the model.

        Parameters
        ----------
        X, level, method, simultaneous
            As :meth:`AdaptedRegressor.predict_interval` takes them; it raises the same errors.

        Returns
        -------
        ConformalInterval
            Unpacks as ``lower, upper``.
        """
        require_choice(method, "method", ["conformal"])
        guarded = self.guard_ is not None
        return conformal_interval(self, X, level, simultaneous, size=len(self.X_support_), guarded=guarded)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        return center_and_scale(self, self._ensemble, X)

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any) -> "AdaptedAuto":
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        AdaptedAuto
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        columns, n_outputs = Columns(self), self.n_outputs_
        single = self.y_support_.ndim == 1
        rows, target = columns.support_rows(X, y, "partial_adapt", single_target=single, n_outputs=n_outputs)
        rows, target = np.concatenate([self.X_support_, rows]), np.concatenate([self.y_support_, target])
        return self._adapt(self._ensemble, rows, target, columns.names, self._judge, self._conformal)


def center_and_scale(predictor: Any, ensemble: Ensemble, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return predictions and the scale of their errors: standard deviations where all members have them, else 1."""
    if ensemble.has_std:
        mean, sd = predictor.predict(X, return_std=True)
        return mean, sd
    mean = predictor.predict(X)
    return mean, np.ones_like(mean)
