"""The problem of a fit with levels: rows of innermost units, where the units lie, and populations with several levels.

It stands on the problem without levels, whose tasks are the innermost units.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.fit.problem import Problem
from metaest.estimators.equations.map_estimate import map_estimate
from metaest.estimators.equations.units.levels import UnitPlaces, Variation
from metaest.functional import PopulationParameters
from metaest.functional.equations.hierarchical import Information, Point
from metaest.functional.equations.levels import Eliminated, Tree, sum_by
from metaest.functional.equations.nested import (
    NestedResult,
    information_of_coefficients,
    path,
    response,
    search_units,
)

__all__ = ["LevelPopulation", "Linear", "UnitProblem", "linear_posterior", "spread_over_units"]


class LevelPopulation(NamedTuple):
    """The parameters learned from all tasks, with a root of a covariance for each level.

    Attributes
    ----------
    beta : Tensor of shape (coefficients,)
    factors : tuple of Tensor of shape (constants, random)
        From the outermost level inwards.
    log_sigma : Tensor of shape (noise constants,)
    """

    beta: Tensor
    factors: tuple[Tensor, ...]
    log_sigma: Tensor

    def detach(self) -> "LevelPopulation":
        """Return the same numbers without a graph."""
        factors = tuple(factor.detach() for factor in self.factors)
        return LevelPopulation(self.beta.detach(), factors, self.log_sigma.detach())

    @property
    def of_units(self) -> PopulationParameters:
        """The population of innermost units of tasks of one unit: deviations of all levels side by side."""
        return PopulationParameters(self.beta, torch.cat(self.factors, dim=1), self.log_sigma)


class Linear(NamedTuple):
    """The posterior of the deviations of all units, of a likelihood that is taken as quadratic in the constants.

    Attributes
    ----------
    u : list of Tensor of shape (random, units)
        Means, by level.
    system : Eliminated
    loss : Tensor of shape (tasks,)
        Negative log-posterior at the means, without the loss of the rows at the constants they are linearised at.
    """

    u: list[Tensor]
    system: Eliminated
    loss: Tensor


def linear_posterior(tree: Tree, center: Tensor, phi: Tensor, gradient: Tensor, matrix: Tensor) -> Linear:
    """Return the posterior where the loss of each unit's rows is quadratic around its constants `phi`.

    Parameters
    ----------
    tree : Tree
    center, phi, gradient : Tensor of shape (constants, units)
    matrix : Tensor of shape (constants, constants, units)
    """
    away = center - phi
    at_center = gradient + torch.einsum("pqt,qt->pt", matrix, away)
    zeros = [center.new_zeros(factor.shape[1], n) for factor, n in zip(tree.factors, tree.sizes, strict=True)]
    system = tree.eliminate(zeros, at_center, matrix)
    u, slope, _ = tree.step(system)
    constant = (gradient * away).sum(dim=0) + 0.5 * torch.einsum("pt,pqt,qt->t", away, matrix, away)
    loss = sum_by([constant], [tree.task_of(len(u) - 1)], tree.n_tasks) - 0.5 * slope
    return Linear(u, system, loss)


def spread_over_units(tree: Tree, u: Sequence[Tensor]) -> Tensor:
    """Return the deviations of all levels for each innermost unit, one below the other."""
    spread = u[0]
    for parent, deviation in zip(tree.parents, u[1:], strict=True):
        spread = torch.cat([spread[:, parent], deviation])
    return spread


class UnitProblem(NamedTuple):
    """An equation, the rows of innermost units, and where these lie.

    Attributes
    ----------
    units : Problem
        The problem without levels, whose tasks are the units.
    places : UnitPlaces
    variation : Variation
    """

    units: Problem
    places: UnitPlaces
    variation: Variation

    @property
    def sizes(self) -> list[int]:
        """Number of units of each level."""
        return [len(paths) for paths in self.places.paths]

    def tree(self, population: LevelPopulation) -> Tree:
        """Return the units with the covariances of a population."""
        return Tree(population.factors, self.places.parents, self.sizes[0])

    def center(self, population: LevelPopulation) -> Tensor:
        """Return the prior centers of the innermost units, (constants, units)."""
        return self.units.design.center(population.beta, len(population.factors[0]))

    def phi(self, population: LevelPopulation, u: Sequence[Tensor]) -> Tensor:
        """Return the constants of the innermost units, (constants, units)."""
        return self.tree(population).constants(self.center(population), u)

    def information(self, population: LevelPopulation, u: Sequence[Tensor]) -> Information:
        """Return what the rows of each innermost unit say at some deviations."""
        with torch.no_grad():
            return self.units.model.information(self.phi(population, u), population.log_sigma, self.units.observations)

    def search(self, population: LevelPopulation, u: Sequence[Tensor] | None, tol: float | None = None) -> NestedResult:
        """Search the deviations of all units, from u or from zeros; `tol` is another tolerance than the solver's."""
        model, tree, center = self.units.model, self.tree(population), self.center(population)
        solver = self.units.solver if tol is None else replace(self.units.solver, tol=tol)
        return search_units(solver, model, tree, center, population.log_sigma, self.units.observations, u)

    def divided(self, population: LevelPopulation, phi: Tensor) -> list[Tensor] | None:
        """Return deviations of all levels for units whose constants are about `phi`, where a search may start."""
        with torch.no_grad():
            units = self.units
            _, gradient, matrix = units.model.information(phi, population.log_sigma, units.observations)
        if not bool(torch.isfinite(gradient).all() and torch.isfinite(matrix).all()):
            return None
        return linear_posterior(self.tree(population), self.center(population), phi, gradient, matrix).u

    def search_again(self, population: LevelPopulation, u: list[Tensor]) -> list[Tensor]:
        """Search units in doubt from other starts, given the units they lie in; return what is more probable."""
        tree = self.tree(population)
        center = self.center(population) + path(tree, [*u[:-1], torch.zeros_like(u[-1])])
        point = Point(center, population.factors[-1], population.log_sigma)
        model, observations = self.units.model, self.units.observations
        innermost = map_estimate(self.units.solver, model, point, observations, u[-1]).u
        if bool(((innermost - u[-1]).abs() < 1e-2).all()):
            return u
        again, before = self.search(population, [*u[:-1], innermost]), self.search(population, u)
        better = again.loss < before.loss - 1e-6
        at = [better[tree.task_of(level)] for level in range(len(u))]
        return [torch.where(here, new, old) for here, new, old in zip(at, again.u, before.u, strict=True)]

    def height(self, population: LevelPopulation, u: Sequence[Tensor]) -> float:
        """Return the log-evidence of all tasks, whose most probable deviations are u; minus infinity if not finite."""
        tree, (loss, gradient, matrix) = self.tree(population), self.information(population, u)
        system = tree.eliminate(u, gradient, matrix)
        value = -float(loss.sum() + (tree.prior_loss(u) + 0.5 * tree.log_determinant(system)).sum())
        return value if value == value else -torch.inf

    def coefficients(self, population: LevelPopulation, u: Sequence[Tensor]) -> tuple[Tensor, Tensor, Eliminated]:
        """Return the information about the coefficients, how constants move with them, and the system of all units."""
        tree, design = self.tree(population), self.units.design
        _, gradient, matrix = self.information(population, u)
        system = tree.eliminate(u, gradient, matrix)
        moved = response(tree, design, matrix, system)
        return information_of_coefficients(design, matrix, moved), moved, system
