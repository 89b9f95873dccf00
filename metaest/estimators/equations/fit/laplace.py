"""The maximum of the evidence (Laplace's approximation), or of the query density, by L-BFGS on exact gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from metaest.estimators.equations.fit.linearised import linearise
from metaest.estimators.equations.fit.problem import Optimum, Problem
from metaest.estimators.equations.fit.starts import sizes
from metaest.estimators.equations.fit_checkpoint import Evaluations
from metaest.estimators.equations.row_model import Evidence, RowModel
from metaest.exceptions import DivergenceError
from metaest.functional import PopulationParameters, negative_log_evidence, query_loss
from metaest.functional.equations.hierarchical import Design

__all__ = ["Coordinates", "Objective", "inverse_root", "maximise"]

# gradient at which a search ends, with coordinates in units of standard errors
GRADIENT_TOLERANCE = 1e-5
# change of the loss at which a search ends, as a share of the number of rows: some hundred times its rounding
LOSS_TOLERANCE = 1e-13
# searches at most, each from where the last one ended, in new coordinates
SEARCHES = 4
# pairs of steps and gradients that L-BFGS keeps at most
MEMORY = 50
# evaluations per iteration at most, as a mean over the search
EVALUATIONS_PER_ITERATION = 50
# change of a task's deviation, in standard deviations between tasks, from which the search goes on after it converged
MOVED = 0.1
# gain of a search that ended by a failed line search, below which another one is not worth while
LEAST_GAIN = 1e-6
# gain of the last search below which a failed line search counts as convergence
CONVERGED_GAIN = 1e-3
# height of the slope, above the best loss, that leads back from where the equation is not finite
WALL = 1e3
# standard deviation between tasks, in sizes of a constant, that stands for one of zero in the coordinates
ZERO_SD = 1e-8
# smallest eigenvalue of the normal matrix (scaled to a unit diagonal) in the coordinates: longer steps lead nowhere
SMALLEST_EIGENVALUE = 1e-8


class Coordinates:
    """A population as one vector in which the objective is about equally curved in all directions.

    The coefficients are taken in units of their standard errors, the entries of the factor in units of the standard
    deviations at the start, the logarithms of the noise by the number of rows.

    Parameters
    ----------
    problem : Problem
        With all rows of the tasks.
    population : PopulationParameters
        Where the search starts.
    u : Tensor of shape (random, tasks)
        The most probable deviations there.
    fixed_beta : bool
        Whether the coefficients stay as they are.
    """

    def __init__(self, problem: Problem, population: PopulationParameters, u: Tensor, fixed_beta: bool = False) -> None:
        self.origin, self.fixed_beta = population, fixed_beta
        self.random = torch.tensor(problem.random, dtype=torch.int64)
        m = len(problem.random)
        normal = linearise(problem.model, problem.at(population), problem.design, problem.observations, u).normal
        self.directions, self.held = _directions(torch.from_numpy(normal), problem), problem.held
        lower = torch.tril_indices(m, m)
        self.lower = lower[:, lower[0] == lower[1]] if problem.diagonal else lower
        rows = population.factor[self.random]
        sd = rows.square().sum(dim=1).sqrt()
        size = sizes(problem.model, population.beta[: len(population.factor)], problem.observations)[self.random]
        self.sd = torch.where(sd > 0, sd, ZERO_SD * size)
        self.unit = 1 / (2 * u.shape[1]) ** 0.5
        # of the entries of the factor that are fitted: where they stand in it, and the standard deviation of their row
        self.place = self.random[self.lower[0]] * m + self.lower[1]
        self.sd_of_entry = self.sd[self.lower[0]]
        self.noise_unit = 1 / (2 * float(problem.observations.mask.sum())) ** 0.5
        self.n_beta = 0 if fixed_beta else self.directions.shape[1]
        self.n_factor = self.lower.shape[1]
        self.smallest = (problem.smallest_log_sigma - population.log_sigma) / self.noise_unit
        largest = torch.tensor(problem.model.noise.largest, dtype=torch.float64)
        self.largest = (largest - population.log_sigma) / self.noise_unit

    def start(self) -> NDArray[Any]:
        """Return the vector of the population the search starts from."""
        scaled = self.origin.factor[self.random] / self.sd[:, None]
        factor = scaled[self.lower[0], self.lower[1]] / self.unit
        parts = factor.new_zeros(self.n_beta), factor, factor.new_zeros(len(self.origin.log_sigma))
        return torch.cat([part.double() for part in parts]).numpy()

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Return bounds that keep the noise above its floor, and a power or a correlation within its range.

        They meet where a parameter is held.
        """
        free: list[tuple[float | None, float | None]] = [(None, None)] * (self.n_beta + self.n_factor)
        pairs = zip(self.smallest.tolist(), self.largest.tolist(), strict=True)
        bounds = [*free, *((low, high if high < np.inf else None) for low, high in pairs)]
        if self.held is not None and self.held.kind != "coefficient":
            # the first constant has one entry of a lower triangular factor, the first
            place = self.n_beta + (self.n_factor + self.held.place if self.held.kind == "noise" else 0)
            bounds[place] = (float(self.start()[place]),) * 2
        return bounds

    def gradient(self, evidence: Evidence, design: Design) -> Tensor:
        """Return the gradient in the vector of the sum of the tasks' losses."""
        center = torch.from_numpy(evidence.center)
        of_factor = self.unit * self.sd_of_entry * torch.from_numpy(evidence.factor).reshape(-1)[self.place]
        parts = [of_factor, self.noise_unit * torch.from_numpy(evidence.log_sigma)]
        if not self.fixed_beta:
            covariates = len(design.constant) > len(center)
            of_beta = (center[design.constant] * design.multiplier if covariates else center).sum(dim=1)
            parts = [self.directions.T @ of_beta, *parts]
        return torch.cat(parts)

    def population(self, x: Tensor) -> PopulationParameters:
        """Return the population of a vector, differentiable in it."""
        step, rest = x[: self.n_beta], x[self.n_beta :]
        factor, noise = rest[: self.n_factor], rest[self.n_factor :]
        beta = self.origin.beta if self.fixed_beta else self.origin.beta + self.directions @ step
        shape = self.origin.factor.shape
        entries = x.new_zeros(shape.numel()).index_put((self.place,), self.sd_of_entry * (self.unit * factor))
        return PopulationParameters(beta, entries.reshape(shape), self.origin.log_sigma + self.noise_unit * noise)


class Objective:
    """The loss of a population and its exact gradient, with the tasks' deviations carried from call to call.

    Parameters
    ----------
    problem : Problem
    coordinates : Coordinates
    evaluations : Evaluations
        The evaluations that were saved, and the tasks' deviations.
    """

    def __init__(self, problem: Problem, coordinates: Coordinates, evaluations: Evaluations) -> None:
        self.problem, self.coordinates, self.evaluations = problem, coordinates, evaluations
        self.best, self.best_x = np.inf, coordinates.start()
        # the search minimises the loss less this, so that its relative tolerance does not depend on the unit of y
        self.origin = 0.0
        self.rows = float(problem.observations.mask.sum())

    def __call__(self, x: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Return loss and gradient at x."""
        value, gradient = self.evaluations.next(lambda: self._evaluate(x))
        if np.isfinite(value):
            if not np.isfinite(self.best):
                self.origin = value + self.rows
            if value < self.best:
                self.best, self.best_x = value, x.copy()
            return value - self.origin, gradient
        # out of the equation's range: a slope that leads back
        away = x - self.best_x
        return self.best - self.origin + WALL + 0.5 * float(away @ away), away

    def _evaluate(self, x: NDArray[Any]) -> tuple[float, Tensor]:
        """Return loss and gradient; the loss is infinite where either is not finite."""
        if isinstance(self.problem.model, RowModel) and self.problem.query is None:
            return self._by_rows(self.problem.model, x)
        leaf = torch.tensor(x, requires_grad=True)
        population = self.coordinates.population(leaf)
        result = self.problem.solve(population.detach(), self.evaluations.u)
        if bool(torch.isfinite(result.loss).all()):
            loss = self.losses(population, result.u).sum()
            if self.problem.prior is not None:
                loss = loss + self.problem.prior.loss(population)
            (gradient,) = torch.autograd.grad(loss, leaf)
            value = float(loss.detach())
            if np.isfinite(value) and bool(torch.isfinite(gradient).all()):
                if value < self.best:
                    self.evaluations.u = result.u
                return value, gradient
        return np.inf, torch.zeros_like(leaf.detach())

    def _by_rows(self, model: RowModel, x: NDArray[Any]) -> tuple[float, Tensor]:
        """Return loss and gradient from programs of rows."""
        problem, place = self.problem, torch.from_numpy(x)
        population = self.coordinates.population(place)
        point = problem.at(population)
        u = problem.solver.solve(model, *point, problem.observations, self.evaluations.u).u
        evidence = model.evidence(*point, problem.observations, u)
        if evidence is None:
            return np.inf, torch.zeros_like(place)
        value, gradient = float(evidence.loss.sum()), self.coordinates.gradient(evidence, problem.design)
        if problem.prior is not None:
            leaf = place.clone().requires_grad_()
            loss = problem.prior.loss(self.coordinates.population(leaf))
            (of_prior,) = torch.autograd.grad(loss, leaf)
            value, gradient = value + float(loss.detach()), gradient + of_prior
        if value < self.best:
            self.evaluations.u = torch.from_numpy(evidence.u)
        return value, gradient

    def losses(self, population: PopulationParameters, u: Tensor) -> Tensor:
        """Return the loss of each task."""
        problem = self.problem
        if problem.query is None:
            rows = problem.design, problem.observations
            return negative_log_evidence(problem.model, population, *rows, u, problem.n_nodes)
        return query_loss(problem.model, population, problem.design, problem.observations, problem.query, u)


def maximise(
    problem: Problem,
    population: PopulationParameters,
    u: Tensor,
    *,
    max_iter: int,
    whole: Problem | None = None,
    fixed_beta: bool = False,
    report: Callable[[int, float], None] | None = None,
) -> Optimum:
    """Search for the population of largest evidence, or query density, near a start.

    L-BFGS with bounds (:doi:`10.1145/279232.279236`) on the exact gradient. When it has converged, every task that fits
    poorly is searched again from other starts; where that finds a better place, the search goes on from there.

    Parameters
    ----------
    problem : Problem
    population : PopulationParameters
    u : Tensor of shape (random, tasks)
    max_iter : int
    whole : Problem, optional
        All rows, where `problem` holds episodes; they give the scales of the search.
    fixed_beta : bool, default=False
        Whether to fit covariance and noise alone.
    report : callable, optional
        Called with the number of iterations so far and the loss.

    Returns
    -------
    Optimum
    """
    n_iter, message, loss = 0, "", np.inf
    for _ in range(SEARCHES):
        coordinates = _coordinates(problem, whole, population, u, fixed_beta)
        objective = Objective(problem, coordinates, problem.checkpoint.evaluations(u))

        def follow(x: NDArray[Any], before: int = n_iter, objective: Objective = objective) -> None:
            nonlocal n_iter
            n_iter += 1
            problem.checkpoint.tick()
            if report is not None:
                report(n_iter, objective.best)

        start = coordinates.start()
        result = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=coordinates.bounds(),
            callback=follow,
            options={
                "maxiter": max(1, max_iter - n_iter),
                "maxcor": min(MEMORY, len(start) + 5),
                "gtol": GRADIENT_TOLERANCE,
                "ftol": LOSS_TOLERANCE,
                "maxfun": EVALUATIONS_PER_ITERATION * max_iter,
            },
        )
        if not np.isfinite(objective.best):
            raise DivergenceError(
                "the likelihood has no finite gradient at the population the search starts from: a second derivative "
                "of the equation is not finite there. Logarithms, roots and powers of zero do that (keep what they are "
                "taken of above zero, as by torch.clamp(u, min=...)), and so do initial values far from any that fit."
            )
        population = coordinates.population(torch.from_numpy(objective.best_x)).detach()
        improved, loss, u = loss - objective.best, objective.best, objective.evaluations.u
        message = "" if result.status == 0 else str(result.message)
        if n_iter >= max_iter:
            message = f"the search for the population did not converge in max_iter={max_iter} iterations"
            break
        again = problem.map_estimate(population, u)
        moved = float((again.u - u).abs().max()) > MOVED if len(u) else False
        u = again.u
        # a new start has new scales, and shakes off a line search that has lost itself in rounding
        if not moved and (result.status == 0 or improved < LEAST_GAIN):
            message = "" if improved < CONVERGED_GAIN or result.status == 0 else message
            break
    return Optimum(population, u, loss, n_iter, message)


def _coordinates(
    problem: Problem, whole: Problem | None, population: PopulationParameters, u: Tensor, fixed_beta: bool
) -> Coordinates:
    """Return the coordinates of a search, scaled by all rows where the problem holds episodes."""
    if whole is None:
        return Coordinates(problem, population, u, fixed_beta)
    return Coordinates(whole, population, whole.solve(population).u, fixed_beta)


def _directions(normal: Tensor, problem: Problem) -> Tensor:
    """Return the directions of the coefficients, of shape (coefficients, fitted ones), scaled by their information."""
    prior, held = problem.prior, problem.held
    if prior is not None:
        free, normal_of_free = list(prior.free), normal[list(prior.free)][:, list(prior.free)] + prior.precision
    elif held is not None and held.kind == "coefficient":
        free = [k for k in range(len(normal)) if k != held.place]
        normal_of_free = normal[free][:, free]
    else:
        return inverse_root(normal)
    directions = normal.new_zeros(len(normal), len(free))
    directions[free] = inverse_root(normal_of_free)
    return directions


def inverse_root(normal: Tensor) -> Tensor:
    """Return a matrix C with C C' the inverse of `normal`, with bounded directions where there is no information."""
    size = normal.diagonal().clamp(min=1e-300).sqrt()
    values, vectors = torch.linalg.eigh(normal / size[:, None] / size)
    scaled: Tensor = vectors / values.clamp(min=SMALLEST_EIGENVALUE).sqrt()
    return scaled / size[:, None]
