r"""Profiles of the likelihood of a population: the method ``profile_likelihood`` of ``EquationRegressor``.

One parameter is held at a value, all others are fitted again. Twice what the log-likelihood loses by it, the deviance,
is about :math:`\chi^2_1` at the true value (Wilks, 1938, :doi:`10.1214/aoms/1177732360`), so that values of a deviance
below a quantile of it are an interval, which need not lie evenly around the estimate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from metaest.estimators.arguments import require_count, require_level
from metaest.estimators.columns import Columns, Fitted
from metaest.estimators.equations.batches import whole
from metaest.estimators.equations.compiled import compiled_for_fit
from metaest.estimators.equations.fit.laplace import maximise
from metaest.estimators.equations.fit.problem import Held, Problem
from metaest.estimators.equations.fit.starts import spread_of
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.likelihood import integral_of
from metaest.estimators.equations.noises import smallest_noise
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.task_rows import support_tasks
from metaest.estimators.modes import in_plain_modes
from metaest.exceptions import quiet, warn
from metaest.functional import Outcome, PopulationParameters
from metaest.tasks import TaskSet

__all__ = ["ProfileLikelihood", "profile_likelihood"]

# distance of the root of the deviance from its quantile, at which an end is taken
CLOSE = 3e-4
# evaluations of one end at most, and how many standard errors away an end may lie
MOST_STEPS = 30
FARTHEST = 1e3
# a first step in standard deviations of a task's constant between tasks, where its standard error is not known
FIRST_SD = 0.1
# first step in a constant of outcomes that are not normal, in those of the logarithm of a standard deviation
FIRST_STEP = 4.0
# fall of the deviance below zero, from which the fit was no maximum
BETTER = 1e-3
# difference of log-likelihoods, as a share, from which tasks are others than those of the fit
OTHER = 1e-6
MOST_POINTS = 1000
# share of a variance that is rounding, where constants vary as one
ROUNDING = 1e-14


class ProfileLikelihood(NamedTuple):
    """The profile of the likelihood in one parameter of a population.

    Attributes
    ----------
    name : str
    value : float
        The estimate of the fit.
    lower, upper : float
        Ends of the interval; the bound of the parameter, or infinite, where the likelihood never falls so low.
    level : float
    table : DataFrame
        One row a ``value``: the ``log_likelihood`` with all else fitted to it, and the ``deviance``, twice its distance
        from the maximum.
    """

    name: str
    value: float
    lower: float
    upper: float
    level: float
    table: pd.DataFrame


class _Model(Fitted, Protocol):
    """An equation regressor."""

    prior: Any
    structures_: Any
    log_likelihood_: float
    n_rows_: int
    noise_: pd.Series
    population_: pd.DataFrame
    _fitted: FittedEquation


@in_plain_modes
def profile_likelihood(
    self: _Model, tasks: Any, name: str, *, level: float = 0.9, n_points: int = 5, sample_weight: Any = None
) -> ProfileLikelihood:
    r"""Return the profile of the likelihood in one parameter of the population, and the interval it gives.

    Unlike value plus and minus standard errors, the interval follows the shape of the likelihood, so that it suits
    standard deviations between tasks and constants of few tasks. Each value is a search from the fit (lme4's and
    statsmodels' profiles), about ten for an interval. The likelihood is Laplace's, as in the fit.

    Parameters
    ----------
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        Those of the fit; a model keeps no rows.
    name : str
        A constant, for its typical value; ``<constant>_omega`` for its standard deviation between tasks on the scale on
        which it is normal; ``noise_<name>`` for a constant of `noise_`; ``<constant>:<column>`` for the coefficient of
        a covariate.
    level : float, default=0.9
        Probability inside the interval.
    n_points : int, default=5
        Values of the table between the ends of the interval, with them; others are where the search has been.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows of all tasks, as in the fit.

    Returns
    -------
    ProfileLikelihood

    Raises
    ------
    TaskError, ValueError
        When there is no such parameter or nothing determines it, the tasks are not those of the fit, or the model was
        not fitted by maximum likelihood.

    Warns
    -----
    ConvergenceWarning
        When a search did not converge, or the likelihood is greater somewhere than at the fit.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import load_sleepstudy
    >>> def line(X, intercept, slope):
    ...     return intercept + slope * X[:, 0]
    >>> people = load_sleepstudy()
    >>> model = EquationRegressor(line, {"intercept": 250.0, "slope": 10.0}).fit(people)
    >>> profile = model.profile_likelihood(people, "slope_omega", level=0.95)
    >>> round(profile.value, 2), round(profile.lower, 2), round(profile.upper, 2)
    (5.72, 3.8, 8.75)
    """
    check_is_fitted(self)
    require_level(level)
    require_count(n_points, "n_points", 2, most=MOST_POINTS)
    where = "profile_likelihood"
    fitted = self._fitted
    _require_likelihood(self, where)
    axis = _axis_of(self, name, where)
    taken = support_tasks(Columns(self), fitted, tasks, sample_weight, where)
    nodes = FitSettings.of(self).n_nodes
    how = {"method": "quadrature", "n_nodes": nodes} if nodes > 1 else {}
    maximum = float(integral_of(fitted, taken, where=where, **how).value.sum())  # type: ignore[arg-type]
    if abs(maximum - self.log_likelihood_) > OTHER * max(1.0, abs(self.log_likelihood_)):
        raise ValueError(
            f"{where}: the tasks are not those of the fit, or their weights are others: their log-likelihood is "
            f"{maximum:.6g}, that of the fit {self.log_likelihood_:.6g}."
        )
    curve = _Curve.of(FitSettings.of(self), fitted, taken, axis, maximum)
    z = float(np.sqrt(stats.chi2.ppf(level, 1)))
    lower, upper = (curve.end(way, z) for way in (-1, 1))
    for at in np.linspace(curve.reached(lower), curve.reached(upper), int(n_points)):
        curve.deviance(float(at))
    best = min(curve.deviances.values())
    if best < -BETTER:
        warn(
            f"{where}: with {name} at another value the log-likelihood is greater by {-best / 2:.3g} than at the fit; "
            "fit again from other initial values.",
            ConvergenceWarning,
        )
    if curve.messages:
        warn(f"{where}: of {len(curve.deviances)} searches some ended early: {curve.messages[0]}.", ConvergenceWarning)
    points = sorted(curve.deviances.items())
    deviance = np.array([value for _, value in points])
    columns = {"value": [axis.shown(at) for at, _ in points], "log_likelihood": maximum - deviance / 2}
    table = pd.DataFrame({**columns, "deviance": deviance})
    return ProfileLikelihood(name, axis.shown(axis.estimate), axis.shown(lower), axis.shown(upper), float(level), table)


@dataclass(frozen=True)
class _Axis:
    """A parameter as the search has it.

    Attributes
    ----------
    held : Held
    estimate, step : float
        On the scale of the search; the step is about a standard error.
    least, greatest : float
        Bounds there.
    shown : callable
        From there to the unit of the table.
    first : int or None
        The constant whose standard deviation it is.
    """

    held: Held
    estimate: float
    step: float
    least: float
    greatest: float
    shown: Callable[[float], float]
    first: int | None = None


def _require_likelihood(model: _Model, where: str) -> None:
    """Raise a ValueError where a model is no maximum of a likelihood."""
    what = ""
    if model.structures_ is not None:
        what = "compares structures: fit the best one with settings other than 'auto'"
    elif model.prior is not None:
        what = "has a prior: fit the tasks without it"
    elif model._fitted.uncertain is not None:
        what = "integrates over what its few tasks leave open: the intervals of population_ count it"
    elif vars(model)["_fitted_settings"]["objective"] != "evidence" or model._fitted.by_gradient_steps:
        what = "was fitted to query rows: fit with objective='evidence'"
    if what:
        raise ValueError(f"{where}: this model {what}.")


def _axis_of(model: _Model, name: Any, where: str) -> _Axis:
    """Return the parameter of this name."""
    fitted, population = model._fitted, model._fitted.population
    names, p = fitted.names, len(fitted.table)
    covariates, noise = fitted.covariates, fitted.model.noise
    slopes = [f"{names[k]}:{label}" for k, label in zip(covariates.constants, covariates.labels, strict=False)]
    omegas = [f"{names[k]}_omega" for k in fitted.random]
    # of several outputs the table has a row each
    noises = [] if fitted.outputs else [f"noise_{part}" for part in model.noise_.index]
    if name in names or name in slopes:
        k = names.index(name) if name in names else p + slopes.index(name)
        if k in fitted.undetermined:
            raise ValueError(f"{where}: {name!r} is not determined by the tasks of the fit.")
        error = float(fitted.beta_error[k])
        shown = _shown_constant(fitted, k)
        if k >= p:
            shown = partial(_per_unit, float(covariates.scale[k - p]))
        elif name not in fitted.given_names:
            assert fitted.by_row is not None
            shown = partial(_per_unit, float(fitted.by_row.covariates.scale[k - len(fitted.given_names)]))
        return _Axis(Held("coefficient", k), float(population.beta[k]), error, -np.inf, np.inf, shown)
    if name in omegas:
        k = fitted.random[omegas.index(name)]
        sd = float(fitted.prior_variance[k].sqrt())
        error = float(model.population_["omega_standard_error"].iloc[k])
        step = error if np.isfinite(error) and error > 0 else FIRST_SD * max(sd, float(fitted.beta_error[k]))
        return _Axis(Held("sd"), sd, step, 0.0, np.inf, float, k)
    if name in noises:
        j = noises.index(name)
        step = (1 if noise.normal else FIRST_STEP) / np.sqrt(2 * model.n_rows_)
        shown, bounds = _shown_noise(fitted, j), (-np.inf, float(noise.largest[j]))
        if noise.kind == "power" and j == 0:
            raise ValueError(f"{where}: 'noise_sd_at_1' moves together with the power; take 'noise_power'.")
        if noise.correlation is not None and j == len(population.log_sigma) - 1:
            bounds = noise.correlation.bounds
        return _Axis(Held("noise", j), float(population.log_sigma[j]), step, *bounds, shown)
    raise ValueError(f"{where}: name must be one of {', '.join([*names, *omegas, *noises, *slopes])}, got {name!r}.")


def _shown_constant(fitted: FittedEquation, k: int) -> Callable[[float], float]:
    """Return the function from the scale on which a constant is normal to its unit."""

    def shown(at: float) -> float:
        phi = fitted.population.beta[: len(fitted.table)].clone()
        phi[k] = at
        return float(fitted.model.transforms.constrain(phi)[k])

    return shown


def _per_unit(scale: float, at: float) -> float:
    """Return a coefficient per unit of its column from one per standard deviation of it."""
    return at / scale


def _shown_noise(fitted: FittedEquation, j: int) -> Callable[[float], float]:
    """Return the function from a constant of the noise as the search has it to that of the table."""
    noise = fitted.model.noise
    if isinstance(noise, Outcome):
        if noise.kind == "ordinal" and j:
            raise ValueError("profile_likelihood: cut points after 'noise_cut_1' move together with it; take that one.")
        return lambda at: float(np.exp(at))
    if j < noise.n_scales:
        return lambda at: float(np.exp(at))
    if noise.kind == "power" and j == 1:
        return float
    correlation = noise.correlation
    assert correlation is not None
    return lambda at: float(correlation.constant(torch.tensor(at, dtype=torch.float64)))


class _Curve:
    """Deviances at values of one parameter; each search starts from the population of the nearest value.

    Parameters
    ----------
    problem : Problem
    axis : _Axis
    start : PopulationParameters
        The fit, with the constant in question first where its standard deviation is held.
    maximum : float
        Log-likelihood of the fit.
    max_iter : int
    """

    def __init__(
        self, problem: Problem, axis: _Axis, start: PopulationParameters, maximum: float, max_iter: int
    ) -> None:
        self.problem, self.axis, self.maximum, self.max_iter = problem, axis, maximum, max_iter
        self.deviances = {axis.estimate: 0.0}
        self.messages: list[str] = []
        self._populations = {axis.estimate: start}

    @classmethod
    def of(cls, settings: FitSettings, fitted: FittedEquation, tasks: TaskSet, axis: _Axis, maximum: float) -> "_Curve":
        """Return the curve of a fit to tasks."""
        observations, p = whole(tasks), len(fitted.table)
        start, random = fitted.population, list(fitted.random)
        if axis.first is not None:
            random = [axis.first, *(k for k in random if k != axis.first)]
            start = start._replace(factor=_lower(start.factor, random))
        compiled = compiled_for_fit(settings, fitted.model, fitted.population.beta[:p], len(random), observations)
        smallest = smallest_noise(fitted.model.noise, spread_of(observations, fitted.model.noise))
        smallest = torch.minimum(smallest, start.log_sigma)
        parts = observations, None, random, settings.diagonal, smallest, fitted.map_solver
        rest = {"held": axis.held, "n_nodes": settings.n_nodes}
        problem = Problem(compiled.model, fitted.design_of_tasks(tasks), *parts, **rest)  # type: ignore[arg-type]
        return cls(problem, axis, start, maximum, settings.max_iter)

    def deviance(self, at: float) -> float:
        """Return the deviance at a value on the scale of the search."""
        if at not in self.deviances:
            near = min(self._populations, key=lambda solved: abs(solved - at))
            start = self._moved(self._populations[near], at)
            zeros = torch.zeros(len(self.problem.random), self.problem.n_tasks, dtype=torch.float64)
            with quiet(Warning):
                u = self.problem.map_estimate(start, zeros).u
                optimum = maximise(self.problem, start, u, max_iter=self.max_iter)
            if optimum.message:
                self.messages.append(optimum.message)
            self.deviances[at] = 2 * (self.maximum + optimum.loss)
            self._populations[at] = optimum.population
        return self.deviances[at]

    def end(self, way: int, z: float) -> float:
        """Return where the root of the deviance is z, below or above the estimate; a bound where it is less there."""
        axis = self.axis
        bound = axis.least if way < 0 else axis.greatest
        most = min(abs(bound - axis.estimate), FARTHEST * axis.step)
        if most == 0:
            return bound
        inner, outer, t = (0.0, 0.0), None, min(z * axis.step, most)
        for _ in range(MOST_STEPS):
            at = bound if t == abs(bound - axis.estimate) else axis.estimate + way * t
            height = float(np.sqrt(max(self.deviance(at), 0.0)))
            if abs(height - z) < CLOSE:
                return at
            if height < z:
                if t == most:
                    return bound
                inner = (t, height)
            else:
                outer = (t, height)
            if outer is None:
                t = min(t * float(np.clip(z / max(height, 1e-3), 1.1, 3.0)), most)
            else:
                share = (z - inner[1]) / (outer[1] - inner[1])
                t = inner[0] + float(np.clip(share, 0.05, 0.95)) * (outer[0] - inner[0])
        self.messages.append(f"an end was not met in {MOST_STEPS} values")
        return at

    def reached(self, end: float) -> float:
        """Return an end, or the last value on the way to one that is infinite."""
        if np.isfinite(end):
            return end
        return min(self.deviances) if end < 0 else max(self.deviances)

    def _moved(self, population: PopulationParameters, at: float) -> PopulationParameters:
        """Return a population with the parameter at another value."""
        held = self.axis.held
        if held.kind == "coefficient":
            beta = population.beta.clone()
            beta[held.place] = at
            return population._replace(beta=beta)
        if held.kind == "noise":
            log_sigma = population.log_sigma.clone()
            log_sigma[held.place] = at
            return population._replace(log_sigma=log_sigma)
        factor = population.factor.clone()
        factor[self.problem.random[0], 0] = at
        return population._replace(factor=factor)


def _lower(factor: Tensor, random: list[int]) -> Tensor:
    """Return the factor of the same covariance that is lower triangular with constants in this order.

    A constant without variation has a row and a column of zeros, so that independent ones stay so.
    """
    rows = factor[random]
    left, root = rows @ rows.T, torch.zeros_like(rows)
    least = ROUNDING * left.diagonal()
    for j in range(len(left)):
        if float(left[j, j]) > float(least[j]):
            root[j:, j] = left[j:, j] / left[j, j].sqrt()
            left = left - torch.outer(root[:, j], root[:, j])
    turned = torch.zeros_like(factor)
    turned[random] = root
    return turned
