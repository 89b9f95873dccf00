"""What a fitted equation says of a task of which nothing is known yet."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import require_count, require_flag
from metaest.estimators.conformal import conformal_interval
from metaest.estimators.equations.answers import MOST_SIMULATED, curve, curve_and_sd, interval, mean_curve, simulated
from metaest.estimators.equations.checks import arranged, check_interval, check_rows, require_finite_curve
from metaest.estimators.equations.draws import draws_of_prior
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.estimators.equations.next_rows import suggest_rows
from metaest.estimators.inputs import as_rows, check_columns
from metaest.estimators.modes import in_plain_modes
from metaest.tasks.random_state import generator_of

__all__ = ["ZeroShot"]


class ZeroShot:
    """Predictions, intervals and suggestions from the population alone."""

    _calibrated: Calibrated

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict without adapting: the curve of the median task, of which nothing is known yet.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            With covariates, each row has the curve of its own covariates.
        return_std : bool, default=False
            Whether to return the standard deviation of a new task's curve as well, to first order in the constants.

        Returns
        -------
        y : ndarray of shape (n_rows,)
        std : ndarray of shape (n_rows,)
            Only with `return_std`.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, a value is missing, or the equation is not finite in a row.
        NotFittedError
            Before `fit`.
        """
        require_flag(return_std, "return_std")
        rows = self._rows(X, "predict")
        function = self._calibrated.model.equation.function
        if return_std:
            mean, std = _by_covariates(self._calibrated, rows, lambda c, p, part, _: curve_and_sd(c, p, part))
            return require_finite_curve(function, rows, mean, "predict"), std
        [mean] = _by_covariates(self._calibrated, rows, lambda c, p, part, _: (curve(c, p, part),))
        return require_finite_curve(function, rows, mean, "predict")

    @in_plain_modes
    def predict_interval(
        self,
        X: Any,
        level: float = 0.9,
        method: str = "posterior",
        of: str = "observation",
        simultaneous: bool = False,
        sample_weight: Any = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the ends of an interval for every row of a task of which nothing is known yet.

        Parameters
        ----------
        X, level, method, of, simultaneous, sample_weight
            As :meth:`AdaptedEquation.predict_interval` takes them.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)

        Raises
        ------
        ValueError
            When a setting has another value.
        TaskError
            As in `predict`.
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            check_is_fitted(self)
            return conformal_interval(self, X, level, simultaneous, sample_weight=sample_weight)
        rows = self._rows(X, "predict_interval")
        weight = self._calibrated.weighing.of_predicted(sample_weight, len(rows), of)

        def answer(
            calibrated: Calibrated, prior: Posterior, part: NDArray[Any], chosen: NDArray[np.intp]
        ) -> tuple[NDArray[Any], ...]:
            weights = None if weight is None else weight[chosen]
            return interval(calibrated, draws_of_prior(prior), part, level, of, weights)

        low, high = _by_covariates(self._calibrated, rows, answer)
        require_finite_curve(self._calibrated.model.equation.function, rows, high - low, "predict_interval")
        return low, high

    @in_plain_modes
    def predict_mean(self, X: Any) -> NDArray[np.float64]:
        """Predict without adapting by the mean of the curves of the population; see `AdaptedEquation.predict_mean`.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """

        def answer(
            calibrated: Calibrated, prior: Posterior, part: NDArray[Any], chosen: NDArray[np.intp]
        ) -> tuple[NDArray[Any], ...]:
            return (mean_curve(calibrated, draws_of_prior(prior), part),)

        return _by_covariates(self._calibrated, self._rows(X, "predict_mean"), answer)[0]

    @in_plain_modes
    def simulate(self, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Draw observations of new tasks with the rows X.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Of one task: covariates are the same in all rows.
        n : int, default=1
            How many tasks.
        random_state : int, RandomState instance or None, default=None
        sample_weight : array-like of shape (n_rows,), optional
            How accurate the observations are, on the scale of the fit's weights; 1 by default.

        Returns
        -------
        ndarray of shape (n, n_rows)

        Warns
        -----
        UserWarning
            When the equation is not finite for some of the constants drawn.
        """
        rows = self._rows(X, "simulate")
        weight = self._calibrated.weighing.of_new_rows(sample_weight, len(rows), "simulate")
        require_count(n, "n", 1, most=MOST_SIMULATED)
        rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
        return simulated(self._calibrated, draws_of_prior(self._prior_of(rows, "simulate")), rows, n, rng, weight)

    @in_plain_modes
    def suggest(
        self, X_candidates: Any, n: int = 1, target: str | None = None, cost: Any = None, sample_weight: Any = None
    ) -> NDArray[np.intp]:
        """Return the candidate rows whose measurement would teach most about a task of which nothing is known yet.

        Parameters
        ----------
        X_candidates, n, target, cost, sample_weight
            As :meth:`AdaptedEquation.suggest` takes them; with covariates, all candidates must be of one task.

        Returns
        -------
        ndarray of int, shape (n,)
            Row numbers of the candidates, in the order of choice.

        Raises
        ------
        ValueError
            When n, target or cost make no sense.
        TaskError
            As in `predict`.
        """
        rows = self._rows(X_candidates, "suggest")
        weight = self._calibrated.weighing.of_new_rows(sample_weight, len(rows), "suggest")
        return suggest_rows(self._calibrated, self._prior_of(rows, "suggest"), rows, n, target, cost, weight)

    def _prior_of(self, rows: NDArray[Any], where: str) -> Posterior:
        """Return what is known of the one task that rows belong to."""
        covariates = self._calibrated.covariates
        own = covariates.of_rows(rows, where)
        return self._calibrated.prior(covariates.design(own[None], len(self._calibrated.table)))

    def _rows(self, X: Any, where: str) -> NDArray[Any]:
        check_is_fitted(self)
        equation = self._calibrated.model.equation.function
        X, further = arranged(self, equation, X, where)
        rows, _, _ = as_rows(X, None, where)
        check_columns(self, X, rows.shape[1:], where)
        rows = rows if further is None else np.column_stack([rows, further])
        check_rows(equation, rows, None, where)
        self._calibrated.weighing.check(rows, where)
        return np.asarray(rows)


def _by_covariates(
    calibrated: Calibrated,
    X: NDArray[Any],
    answer: Callable[[Calibrated, Posterior, NDArray[Any], NDArray[np.intp]], tuple[NDArray[Any], ...]],
) -> list[NDArray[Any]]:
    """Answer for each combination of covariates as for one task, and return the answers in the order of the rows."""
    covariates = calibrated.covariates
    groups, member = np.unique(X[:, list(covariates.columns)].astype(np.float64), axis=0, return_inverse=True)
    if not covariates.columns:
        groups, member = np.zeros((1, 0)), np.zeros(len(X), dtype=np.intp)
    parts: list[NDArray[Any]] = []
    for g, values in enumerate(groups):
        rows = np.flatnonzero(member == g)
        posterior = calibrated.prior(covariates.design(values[None], len(calibrated.table)))
        results = answer(calibrated, posterior, X[rows], rows)
        parts = parts or [np.empty(len(X)) for _ in results]
        for whole, part in zip(parts, results, strict=True):
            whole[rows] = part
    return parts
