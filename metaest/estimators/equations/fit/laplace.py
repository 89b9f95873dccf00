"""The maximum of the evidence, or of the query density, over the population."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from metaest.estimators.equations.fit.linearised import linearise
from metaest.estimators.equations.fit.starts import sizes
from metaest.estimators.equations.fit_checkpoint import Evaluations, Journal
from metaest.estimators.equations.map_estimate import most_probable
from metaest.exceptions import DivergenceError
from metaest.functional import (
    GaussNewton,
    HierarchicalModel,
    Observations,
    Population,
    negative_log_evidence,
    query_loss,
)
from metaest.functional.equations.hierarchical import Design

__all__ = ["Coordinates", "Maximum", "Objective", "Scope", "maximise"]

# gradient at which a search ends, with coordinates in units of standard errors
GRADIENT_TOLERANCE = 1e-5
# change of the loss at which a search ends, as a share of the number of rows: some hundred times its rounding
LOSS_TOLERANCE = 1e-13


class Scope(NamedTuple):
    """What is fitted to what.

    Attributes
    ----------
    model : HierarchicalModel
    design : Design
    observations : Observations
        All rows, or the support rows of the episodes.
    query : Observations or None
        The query rows of the episodes; None for the evidence.
    random : list of int
        The constants that vary between tasks.
    diagonal : bool
    smallest_log_sigma : Tensor of shape (noise constants,)
    solver : GaussNewton
    journal : Journal
        Of the long steps of the search.
    """

    model: HierarchicalModel
    design: Design
    observations: Observations
    query: Observations | None
    random: list[int]
    diagonal: bool
    smallest_log_sigma: Tensor
    solver: GaussNewton
    journal: Journal = Journal()


class Maximum(NamedTuple):
    """Where the search ended.

    Attributes
    ----------
    population : Population
    u : Tensor of shape (random, tasks)
    loss : float
        Negative log-evidence of all tasks, or the mean negative log-density of a query row times the number of tasks.
    n_iter : int
    message : str
        Empty where the search converged.
    """

    population: Population
    u: Tensor
    loss: float
    n_iter: int
    message: str


class Coordinates:
    """A population as one vector in which the objective is about equally curved in all directions.

    The coefficients are taken in units of their standard errors, the entries of the factor in units of the standard
    deviations at the start, the logarithms of the noise by the number of rows.

    Parameters
    ----------
    scope : Scope
        With all rows of the tasks.
    population : Population
        Where the search starts.
    u : Tensor of shape (random, tasks)
        The most probable ones there.
    fixed_beta : bool
        Whether the coefficients stay as they are.
    """

    def __init__(self, scope: Scope, population: Population, u: Tensor, fixed_beta: bool = False) -> None:
        self.origin, self.fixed_beta = population, fixed_beta
        self.random = torch.tensor(scope.random, dtype=torch.int64)
        m = len(scope.random)
        normal = linearise(scope.model, population, scope.design, scope.observations, u).normal
        self.directions = _inverse_root(normal)
        lower = torch.tril_indices(m, m)
        self.lower = lower[:, lower[0] == lower[1]] if scope.diagonal else lower
        rows = population.factor[self.random]
        sd = rows.square().sum(dim=1).sqrt()
        size = sizes(scope.model, population.beta[: len(population.factor)], scope.observations)[self.random]
        self.sd = torch.where(sd > 0, sd, 1e-8 * size)
        self.unit = 1 / (2 * u.shape[1]) ** 0.5
        self.noise_unit = 1 / (2 * float(scope.observations.mask.sum())) ** 0.5
        self.n_beta = 0 if fixed_beta else len(population.beta)
        self.n_factor = self.lower.shape[1]
        self.smallest = (scope.smallest_log_sigma - population.log_sigma) / self.noise_unit

    def start(self) -> NDArray[Any]:
        """Return the vector of the population the search starts from."""
        scaled = self.origin.factor[self.random] / self.sd[:, None]
        factor = scaled[self.lower[0], self.lower[1]] / self.unit
        zeros = factor.new_zeros(self.n_beta), factor, factor.new_zeros(len(self.origin.log_sigma))
        return torch.cat([part.double() for part in zeros]).numpy()

    def bounds(self) -> list[tuple[float | None, float | None]]:
        """Keep the noise above its floor."""
        free: list[tuple[float | None, float | None]] = [(None, None)] * (self.n_beta + self.n_factor)
        return [*free, *((float(s), None) for s in self.smallest)]

    def population(self, x: Tensor) -> Population:
        """Return the population of a vector, differentiable in it."""
        step, rest = x[: self.n_beta], x[self.n_beta :]
        factor, noise = rest[: self.n_factor], rest[self.n_factor :]
        beta = self.origin.beta if self.fixed_beta else self.origin.beta + self.directions @ step
        m = len(self.random)
        scaled = x.new_zeros(m, m).index_put((self.lower[0], self.lower[1]), self.unit * factor)
        rows = self.sd[:, None] * scaled
        full = x.new_zeros(len(self.origin.factor), m).index_copy(0, self.random, rows)
        return Population(beta, full, self.origin.log_sigma + self.noise_unit * noise)


class Objective:
    """The loss of a population and its exact gradient, with the tasks' constants carried from call to call.

    Parameters
    ----------
    scope : Scope
    coordinates : Coordinates
    evaluations : Evaluations
        Those that were kept, and the tasks' constants.
    """

    def __init__(self, scope: Scope, coordinates: Coordinates, evaluations: Evaluations) -> None:
        self.scope, self.coordinates, self.evaluations = scope, coordinates, evaluations
        self.best, self.best_x = np.inf, coordinates.start()
        # the search minimises the loss less this, so that its relative tolerance does not depend on the unit of y
        self.origin = 0.0
        self.rows = float(scope.observations.mask.sum())

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
        return self.best - self.origin + 1e3 + 0.5 * float(away @ away), away

    def _evaluate(self, x: NDArray[Any]) -> tuple[float, Tensor]:
        """Return loss and gradient; the loss is infinite where either is not finite."""
        leaf = torch.tensor(x, requires_grad=True)
        population = self.coordinates.population(leaf)
        scope, u = self.scope, self.evaluations.u
        fixed = population.detach()
        center = scope.design.center(fixed.beta, len(fixed.factor))
        found = scope.solver.solve(scope.model, center, fixed.factor, fixed.log_sigma, scope.observations, u)
        if bool(torch.isfinite(found.loss).all()):
            loss = self.losses(population, found.u).sum()
            (gradient,) = torch.autograd.grad(loss, leaf)
            value = float(loss.detach())
            if np.isfinite(value) and bool(torch.isfinite(gradient).all()):
                if value < self.best:
                    self.evaluations.u = found.u
                return value, gradient
        return np.inf, torch.zeros_like(leaf.detach())

    def losses(self, population: Population, u: Tensor) -> Tensor:
        """Loss of each task."""
        scope = self.scope
        if scope.query is None:
            return negative_log_evidence(scope.model, population, scope.design, scope.observations, u)
        return query_loss(scope.model, population, scope.design, scope.observations, scope.query, u)


def maximise(
    scope: Scope,
    population: Population,
    u: Tensor,
    *,
    max_iter: int,
    whole: Scope | None = None,
    fixed_beta: bool = False,
    report: Callable[[int, float], None] | None = None,
) -> Maximum:
    """Search for the population of largest evidence, or query density, near a start.

    L-BFGS with bounds (:doi:`10.1145/279232.279236`) on the exact gradient. When it has converged, every task that fits
    poorly is searched again from other starts; where that finds a better place, the search goes on from there.

    Parameters
    ----------
    scope : Scope
    population : Population
    u : Tensor of shape (random, tasks)
    max_iter : int
    whole : Scope, optional
        All rows, where `scope` holds episodes; they give the scales of the search.
    fixed_beta : bool, default=False
        Whether to fit covariance and noise alone.
    report : callable, optional
        Called with the number of iterations so far and the loss.

    Returns
    -------
    Maximum
    """
    n_iter, message, loss = 0, "", np.inf
    for _ in range(4):
        coordinates = _coordinates(scope, whole, population, u, fixed_beta)
        objective = Objective(scope, coordinates, scope.journal.evaluations(u))

        def follow(x: NDArray[Any], before: int = n_iter, objective: Objective = objective) -> None:
            nonlocal n_iter
            n_iter += 1
            scope.journal.tick()
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
                "maxcor": min(50, len(start) + 5),
                "gtol": GRADIENT_TOLERANCE,
                "ftol": LOSS_TOLERANCE,
                "maxfun": 50 * max_iter,
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
        center = scope.design.center(population.beta, len(population.factor))
        again = most_probable(
            scope.solver, scope.model, center, population.factor, population.log_sigma, scope.observations, u
        )
        moved = float((again.u - u).abs().max()) > 0.1 if len(u) else False
        u = again.u
        # a new start has new scales, and shakes off a line search that has lost itself in rounding
        if not moved and (result.status == 0 or improved < 1e-6):
            message = "" if improved < 1e-3 or result.status == 0 else message
            break
    return Maximum(population, u, loss, n_iter, message)


def _coordinates(scope: Scope, whole: Scope | None, population: Population, u: Tensor, fixed_beta: bool) -> Coordinates:
    if whole is None:
        return Coordinates(scope, population, u, fixed_beta)
    center = whole.design.center(population.beta, len(population.factor))
    found = whole.solver.solve(whole.model, center, population.factor, population.log_sigma, whole.observations)
    return Coordinates(whole, population, found.u, fixed_beta)


def _inverse_root(normal: Tensor) -> Tensor:
    """Return a matrix C with C C' the inverse of `normal`, directions without information left at a moderate length."""
    size = normal.diagonal().clamp(min=1e-300).sqrt()
    values, vectors = torch.linalg.eigh(normal / size[:, None] / size)
    scaled: Tensor = vectors / values.clamp(min=1e-8).sqrt()
    return scaled / size[:, None]
