"""Bergman's minimal model: glucose after an intravenous dose of glucose, with measured insulin as an input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from metaest import EquationRegressor, Parameter, Population, TaskError, TaskSet
from metaest.tasks.numbers import as_number, as_vector
from metaest_domains.constants import parameters_to_fit
from metaest_domains.physiology.radau import Array, Partials, System
from metaest_domains.physiology.radau_slopes import check_integrated, integrate
from metaest_domains.population import from_population

__all__ = ["MinimalModelRegressor", "insulin_rows"]

# ratio of glucose in a test to that before it, beyond which the two are in different units: 1 mmol/L is 18 mg/dL, and
# the median of a test is at most about three times basal
FAR_FROM_BASAL = 6.0


def insulin_rows(
    times: ArrayLike, insulin_times: ArrayLike, insulin: ArrayLike, basal_glucose: float, basal_insulin: float
) -> pd.DataFrame:
    """Return rows of X for glucose at given times, each with the insulin of its test.

    Parameters
    ----------
    times : array-like of shape (n_rows,)
        Times since glucose was given; at least 0.
    insulin_times, insulin : array-like of shape (n_measurements,)
        Rising times and the insulin measured then. Insulin is linear between measurements and constant before the first
        and after the last. All tests of a fit must have the same number of measurements.
    basal_glucose, basal_insulin : float
        Concentrations before the test.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        When times do not rise, a value is negative, or lengths differ.
    """
    given = {"times": times, "insulin_times": insulin_times, "insulin": insulin}
    at, measured_at, level = (_measured(values, name) for name, values in given.items())
    basal = [
        as_number(value, name, least=0, wanted="one number of at least 0")
        for name, value in (("basal_glucose", basal_glucose), ("basal_insulin", basal_insulin))
    ]
    if measured_at.shape != level.shape or len(measured_at) < 2:
        raise ValueError(
            f"insulin needs at least two measurements, and as many values as times; got {len(measured_at)} times and "
            f"{len(level)} values."
        )
    if not (np.diff(measured_at) > 0).all():
        raise ValueError(f"insulin needs measurements at rising times, got {measured_at.tolist()}.")
    n = len(measured_at)
    rows = np.column_stack([at, np.tile(np.concatenate([measured_at, level, basal]), (len(at), 1))])
    names = [*(f"insulin_time_{i + 1}" for i in range(n)), *(f"insulin_{i + 1}" for i in range(n))]
    return pd.DataFrame(rows, columns=["time", *names, "basal_glucose", "basal_insulin"])


def _measured(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = as_vector(values, name)
    negative = np.flatnonzero(array < 0)
    if len(negative):
        raise TaskError(f"{name} must be numbers of at least 0, got {array[negative[0]]:g} at {negative[0]}.")
    return array


@dataclass(frozen=True)
class GlucoseKinetics(System):
    r"""Glucose of n trajectories, :math:`G' = S_G (G_b - G) - S_I Y G`, with remote insulin in closed form.

    Remote insulin over the sensitivity, :math:`Y' = p_2 (I(t) - I_b - Y)`, has a closed form between measurements of
    insulin. The parameters are effectiveness, sensitivity, action and glucose at time 0. The memory holds Y, its first
    and second derivatives with respect to the action, and insulin above basal with its slope.

    Attributes
    ----------
    stops, above, rise : ndarray of shape (n_stops, n)
        Time 0 and the times of measurements; insulin above basal at each of them, and its slope afterwards.
    basal : ndarray of shape (n,)
        Glucose before the test.
    """

    stops: Array
    above: Array
    rise: Array
    basal: Array
    jump_by: ClassVar[int] = 3

    @classmethod
    def of(cls, inputs: Array, n: int) -> "GlucoseKinetics":
        """Create the system from inputs: the columns of :func:`insulin_rows` without the time."""
        times = inputs.T[:n]
        level = inputs.T[n : 2 * n]
        (basal, basal_insulin) = inputs.T[2 * n :]
        nothing = np.zeros_like(basal)[None]
        rise = np.concatenate([nothing, np.diff(level, axis=0) / np.diff(times, axis=0), nothing])
        return cls(np.concatenate([nothing, times]), np.concatenate([level[:1], level]) - basal_insulin, rise, basal)

    def first_memory(self) -> Array:
        """Return the memory at time 0: no remote insulin."""
        return np.zeros((5, self.stops.shape[1]))

    def pass_stop(self, number: NDArray[np.int64], due: NDArray[np.bool_], memory: Array) -> tuple[Array, Array]:
        """Return the jumps, 1 at the first stop where glucose is given, and the memory afterwards."""
        at = np.minimum(number, len(self.stops) - 1), np.arange(len(number))
        above = np.where(due, self.above[at], memory[3])
        rise = np.where(due, self.rise[at], memory[4])
        return np.where(due & (number == 0), 1.0, 0.0), np.stack([*memory[:3], above, rise])

    def fastest(self, memory: Array, theta: Array) -> Array:
        """Return the rate of action."""
        return np.asarray(theta[2])

    def drive(self, tau: Array, memory: Array, theta: Array) -> Array:
        """Return Y at times of shape (s, n)."""
        return _remote(tau, memory, theta[2])[0]

    def slope(self, x: Array, drive: Array, theta: Array) -> tuple[Array, Array]:
        """Return the slope of glucose and its derivative with respect to glucose."""
        rate = theta[0] + theta[1] * drive
        return theta[0] * self.basal - rate * x, -rate

    def advance(self, h: Array, memory: Array, theta: Array) -> Array:
        """Return the memory after steps of lengths h."""
        return np.stack([*_remote(h, memory, theta[2]), memory[3] + h * memory[4], memory[4]])

    def partials(self, x: Array, tau: Array, memory: Array, theta: Array) -> Partials:
        """Return the partial derivatives of the slope of glucose."""
        sensitivity = theta[1]
        remote = _remote(tau, memory, theta[2])
        zero = np.zeros_like(x)
        second = np.zeros((4, 4, *x.shape))
        second[1, 2] = second[2, 1] = -remote[1] * x
        second[2, 2] = -sensitivity * remote[2] * x
        return Partials(
            x=-(theta[0] + sensitivity * remote[0]),
            xx=zero,
            theta=np.stack([self.basal - x, -remote[0] * x, -sensitivity * remote[1] * x, zero]),
            x_theta=np.stack([zero - 1, -remote[0], -sensitivity * remote[1], zero]),
            theta_theta=second,
        )

    def take(self, chosen: NDArray[Any]) -> "GlucoseKinetics":
        """Return the system of the chosen trajectories."""
        return GlucoseKinetics(*(part[..., chosen] for part in (self.stops, self.above, self.rise, self.basal)))


def _remote(tau: Array, memory: Array, action: Array) -> tuple[Array, Array, Array]:
    """Return Y at times after the start of a step, and its first two derivatives with respect to the action."""
    before, first, second, above, rise = memory
    z = action * tau
    left = np.exp(-z)
    (lag, lag_slope, lag_bend) = _ramp_response(z)
    gap = above - before
    return (
        before * left - above * np.expm1(-z) + rise * tau * lag,
        left * (first + tau * gap) + rise * tau**2 * lag_slope,
        left * (second - tau * (2 * first + tau * gap)) + rise * tau**3 * lag_bend,
    )


# argument below which the closed form of the response to a ramp cancels, and its series converges quickly
_SMALL = 0.5
# coefficients of that series, 1 - (1 - exp(-z)) / z, to rounding below 0.5
_SERIES = np.array([0.0, *((-1) ** (k + 1) / factorial(k + 1) for k in range(1, 16))])


def _ramp_response(z: Array) -> tuple[Array, Array, Array]:
    """Return 1 - (1 - exp(-z)) / z with its first and second derivatives."""
    polynomial = np.polynomial.Polynomial(_SERIES)
    large = np.maximum(z, _SMALL)
    left = np.exp(-large)
    passed = -np.expm1(-large)
    slope = (passed - large * left) / large**2
    exact = 1 - passed / large, slope, (left - 2 * slope) / large
    series = (polynomial, polynomial.deriv(), polynomial.deriv(2))
    first, second, third = (
        np.where(z < _SMALL, near(np.minimum(z, _SMALL)), far) for near, far in zip(series, exact, strict=True)
    )
    return first, second, third


@dataclass(frozen=True)
class MinimalModel:
    """Glucose as a function of X, the columns of :func:`insulin_rows`.

    Attributes
    ----------
    n : int
        Number of measurements of insulin.
    """

    n: int
    # the column of times, for residuals that correlate in time
    time_column: ClassVar[int] = 0
    memory: ClassVar[str] = "glucose depends on what a constant was at all times before its row"

    def __call__(self, X: Tensor, effectiveness: Tensor, sensitivity: Tensor, action: Tensor, start: Tensor) -> Tensor:
        """Return glucose, of shape (n_rows,)."""
        theta = torch.stack([constant + 0 * X[:, 0] for constant in (effectiveness, sensitivity, action, start)])
        return integrate(X[:, 0], theta, X[:, 1:], lambda inputs: GlucoseKinetics.of(inputs, self.n))

    def check_values(self, X: NDArray[Any], values: NDArray[Any]) -> None:
        """Raise a ValueError when glucose could not be integrated to the tolerance."""
        check_integrated(X[:, 0], values, "glucose")

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError when rows cannot be those of a test."""
        wrong = np.flatnonzero((X < 0).any(axis=1))
        if len(wrong):
            raise ValueError(f"a time or a concentration is negative in row {wrong[0]}.")
        if not (np.diff(X[:, 1 : 1 + self.n], axis=1) > 0).all():
            raise ValueError("the times of insulin do not rise; see insulin_rows.")
        differs = np.flatnonzero((np.abs(X[:, 1:] - X[:1, 1:]) > 1e-6 * np.abs(X[:1, 1:])).any(axis=1))
        if y is not None and len(differs):
            raise ValueError(
                f"the insulin or a basal value in row {differs[0]} differs from that in row 0; all rows of one test "
                "must have the same values, see insulin_rows."
            )
        if y is not None and len(y):
            basal = float(X[0, -2])
            ratio = float(np.median(y)) / max(float(X[0, -2]), np.finfo(np.float64).tiny)
            if basal > 0 and not 1 / FAR_FROM_BASAL < ratio < FAR_FROM_BASAL:
                raise ValueError(
                    f"the median of glucose is {np.median(y):.3g} and basal_glucose is {basal:.3g}, at least "
                    f"{FAR_FROM_BASAL:g} times apart; use the same unit for both, mg/dL or mmol/L."
                )


class MinimalModelRegressor(EquationRegressor):
    r"""Bergman's minimal model of glucose and insulin in an intravenous glucose tolerance test.

    .. math:: \frac{dG}{dt} = S_G (G_b - G) - X G, \qquad \frac{dX}{dt} = p_2 \left(S_I (I(t) - I_b) - X\right),
              \qquad G(0) = G_0, \quad X(0) = 0,

    with the measured insulin I, linear between measurements.
    Glucose is integrated with error control; its error is below 1e-6 of its highest value so far.

    ================= ===================== ======== ====================================================
    constant          unit                  bounds   meaning
    ================= ===================== ======== ====================================================
    ``effectiveness`` 1/time                above 0  S_G, glucose effectiveness at basal insulin
    ``sensitivity``   1/time/concentration  above 0  S_I, insulin sensitivity
    ``action``        1/time                above 0  p_2, rate at which insulin takes effect
    ``start``         concentration         above 0  G_0, glucose at time 0, extrapolated
    ================= ===================== ======== ====================================================

    Parameters
    ----------
    parameters : dict of str to Parameter, optional
        Parameters that replace those above; the initial values of the others are read off the data, so that units do
        not matter.
    random, covariance, noise, noise_correlation, correlation_time, limit, covariates, support_size, split, max_iter
        As in :class:`metaest.EquationRegressor`; ``covariance="diagonal"`` by default.
    compile, prior, prior_weight, random_state, checkpoint, checkpoint_every, verbose
        As in :class:`metaest.EquationRegressor`.

    References
    ----------
    R. N. Bergman, Y. Z. Ider, C. R. Bowden, C. Cobelli (1979). Quantitative estimation of insulin sensitivity.
    :doi:`10.1152/ajpendo.1979.236.6.E667`

    Examples
    --------
    >>> from metaest_domains.physiology import insulin_rows
    >>> insulin_rows([2.0, 10.0], [0, 4, 20, 180], [10, 80, 30, 10], 90.0, 10.0).shape
    (2, 11)
    """

    guard_by_default = True
    inner_solver = "gauss-newton"
    inner_steps = 0
    meta_gradient = "exact"
    meta_lr = 0.05
    meta_batch_size = 25
    objective = "evidence"
    n_episodes = None
    # initial values for a test of three hours, in minutes, mg/dL and uU/mL; those read off the data replace them
    constants = {
        "effectiveness": Parameter(0.02, lower=0, unit="1/time", meaning="glucose effectiveness"),
        "sensitivity": Parameter(5e-4, lower=0, unit="1/time/concentration", meaning="insulin sensitivity"),
        "action": Parameter(0.03, lower=0, unit="1/time", meaning="rate at which insulin takes effect"),
        "start": Parameter(250.0, lower=0, unit="concentration", meaning="glucose at time 0"),
    }

    def __init__(
        self,
        *,
        parameters: Mapping[str, Parameter | float] | None = None,
        random: Sequence[str] | None = None,
        covariance: str = "diagonal",
        noise: str = "additive",
        noise_correlation: str | None = None,
        correlation_time: str | int | None = None,
        limit: float | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        max_iter: int = 300,
        compile: str | bool = "auto",
        prior: Population | None = None,
        prior_weight: float | str = np.inf,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        self.parameters = parameters  # type: ignore[assignment]
        self.random = random
        self.covariance = covariance
        self.noise = noise
        self.noise_correlation = noise_correlation
        self.correlation_time = correlation_time
        self.limit = limit
        self.covariates = covariates
        self.support_size = support_size
        self.split = split
        self.max_iter = max_iter
        self.compile = compile
        self.prior = prior
        self.prior_weight = prior_weight
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    def problem(self, tasks: TaskSet) -> tuple[MinimalModel, dict[str, Parameter]]:
        """Return the equation for the columns of these tasks, and parameters with initial values read off the rows."""
        equation, _ = self.equation_for(tasks.feature_names or ())
        return equation, parameters_to_fit(self.constants, self.parameters, _initial(tasks, equation.n))

    def equation_for(self, names: Sequence[str]) -> tuple[MinimalModel, dict[str, Parameter]]:
        """Return the equation for columns with these names, and its constants without initial values from data."""
        names = list(names)
        n = sum(name.startswith("insulin_time_") for name in names)
        expected = [
            "time",
            *(f"insulin_time_{i + 1}" for i in range(n)),
            *(f"insulin_{i + 1}" for i in range(n)),
            "basal_glucose",
            "basal_insulin",
        ]
        if n < 2 or names != expected:
            raise ValueError(f"X must have the columns of insulin_rows, got {names or 'columns without names'}.")
        return MinimalModel(n), parameters_to_fit(self.constants, self.parameters, {})

    from_population: Any = classmethod(from_population)

    def settings_of_population(self) -> dict[str, Any]:
        """Return the settings that the constants belong to: there are none."""
        return {}


def _initial(tasks: TaskSet, n: int) -> dict[str, float]:
    """Return initial values read off the data; rates are relative to the length of the test.

    In a test of three hours, 3.6 over its length is an effectiveness of 0.02 per minute, a usual value.
    """
    last, above, highest = (
        float(np.median(values))
        for values in zip(
            *(
                (task.X[:, [0, n]].max(), np.abs(task.X[0, n + 1 : 2 * n + 1] - task.X[0, -1]).mean(), task.y.max())
                for task in tasks
            ),
            strict=True,
        )
    )
    if not (last > 0 and above > 0 and highest > 0):
        return {}
    effectiveness = 3.6 / last
    return {
        "effectiveness": effectiveness,
        "sensitivity": 0.75 * effectiveness / above,
        "action": 1.5 * effectiveness,
        "start": highest,
    }
