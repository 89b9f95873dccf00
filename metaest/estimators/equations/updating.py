r"""A published population updated by tasks: the maximum of their evidence times a prior that counts as tasks itself.

A weight of w tasks means what w tasks of the published population would say of its parameters. Typical values have the
prior :math:`N(\beta_0, \Omega_0 / w + U)` with the uncertainty U that the population states; the covariance between
tasks that of w deviations drawn from it, and the noise that of the rows of w tasks,

.. math:: \tfrac{w}{2} \left(\ln|\Omega| + \mathrm{tr}\, \Omega^{-1} \Omega_0\right), \qquad
          \tfrac{w r}{2} \left(\ln \sigma^2 + \sigma_0^2 / \sigma^2\right),

added to the negative log-evidence, with r rows in a task. Constants that are the same in all tasks, and whose
uncertainty the population does not state, stay as published; so do the formulas of covariates.

"auto" takes for each typical value the weight that is most probable given how far the tasks alone, under a nearly flat
prior, lie from what was published: their distance is normal around zero with the variance of the prior and that of the
tasks' estimate. Before any task is seen, the logarithm of a weight is normal around that of ten tasks, and nine times
in ten it lies between one and a hundred. The covariance between tasks and the noise count as ten tasks.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.batches import whole
from metaest.estimators.equations.compiled import compiled_for_fit
from metaest.estimators.equations.fit.laplace import maximise
from metaest.estimators.equations.fit.linearised import linearise
from metaest.estimators.equations.fit.pipeline import FitResult, warn_of_fit
from metaest.estimators.equations.fit.problem import Optimum, Problem
from metaest.estimators.equations.fit.starts import spread_of
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.noises import smallest_noise
from metaest.estimators.equations.settings import FitSettings
from metaest.functional import PopulationParameters
from metaest.tasks import TaskSet

__all__ = [
    "USUAL_WEIGHT",
    "TaskPrior",
    "Updated",
    "alone",
    "free_coefficients",
    "precision_of",
    "update",
    "weights_of",
]

# weights in tasks among which "auto" chooses
WEIGHTS = np.geomspace(0.1, 1000, 81)
# median and standard deviation of the logarithm of the weight before any task is seen
USUAL_WEIGHT = 10.0
SPREAD_OF_LOG_WEIGHT = math.log(10) / 1.645
# weight of a prior that lets the tasks speak
FLAT = 1e-3
# rounds in which the weights of all typical values are chosen in turn
ROUNDS = 5


Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TaskPrior:
    """A prior of the parameters of a population that is worth a number of tasks.

    Attributes
    ----------
    origin : PopulationParameters
        The published ones.
    random : list of int
        Constants that vary between tasks.
    free : tuple of int
        Coefficients that are fitted; the others stay as published.
    precision : Tensor of shape (free, free)
        Of the coefficients that are fitted.
    weight : float
        Number of tasks that covariance and noise count as.
    rows : float
        Number of rows that they have.
    scales, others : list of int
        Which of the noise constants are standard deviations, and which are not.
    """

    origin: PopulationParameters
    random: list[int]
    free: tuple[int, ...]
    precision: Tensor
    weight: float
    rows: float
    scales: list[int]
    others: list[int]

    @classmethod
    def of(cls, fitted: FittedEquation, weights: Array, weight: float, rows: float) -> "TaskPrior":
        """Return the prior of a published population.

        Parameters
        ----------
        fitted : FittedEquation
        weights : ndarray of shape (constants,)
            Number of tasks that each typical value counts as.
        weight : float
            Number of tasks that covariance and noise count as.
        rows : float
            Rows of a task.
        """
        free, precision = free_coefficients(fitted), precision_of(fitted, weights)
        scales = fitted.model.noise.scale_places
        others = [j for j in range(fitted.model.noise.n_constants) if j not in scales]
        rest = weight, rows * weight, scales, others
        return cls(fitted.population, list(fitted.random), free, precision, *rest)

    def loss(self, population: PopulationParameters) -> Tensor:
        """Return the negative logarithm of the prior, zero at the published parameters."""
        away = (population.beta - self.origin.beta)[list(self.free)]
        loss = 0.5 * away @ self.precision @ away
        if self.random:
            root, before = population.factor[self.random], self.origin.factor[self.random]
            inside = torch.linalg.solve_triangular(root, before, upper=False)
            log_determinant = 2 * (root.diagonal().abs().log() - before.diagonal().abs().log()).sum()
            loss = loss + 0.5 * self.weight * (log_determinant + inside.square().sum() - len(self.random))
        change = population.log_sigma - self.origin.log_sigma
        scales, others = change[self.scales], change[self.others]
        each = self.rows / len(self.scales)
        loss = loss + 0.5 * each * (2 * scales + (-2 * scales).exp() - 1).sum()
        return loss + 0.5 * self.rows * others.square().sum()


class Updated(NamedTuple):
    """A population that tasks have updated, and the tasks that each part of the published one counted as."""

    result: FitResult
    weights: pd.Series


def update(
    settings: FitSettings, fitted: FittedEquation, tasks: TaskSet, weight: float | None, mode: tuple[str, str]
) -> Updated:
    """Return the population that tasks have made of a published one.

    Parameters
    ----------
    settings : FitSettings
    fitted : FittedEquation
        The published one.
    tasks : TaskSet
    weight : float or None
        Number of tasks that the published one counts as; None chooses it.
    mode : (str, str)
        How many tasks the equation is evaluated at once, and why.
    """
    p = len(fitted.table)
    problem, compiled, reason = _problem(settings, fitted, tasks)
    rows = _rows_of_a_task(problem)
    of_scales = USUAL_WEIGHT if weight is None else weight
    weights = np.full(p, FLAT if weight is None else weight)
    start = fitted.population
    if weight is None:
        prior = TaskPrior.of(fitted, weights, of_scales, rows)
        flat, _ = _at(fitted, problem._replace(prior=prior), start, settings)
        weights = _weights(fitted, flat.fitted)
        start = flat.fitted.population
    prior = TaskPrior.of(fitted, weights, of_scales, rows)
    problem = problem._replace(prior=prior)
    result, optimum = _at(fitted, problem, start, settings)
    warn_of_fit(problem, optimum, result.fitted, result.posterior, tasks, result.doubt)
    result = result._replace(mode=mode[0], reason=mode[1], compiled=compiled, compiled_reason=reason)
    return Updated(result, weights_of(fitted, weights, of_scales))


def alone(settings: FitSettings, fitted: FittedEquation, tasks: TaskSet, weight: float) -> FittedEquation:
    """Return what tasks say of the typical values, beside a prior that counts as `weight` tasks.

    Covariance and noise count as ten tasks, as for "auto"; nothing is warned of.
    """
    problem, _, _ = _problem(settings, fitted, tasks)
    weights = np.full(len(fitted.table), weight)
    prior = TaskPrior.of(fitted, weights, USUAL_WEIGHT, _rows_of_a_task(problem))
    return _at(fitted, problem._replace(prior=prior), fitted.population, settings)[0].fitted


def weights_of(fitted: FittedEquation, weights: Array, of_scales: float) -> pd.Series:
    """Return the weights of the typical values of constants that vary, and that of covariance and noise.

    A constant that does not vary has none: it stays as published, or has the standard error that was published.
    """
    values = {fitted.names[k]: float(weights[k]) for k in fitted.random}
    return pd.Series({**values, "covariance and noise": of_scales}, name="tasks", dtype=np.float64)


def precision_of(fitted: FittedEquation, weights: Array) -> Tensor:
    """Return the prior precision of the coefficients that an update fits, at weights of shape (constants,)."""
    free = list(free_coefficients(fitted))
    precision: Tensor = torch.linalg.inv(_variance(fitted, weights)[free][:, free])
    return precision


def free_coefficients(fitted: FittedEquation) -> tuple[int, ...]:
    """Return the coefficients that an update fits: typical values that vary, or are not known exactly."""
    p = len(fitted.table)
    stated = [k for k in range(p) if float(fitted.beta_covariance[k, k]) > 0]
    return tuple(sorted({*fitted.random, *stated}))


def _problem(settings: FitSettings, fitted: FittedEquation, tasks: TaskSet) -> tuple[Problem, bool, str]:
    """Return the problem of an update but for its prior, whether it is compiled, and why or why not."""
    observations, random, p = whole(tasks), list(fitted.random), len(fitted.table)
    smallest = smallest_noise(fitted.model.noise, spread_of(observations))
    smallest = torch.minimum(smallest, fitted.population.log_sigma - 1)
    compiled = compiled_for_fit(settings, fitted.model, fitted.population.beta[:p], len(random), observations)
    parts = observations, None, random, settings.diagonal, smallest, fitted.map_solver
    problem = Problem(compiled.model, fitted.design_of_tasks(tasks), *parts)
    return problem, compiled.compiled, compiled.reason


def _rows_of_a_task(problem: Problem) -> float:
    """Return the mean number of rows of a task."""
    return float(problem.observations.mask.sum()) / problem.n_tasks


def _variance(fitted: FittedEquation, weights: Array) -> Tensor:
    """Return the prior covariance of the typical values at weights of shape (..., constants)."""
    p, factor = len(fitted.table), fitted.population.factor
    scaled = factor / torch.from_numpy(np.sqrt(weights))[..., None]
    return scaled @ scaled.mT + fitted.beta_covariance[:p, :p]


def _weights(published: FittedEquation, flat: FittedEquation) -> Array:
    """Return the most probable weight of each typical value, from a fit under a nearly flat prior."""
    free, p = list(free_coefficients(published)), len(published.table)
    away = (flat.population.beta - published.population.beta)[free]
    estimate = flat.beta_covariance[free][:, free]
    weights = np.full(p, USUAL_WEIGHT)

    log_prior = -0.5 * (np.log(WEIGHTS / USUAL_WEIGHT) / SPREAD_OF_LOG_WEIGHT) ** 2
    for _ in range(ROUNDS):
        before = weights.copy()
        for k in published.random:
            tried = np.tile(weights, (len(WEIGHTS), 1))
            tried[:, k] = WEIGHTS
            variance = _variance(published, tried)[:, free][:, :, free] + estimate
            distance = (torch.linalg.solve(variance, away.expand(len(tried), -1)) * away).sum(dim=1)
            log_density = log_prior - 0.5 * (torch.logdet(variance) + distance).numpy()
            weights[k] = WEIGHTS[int(np.argmax(log_density))]
        if (weights == before).all():
            break
    return weights


def _at(
    fitted: FittedEquation, problem: Problem, start: PopulationParameters, settings: FitSettings
) -> tuple[FitResult, Optimum]:
    """Return the update of a published population under a prior, and where its search ended."""
    prior, history = problem.prior, list[tuple[int, float]]()
    assert prior is not None
    zeros = torch.zeros(len(problem.random), problem.n_tasks, dtype=torch.float64)
    u = problem.map_estimate(start, zeros).u
    optimum = maximise(
        problem, start, u, max_iter=settings.max_iter, report=lambda step, loss: history.append((step, loss))
    )
    population, free = optimum.population, list(prior.free)
    normal = linearise(problem.model, problem.at(population), problem.design, problem.observations, optimum.u).normal
    information = torch.from_numpy(np.asarray(normal))[free][:, free] + prior.precision
    covariance = torch.zeros_like(fitted.beta_covariance)
    covariance[np.ix_(free, free)] = torch.linalg.inv(information)
    updated = replace(fitted, population=population, beta_covariance=covariance)
    result = problem.map_estimate(population, optimum.u)
    phi = problem.at(population).constants(result.u)
    info = problem.model.information(phi, population.log_sigma, problem.observations)
    posterior = updated.posterior_at(phi, problem.design, info.matrix, result.loss, result.code)
    doubt = f"{optimum.message}; raise max_iter, or look at history_." if optimum.message else ""
    omega_error = torch.full((len(fitted.table),), torch.nan, dtype=torch.float64)
    searched = problem.log_evidence(population, optimum.u), max(1, optimum.n_iter), history
    return FitResult(updated, posterior, *searched, "", "", False, "", omega_error, doubt), optimum
