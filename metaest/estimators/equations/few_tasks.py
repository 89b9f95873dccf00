"""Populations learned from few tasks: the most probable covariance and noise, and draws of what else they may be.

Tasks are linearised at their most probable constants; covariance, noise and coefficients are then those of the
posterior of `metaest.functional.equations.restricted`, and in turn give new constants, until neither moves (Lindstrom
and Bates, 1990, :doi:`10.2307/2532087`). Draws of covariance and noise are weighted like those of a task's constants.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.equations.adaptive_draws import spread_draws
from metaest.estimators.equations.fit.linearised import invert, linearise
from metaest.estimators.equations.fit.problem import Optimum, Problem
from metaest.estimators.equations.uncertain import UncertainPopulation, entering_of
from metaest.exceptions import warn
from metaest.functional import PopulationParameters
from metaest.functional.equations.restricted import Evaluation, LinearisedTasks, Shape

__all__ = ["Integrated", "integrated", "omega_errors", "population_of"]

# populations that are kept
N_POPULATIONS = 512
# share of the greatest weight of a population, below which it is left out
LEAST_WEIGHT = 1e-6
# alternations of constants and population at most, and the change of the coordinates at which they end
MOST_TURNS = 50
STILL = 1e-4
# steps of Newton's method at most, and the gain at which it ends
NEWTON_STEPS = 50
LEAST_GAIN = 1e-10
# dampings of a step that are tried at once
DAMPINGS = tuple(10.0**k for k in range(-6, 5))
# step of differences in the coordinates
STEP = 1e-3
# largest step in a coordinate
REACH = 2.0
# step in the logarithm of the noise by which its rows' loss is expanded
NOISE_STEP = 1e-2
# number of rows that leave no doubt of a standard deviation
NO_SCALE = 1e10
# effective number of draws below which a warning says that intervals are rough
ROUGH = 200
# curvature of the log-posterior in a coordinate at least: of a standard deviation of five in a logarithm
LEAST_CURVATURE = 0.04
# numbers in the information of all tasks, at all points that are evaluated at once
MOST_VALUES = 1_000_000
# smallest positive number that has a square root and a reciprocal
SMALLEST = 1e-150
# standard deviation, as a share of that of a constant, which is added against a singular covariance
ALMOST_ZERO = 1e-4
# standard deviation between tasks at the start, in those of a task's constant that is told by its rows alone
LEAST_SD = 0.3


def _linearised(problem: Problem, population: PopulationParameters, u: Tensor) -> LinearisedTasks:
    """Return the tasks with a quadratic loss around their constants at u."""
    model, point, observations = problem.model, problem.at(population), problem.observations
    phi, noise = point.constants(u), model.noise
    with torch.no_grad():
        information = model.information(phi, point.log_sigma, observations)
        low, high = (
            model.loss(phi, noise.scaled(point.log_sigma, step), observations).sum()
            for step in (-NOISE_STEP, NOISE_STEP)
        )
    entering = entering_of(problem.design, len(phi))
    if not noise.n_scales:  # there is none to estimate: it is as if very many rows told it
        return LinearisedTasks(
            phi.T, information.gradient.T, information.matrix.permute(2, 0, 1), entering, NO_SCALE, NO_SCALE
        )
    # from second and first differences of n delta + q exp(-2 delta) / 2
    q = float(high - 2 * information.loss.sum() + low) / (math.cosh(2 * NOISE_STEP) - 1)
    n = float((high - low) / (2 * NOISE_STEP)) + 0.5 * q * math.sinh(2 * NOISE_STEP) / NOISE_STEP
    return LinearisedTasks(phi.T, information.gradient.T, information.matrix.permute(2, 0, 1), entering, n, q)


class _Derivatives(NamedTuple):
    """A function at a point, its gradient, and minus its second derivative."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor


def _derivatives(height: Callable[[Tensor], Tensor], theta: Tensor) -> _Derivatives:
    """Return the derivatives at `theta` of a function of points of shape (points, coordinates), from differences."""
    d = len(theta)
    i, j = torch.triu_indices(d, d, offset=1)
    one = STEP * torch.eye(d, dtype=theta.dtype)
    two = one[i] + one[j]
    at = height(theta + torch.cat([theta.new_zeros(1, d), one, -one, two, -two]))
    plus, minus = at[1 : 1 + d], at[1 + d : 1 + 2 * d]
    curvature = torch.diag(2 * at[0] - plus - minus)
    pairs = at[1 + 2 * d :].reshape(2, -1).sum(dim=0)
    curvature[i, j] = curvature[j, i] = 0.5 * ((plus + minus)[i] + (plus + minus)[j] - pairs) - at[0]
    return _Derivatives(at[0], (plus - minus) / (2 * STEP), curvature / STEP**2)


def _highest(height: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """Return where a function is greatest near `theta`, by Newton's method; of several dampings the best is taken."""
    dampings = torch.tensor(DAMPINGS, dtype=theta.dtype)[:, None]
    for _ in range(NEWTON_STEPS):
        value, gradient, curvature = _derivatives(height, theta)
        values, vectors = torch.linalg.eigh(curvature)
        size = values.abs()
        steps = (vectors.T @ gradient / (size + dampings * size.max())) @ vectors.T
        steps = steps * (REACH / steps.abs().amax(dim=1, keepdim=True).clamp(min=REACH))
        tried = torch.nan_to_num(height(theta + steps), nan=-torch.inf)
        best = int(tried.argmax())
        if not tried[best] > value + LEAST_GAIN:
            break
        theta = theta + steps[best]
    return theta


class Integrated(NamedTuple):
    """What few tasks tell of their population.

    Attributes
    ----------
    optimum : Optimum
        The most probable covariance and noise, and the coefficients given these; its loss is the negative
        log-evidence there.
    uncertain : UncertainPopulation
    omega_error : Tensor of shape (constants,)
        Standard errors of the standard deviations between tasks.
    """

    optimum: Optimum
    uncertain: UncertainPopulation
    omega_error: Tensor


def population_of(
    small_sample: str, problem: Problem, optimum: Optimum, no_variation: list[int]
) -> tuple[Optimum, UncertainPopulation | None, Tensor]:
    """Return the population of a fit, what else it may be where that is asked for, and errors of its omegas."""
    if small_sample == "integrate":
        return integrated(problem, optimum)
    return optimum, None, omega_errors(problem, optimum, no_variation)


def integrated(problem: Problem, optimum: Optimum) -> Integrated:
    """Learn a population from few tasks, from the maximum of its likelihood, and what else it may be.

    Coefficients that nothing determines stay as they are.
    """
    population, u, random = optimum.population, optimum.u, tuple(problem.random)
    free = _determined(problem, optimum)
    tasks = _linearised(problem, population, u)
    least = LEAST_SD / tasks.precision[:, random, random].mean(dim=0).sqrt().clamp(min=SMALLEST)
    shape, theta = _first(population.factor, random, problem.diagonal, least)
    message = "the alternation of constants and population did not end"
    for _ in range(MOST_TURNS):
        told = _with_fixed(tasks, population.beta, free)
        before, theta = theta, _highest(partial(_log_posterior, told, shape), theta)
        beta = population.beta.clone()
        beta[free] = told.at(shape, theta[None]).beta[0]
        log_sigma = problem.model.noise.scaled(population.log_sigma, theta[-1])
        population = PopulationParameters(beta, shape.whole_factor(theta[None])[0], log_sigma)
        u = problem.map_estimate(population, u).u
        tasks = _linearised(problem, population, u)
        moved = float((theta - before).abs().max())
        theta = torch.cat([theta[:-1], theta.new_zeros(1)])
        if moved < STILL:
            message = ""
            break
    told = _with_fixed(tasks, population.beta, free)
    root = _root_of_inverse(_derivatives(partial(_log_posterior, told, shape), theta).curvature)
    loss = -problem.log_evidence(population, u)
    ended = optimum._replace(population=population, u=u, loss=loss, message=optimum.message or message)
    uncertain = _uncertain(told, shape, theta, root, population, free)
    return Integrated(ended, uncertain, _omega_error(shape, theta, root))


def omega_errors(problem: Problem, optimum: Optimum, no_variation: list[int]) -> Tensor:
    """Return standard errors of the standard deviations between tasks, from the expected information of all tasks.

    They are zero of constants that all tasks share, and NaN where a variation is estimated as zero: the likelihood is
    not quadratic there.
    """
    random = tuple(k for k in problem.random if k not in no_variation)
    factor = optimum.population.factor
    columns = [problem.random.index(k) for k in random]
    error = factor.new_zeros(len(factor))
    if random:
        sd = factor[list(random)].square().sum(dim=1).sqrt()
        shape, theta = _first(factor[:, columns], random, problem.diagonal, ALMOST_ZERO * sd)
        tasks = _linearised(problem, optimum.population, optimum.u)
        error = _omega_error(shape, theta, _root_of_inverse(tasks.information(shape, theta)))
    error[no_variation] = torch.nan
    return error


def _first(factor: Tensor, random: tuple[int, ...], diagonal: bool, least: Tensor) -> tuple[Shape, Tensor]:
    """Return the shape of a covariance, and the coordinates of one no smaller than `least` in any direction."""
    rows = factor[list(random)]
    covariance = rows @ rows.T + torch.diag(least.square())
    if diagonal:
        covariance = torch.diag(covariance.diagonal())
    shape = Shape(random, len(factor), diagonal, covariance.diagonal().sqrt())
    return shape, shape.coordinates(covariance)


def _determined(problem: Problem, optimum: Optimum) -> Tensor:
    """Return the numbers of the coefficients that the tasks determine."""
    point = problem.at(optimum.population)
    normal = linearise(problem.model, point, problem.design, problem.observations, optimum.u).normal
    return torch.nonzero(~invert(normal)[1])[:, 0]


def _root_of_inverse(curvature: Tensor) -> Tensor:
    """Return a root of the covariance of a normal distribution, from minus its second derivative."""
    values, vectors = torch.linalg.eigh(curvature)
    root: Tensor = vectors / values.clamp(min=LEAST_CURVATURE).sqrt()
    return root


def _log_posterior(tasks: LinearisedTasks, shape: Shape, theta: Tensor) -> Tensor:
    """Return the log-posterior of covariance and noise at points of shape (points, coordinates)."""
    return _evaluated(tasks, shape, theta).log_posterior


def _evaluated(tasks: LinearisedTasks, shape: Shape, theta: Tensor) -> Evaluation:
    """Return the populations at points of shape (points, coordinates), a bounded number at a time."""
    size = max(1, MOST_VALUES // tasks.precision.numel())
    parts = [tasks.at(shape, some) for some in torch.split(theta, size)]
    return parts[0] if len(parts) == 1 else Evaluation(*(torch.cat(group) for group in zip(*parts, strict=True)))


def _with_fixed(tasks: LinearisedTasks, beta: Tensor, free: Tensor) -> LinearisedTasks:
    """Return the tasks with all coefficients but the free ones at their values."""
    fixed = beta.clone()
    fixed[free] = 0.0
    return tasks._replace(phi=tasks.phi - tasks.entering @ fixed, entering=tasks.entering[..., free])


def _uncertain(
    tasks: LinearisedTasks, shape: Shape, theta: Tensor, root: Tensor, population: PopulationParameters, free: Tensor
) -> UncertainPopulation:
    """Return populations drawn from their posterior, from a root of its covariance at its maximum `theta`."""

    def height(z: Tensor) -> Tensor:
        return torch.nan_to_num(_log_posterior(tasks, shape, theta + z.T @ root.T), nan=-torch.inf)

    z, weight, worth = spread_draws(height, len(theta), N_POPULATIONS)
    if not worth >= ROUGH:
        warn(
            f"the posterior of covariance and noise is far from normal: its draws are worth {worth:.0f} equal ones, so "
            "that the ends of intervals are rough; let fewer constants vary, or take covariance='diagonal'.",
            ConvergenceWarning,
        )
    told = weight > LEAST_WEIGHT * weight.max()
    chosen, weight = theta + z[:, told].T @ root.T, weight[told] / weight[told].sum()
    drawn = _evaluated(tasks, shape, chosen)
    beta = population.beta.expand(len(chosen), -1).clone()
    beta[:, free] = drawn.beta
    covariance = beta.new_zeros(len(chosen), beta.shape[1], beta.shape[1])
    covariance[:, free[:, None], free] = torch.cholesky_inverse(torch.linalg.cholesky(drawn.normal))
    return UncertainPopulation(weight, beta, covariance, shape.whole_factor(chosen), chosen[:, -1].clone())


def _omega_error(shape: Shape, theta: Tensor, root: Tensor) -> Tensor:
    """Return the standard errors of the standard deviations between tasks, to first order, of shape (constants,)."""
    one = STEP * torch.eye(len(theta), dtype=theta.dtype)
    high, low = (shape.whole_factor(theta + step).square().sum(dim=2).sqrt() for step in (one, -one))
    error: Tensor = (((high - low) / (2 * STEP)).T @ root).square().sum(dim=1).sqrt()
    return error
