"""AdaptedGaussian: the predictor of one task whose rows are jointly Gaussian."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import check_interval, require_flag
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration, ConformalInterval, conformal_interval
from metaest.estimators.gaussian.conditioning import (
    conditioned_task,
    freedom_before,
    freedom_of_rows,
    moments_before,
    moments_of_rows,
)
from metaest.estimators.gaussian.intervals import student_interval
from metaest.estimators.gaussian.prior import Conditioned, Moments, TaskPrior
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictor
from metaest.tasks.record import read_only

__all__ = ["AdaptedGaussian"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedGaussian(AdaptedPredictor):
    r"""A Gaussian model of tasks, conditioned on the rows of one; made by ``adapt``, never changed afterwards.

    Adapted on no rows, it gives the predictions of the model before adaptation. Threads may use it freely, and it can
    be pickled on its own.

    Attributes
    ----------
    X_support_, y_support_ : ndarray
        The rows it was adapted on.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.
    guard_ : Guard or None
        What the guard kept of the adaptation, and why; None without ``guard=True``. Predictions, standard deviations
        and intervals follow it: with a share w of the adaptation kept, the function is that of the task with the
        probability w, and that of a task of which nothing is known otherwise.

    See Also
    --------
    HierarchicalGPRegressor : A model whose ``adapt`` makes it.
    FewShotRegressor : The same as an ordinary regressor whose ``fit`` adapts.

    Examples
    --------
    >>> from metaest import HierarchicalGPRegressor
    >>> from metaest_datasets import load_orange
    >>> trees = load_orange()
    >>> model = HierarchicalGPRegressor(random_state=0).fit(trees[:4])
    >>> adapted = model.adapt(trees[4].X[:2], trees[4].y[:2])
    >>> adapted
    AdaptedGaussian(1 feature, adapted on 2 rows)
    >>> lower, upper = adapted.predict_interval(trees[4].X[2:], level=0.9)
    >>> adapted.partial_adapt(trees[4].X[2:4], trees[4].y[2:4])
    AdaptedGaussian(1 feature, adapted on 4 rows)
    """

    _prior: TaskPrior
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    guard_: Guard | None = None
    _judge: FittedGuard | None = None
    _conformal: Calibration | None = None
    _multi_output = False

    @classmethod
    def _adapt(
        cls,
        prior: TaskPrior,
        X: NDArray[Any],
        y: NDArray[Any],
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
        guard: Guard | None = None,
        where: str = "adapt",
    ) -> "AdaptedGaussian":
        X, y = np.array(X, dtype=np.float64), np.array(y, dtype=np.float64)
        if guard is None and judge is not None:
            guard = judge.judge(X, y)
        adapted = cls(prior, read_only(X), read_only(y), X.shape[1], guard, judge, conformal)
        if feature_names is not None:
            object.__setattr__(adapted, "feature_names_in_", feature_names)
        adapted._condition(where)
        return adapted

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name != "_task"}

    def _condition(self, where: str) -> Conditioned:
        """Return the task given the support rows; errors begin with `where`."""
        if "_task" not in self.__dict__:
            self.__dict__["_task"] = conditioned_task(self._prior, self.X_support_, self.y_support_, where)
        task: Conditioned = self.__dict__["_task"]
        return task

    @property
    def n_outputs_(self) -> int:
        """Number of targets: 1."""
        return 1

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation of an observation as well, noise included.

        Returns
        -------
        ndarray of shape (n_rows,), or two of them

        Raises
        ------
        TaskError
            When the columns are not those of the fit, a value is missing, or a prediction is not finite.
        """
        require_flag(return_std, "return_std")
        rows = Columns(self).rows(X, "predict")
        mean, variance = self._moments(rows, "predict", spread=bool(return_std))
        return mean if variance is None else (mean, np.sqrt(variance + self._prior.noise_variance))

    def _moments(self, rows: NDArray[Any], where: str, *, spread: bool) -> Moments:
        """Return mean and variance of the task's function at checked rows, on the share that the guard keeps."""
        adapted = moments_of_rows(self._condition("adapt"), rows, where, spread=spread)
        if self.guard_ is None or self.guard_.share == 1:
            return adapted
        return adapted.mixed(moments_before(self._prior, rows, where, spread=spread), self.guard_.share)

    @in_plain_modes
    def predict_interval(
        self,
        X: Any,
        level: float = 0.9,
        method: str = "posterior",
        of: str = "observation",
        simultaneous: bool = False,
    ) -> tuple[NDArray[Any], NDArray[Any]] | ConformalInterval:
        """Return the ends of an interval for every row.

        By the posterior, equal probability is left out on both sides of a normal distribution with the mean and the
        standard deviation of the prediction, or of one of Student's where the model says how well it knows that
        deviation (RandomCoefficientRegressor). A conformal interval holds whether or not the model is right, after
        ``calibrate`` of the model.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        level : float, default=0.9
            Between 0 and 1.
        method : {"posterior", "conformal"}, default="posterior"
        of : {"observation", "curve"}, default="observation"
            Whether a new observation falls inside, noise included, or the task's function itself (by the posterior
            only).
        simultaneous : bool, default=False
            For conformal intervals: whether all observations of the task shall lie inside at once.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)

        Raises
        ------
        ValueError
            When a setting makes no sense, or the model was not calibrated for this number of support rows.
        TaskError
            As in `predict`.

        Warns
        -----
        CoverageWarning
            When a conformal interval cannot promise its level.
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            guarded = self.guard_ is not None
            return conformal_interval(self, X, level, simultaneous, size=len(self.X_support_), guarded=guarded)
        rows = Columns(self).rows(X, "predict_interval")
        moments = self._moments(rows, "predict_interval", spread=True)
        noise = of == "observation"
        freedom = freedom_of_rows(self._condition("adapt"), rows, noise=noise)
        if self.guard_ is not None and self.guard_.share < 1:
            freedom = np.minimum(freedom, freedom_before(self._prior, rows, noise=noise))
        return student_interval(moments, self._prior.noise_variance * noise, level, freedom)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        mean, sd = self.predict(X, return_std=True)
        return mean, sd

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any) -> "AdaptedGaussian":
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)

        Returns
        -------
        AdaptedGaussian
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        columns = Columns(self)
        rows, target = columns.support_rows(X, y, "partial_adapt", single_target=True, n_outputs=1)
        rows, target = np.concatenate([self.X_support_, rows]), np.concatenate([self.y_support_, target])
        rest = self._judge, self._conformal
        return self._adapt(self._prior, rows, target, columns.names, *rest, where="partial_adapt")
