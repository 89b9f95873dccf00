"""The equation linearised at the constants of each task: a linear mixed model with known sums and covariances.

The steps of expectation-maximisation, the coordinates of the search and the standard errors of a fit come from it.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators import matrices
from metaest.functional import HierarchicalModel, Observations
from metaest.functional.equations.hierarchical import Design, Point

__all__ = ["Linearised", "invert", "linearise"]

Array = NDArray[np.float64]

# smallest eigenvalue, of information scaled to a unit diagonal, that is told from rounding
SMALLEST_EIGENVALUE = 1e-14
# variance of a coefficient, over the one it has where all others are given, from which nothing determines it
UNDETERMINED_VARIANCE = 1e10


class Linearised(NamedTuple):
    """Sums and covariances of the linearised tasks, from which steps of the population follow.

    Attributes
    ----------
    loss : ndarray of shape (tasks,)
        Negative log-evidence (Laplace), exact as far as u is the most probable deviation.
    loss_of_rows : ndarray of shape (tasks,)
        Negative log-likelihood of the rows at the constants.
    score : ndarray of shape (coefficients,)
        Derivative of the log-likelihood.
    normal : ndarray of shape (coefficients, coefficients)
        Information about the coefficients given covariance and noise; its inverse is their covariance.
    posterior : ndarray of shape (random, random, tasks)
        Covariance of u of each task.
    information : ndarray of shape (constants, constants, tasks)
        Information of the rows of each task about its constants.
    """

    loss: Array
    loss_of_rows: Array
    score: Array
    normal: Array
    posterior: Array
    information: Array


def linearise(
    model: HierarchicalModel, point: Point, design: Design, observations: Observations, u: Tensor
) -> Linearised:
    """Linearise every task at its most probable constants.

    Parameters
    ----------
    model : HierarchicalModel
    point : Point
        The population, for the tasks of the design.
    design : Design
    observations : Observations
    u : Tensor of shape (random, tasks)

    Returns
    -------
    Linearised
    """
    with torch.no_grad(), np.errstate(all="ignore"):
        information = model.information(point.constants(u), point.log_sigma, observations)
        loss_of_rows, gradient, matrix = (part.numpy() for part in information)
        factor, deviations = point.factor.numpy(), u.numpy()
        (p, m), tasks = factor.shape, u.shape[1]
        posterior, left = np.zeros((m, m, tasks)), matrix
        loss = loss_of_rows + 0.5 * (deviations * deviations).sum(axis=0)
        if m:
            inner = matrices.sandwich(factor.T, matrix) + np.eye(m)[..., None]
            root = matrices.cholesky(inner)
            posterior = matrices.inverse(root)
            loss = loss + 0.5 * matrices.log_determinant(root)
            # information about a task's centre once its u is integrated out: P - P A C A' P
            along = (factor.T @ matrix.reshape(p, -1)).reshape(m, p, tasks)
            left = matrix - np.einsum("mkt,mjt->kjt", along, np.einsum("mnt,njt->mjt", posterior, along))
        if design.constant.shape[0] == p:  # without covariates all multipliers are 1
            normal, score = left.sum(axis=2), -gradient.sum(axis=1)
        else:
            index, z = design.constant.numpy(), design.multiplier.numpy()
            normal = (left[index][:, index] * z[:, None] * z).sum(axis=2)
            score = -(gradient[index] * z).sum(axis=1)
    return Linearised(loss, loss_of_rows, score, normal, posterior, matrix)


def invert(information: Array) -> tuple[Tensor, Tensor]:
    """Return the covariance of the coefficients, and which of them nothing determines; these have zeros in it."""
    normal = torch.from_numpy(information)
    size = normal.diagonal().clamp(min=0).sqrt()
    informed = size > 0
    scaled = normal[informed][:, informed] / size[informed] / size[informed][:, None]
    values, vectors = torch.linalg.eigh(scaled)
    inverse = (vectors / values.clamp(min=SMALLEST_EIGENVALUE)) @ vectors.T
    undetermined = ~informed
    undetermined[informed] = inverse.diagonal() > UNDETERMINED_VARIANCE
    covariance = torch.zeros_like(normal)
    where = torch.nonzero(informed)[:, 0]
    covariance[where[:, None], where] = inverse / size[informed] / size[informed][:, None]
    covariance[undetermined] = covariance[:, undetermined] = 0.0
    return covariance, undetermined
