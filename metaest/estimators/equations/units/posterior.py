r"""What the rows of all units of a task say about each of them, and about units of which there are no rows yet.

At the most probable deviations the likelihood of every unit is taken as quadratic. What the other units say of the
constants of one is then a normal distribution: a population for that unit alone, with which its rows are combined as
those of any task are. A new unit has the deviations of the units it lies in, and one from between units below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equations.covariates import Covariates
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.units.levels import UnitPlaces
from metaest.estimators.equations.units.problem import LevelPopulation, UnitProblem, linear_posterior
from metaest.functional import PopulationParameters
from metaest.functional.equations.hierarchical import Design
from metaest.functional.equations.levels import Tree
from metaest.functional.equations.nested import response

__all__ = ["UnitMoments", "UnitPosterior", "population_of_unit", "posterior_of_units", "unit_posterior_of"]


class UnitMoments(NamedTuple):
    """Mean and covariance of the constants of units, in the unconstrained space.

    Attributes
    ----------
    mean : Tensor of shape (constants, units)
    covariance : Tensor of shape (constants, constants, units)
        Given the coefficients of the population.
    moved : Tensor of shape (coefficients, constants, units)
        Derivative of the mean in these coefficients.
    by_level : list of Tensor of shape (constants, units)
        Variance of the deviation of each level, in the constants.
    """

    mean: Tensor
    covariance: Tensor
    moved: Tensor
    by_level: list[Tensor]

    def with_coefficients(self, beta_covariance: Tensor) -> Tensor:
        """Return the covariance with the uncertainty of the coefficients in it."""
        spread = torch.einsum("bkt,bc,cjt->kjt", self.moved, beta_covariance, self.moved)
        return self.covariance + spread


@dataclass(frozen=True, eq=False)
class UnitPosterior:
    """The units of some tasks, linearised at their most probable constants.

    Attributes
    ----------
    paths : tuple of tuple of float
        Of each innermost unit: its task's number and the numbers of its levels.
    phi : Tensor of shape (constants, units)
    gradient : Tensor of shape (constants, units)
        Of the negative log-likelihood of a unit's rows.
    information : Tensor of shape (constants, constants, units)
        Its second derivative.
    multiplier : Tensor of shape (coefficients, units)
        Of the design.
    loss : Tensor of shape (tasks,)
        Negative log-posterior.
    code : integer Tensor of shape (tasks,)
    earlier : UnitPosterior or None
        The same units by rows that came before, which are part of gradient and information.
    """

    paths: tuple[tuple[float, ...], ...]
    phi: Tensor
    gradient: Tensor
    information: Tensor
    multiplier: Tensor
    loss: Tensor
    code: Tensor
    earlier: UnitPosterior | None = None

    @property
    def places(self) -> UnitPlaces:
        """Where the units lie."""
        return UnitPlaces.of(self.paths)

    def of_task(self, task: int) -> UnitPosterior:
        """Return the units of one task, which is number 0 there."""
        chosen = [k for k, path in enumerate(self.paths) if path[0] == task]
        return UnitPosterior(
            tuple((0.0, *self.paths[k][1:]) for k in chosen),
            self.phi[:, chosen],
            self.gradient[:, chosen],
            self.information[:, :, chosen],
            self.multiplier[:, chosen],
            self.loss[task : task + 1],
            self.code[task : task + 1],
        )

    def with_unit(self, path: tuple[float, ...], multiplier: Tensor) -> UnitPosterior:
        """Return these units and one without rows, in the place that keeps the units of a unit together."""
        p, before = len(self.phi), list(self.paths)
        shared = [sum(1 for _ in _common(path, other)) for other in before]
        place = 1 + max((k for k, n in enumerate(shared) if n == max(shared)), default=-1)
        zeros, none = self.phi.new_zeros(p, 1), self.phi.new_zeros(p, p, 1)
        return replace(
            self,
            paths=(*before[:place], path, *before[place:]),
            phi=torch.cat([self.phi[:, :place], zeros, self.phi[:, place:]], dim=1),
            gradient=torch.cat([self.gradient[:, :place], zeros, self.gradient[:, place:]], dim=1),
            information=torch.cat([self.information[..., :place], none, self.information[..., place:]], dim=2),
            multiplier=torch.cat([self.multiplier[:, :place], multiplier, self.multiplier[:, place:]], dim=1),
            earlier=None,
        )

    def without_rows_of(self, unit: int) -> UnitPosterior:
        """Return the same units, of which one has no rows but those that came before."""
        gradient, information = self.gradient.clone(), self.information.clone()
        gradient[:, unit], information[:, :, unit] = 0.0, 0.0
        if self.earlier is not None:
            before = self.earlier.information[:, :, unit]
            gradient[:, unit] = self.earlier.gradient[:, unit] + before @ (self.phi - self.earlier.phi)[:, unit]
            information[:, :, unit] = before
        return replace(self, gradient=gradient, information=information)

    def at(self, paths: Sequence[tuple[float, ...]], multiplier: Tensor) -> UnitPosterior:
        """Return these units among others, which have no rows, in the order of `paths`, which are of one task."""
        p, n = len(self.phi), len(paths)
        here = [paths.index(path) for path in self.paths]
        phi, gradient = self.phi.new_zeros(p, n), self.phi.new_zeros(p, n)
        information = self.phi.new_zeros(p, p, n)
        phi[:, here], gradient[:, here], information[:, :, here] = self.phi, self.gradient, self.information
        return UnitPosterior(tuple(paths), phi, gradient, information, multiplier, self.loss, self.code)

    def tree(self, factors: tuple[Tensor, ...]) -> Tree:
        """Return where the units lie, with roots of the covariances of the levels."""
        places = self.places
        return Tree(factors, places.parents, len(places.paths[0]))

    def moments(self, population: LevelPopulation, constant: Tensor) -> UnitMoments:
        """Return the moments of the constants of all units.

        Parameters
        ----------
        population : LevelPopulation
        constant : integer Tensor of shape (coefficients,)
            The constant that each coefficient belongs to.
        """
        with torch.no_grad():
            tree, design = self.tree(population.factors), Design(constant, self.multiplier)
            center = design.center(population.beta, len(self.phi))
            posterior = linear_posterior(tree, center, self.phi, self.gradient, self.information)
            deviations, of_path = tree.covariances(posterior.system)
            moved = response(tree, design, self.information, posterior.system)
            variances = []
            for level, (factor, deviation) in enumerate(zip(tree.factors, deviations, strict=True)):
                variance = torch.einsum("pm,mnt,pn->pt", factor, deviation, factor)
                for parent in tree.parents[level:]:
                    variance = variance[:, parent]
                variances.append(variance)
            return UnitMoments(tree.constants(center, posterior.u), of_path, moved, variances)


def _common(path: tuple[float, ...], other: tuple[float, ...]) -> list[float]:
    """Return the beginning that two paths share."""
    for length in range(len(path), -1, -1):
        if path[:length] == other[:length]:
            return list(path[:length])
    return []


def population_of_unit(fitted: FittedEquation, moments: UnitMoments, unit: int) -> FittedEquation:
    """Return an equation whose population is what is known of one unit, its own rows apart."""
    mean, covariance = moments.mean[:, unit], moments.covariance[:, :, unit]
    random = list(fitted.random)
    factor = mean.new_zeros(len(mean), len(random))
    factor[random] = _root(covariance[random][:, random])
    moved, p = moments.moved[:, :, unit], len(mean)
    varies = factor.square().sum(dim=1) > 0
    return replace(
        fitted,
        population=PopulationParameters(mean.clone(), factor, fitted.population.log_sigma),
        covariates=Covariates((), (), (), np.zeros(0), np.ones(0)),
        beta_covariance=moved.T @ fitted.beta_covariance @ moved,
        undetermined=tuple(k for k in fitted.undetermined if k < p),
        flat=tuple(k for k in random if not bool(varies[k])),
        levels=None,
    )


def _root(covariance: Tensor) -> Tensor:
    """Return a square root of a covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.T))
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return torch.where(covariance.diagonal()[:, None] > 0, root, 0.0)


def unit_posterior_of(
    problem: UnitProblem, levels: LevelPopulation, u: list[Tensor], loss: Tensor, code: Tensor
) -> UnitPosterior:
    """Return the units linearised at their most probable deviations."""
    _, gradient, matrix = problem.information(levels, u)
    paths = tuple(problem.places.paths[-1])
    phi, multiplier = problem.phi(levels, u), problem.units.design.multiplier
    return UnitPosterior(paths, phi, gradient, matrix, multiplier, loss, code)


def posterior_of_units(fitted: FittedEquation, units: UnitPosterior) -> Posterior:
    """Return the posterior of each unit given the rows of all of its task."""
    moments = units.moments(fitted.levels.population(fitted), fitted.covariates.design_constants(len(fitted.table)))
    factor, tasks = fitted.population.factor, torch.tensor([int(path[0]) for path in units.paths])
    inverse = torch.linalg.pinv(factor)
    deviation = torch.einsum("mp,pqt,nq->mnt", inverse, moments.covariance, inverse)
    code = units.code[tasks]
    return Posterior(
        units.phi,
        moments.with_coefficients(fitted.beta_covariance),
        deviation,
        units.information,
        units.loss[tasks],
        code,
        torch.zeros_like(code, dtype=torch.bool),
    )
