"""The equation with the constants of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.arguments import require_flag
from metaest.estimators.conformal import Calibration, conformal_interval
from metaest.estimators.equations.answers import curve, curve_and_sd, interval, spread_of_observations
from metaest.estimators.equations.censoring import ask_about_limit, just_below
from metaest.estimators.equations.checks import (
    adapt_rows,
    arranged,
    check_interval,
    check_rows,
    joined_rows,
    require_finite_curve,
)
from metaest.estimators.equations.derived import quantities_of_task
from metaest.estimators.equations.draws import Draws, draws_of_posterior, draws_of_prior, mixed_draws
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.estimators.equations.questions import Questions
from metaest.estimators.equations.tables import LEVEL, task_table
from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import as_rows, check_columns, check_support_rows
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictor
from metaest.functional import SolveCode
from metaest.tasks.record import read_only

__all__ = ["AdaptedEquation", "prior_of"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedEquation(Questions, AdaptedPredictor):
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
        What the guard kept of the adaptation, and why; None without ``guard=True``. All else follows it: constants lie
        the share's way from the population's, and draws come from the posterior with the share's probability, from the
        population otherwise.
    status_ : str
        How the search ended: "converged", "max_iter", "stalled" or "not_finite".
    X_support_, y_support_ : ndarray
        The rows it was adapted on; there may be none, and the constants are then the population's.
    sample_weight_support_ : ndarray or None
        Their weights; None where all are 1.
    equation_ : callable
        The equation as it was given.
    limit_ : float or None
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

    _calibrated: Calibrated
    _posterior: Posterior
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    guard_: Guard | None = None
    _own: Posterior | None = None
    _judge: FittedGuard | None = None
    _conformal: Calibration | None = None
    # values stated for a task without rows, by the number of the column of X
    _stated: Mapping[int, float] = field(default_factory=dict)
    sample_weight_support_: NDArray[np.float64] | None = None
    _multi_output = False

    @classmethod
    def _make(
        cls,
        calibrated: Calibrated,
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
        kept = posterior
        if guard is not None and guard.share < 1:
            before = prior_of(calibrated, calibrated.covariates.of_rows(X, "adapt"))
            kept = calibrated.mixed(posterior, before, guard.share)
        adapted = cls(calibrated, kept, X, y, n_features, guard, posterior, judge, conformal, stated or {}, weight)
        if names is not None:
            object.__setattr__(adapted, "feature_names_in_", names)
        for values in (X, y, weight):
            if values is not None:
                read_only(values)
        return adapted

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again does not travel
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
        own = self._posterior if self._own is None else self._own
        if not len(self.X_support_):
            return draws_of_prior(own)
        rows = self.X_support_, self.y_support_, self.sample_weight_support_
        draws = draws_of_posterior(self._calibrated, own, *rows)
        if self.guard_ is None or self.guard_.share == 1:
            return draws
        return mixed_draws(draws, draws_of_prior(prior_of(self._calibrated, self._covariates)), self.guard_.share)

    @property
    def _covariates(self) -> NDArray[Any]:
        """Covariates of this task, of shape (coefficients,), raw."""
        covariates = self._calibrated.covariates
        if len(self.X_support_):
            return covariates.of_rows(self.X_support_, "adapt")
        return covariates.of_stated(self._stated)

    @cached_property
    def _params(self) -> pd.DataFrame:
        return task_table(self._calibrated, self._posterior, self._draws, len(self.X_support_))

    @property
    @in_plain_modes
    def params_(self) -> pd.DataFrame:
        """The constants of this task with their uncertainty."""
        return self._params.copy()

    @property
    @in_plain_modes
    def derived_(self) -> pd.DataFrame:
        """Quantities that the equation declares beside its constants, with the ends of 90 % intervals."""
        return quantities_of_task(self._calibrated, self._posterior, self._draws, LEVEL)

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
        rows = self._rows(X, "predict")
        function = self._calibrated.model.equation.function
        if return_std:
            mean, std = curve_and_sd(self._calibrated, self._posterior, rows)
            return require_finite_curve(function, rows, mean, "predict"), std
        return require_finite_curve(function, rows, curve(self._calibrated, self._posterior, rows), "predict")

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
        equation keeps inside; equal probability is left out on both sides. A conformal interval holds whether or not
        the equation is right, after ``calibrate`` of the model.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        level : float, default=0.9
            Between 0 and 1.
        method : {"posterior", "conformal"}, default="posterior"
        of : {"observation", "curve"}, default="observation"
            Whether a new observation falls inside, noise included, or the curve itself (by the posterior only).
        simultaneous : bool, default=False
            Of conformal intervals: whether all observations of the task shall lie inside at once.
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
        rows = self._rows(X, "predict_interval")
        weight = self._calibrated.weighing.of_predicted(sample_weight, len(rows), of)
        low, high = interval(self._calibrated, self._draws, rows, level, of, weight)
        require_finite_curve(self._calibrated.model.equation.function, rows, high - low, "predict_interval")
        return low, high

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        mean, sd = self.predict(X, return_std=True)
        weight = self._calibrated.weighing.of_new_rows(sample_weight, len(mean), "predict_interval")
        return mean, spread_of_observations(self._calibrated, mean, sd, self._rows(X, "predict_interval"), weight)

    @property
    def equation_(self) -> Any:
        """The equation as it was given."""
        return self._calibrated.model.equation.function

    @property
    def limit_(self) -> float | None:
        """The limit of quantification of the fit."""
        return self._calibrated.model.noise.limit

    @property
    def covariate_columns_(self) -> tuple[int, ...]:
        """Numbers of the columns of X that are covariates, one for each coefficient."""
        return self._calibrated.covariates.columns

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
        self._calibrated.covariates.of_rows(X, where, like=self._covariates)

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AdaptedEquation:
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional
            Of these rows; those of the rows seen so far are remembered.

        Returns
        -------
        AdaptedEquation
            Equal to adapting the model once on all the rows; this one is left as it is.

        Raises
        ------
        TaskError
            When the rows cannot be used.
        """
        X, further = arranged(self, self.equation_, X, "partial_adapt")
        rows, target = check_support_rows(self, True, X, y, "partial_adapt")
        rows = rows if further is None else np.column_stack([rows, further])
        ask_about_limit(self._calibrated.model.noise.limit, target, "partial_adapt")
        target = just_below(self._calibrated.model.noise.limit, target)
        rows, target, weight = self._calibrated.weighing.kept(rows, target, sample_weight, "partial_adapt")
        if not len(rows):
            return self
        if weight is not None or self.sample_weight_support_ is not None:
            before = self.sample_weight_support_
            before = np.ones(len(self.X_support_)) if before is None else before
            weight = np.concatenate([before, np.ones(len(rows)) if weight is None else weight])
        if len(self.X_support_):
            rows, target = joined_rows(self.X_support_, rows), np.concatenate([self.y_support_, target])
        else:
            self._calibrated.covariates.of_rows(rows, "partial_adapt", like=self._covariates)
        posterior = adapt_rows(self._calibrated, rows, target, "partial_adapt", weight)
        names = getattr(self, "feature_names_in_", None)
        n, judge = self.n_features_in_, self._judge
        return self._make(self._calibrated, posterior, rows, target, n, names, judge, self._conformal, weight=weight)

    def _rows(self, X: Any, where: str) -> NDArray[Any]:
        X, further = arranged(self, self.equation_, X, where)
        rows, _, _ = as_rows(X, None, where)
        check_columns(self, X, rows.shape[1:], where)
        rows = rows if further is None else np.column_stack([rows, further])
        check_rows(self.equation_, rows, None, where)
        self._calibrated.weighing.check(rows, where)
        self._calibrated.covariates.of_rows(rows, where, like=self._covariates)
        return np.asarray(rows)


def prior_of(calibrated: Calibrated, covariates: NDArray[Any]) -> Posterior:
    """Return what is known of a task with these covariates before its rows."""
    return calibrated.prior(calibrated.covariates.design(covariates[None], len(calibrated.table)))
