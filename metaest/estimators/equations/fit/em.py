"""Expectation-maximisation: from rough starts to the neighbourhood of the maximum, and the variances that are zero.

A step linearises the equation at the most probable constants of each task: a Newton step for the population, and the
closed-form updates of a linear mixed model for covariance and noise. It cannot run off as a line search from afar may.
A correlation of the residuals stays as it is.
"""

import contextlib
import logging
import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators import matrices
from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.fit.linearised import Linearised, linearise
from metaest.estimators.equations.fit.problem import Optimum, Problem
from metaest.estimators.equations.fit.starts import (
    PooledFit,
    around_initial_values,
    around_pooled_fit,
    from_single_tasks,
    pooled_fits,
    scales,
    spread_of,
)
from metaest.functional import GaussNewton, HierarchicalModel, Observations, Outcome, PopulationParameters
from metaest.functional.equations.correlated import whitened_residuals
from metaest.functional.equations.hierarchical import Point
from metaest.functional.equations.outputs import OutputNoise
from metaest.functional.progress import progress

__all__ = ["EMResult", "em_steps", "first_population", "with_first_correlation", "without_variation"]

_logger = logging.getLogger("metaest.fit")

# pooled fits that become populations
N_CANDIDATES = 3
# EM steps by which candidates are compared
CANDIDATE_STEPS = 6
# EM steps that the last few candidates, and the one chosen, take
STEPS = 12
# rise of the log-evidence in a step, below which the steps end
LEAST_RISE = 1e-2
# fall of the log-evidence below the best so far, at which they end
MOST_FALL = 10
# tasks that are enough to find where to start
SEARCH_TASKS = 100
# rows per task that are enough for it
SEARCH_ROWS = 60
# difference in log-evidence within which two populations fit alike, and the one nearer to the initial values is taken
ALIKE = 3.0
# difference in log-evidence from the best within which a population takes more steps before it is judged
NEAR = 30.0
# standard errors (of the rows of a task) within which two populations put a task in the same place
SAME_PLACE = 1.0
# rounds of searching all tasks widely, each followed by EM steps
WIDE_ROUNDS = 5
# gain in log-posterior by which a task has escaped from a local optimum
ESCAPE = 2.0
# solver of the EM steps: accurate enough for a linearisation
ROUGH = GaussNewton(max_iter=30, tol=1e-2, newton_after=30)
# correlation constants that are compared for a first estimate
FIRST_GUESSES = 40
# greatest artanh(phi) among them: phi = 0.995
STEADY = 3.0
# EM steps after it
CORRELATED_STEPS = 6
# loss of log-evidence up to which a variance between tasks is set to zero
NEGLIGIBLE = 1e-3
# variance between tasks, in units of its mean posterior variance, from which it is not even tried at zero
CLEARLY_ABOVE_ZERO = 1.0
# share of the normal matrix's diagonal added to it, so that a Newton step of a singular one is defined
RIDGE = 1e-12
# mean squared residual, in units of the noise, below which taking the constant from the loss loses its digits
CANCELLED = 1e-4
# share of the variances added to the covariance: a task or two leave it singular
JITTER = 1e-10


class EMResult(NamedTuple):
    """A population with the most probable deviations of the tasks, and its log-evidence as far as these are exact."""

    evidence: float
    population: PopulationParameters
    u: Tensor

    @classmethod
    def rebuild(cls, saved: Any) -> "EMResult":
        """Return it from what a checkpoint has saved."""
        evidence, population, u = saved
        return cls(evidence, PopulationParameters(*population), u)


def first_population(
    problem: Problem, initial: Tensor, n_coefficients: int, *, verbose: bool = False
) -> tuple[PopulationParameters, Tensor]:
    """Return a population near the maximum of the evidence, and the most probable deviations of the tasks under it.

    A pooled fit from many starts gives a few candidates, fits of single tasks another one. Each becomes a population
    that a few EM steps narrow down, on at most a hundred tasks of at most sixty rows. Of those of about the largest
    evidence, the one nearest to the user's values goes on. Where tasks have too few rows to be fitted one by one, a
    population around the user's values is tried as well, and taken where it is clearly more likely.

    Parameters
    ----------
    problem : Problem
    initial : Tensor of shape (constants,)
        The user's values, unconstrained.
    n_coefficients : int
        Number of constants and of coefficients of covariates.
    verbose : bool, default=False
        Whether to show progress bars.
    """
    few = evenly(problem.n_tasks, SEARCH_TASKS)
    small = _thinned(problem, few)
    step = problem.checkpoint.step
    candidates, from_tasks = _candidates(small, initial)
    results = []
    for population, u in progress(candidates, verbose, "populations to start from"):
        padding = torch.zeros(n_coefficients - len(population.beta), dtype=torch.float64)
        population = population._replace(beta=torch.cat([population.beta, padding]))
        results.append(step(partial(em_steps, small, population, u, CANDIDATE_STEPS), EMResult.rebuild))
    searched, local_optima = [], False
    for result in progress(_distinct(small, results), verbose, "tasks searched widely"):
        widely = partial(search_all_widely, small, result, CANDIDATE_STEPS)
        result, moved = step(widely, lambda saved: (EMResult.rebuild(saved[0]), bool(saved[1])))
        searched.append(result)
        local_optima = local_optima or moved
    distinct = _distinct(small, searched)
    # a pooled fit and fits of single tasks that end apart
    local_optima = local_optima or (from_tasks and len(distinct) > 1)
    best = max(result.evidence for result in distinct)
    if len(distinct) > 1:
        distinct = [
            step(partial(em_steps, small, result.population, result.u, STEPS), EMResult.rebuild)
            if best - NEAR < result.evidence < np.inf
            else result
            for result in distinct
        ]
    best = max(result.evidence for result in distinct)
    distinct += [] if from_tasks else _from_initial_values(small, initial, n_coefficients, best)
    # an equation may have mirror images (two rates that change places, an alias of a frequency)
    best = max(result.evidence for result in distinct)
    size = scales(problem.model, initial, small.observations)
    _logger.info(
        "%d starting populations, of which %d end apart; the best has log-evidence %.6g on %d of %d tasks",
        *(len(candidates), len(distinct), best, len(few), problem.n_tasks),
    )
    alike = [result for result in distinct if result.evidence >= best - ALIKE]
    _, population, u_of_few = min(alike, key=lambda result: _distance(result.population, initial, size))
    problem = problem._replace(query=None)
    if small.observations.y.shape == problem.observations.y.shape:
        return population, u_of_few  # the steps were taken on all rows
    u = torch.zeros(len(problem.random), problem.n_tasks, dtype=torch.float64)
    u[:, few] = u_of_few
    if local_optima and len(few) < problem.n_tasks:
        everywhere = partial(problem.search_widely, ROUGH, population, u)
        u = step(lambda: everywhere()[0].u, lambda saved: saved)
    _, population, u = step(partial(em_steps, problem, population, u, STEPS), EMResult.rebuild)
    return population, u


def _thinned(problem: Problem, few: Tensor) -> Problem:
    """Return the problem of few tasks of few rows."""
    observations = problem.observations.take(few)
    if problem.model.equation.mode == "rows":
        observations = observations.thin(SEARCH_ROWS)
    return problem._replace(observations=observations, design=problem.design.take(few), query=None)


def _candidates(problem: Problem, initial: Tensor) -> tuple[list[tuple[PopulationParameters, Tensor]], bool]:
    """Return populations to start from, and whether fits of single tasks gave one of them."""
    model, observations, step = problem.model, problem.observations, problem.checkpoint.step
    pooled = partial(pooled_fits, model, initial, observations, N_CANDIDATES)
    fits = step(pooled, lambda saved: [PooledFit(*fit) for fit in saved])
    fits = fits or [PooledFit(initial, spread_of(observations, model.noise))]
    smallest = _smallest_sigma(problem)
    candidates = [around_pooled_fit(model, fit, problem.random, observations, smallest) for fit in fits]
    single = step(
        partial(from_single_tasks, model, initial, problem.random, observations, smallest),
        lambda saved: None if saved is None else (PopulationParameters(*saved[0]), saved[1]),
    )
    return candidates + ([] if single is None else [single]), single is not None


def _smallest_sigma(problem: Problem) -> float:
    """Return the least standard deviation of the noise; 0 where it has none."""
    return float(problem.smallest_log_sigma[0].exp()) if problem.model.noise.n_scales else 0.0


def _from_initial_values(problem: Problem, initial: Tensor, n_coefficients: int, best: float) -> list[EMResult]:
    """Return the population that is reached from around the user's values, where it is clearly above the best one."""
    smallest, step = _smallest_sigma(problem), problem.checkpoint.step
    population, u = around_initial_values(problem.model, initial, problem.random, problem.observations, smallest)
    padding = torch.zeros(n_coefficients - len(initial), dtype=torch.float64)
    population = population._replace(beta=torch.cat([initial, padding]))

    def reached() -> EMResult:
        start = problem.search_widely(ROUGH, population, u)[0].u
        result = em_steps(problem, population, start, CANDIDATE_STEPS)
        result, _ = search_all_widely(problem, result, CANDIDATE_STEPS)
        if best - NEAR < result.evidence < np.inf:
            result = em_steps(problem, result.population, result.u, STEPS)
        return result

    result = step(reached, EMResult.rebuild)
    return [result] if best + ALIKE < result.evidence < np.inf else []


def _distinct(problem: Problem, results: list[EMResult]) -> list[EMResult]:
    """Leave out populations that put all tasks where a better one puts them."""
    distinct: list[EMResult] = []
    places: list[Tensor] = []
    for result in sorted(results, key=lambda result: -result.evidence):
        population = result.population
        phi = problem.at(population).constants(result.u)
        info = problem.model.information(phi, population.log_sigma, problem.observations)
        standard_error = info.matrix.diagonal().T.clamp(min=1e-300).rsqrt()
        if all(bool(((phi - other).abs() > SAME_PLACE * standard_error).any()) for other in places):
            distinct.append(result)
            places.append(phi)
    return distinct


def _distance(population: PopulationParameters, initial: Tensor, size: Tensor) -> float:
    return float(((population.beta[: len(initial)] - initial) / size).square().sum())


def search_all_widely(problem: Problem, result: EMResult, steps: int) -> tuple[EMResult, bool]:
    """Search all tasks widely and take EM steps again, as long as a task turns out to fit much better elsewhere.

    A task stuck in a local optimum passes for noise, and noise taken for large hides that it is stuck: every task is
    searched, however well it seems to fit.

    Returns
    -------
    EMResult
    moved : bool
        Whether a task escaped from a local optimum.
    """
    for i in range(WIDE_ROUNDS):
        population = result.population
        other, gain = problem.search_widely(ROUGH, population, result.u)
        if not bool((gain > ESCAPE).any()):
            return result, i > 0
        result = em_steps(problem, population, other.u, steps)
    return result, True


def em_steps(problem: Problem, population: PopulationParameters, u: Tensor, steps: int) -> EMResult:
    """Take EM steps until the evidence hardly rises, and return the best population.

    A step may lower the evidence a little on its way, since it linearises; after a large fall the steps end.
    """
    best: EMResult | None = None
    n_rows = float(problem.observations.mask.sum())
    for _ in range(steps + 1):
        point = problem.at(population)
        u = ROUGH.solve(problem.model, *point, problem.observations, u).u
        linearised = linearise(problem.model, point, problem.design, problem.observations, u)
        value = -float(torch.from_numpy(linearised.loss).sum())
        value = value if math.isfinite(value) else -np.inf
        if best is None or value > best.evidence:
            gain = np.inf if best is None else value - best.evidence
            best = EMResult(value, population, u)
            if gain < LEAST_RISE:
                break
        elif value < best.evidence - MOST_FALL:
            break
        population = _em_step(problem, population, point, u, linearised, n_rows)
    assert best is not None
    return best


def with_first_correlation(
    problem: Problem, population: PopulationParameters, u: Tensor
) -> tuple[PopulationParameters, Tensor]:
    """Return a population that was found as if rows were independent, with a first estimate of their correlation.

    Rows taken as independent are consistent for the curves, and find the same valleys.
    """
    correlation, observations = problem.model.noise.correlation, problem.observations
    if correlation is None:
        return population, u
    low, high = correlation.bounds
    if correlation.kind == "ar1":
        low, high = max(low, -STEADY), min(high, STEADY)
    guesses = torch.linspace(low, high, FIRST_GUESSES + 2, dtype=torch.float64)[1:-1]
    n = observations.mask.sum()
    with torch.no_grad():
        curve = problem.model.curve(problem.at(population).constants(u), observations)
        heights, squares = [], []
        for z in guesses:
            log_sigma = torch.cat([population.log_sigma, z[None]])
            white = whitened_residuals(problem.model.noise, curve, log_sigma, observations)
            squares.append(white.square().sum() / n)
            determinant = correlation.lags(observations, z).log_determinant().sum()
            heights.append(0.5 * n * squares[-1].log() + determinant)
    best = int(torch.nan_to_num(torch.stack(heights), nan=torch.inf).argmin())
    log_sigma = torch.cat([population.log_sigma, guesses[best][None]])
    log_sigma = problem.model.noise.scaled(log_sigma, 0.5 * squares[best].log())
    start = population._replace(log_sigma=torch.maximum(log_sigma, problem.smallest_log_sigma))
    _logger.info("first %s of the residuals: %.4g", correlation.name, float(correlation.constant(guesses[best])))
    whole = problem._replace(query=None)
    _, start, u = problem.checkpoint.step(partial(em_steps, whole, start, u, CORRELATED_STEPS), EMResult.rebuild)
    return start, u


def _em_step(
    problem: Problem, population: PopulationParameters, point: Point, u: Tensor, linearised: Linearised, n_rows: float
) -> PopulationParameters:
    """Return the population one step further, from the tasks linearised at their most probable deviations u."""
    model, normal, posterior = problem.model, linearised.normal, linearised.posterior
    beta, factor, deviations = population.beta, population.factor.numpy(), u.numpy()
    with np.errstate(all="ignore"):
        with contextlib.suppress(np.linalg.LinAlgError):
            step = np.linalg.solve(_raised(normal, RIDGE), linearised.score)
            if np.isfinite(step).all():
                beta = beta + torch.from_numpy(step)

        log_sigma = population.log_sigma
        if model.noise.n_scales:
            square = _square_of_residuals(model, point, u, linearised, problem.observations, n_rows)
            # the spread of what the rows leave open
            left = float((matrices.sandwich(factor.T, linearised.information) * posterior).sum())
            # an exact fit leaves nothing: the noise is then at its floor
            by: Any = 0.5 * float(np.log((square + left) / n_rows))
            if isinstance(model.noise, OutputNoise):
                by = _steps_of_outputs(model, point, u, problem.observations, left / n_rows)
            log_sigma = model.noise.scaled(population.log_sigma, by)
            log_sigma = torch.maximum(log_sigma, problem.smallest_log_sigma)

        if factor.shape[1]:
            moment = (deviations @ deviations.T + posterior.sum(axis=2)) / problem.n_tasks
            random = np.flatnonzero((factor != 0).any(axis=1))
            covariance = factor[random] @ moment @ factor[random].T
            if problem.diagonal:
                covariance = np.diag(covariance.diagonal())
            with contextlib.suppress(np.linalg.LinAlgError):
                root = np.linalg.cholesky(_raised(covariance, JITTER))
                if np.isfinite(root).all():
                    factor = np.zeros_like(factor)
                    factor[random] = root
    return PopulationParameters(beta, torch.from_numpy(factor), log_sigma)


def _raised(matrix: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return a matrix with a share of its diagonal added to it."""
    raised = matrix.copy()
    np.fill_diagonal(raised, raised.diagonal() + share * raised.diagonal())
    return raised


def _square_of_residuals(
    model: HierarchicalModel, point: Point, u: Tensor, linearised: Linearised, observations: Observations, n_rows: float
) -> float:
    """Return the sum of squared residuals in units of the noise."""
    noise, log_sigma = model.noise, point.log_sigma
    accuracy = noise.accuracy(observations)
    plain = noise.kind == "additive" and noise.correlation is None
    equal_noise = plain and not noise.bounds.censors and accuracy.alike
    if equal_noise:  # the loss is then a constant and half the squares
        constant = n_rows * (float(log_sigma[0]) + 0.5 * math.log(2 * math.pi))
        square = 2 * (float(torch.from_numpy(linearised.loss_of_rows).sum()) - constant)
        if square > CANCELLED * n_rows:
            return square
    with torch.no_grad():
        curve = model.curve(point.constants(u), observations)
        if noise.correlation is not None:
            return float(whitened_residuals(noise, curve, log_sigma, observations).square().sum())
        residual = noise.residual(curve, observations.y, accuracy)
        if isinstance(noise, Outcome):
            return float(observations.masked(noise.square(residual, log_sigma)).sum())
        if noise.homoscedastic and accuracy.alike:
            return float(observations.masked(residual.square()).sum() * (-2 * log_sigma[0]).exp())
        return float(observations.masked(residual.square() / noise.variance(curve, log_sigma, accuracy)).sum())


def _steps_of_outputs(
    model: HierarchicalModel, point: Point, u: Tensor, observations: Observations, left: float
) -> Tensor:
    """Return by what the logarithm of the noise of each output grows; `left` is what constants leave open, a row."""
    noise, accuracy = model.noise, model.noise.accuracy(observations)
    assert isinstance(noise, OutputNoise)
    with torch.no_grad():
        curve = model.curve(point.constants(u), observations)
        residual = noise.residual(curve, observations.y, accuracy)
        square = observations.masked(residual.square() / noise.variance(curve, point.log_sigma, accuracy))
        rows = [(accuracy.output == code) & (observations.mask > 0) for code in noise.codes]
        means = torch.stack(
            [square[chosen].mean() if bool(chosen.any()) else square.new_tensor(1.0) for chosen in rows]
        )
    return 0.5 * (means + left).log()


def without_variation(problem: Problem, optimum: Optimum) -> tuple[Optimum, list[int]]:
    """Set to exactly zero the between-task variances without which the evidence is as large.

    Returns
    -------
    Optimum
    constants : list of int
        Constants that show no variation between tasks.
    """
    none = []
    excess = _excess_variance(problem, optimum)
    for k in problem.random:
        if float(excess[k]) > CLEARLY_ABOVE_ZERO:
            continue
        factor = optimum.population.factor.clone()
        factor[k] = 0.0
        population = optimum.population._replace(factor=factor)
        u = problem.solve(population, optimum.u).u
        loss = -problem.log_evidence(population, u)
        if loss < optimum.loss + NEGLIGIBLE:
            none.append(k)
            optimum = optimum._replace(population=population, u=u, loss=loss)
    return optimum, none


def _excess_variance(problem: Problem, optimum: Optimum) -> Tensor:
    """Return the variance between tasks of each constant over its mean posterior variance, less one."""
    population = optimum.population
    linearised = linearise(problem.model, problem.at(population), problem.design, problem.observations, optimum.u)
    left = torch.from_numpy(matrices.sandwich(population.factor.numpy(), linearised.posterior).mean(axis=2))
    left = left.diagonal()
    return population.factor.square().sum(dim=1) / left.clamp(min=1e-300) - 1
