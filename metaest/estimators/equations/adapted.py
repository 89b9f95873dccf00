"""AdaptedEquation: the equation with the constants of one task, and everything that can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if

from metaest.estimators.arguments import check_interval, require_count, require_flag, require_level
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration, conformal_interval
from metaest.estimators.equations.answers import (
    MOST_SIMULATED,
    Derived,
    curve,
    curve_and_sd,
    derived_from,
    interval,
    mean_curve,
    quantities_of_task,
    simulated,
    spread_of_observations,
)
from metaest.estimators.equations.checks import (
    joined_rows,
    require_finite_curve,
    require_possible_curve,
)
from metaest.estimators.equations.drawn import derive_draws
from metaest.estimators.equations.draws import Draws, draws_of_posterior, draws_without_rows, mixed_draws
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.near_rows import NearRows
from metaest.estimators.equations.next_rows import suggest_rows
from metaest.estimators.equations.outcome_answers import probabilities_of, require_interval, tells_values
from metaest.estimators.equations.outcomes import refuse_outcome, require_scores
from metaest.estimators.equations.profile import profile_of
from metaest.estimators.equations.tables import LEVEL, task_table
from metaest.estimators.equations.task_rows import adapt_rows, rows_to_predict, support_rows
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictor
from metaest.functional import SolveCode
from metaest.tasks.random_state import generator_of
from metaest.tasks.record import read_only

__all__ = ["AdaptedEquation"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedEquation(AdaptedPredictor):
    r"""An equation whose constants were adapted to one task; made by ``adapt``, never changed afterwards.

    The constants are the most probable ones given the task's rows and what was learned from the other tasks. Their
    standard errors are those of the linearised equation, the uncertainty of the population included; their intervals,
    and those of predictions, come from weighted draws of the posterior itself.

    Attributes
    ----------
    params_ : DataFrame
        One row a constant: ``value``, ``standard_error`` (to first order), ``lower_90`` and ``upper_90`` (inside the
        bounds), ``unit``, ``shrinkage`` (the share of the variance between tasks that the rows leave; 1 where they say
        nothing, 0 where they say all), ``identified`` (whether the rows say at least as much as the population) and
        ``reason``.
    derived_ : DataFrame
        One row a quantity that the equation declares beside its constants (:class:`Quantity`): ``value``, ``lower_90``,
        ``upper_90``, ``unit`` and ``meaning``. Without rows where it declares none.
    laplace_share_ : float
        Share of the probability on which the posterior and its normal approximation, which is behind the standard
        errors, agree: near 1 where the posterior is normal; where it is small, the intervals say more. NaN after
        gradient steps.
    guard_ : Guard or None
        The guard's decision on the adaptation, and why; None without ``guard=True``. All else follows it: constants are
        interpolated between population and adapted values by the share, and draws come from the posterior with the
        share's probability, from the population otherwise.
    status_ : str
        How the search ended: "converged", "max_iter", "stalled" or "not_finite".
    X_support_, y_support_ : ndarray
        The support rows; there may be none, and the constants are then the population's.
    sample_weight_support_ : ndarray or None
        Their weights; None where all are 1.
    equation_ : callable
        The equation as it was given.
    limit_ : float, str or None
        The limit of quantification of the fit.
    covariate_columns_ : tuple of int
        The column of X of each coefficient of a covariate.
    stated_covariates_ : dict of int to float
        Values by the number of their column, for a task adapted without rows; empty otherwise.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the model was fitted on named columns.

    See Also
    --------
    EquationRegressor : The model whose ``adapt`` makes it.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import make_sinusoids
    >>> def wave(X, amplitude, phase):
    ...     return amplitude * torch.sin(X[:, 0] + phase)
    >>> constants = {"amplitude": Parameter(2.0, lower=0, unit="V"), "phase": Parameter(1.5)}
    >>> tasks = make_sinusoids(31, 10, noise=0.1, random_state=0)
    >>> model = EquationRegressor(wave, constants).fit(tasks[:30])
    >>> new = tasks[30]
    >>> adapted = model.adapt(new.X[:4], new.y[:4])
    >>> adapted.params_["identified"].tolist()
    [True, True]
    >>> adapted.predict(new.X[4:]).shape
    (6,)
    >>> low, high = adapted.predict_interval(new.X[4:], level=0.9)
    """

    _fitted: FittedEquation
    _posterior: Posterior
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    guard_: Guard | None = None
    _unguarded: Posterior | None = None
    _judge: FittedGuard | None = None
    _conformal: Calibration | None = None
    # values stated for a task without rows, by the number of the column of X
    _stated: Mapping[int, float] = field(default_factory=dict)
    sample_weight_support_: NDArray[np.float64] | None = None
    _multi_output = False

    @classmethod
    def _make(
        cls,
        fitted: FittedEquation,
        posterior: Posterior,
        X: NDArray[Any],
        y: NDArray[Any],
        n_features: int,
        names: Any,
        judge: FittedGuard | None = None,
        conformal: Calibration | None = None,
        stated: dict[int, float] | None = None,
        weight: NDArray[np.float64] | None = None,
        guard: Guard | None = None,
    ) -> AdaptedEquation:
        X, y, weight = np.array(X), np.array(y), None if weight is None else np.array(weight)
        if guard is None and judge is not None:
            guard = judge.judge(X, y, weight)
        mixed = posterior
        if guard is not None and guard.share < 1:
            prior = fitted.prior_of(fitted.covariates.of_rows(X, "adapt"))
            mixed = fitted.mixed(posterior, prior, guard.share)
        adapted = cls(fitted, mixed, X, y, n_features, guard, posterior, judge, conformal, stated or {}, weight)
        if names is not None:
            object.__setattr__(adapted, "feature_names_in_", names)
        for values in (X, y, weight):
            if values is not None:
                read_only(values)
        return adapted

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name not in ("_draws", "_params")}

    @property
    def n_outputs_(self) -> int:
        """Number of targets: 1."""
        return 1

    @property
    def status_(self) -> str:
        """How the search for the constants ended."""
        return SolveCode(int(self._posterior.code[0])).name.lower()

    @property
    @in_plain_modes
    def laplace_share_(self) -> float:
        """Share of the probability on which posterior and normal approximation agree; NaN after gradient steps."""
        return self._draws.share

    @cached_property
    def _draws(self) -> Draws:
        if not len(self.X_support_):
            return draws_without_rows(self._fitted, self._covariates)
        posterior = self._posterior if self._unguarded is None else self._unguarded
        rows = self.X_support_, self.y_support_, self.sample_weight_support_
        draws = draws_of_posterior(self._fitted, posterior, *rows)
        if self.guard_ is None or self.guard_.share == 1:
            return draws
        return mixed_draws(draws, draws_without_rows(self._fitted, self._covariates), self.guard_.share)

    @property
    def _near_rows(self) -> NearRows | None:
        """The rows adapted to, where their residuals say something about new rows; none where the guard doubts them."""
        if self.guard_ is not None and self.guard_.share < 1:
            return None
        return NearRows.of(self._fitted, self.X_support_, self.y_support_, self.sample_weight_support_)

    @property
    def _covariates(self) -> NDArray[Any]:
        """Covariates of this task, of shape (coefficients,), raw."""
        covariates = self._fitted.covariates
        if len(self.X_support_):
            return covariates.of_rows(self.X_support_, "adapt")
        return covariates.of_stated(self._stated)

    @cached_property
    def _params(self) -> pd.DataFrame:
        return task_table(self._fitted, self._posterior, self._draws, len(self.X_support_))

    @property
    @in_plain_modes
    def params_(self) -> pd.DataFrame:
        """The constants of this task with their uncertainty."""
        return self._params.copy()

    @property
    @in_plain_modes
    def derived_(self) -> pd.DataFrame:
        """Quantities that the equation declares beside its constants, with the ends of 90 % intervals."""
        return quantities_of_task(self._fitted, self._posterior, self._draws, LEVEL)

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation of the curve as well, to first order in the constants; the noise of
            an observation is not in it.

        Returns
        -------
        y : ndarray of shape (n_rows,)
        std : ndarray of shape (n_rows,)
            Only with `return_std`.

        Raises
        ------
        TaskError
            When the columns are not those of the fit, a value is missing, a covariate is not that of this task, or the
            equation is not finite in a row.
        """
        require_flag(return_std, "return_std")
        rows, function = self._rows(X, "predict"), self._fitted.function
        require_possible_curve(self._fitted, self._posterior.phi, rows, np.arange(len(rows)))
        if return_std:
            mean, std = curve_and_sd(self._fitted, self._posterior, rows)
            return require_finite_curve(function, rows, mean, "predict"), std
        return require_finite_curve(function, rows, curve(self._fitted, self._posterior, rows), "predict")

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
        """Return the ends of an interval for every row.

        By the posterior, constants drawn from it go through the equation, so that the ends keep inside whatever the
        equation keeps inside; equal probability is left out on both sides. With ``noise_correlation="car1"``, the
        residuals of the rows adapted to say something about observations near them. A conformal interval holds whether
        or not the equation is right, after ``calibrate`` of the model.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        level : float, default=0.9
            Between 0 and 1.
        method : {"posterior", "conformal"}, default="posterior"
        of : {"observation", "curve"}, default="observation"
            Whether a new observation falls inside, noise included, or the curve itself (by the posterior only).
        simultaneous : bool, default=False
            For conformal intervals: whether all observations of the task shall lie inside at once.
        sample_weight : array-like of shape (n_rows,), optional
            How accurate the new observations will be, on the scale of the fit's weights; 1 by default.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
            A :class:`ConformalInterval` of them with ``method="conformal"``.

        Raises
        ------
        ValueError
            When a setting has another value, or the model was not calibrated for this number of support rows.
        TaskError
            As in `predict`.

        Warns
        -----
        CoverageWarning
            When the level of a conformal interval cannot be promised.
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            size, guarded = len(self.X_support_), self.guard_ is not None
            return conformal_interval(
                self, X, level, simultaneous, size=size, guarded=guarded, sample_weight=sample_weight
            )
        require_interval(self._fitted, of)
        rows = self._rows(X, "predict_interval")
        weight = self._fitted.row_accuracy.of_predicted(sample_weight, len(rows), of)
        low, high = interval(self._fitted, self._draws, rows, level, of, weight, self._near_rows)
        require_finite_curve(self._fitted.function, rows, high - low, "predict_interval")
        return low, high

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        refuse_outcome(self._fitted.model.noise, "predict_interval", "take method='posterior'")
        mean, sd = self.predict(X, return_std=True)
        weight = self._fitted.row_accuracy.of_new_rows(sample_weight, len(mean), "predict_interval")
        return mean, spread_of_observations(self._fitted, mean, sd, self._rows(X, "predict_interval"), weight)

    @property
    def equation_(self) -> Any:
        """The equation as it was given."""
        return self._fitted.given_function

    def _outputs_of(self, X: Any) -> NDArray[Any] | None:
        require_scores(self._fitted.model.noise)
        column = self._fitted.output_column
        return None if column is None else rows_to_predict(Columns(self), self._fitted, X, "score")[:, column]

    @property
    def limit_(self) -> float | str | None:
        """The limit of quantification of the fit."""
        return self._fitted.limit

    @property
    def covariate_columns_(self) -> tuple[int, ...]:
        """Numbers of the columns of X that are covariates, one for each coefficient."""
        return self._fitted.covariate_columns

    @property
    def stated_covariates_(self) -> Mapping[int, float]:
        """Values by the number of their column, for a task adapted without rows; empty otherwise."""
        return self._stated

    def check_covariates(self, X: NDArray[Any], where: str) -> None:
        """Raise a TaskError where a covariate in the rows X is not that of this task.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
        where : str
            How the message begins.
        """
        self._fitted.covariates.of_rows(X, where, like=self._covariates)

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedEquation:
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional
            Weights of these rows; those of the rows seen so far are remembered.

        Returns
        -------
        AdaptedEquation
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        rows, target, weight, _ = support_rows(Columns(self), self._fitted, X, y, sample_weight, "partial_adapt")
        if not len(rows):
            return self
        if weight is not None or self.sample_weight_support_ is not None:
            before = self.sample_weight_support_
            before = np.ones(len(self.X_support_)) if before is None else before
            weight = np.concatenate([before, np.ones(len(rows)) if weight is None else weight])
        if len(self.X_support_):
            rows, target = joined_rows(self.X_support_, rows), np.concatenate([self.y_support_, target])
        else:
            self._fitted.covariates.of_rows(rows, "partial_adapt", like=self._covariates)
        posterior = adapt_rows(self._fitted, rows, target, "partial_adapt", weight)
        names, n, judge = Columns(self).names, self.n_features_in_, self._judge
        return self._make(self._fitted, posterior, rows, target, n, names, judge, self._conformal, weight=weight)

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
        return mean_curve(self._fitted, self._draws, self._rows(X, "predict_mean"))

    @available_if(tells_values)  # type: ignore[untyped-decorator]
    @in_plain_modes
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each value of y, for outcomes that have a few: 0 and 1, or categories.

        It is the mean over the posterior of the constants.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_values)
            Of y = 0, 1, ...; of a time to an event, that it has not happened and that it has by the time of the row.
        """
        draws, rows = self._draws, self._rows(X, "predict_proba")
        return probabilities_of(self._fitted, draws.phi, draws.weight, rows)

    @in_plain_modes
    def simulate(self, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Draw observations of this task: constants from the posterior, and noise.

        With a `noise_correlation` the noise correlates between rows, and with that of the rows adapted to ("car1").

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
        weight = self._fitted.row_accuracy.of_new_rows(sample_weight, len(rows), "simulate")
        return simulated(self._fitted, self._draws, rows, n, rng, weight, self._near_rows)

    @in_plain_modes
    def suggest(
        self, X_candidates: Any, n: int = 1, target: str | None = None, cost: Any = None, sample_weight: Any = None
    ) -> NDArray[np.intp]:
        r"""Return the candidate rows whose measurement would teach most about this task.

        Rows are chosen one after the other; a row gains :math:`\log(1 + w z^\top C z)`, what it takes from the
        logarithm of the determinant of the covariance C of all constants (D-optimality), or, with `target`, what it
        takes from the logarithm of the variance of that constant. Gains are averaged over draws from the posterior.
        With ``noise_correlation="car1"`` a row close to another, adapted to or chosen, says little.

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
        weight = self._fitted.row_accuracy.of_new_rows(sample_weight, len(rows), "suggest")
        near = self._near_rows
        return suggest_rows(self._fitted, self._posterior, rows, n, target, cost, weight, near)

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
            Whether the prior from other tasks counts; without it, the rows stand alone (the shared constants
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
        return profile_of(self._fitted, self._posterior, *rows, name, prior, n_points, weight)

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
        return derived_from(self._fitted, self._posterior, self._draws, function, float(level))

    derive_draws = derive_draws

    def _rows(self, X: Any, where: str) -> NDArray[Any]:
        rows = rows_to_predict(Columns(self), self._fitted, X, where)
        self._fitted.covariates.of_rows(rows, where, like=self._covariates)
        return rows
