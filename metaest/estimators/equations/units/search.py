"""The maximum of the evidence of units within tasks: L-BFGS on exact gradients, and variances that are zero."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from metaest.estimators.equations.fit.laplace import (
    CONVERGED_GAIN,
    EVALUATIONS_PER_ITERATION,
    GRADIENT_TOLERANCE,
    LEAST_GAIN,
    LOSS_TOLERANCE,
    MEMORY,
    MOVED,
    SEARCHES,
    WALL,
    ZERO_SD,
    inverse_root,
)
from metaest.estimators.equations.fit.starts import sizes
from metaest.estimators.equations.units.em import em_of_units
from metaest.estimators.equations.units.problem import LevelPopulation, UnitProblem, spread_over_units
from metaest.exceptions import DivergenceError
from metaest.functional import PopulationParameters
from metaest.functional.equations.nested import negative_log_evidence_of_units

# squared length of the last step of a search, in units of the posterior, on the way
ROUGHLY = 1e-4

__all__ = ["UnitOptimum", "maximise_units", "revive_levels", "without_level_variation"]

_logger = logging.getLogger("metaest.fit")

# standard deviation of a level, as a share of the size of a constant, at which one that vanished is tried again
REVIVED = 0.1
# share of the size below which it has vanished
VANISHED = 1e-3
# gain in log-evidence by which a revived one goes on
REVIVAL_GAIN = 0.5
# loss of log-evidence up to which a variance is set to zero
NEGLIGIBLE = 1e-3
# variance, in units of its mean posterior variance, from which it is not even tried at zero
CLEARLY_ABOVE_ZERO = 1.0


class UnitOptimum(NamedTuple):
    """The population with levels at which a search ended.

    Attributes
    ----------
    levels : LevelPopulation
    by_level : list of Tensor of shape (random, units)
        The most probable deviations.
    loss : float
        Negative log-evidence of all tasks.
    n_iter : int
    message : str
        Empty where the search converged.
    population : PopulationParameters
        That of innermost units.
    u : Tensor of shape (random of all levels, innermost units)
        Their deviations, of all levels one below the other.
    """

    levels: LevelPopulation
    by_level: list[Tensor]
    loss: float
    n_iter: int
    message: str
    population: PopulationParameters
    u: Tensor

    @classmethod
    def of(
        cls, problem: UnitProblem, population: LevelPopulation, u: list[Tensor], loss: float, n_iter: int, message: str
    ) -> "UnitOptimum":
        """Return the optimum with its population of innermost units."""
        spread = spread_over_units(problem.tree(population), u)
        return cls(population, u, loss, n_iter, message, population.of_units, spread)


class _Coordinates:
    """A population with levels as one vector in which the evidence is about equally curved in all directions."""

    def __init__(self, problem: UnitProblem, population: LevelPopulation, u: list[Tensor]) -> None:
        self.origin = population
        normal, _, _ = problem.coefficients(population, u)
        self.directions = inverse_root(normal)
        units = problem.units
        size = sizes(units.model, population.beta[: len(population.factors[0])], units.observations)
        self.places, self.scales, start = [], [], []
        for level, (factor, n) in enumerate(zip(population.factors, problem.sizes, strict=True)):
            random = torch.tensor(problem.variation.random[level], dtype=torch.int64)
            lower = torch.tril_indices(len(random), len(random))
            lower = lower[:, lower[0] == lower[1]] if problem.variation.diagonal[level] else lower
            sd = factor[random].square().sum(dim=1).sqrt()
            sd = torch.where(sd > 0, sd, ZERO_SD * size[random])
            place, scale = random[lower[0]] * len(random) + lower[1], sd[lower[0]] / (2 * n) ** 0.5
            self.places.append(place)
            self.scales.append(scale)
            start.append(factor.reshape(-1)[place] / scale)
        self.noise_unit = 1 / (2 * float(units.observations.mask.sum())) ** 0.5
        self.n_beta, n_noise = self.directions.shape[1], len(population.log_sigma)
        zeros = torch.zeros(self.n_beta + n_noise, dtype=torch.float64)
        self.start = torch.cat([zeros[: self.n_beta], *start, zeros[self.n_beta :]]).numpy()
        largest = torch.tensor(units.model.noise.largest, dtype=torch.float64)
        self.smallest = (units.smallest_log_sigma - population.log_sigma) / self.noise_unit
        self.largest = (largest - population.log_sigma) / self.noise_unit

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Return bounds that keep the noise above its floor, and a power within its range."""
        free: list[tuple[float | None, float | None]] = [(None, None)] * (len(self.start) - len(self.smallest))
        pairs = zip(self.smallest.tolist(), self.largest.tolist(), strict=True)
        return [*free, *((low, high if high < np.inf else None) for low, high in pairs)]

    def population(self, x: Tensor) -> LevelPopulation:
        """Return the population of a vector, differentiable in it."""
        beta = self.origin.beta + self.directions @ x[: self.n_beta]
        done, factors = self.n_beta, []
        for factor, place, scale in zip(self.origin.factors, self.places, self.scales, strict=True):
            entries = x.new_zeros(factor.numel()).index_put((place,), scale * x[done : done + len(place)])
            factors.append(entries.reshape(factor.shape))
            done += len(place)
        return LevelPopulation(beta, tuple(factors), self.origin.log_sigma + self.noise_unit * x[done:])


class _Objective:
    """The loss of a population with levels and its exact gradient; deviations are carried from call to call."""

    def __init__(self, problem: UnitProblem, coordinates: _Coordinates, u: list[Tensor]) -> None:
        self.problem, self.coordinates, self.u = problem, coordinates, u
        self.best, self.best_x, self.origin = np.inf, coordinates.start, 0.0
        self.rows = float(problem.units.observations.mask.sum())

    def __call__(self, x: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Return loss and gradient at x."""
        leaf = torch.tensor(x, requires_grad=True)
        population = self.coordinates.population(leaf)
        problem, fixed = self.problem, population.detach()
        # the evidence takes one more step, whose error is the square of what is left here
        result = problem.search(fixed, self.u, ROUGHLY)
        if bool(torch.isfinite(result.loss).all()):
            loss = negative_log_evidence_of_units(
                problem.units.model,
                problem.tree(population),
                problem.center(population),
                population.log_sigma,
                problem.units.observations,
                result.u,
            ).sum()
            (gradient,) = torch.autograd.grad(loss, leaf)
            value = float(loss.detach())
            if np.isfinite(value) and bool(torch.isfinite(gradient).all()):
                # the tolerance of the search shall not depend on the unit of y
                self.origin = value + self.rows if not np.isfinite(self.best) else self.origin
                if value < self.best:
                    self.best, self.best_x, self.u = value, x.copy(), result.u
                return value - self.origin, gradient.numpy()
        away = x - self.best_x  # out of the equation's range: a slope that leads back
        return self.best - self.origin + WALL + 0.5 * float(away @ away), away


def maximise_units(
    problem: UnitProblem,
    population: LevelPopulation,
    u: list[Tensor],
    *,
    max_iter: int,
    report: Callable[[int, float], None] | None = None,
) -> UnitOptimum:
    """Search for the population of largest evidence near a start; see :func:`fit.laplace.maximise`."""
    n_iter, message, loss = 0, "", np.inf
    for _ in range(SEARCHES):
        coordinates = _Coordinates(problem, population, u)
        objective = _Objective(problem, coordinates, u)

        def follow(x: NDArray[Any], objective: _Objective = objective) -> None:
            nonlocal n_iter
            n_iter += 1
            if report is not None:
                report(n_iter, objective.best)

        result = minimize(
            objective,
            coordinates.start,
            jac=True,
            method="L-BFGS-B",
            bounds=coordinates.bounds(),
            callback=follow,
            options={
                "maxiter": max(1, max_iter - n_iter),
                "maxcor": min(MEMORY, len(coordinates.start) + 5),
                "gtol": GRADIENT_TOLERANCE,
                "ftol": LOSS_TOLERANCE,
                "maxfun": EVALUATIONS_PER_ITERATION * max_iter,
            },
        )
        if not np.isfinite(objective.best):
            raise DivergenceError(
                "the likelihood of the units has no finite gradient at the population the search starts from; check "
                "initial values and bounds, or fit without levels first."
            )
        population = coordinates.population(torch.from_numpy(objective.best_x)).detach()
        improved, loss, u = loss - objective.best, objective.best, objective.u
        message = "" if result.status == 0 else str(result.message)
        if n_iter >= max_iter:
            message = f"the search for the population did not converge in max_iter={max_iter} iterations"
            break
        again = problem.search_again(population, u)
        moved = any(float((new - old).abs().max()) > MOVED for new, old in zip(again, u, strict=True) if len(old))
        u = again
        if not moved and (result.status == 0 or improved < LEAST_GAIN):
            message = "" if improved < CONVERGED_GAIN or result.status == 0 else message
            break
    return UnitOptimum.of(problem, population, problem.search(population, u).u, loss, n_iter, message)


def _with_sd(population: LevelPopulation, level: int, place: int, constant: int, sd: float) -> LevelPopulation:
    """Return a population in which one constant varies by this standard deviation at a level, by itself."""
    factor = population.factors[level].clone()
    factor[constant] = 0.0
    factor[constant, place] = sd
    factors = [*population.factors]
    factors[level] = factor
    return population._replace(factors=tuple(factors))


def revive_levels(
    problem: UnitProblem, optimum: UnitOptimum, *, max_iter: int, report: Callable[[int, float], None] | None = None
) -> UnitOptimum:
    """Give variances that vanished on the way another chance: at zero the evidence is flat, may it rise or not."""
    units, variation = problem.units, problem.variation
    size = sizes(units.model, optimum.levels.beta[: len(optimum.levels.factors[0])], units.observations)
    for level, random in enumerate(variation.random):
        for place, k in enumerate(random):
            if float(optimum.levels.factors[level][k].abs().max()) > VANISHED * float(size[k]):
                continue
            revived = _with_sd(optimum.levels, level, place, k, REVIVED * float(size[k]))
            population, u = em_of_units(problem, revived, optimum.by_level, rounds=1)
            if problem.height(population, u) > -optimum.loss + REVIVAL_GAIN:
                name = units.model.equation.names[k]
                _logger.info("the variation of %s at %s had vanished, and is revived", name, variation.names[level])
                optimum = maximise_units(problem, population, u, max_iter=max_iter, report=report)
    return optimum


def without_level_variation(
    problem: UnitProblem, optimum: UnitOptimum
) -> tuple[UnitOptimum, tuple[tuple[int, ...], ...]]:
    """Set to exactly zero the variances without which the evidence is as large; return their constants by level."""
    none: list[list[int]] = [[] for _ in problem.sizes]
    _, _, system = problem.coefficients(optimum.levels, optimum.by_level)
    deviations, _ = problem.tree(optimum.levels).covariances(system)
    for level, random in enumerate(problem.variation.random):
        factor = optimum.levels.factors[level]
        left = torch.einsum("pm,mn,pn->p", factor, deviations[level].mean(dim=2), factor)
        excess = factor.square().sum(dim=1) / left.clamp(min=1e-300) - 1
        for place, k in enumerate(random):
            if float(excess[k]) > CLEARLY_ABOVE_ZERO:
                continue
            population = _with_sd(optimum.levels, level, place, k, 0.0)
            u = problem.search(population, optimum.by_level).u
            loss = -problem.height(population, u)
            if loss < optimum.loss + NEGLIGIBLE:
                none[level].append(k)
                optimum = UnitOptimum.of(problem, population, u, loss, optimum.n_iter, optimum.message)
    return optimum, tuple(map(tuple, none))
