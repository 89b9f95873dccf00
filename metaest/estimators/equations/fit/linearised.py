"""The expectation-maximisation steps that lead from a rough start to the neighbourhood of the maximum.

They linearise the equation at the most probable constants of each task: a Newton step for the population, and the
closed-form updates of a linear mixed model for covariance and noise. They cannot run off as a line search from afar
may.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional import HierarchicalModel, Observations, Population
from metaest.functional.equations import small_matrices
from metaest.functional.equations.hierarchical import Design

__all__ = ["Moments", "expectation_step", "invert", "linearise"]

# relative to what the rest of the constants would leave of its variance if they were known
TINY, LOOSE = 1e-14, 1e10


class Moments(NamedTuple):
    """What the linearised tasks say about the population.

    Attributes
    ----------
    loss : Tensor of shape (tasks,)
        Negative log-evidence (Laplace), as far as u is the most probable one.
    score : Tensor of shape (coefficients,)
        Derivative of the log-likelihood.
    normal : Tensor of shape (coefficients, coefficients)
        Information about the coefficients given covariance and noise; its inverse is their covariance.
    posterior : Tensor of shape (random, random, tasks)
        Covariance of u of each task.
    information : Tensor of shape (constants, constants, tasks)
        Of the rows of each task, about its constants.
    """

    loss: Tensor
    score: Tensor
    normal: Tensor
    posterior: Tensor
    information: Tensor


def linearise(
    model: HierarchicalModel, population: Population, design: Design, observations: Observations, u: Tensor
) -> Moments:
    """Linearise every task at its most probable constants.

    Parameters
    ----------
    model : HierarchicalModel
    population : Population
    design : Design
    observations : Observations
    u : Tensor of shape (random, tasks)

    Returns
    -------
    Moments
    """
    with torch.no_grad():
        factor = population.factor
        center = design.center(population.beta, len(factor))
        known = model.information(center + factor @ u, population.log_sigma, observations)
        inner = known.in_random_directions(factor, u)
        root = small_matrices.cholesky(inner.matrix)
        posterior = small_matrices.inverse(root, inner.matrix)
        loss = inner.loss + 0.5 * small_matrices.log_determinant(root, inner.loss)
        # information about a task's centre once its u is integrated out: P - P A C A' P
        along = torch.einsum("kjt,jm->kmt", known.matrix, factor)
        left = known.matrix - torch.einsum("kmt,jmt->kjt", torch.einsum("kmt,mnt->knt", along, posterior), along)
        index, z = design
        normal = (left[index][:, index] * z[:, None] * z).sum(dim=2)
        score = -(known.gradient[index] * z).sum(dim=1)
    return Moments(loss, score, normal, posterior, known.matrix)


def invert(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Return the covariance of the coefficients, and which of them nothing determines; these have zeros in it."""
    size = normal.diagonal().clamp(min=0).sqrt()
    told = size > 0
    scaled = normal[told][:, told] / size[told] / size[told][:, None]
    values, vectors = torch.linalg.eigh(scaled)
    inverse = (vectors / values.clamp(min=TINY)) @ vectors.T
    undetermined = ~told
    undetermined[told] = inverse.diagonal() > LOOSE
    covariance = torch.zeros_like(normal)
    where = torch.nonzero(told)[:, 0]
    covariance[where[:, None], where] = inverse / size[told] / size[told][:, None]
    covariance[undetermined] = covariance[:, undetermined] = 0.0
    return covariance, undetermined


def expectation_step(
    model: HierarchicalModel,
    population: Population,
    design: Design,
    observations: Observations,
    u: Tensor,
    found: Moments,
    diagonal: bool,
    smallest_log_sigma: Tensor,
) -> Population:
    """Return the population one step further; u must be the most probable ones.

    Parameters
    ----------
    model, population, design, observations, u
        As :func:`linearise` takes them.
    found : Moments
        What it returned.
    diagonal : bool
        Whether the constants are independent between tasks.
    smallest_log_sigma : Tensor of shape (noise constants,)

    Returns
    -------
    Population
    """
    with torch.no_grad():
        factor = population.factor
        tasks = design.multiplier.shape[1]
        step, info = torch.linalg.solve_ex(found.normal + 1e-12 * torch.diag(found.normal.diagonal()), found.score)
        beta = population.beta + step if int(info) == 0 and bool(torch.isfinite(step).all()) else population.beta

        center = design.center(population.beta, len(factor))
        curve = model.curve(center + factor @ u, observations)
        variance = model.noise.variance(curve, population.log_sigma, model.noise.accuracy(observations))
        seen = model.noise.nearest(curve, observations.y)
        square = observations.masked((seen - curve).square() / variance).sum()
        reduced = small_matrices.sandwich(factor.T, found.information)
        square = square + (reduced * found.posterior).sum()
        log_sigma = population.log_sigma + 0.5 * (square / observations.mask.sum()).log()
        log_sigma = torch.maximum(log_sigma, smallest_log_sigma)

        if factor.shape[1]:
            moment = (u @ u.T + found.posterior.sum(dim=2)) / tasks
            random = torch.nonzero(_rows_of(factor))[:, 0]
            covariance = factor[random] @ moment @ factor[random].T
            if diagonal:
                covariance = torch.diag(covariance.diagonal())
            # a task or two leave the moment singular: a touch on the diagonal keeps the factor defined
            covariance = covariance + 1e-10 * torch.diag(covariance.diagonal())
            root, failed = torch.linalg.cholesky_ex(covariance)
            if int(failed) == 0 and bool(torch.isfinite(root).all()):
                factor = torch.zeros_like(factor).index_copy(0, random, root)
    return Population(beta, factor, log_sigma)


def _rows_of(factor: Tensor) -> Tensor:
    return (factor != 0).any(dim=1)
