"""What can be asked of adapted constants, besides predictions: what to measure next, how firm one is, what follows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.arguments import require_count, require_level
from metaest.estimators.equations.answers import MOST_SIMULATED, mean_curve, simulated
from metaest.estimators.equations.derived import Derived, derived_from
from metaest.estimators.equations.draws import Draws
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.estimators.equations.next_rows import suggest_rows
from metaest.estimators.equations.profile import profile_of
from metaest.estimators.modes import in_plain_modes
from metaest.tasks.random_state import generator_of

__all__ = ["Questions"]


class Questions:
    """Questions about the constants of one task; a subclass holds what is known of them."""

    _calibrated: Calibrated
    _posterior: Posterior
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    sample_weight_support_: NDArray[np.float64] | None

    @property
    def _draws(self) -> Draws:
        raise NotImplementedError

    def _rows(self, X: Any, where: str) -> NDArray[Any]:
        raise NotImplementedError

    @in_plain_modes
    def predict_mean(self, X: Any) -> NDArray[np.float64]:
        """Predict by the mean of the posterior's curves, which has the smallest expected squared error.

        ``predict`` gives the curve of the most probable constants. The two differ where rows say little and the
        equation bends.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)

        Warns
        -----
        UserWarning
            When curves of the posterior are not finite in a row, so that their mean does not exist, or a few extreme
            draws make up the mean.
        """
        return mean_curve(self._calibrated, self._draws, self._rows(X, "predict_mean"))

    @in_plain_modes
    def simulate(self, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Draw observations of this task: constants from the posterior, and noise.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        n : int, default=1
        random_state : int, RandomState instance or None, default=None
        sample_weight : array-like of shape (n_rows,), optional
            How accurate the observations are, on the scale of the fit's weights; 1 by default.

        Returns
        -------
        ndarray of shape (n, n_rows)
            Each row has constants of its own.

        Warns
        -----
        UserWarning
            When the equation is not finite for some of the constants drawn.
        """
        require_count(n, "n", 1, most=MOST_SIMULATED)
        rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
        rows = self._rows(X, "simulate")
        weight = self._calibrated.weighing.of_new_rows(sample_weight, len(rows), "simulate")
        return simulated(self._calibrated, self._draws, rows, n, rng, weight)

    @in_plain_modes
    def suggest(
        self, X_candidates: Any, n: int = 1, target: str | None = None, cost: Any = None, sample_weight: Any = None
    ) -> NDArray[np.intp]:
        r"""Return the candidate rows whose measurement would teach most about this task.

        Rows are chosen one after the other; a row gains :math:`\log(1 + w z^\top C z)`, what it takes from the
        logarithm of the determinant of the covariance C of all constants (D-optimality), or, with `target`, what it
        takes from the logarithm of the variance of that constant. Gains are averaged over draws from the posterior.

        Parameters
        ----------
        X_candidates : array-like or data frame of shape (n_candidates, n_features)
            Possible measurements; list one twice to allow it twice.
        n : int, default=1
            How many to choose, at most n_candidates.
        target : str, optional
            The constant to learn; None for all.
        cost : array-like of shape (n_candidates,), optional
            Above zero; gains are divided by it.
        sample_weight : array-like of shape (n_candidates,), optional
            How accurate each measurement would be, on the scale of the fit's weights; 1 by default.

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

        Warns
        -----
        IdentifiabilityWarning
            When no candidate teaches anything.
        """
        rows = self._rows(X_candidates, "suggest")
        weight = self._calibrated.weighing.of_new_rows(sample_weight, len(rows), "suggest")
        return suggest_rows(self._calibrated, self._posterior, rows, n, target, cost, weight)

    @in_plain_modes
    def profile(self, name: str, *, prior: bool = True, n_points: int = 41) -> pd.DataFrame:
        r"""Return the profile of one constant: how much worse the best fit gets as it is held elsewhere.

        The deviance is :math:`2 (\min_{\theta: \theta_k = c} J - \min J)` with J the negative logarithm of the
        posterior, or of the likelihood alone. Where it stays below 2.71, the value lies in the 90 % profile interval; a
        profile that stays low to one side means that the rows set no limit there.

        Parameters
        ----------
        name : str
            A constant that varies between tasks.
        prior : bool, default=True
            Whether what was learned from other tasks counts; without it, the rows stand alone (the shared constants
            stay at the population's values).
        n_points : int, default=41
            From 3 to 1,000,000.

        Returns
        -------
        DataFrame
            One row a value of the constant, in its unit: the value, ``deviance``, and the other constants at that fit.

        Raises
        ------
        ValueError
            When there is no such constant, it does not vary between tasks, or there are too few points or no rows.
        """
        if not len(self.X_support_):
            raise ValueError("profile: the task has no rows, so that no value of a constant fits worse than another.")
        rows = self.X_support_, self.y_support_
        weight = self.sample_weight_support_
        return profile_of(self._calibrated, self._posterior, *rows, name, prior, n_points, weight)

    @in_plain_modes
    def derive(self, function: Callable[..., Any], level: float = 0.9) -> Derived:
        """Return a quantity computed from the constants, with an interval.

        Parameters
        ----------
        function : callable
            ``function(**constants)`` of numpy arrays of one shape returns an array of that shape, or with further axes
            before it.
        level : float, default=0.9
            Probability inside the interval, with equal probability on both sides.

        Returns
        -------
        Derived
            ``value``, at the most probable constants, ``lower`` and ``upper``, quantiles of the posterior; numbers, or
            arrays where the function returns further axes.

        Raises
        ------
        ValueError
            When level is not between 0 and 1.

        Examples
        --------
        >>> import torch
        >>> from metaest import EquationRegressor, Parameter
        >>> from metaest_datasets import make_avrami_tasks
        >>> tasks, _ = make_avrami_tasks(20, random_state=0)
        >>> def avrami(X, k, n):
        ...     return 1 - torch.exp(-((k * X[:, 0]) ** n))
        >>> model = EquationRegressor(avrami, {"k": Parameter(1, lower=0), "n": Parameter(2, lower=0)}).fit(tasks)
        >>> new = model.adapt([[0.5], [1.0]], [0.2, 0.6])
        >>> half = new.derive(lambda k, n: np.log(2) ** (1 / n) / k)
        >>> half.lower < half.value < half.upper
        True
        """
        require_level(level)
        if not callable(function):
            raise TypeError(f"derive: function must be a function of the constants, got {function!r}.")
        return derived_from(self._calibrated, self._posterior, self._draws, function, float(level))
