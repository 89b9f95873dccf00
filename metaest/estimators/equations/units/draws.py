"""Draws of the constants of several units of one task together, from the normal approximation of their posterior."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.units.posterior import UnitPosterior
from metaest.estimators.equations.units.problem import linear_posterior
from metaest.functional.equations.hierarchical import Design
from metaest.functional.equations.levels import Eliminated, Tree
from metaest.functional.equations.nested import path, response

__all__ = ["joint_constants"]


def joint_constants(
    fitted: FittedEquation, units: UnitPosterior, chosen: Sequence[int], n: int, rng: np.random.Generator
) -> Tensor:
    """Return n draws of the constants of chosen units of one task, of shape (constants, units, n).

    Parameters
    ----------
    fitted : FittedEquation
        With levels.
    units : UnitPosterior
        Of one task; some units may be without rows.
    chosen : sequence of int
    n : int
    rng : Generator
    """
    population = fitted.levels.population(fitted)
    constant = fitted.covariates.design_constants(len(fitted.table))
    with torch.no_grad():
        tree, design = units.tree(population.factors), Design(constant, units.multiplier)
        center = design.center(population.beta, len(units.phi))
        posterior = linear_posterior(tree, center, units.phi, units.gradient, units.information)
        mean = tree.constants(center, posterior.u)[:, chosen]
        moved = response(tree, design, units.information, posterior.system)[:, :, chosen]
        along = _paths_of_deviations(tree)[:, :, chosen]
        covariance = _covariance_of_deviations(tree, posterior.system)
        away = torch.einsum("dpt,dn->ptn", along, _normal(covariance, n, rng))
        coefficients = _normal(fitted.beta_covariance, n, rng)
        return mean[..., None] + away + torch.einsum("bpt,bn->ptn", moved, coefficients)


def _sizes(tree: Tree) -> list[tuple[int, int]]:
    return [(factor.shape[1], count) for factor, count in zip(tree.factors, tree.sizes, strict=True)]


def _one_by_one(tree: Tree) -> list[list[Tensor]]:
    """Return deviations of all levels of which one number is 1, one after the other."""
    sizes = _sizes(tree)
    places = [(level, j, k) for level, (m, count) in enumerate(sizes) for k in range(count) for j in range(m)]
    all_of_them = []
    for level, j, k in places:
        u = [torch.zeros(m, count, dtype=torch.float64) for m, count in sizes]
        u[level][j, k] = 1.0
        all_of_them.append(u)
    return all_of_them


def _paths_of_deviations(tree: Tree) -> Tensor:
    """Return how the constants of the innermost units move with each deviation, (deviations, constants, units)."""
    return torch.stack([path(tree, u) for u in _one_by_one(tree)])


def _covariance_of_deviations(tree: Tree, system: Eliminated) -> Tensor:
    """Return the posterior covariance of all deviations, in the order of `_one_by_one`."""
    columns = []
    for right in _one_by_one(tree):
        solved = tree.solve(system, right)
        columns.append(torch.cat([part.T.reshape(-1) for part in solved]))
    return torch.stack(columns, dim=1)


def _normal(covariance: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """Return n draws around zero, of shape (dimensions, n)."""
    values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.T))
    points = torch.from_numpy(rng.standard_normal((len(covariance), n)))
    drawn: Tensor = (vectors * values.clamp(min=0).sqrt()) @ points
    return drawn
