"""From a population of units to one with levels: expectation-maximisation on linearised units.

The equation is linearised at the constants of each unit, and stays so for some steps: a step is then the closed form of
a linear mixed model, and costs no look at the rows. The mean posterior square of the deviations of a level becomes its
covariance, and the coefficients take a step of generalised least squares.
"""

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from metaest.estimators.equations.fit.starts import sizes
from metaest.estimators.equations.units.problem import LevelPopulation, Linear, UnitProblem, linear_posterior
from metaest.functional import PopulationParameters
from metaest.functional.equations import small_matrices
from metaest.functional.equations.nested import information_of_coefficients, response

__all__ = ["em_of_units", "first_levels"]

# squared length of the last step of a search, in units of the posterior: enough to linearise at
ROUGHLY = 1e-2
# steps on one linearisation
STEPS = 8
# linearisations
ROUNDS = 1
# rise of the evidence in a step, below which the next linearisation follows
LEAST_RISE = 1e-2
# standard deviation of a level at the start, as a share of the size of a constant, at least
LEAST_SD = 1e-2
# share of the variances added to a covariance: a unit or two leave it singular
JITTER = 1e-9


def first_levels(problem: UnitProblem, population: PopulationParameters) -> LevelPopulation:
    """Return a population whose levels share the variances of one without levels in equal parts."""
    flat = population.factor @ population.factor.T
    size = sizes(problem.units.model, population.beta[: len(flat)], problem.units.observations)
    count = torch.zeros(len(flat), dtype=flat.dtype)
    for chosen in problem.variation.random:
        count[list(chosen)] += 1
    shared = flat / (count.clamp(min=1)[:, None] * count.clamp(min=1)).sqrt()
    shared = shared + torch.diag((LEAST_SD * size).square())
    factors = [
        _root(problem, level, shared) for level in range(len(problem.variation.random))
    ]  # by level, of its constants alone
    return LevelPopulation(population.beta, tuple(factors), population.log_sigma)


def _root(problem: UnitProblem, level: int, covariance: Tensor) -> Tensor:
    """Return a root, (constants, random), of the part of a covariance that belongs to a level."""
    chosen = list(problem.variation.random[level])
    part = covariance[chosen][:, chosen]
    part = part + torch.diag(JITTER * part.diagonal())
    if problem.variation.diagonal[level]:
        part = torch.diag(part.diagonal())
    factor = covariance.new_zeros(len(covariance), len(chosen))
    if chosen:
        factor[chosen] = torch.linalg.cholesky(part)
    return factor


def em_of_units(
    problem: UnitProblem, population: LevelPopulation, u: Sequence[Tensor] | None, rounds: int = ROUNDS
) -> tuple[LevelPopulation, list[Tensor]]:
    """Take steps of expectation-maximisation.

    Parameters
    ----------
    problem : UnitProblem
    population : LevelPopulation
    u : sequence of Tensor, optional
        Where the search for deviations starts.
    rounds : int

    Returns
    -------
    population : LevelPopulation
        The one of largest evidence on the way.
    u : list of Tensor
    """
    best: tuple[float, LevelPopulation, list[Tensor]] | None = None
    for turn in range(rounds + 1):
        result = problem.search(population, u, ROUGHLY)
        u = result.u
        height = problem.height(population, u)
        if best is None or height > best[0]:
            best = height, population, list(u)
        elif not height > best[0] - 10:
            break
        if turn < rounds:
            population = _steps(problem, population, u)
    assert best is not None
    return best[1], best[2]


def _steps(problem: UnitProblem, population: LevelPopulation, u: Sequence[Tensor]) -> LevelPopulation:
    """Return the population after steps on units linearised at their most probable constants."""
    phi = problem.phi(population, u)
    _, gradient, matrix = problem.information(population, u)
    last = torch.inf
    for step in range(STEPS + 1):
        tree, center = problem.tree(population), problem.center(population)
        posterior = linear_posterior(tree, center, phi, gradient, matrix)
        loss = float((posterior.loss + 0.5 * tree.log_determinant(posterior.system)).sum())
        if step == STEPS or not loss < last - LEAST_RISE:
            return population._replace(beta=_least_squares(problem, population, posterior, (phi, gradient, matrix)))
        last = loss
        deviations, _ = tree.covariances(posterior.system)
        factors = []
        for level, factor in enumerate(tree.factors):
            mean = posterior.u[level]
            moment = (mean @ mean.T + deviations[level].sum(dim=2)) / mean.shape[1]
            factors.append(factor)
            with contextlib.suppress(RuntimeError):  # no Cholesky factor
                factors[-1] = _root(problem, level, small_matrices.sandwich(factor, moment[..., None])[..., 0])
        population = population._replace(factors=tuple(factors))
    return population


def _least_squares(
    problem: UnitProblem, population: LevelPopulation, posterior: Linear, units: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Return the coefficients a step of generalised least squares further, from linearised units."""
    (phi, gradient, matrix), design = units, problem.units.design
    tree, center = problem.tree(population), problem.center(population)
    at = gradient + torch.einsum("pqt,qt->pt", matrix, tree.constants(center, posterior.u) - phi)
    normal = information_of_coefficients(design, matrix, response(tree, design, matrix, posterior.system))
    score = -(at[design.constant] * design.multiplier).sum(dim=1)
    step = torch.linalg.lstsq(normal, score[:, None], driver="gelsd").solution[:, 0]
    return population.beta + step if bool(torch.isfinite(step).all()) else population.beta
