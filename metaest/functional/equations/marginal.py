r"""The marginal likelihood of each task without Laplace's approximation: by importance sampling, and by quadrature.

With :math:`J(u)` the negative log-posterior of the deviation u of a task, without the constant of its prior,

.. math:: p(y) = (2 \pi)^{-m/2} \int e^{-J(u)}\, du .

Both take the points u around the most probable one, spread by the second derivative there. Importance sampling draws
most of them from a Student distribution, and some from the prior: the weights are then bounded wherever the likelihood
is, so that a second mode costs accuracy, which the Monte Carlo error tells, and not the answer. Adaptive Gauss-Hermite
quadrature (Pinheiro and Bates, 1995, :doi:`10.1080/10618600.1995.10474663`) is exact for a polynomial times the normal
approximation; with one node it is Laplace's approximation with the true second derivative.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.equation import Observations
from metaest.functional.equations.hierarchical import HierarchicalModel, Point

__all__ = ["Integral", "importance", "quadrature"]

# degrees of freedom of the Student distribution: heavier tails than most posteriors have
DEGREES = 5
# share of the draws that come from the prior
FROM_PRIOR = 0.1
# values of the curve that one call of the equation computes at most: 4 MB
MOST_VALUES = 500_000


class Integral(NamedTuple):
    """The logarithm of the marginal likelihood of each task.

    Attributes
    ----------
    value : Tensor of shape (tasks,)
    error : Tensor of shape (tasks,)
        Its Monte Carlo standard error; zeros of quadrature.
    worth : Tensor of shape (tasks,)
        Number of equally weighted draws that the draws are worth; the number of nodes of quadrature.
    """

    value: Tensor
    error: Tensor
    worth: Tensor


def importance(
    model: HierarchicalModel,
    point: Point,
    observations: Observations,
    u: Tensor,
    curvature: Tensor,
    n_samples: int,
    generator: torch.Generator,
) -> Integral:
    r"""Return the log-likelihood of each task by importance sampling.

    With the weights :math:`w_i = e^{-J(u_i)} (2 \pi)^{-m/2} / q(u_i)`, q the mixture that the draws come from, the
    likelihood is their mean; the error of its logarithm is to first order that of the mean over the mean.

    Parameters
    ----------
    model : HierarchicalModel
    point : Point
    observations : Observations
    u : Tensor of shape (random, tasks)
        The most probable deviations.
    curvature : Tensor of shape (random, random, tasks)
        Second derivative of J there, positive definite.
    n_samples : int
        Draws a task, at least 4.
    generator : torch.Generator

    Returns
    -------
    Integral
    """
    m, tasks = u.shape
    root, log_volume = _spread(curvature)
    n_prior = max(2, round(FROM_PRIOR * n_samples))
    n_student = n_samples - n_prior
    normal = torch.randn(m, tasks, n_samples, generator=generator, dtype=u.dtype)
    chi = torch.randn(DEGREES, tasks, n_student, generator=generator, dtype=u.dtype).square().mean(dim=0)
    away = torch.einsum("kmt,mtn->ktn", root, normal[..., :n_student]) / chi.sqrt()
    drawn = torch.cat([u[..., None] + away, normal[..., n_student:]], dim=2)
    # densities without the factor (2 pi)^(-m/2)
    square = torch.einsum("mkt,ktn->mtn", _inverse_root(curvature), drawn - u[..., None]).square().sum(dim=0)
    half = 0.5 * (DEGREES + m)
    constant = math.lgamma(half) - math.lgamma(0.5 * DEGREES) - 0.5 * m * math.log(0.5 * DEGREES)
    student = constant - half * torch.log1p(square / DEGREES) - log_volume[:, None]
    prior = -0.5 * drawn.square().sum(dim=0)
    shares = [math.log(n_student / n_samples), math.log(n_prior / n_samples)]
    log_weight = -_height(model, point, observations, drawn) - torch.logaddexp(student + shares[0], prior + shares[1])
    largest = log_weight.max(dim=1, keepdim=True).values
    weight = (log_weight - torch.where(torch.isfinite(largest), largest, 0.0)).exp()
    mean = weight.mean(dim=1)
    # each distribution has a fixed number of the draws
    parts = weight[:, :n_student], weight[:, n_student:]
    variance = torch.stack([part.var(dim=1) * part.shape[1] for part in parts]).sum(dim=0) / n_samples**2
    worth = weight.sum(dim=1).square() / weight.square().sum(dim=1)
    return Integral(mean.log() + largest[:, 0], variance.sqrt() / mean, worth)


def quadrature(
    model: HierarchicalModel,
    point: Point,
    observations: Observations,
    u: Tensor,
    curvature: Tensor,
    nodes: Tensor,
    weights: Tensor,
) -> Integral:
    """Return the log-likelihood of each task by adaptive Gauss-Hermite quadrature.

    Parameters
    ----------
    model, point, observations, u, curvature
        As :func:`importance` takes them.
    nodes, weights : Tensor of shape (nodes,)
        Of the rule for the weight function exp(-z^2 / 2), in each dimension of u.

    Returns
    -------
    Integral
    """
    root, log_volume = _spread(curvature)
    grids = torch.meshgrid(*[torch.arange(len(nodes))] * len(u), indexing="ij")
    number = torch.stack([grid.reshape(-1) for grid in grids])
    z = nodes[number]
    log_weight = (weights.log() - 0.5 * math.log(2 * math.pi))[number].sum(dim=0) + 0.5 * z.square().sum(dim=0)
    at = u[..., None] + torch.einsum("kmt,mn->ktn", root, z)
    height = _height(model, point, observations, at)
    value = torch.logsumexp(log_weight - height, dim=1) + log_volume
    return Integral(value, torch.zeros_like(value), torch.full_like(value, z.shape[1]))


def _height(model: HierarchicalModel, point: Point, observations: Observations, u: Tensor) -> Tensor:
    """Return J at points of each task, of shape (random, tasks, points); infinite where the curve is not finite."""
    m, tasks, n = u.shape
    size = max(1, MOST_VALUES // (n * max(1, len(observations.y))))
    parts = []
    for first in range(0, tasks, size):
        numbers = torch.arange(first, min(first + size, tasks)).repeat_interleave(n)
        deviations = u[:, first : first + size].reshape(m, -1)
        with torch.no_grad():
            loss = model.loss(point.take(numbers).constants(deviations), point.log_sigma, observations.take(numbers))
        parts.append((loss + 0.5 * deviations.square().sum(dim=0)).reshape(-1, n))
    height = torch.cat(parts)
    return torch.where(torch.isfinite(height), height, torch.inf)


def _inverse_root(curvature: Tensor) -> Tensor:
    """Return R of each task with R' R the curvature, of the shape of it."""
    lower: Tensor = torch.linalg.cholesky(curvature.permute(2, 0, 1))
    return lower.permute(2, 1, 0)


def _spread(curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Return a root of the inverse curvature of each task, and the logarithm of its determinant."""
    inverse_root = _inverse_root(curvature)
    eye = torch.eye(len(curvature), dtype=curvature.dtype)
    root = torch.linalg.solve_triangular(inverse_root.permute(2, 0, 1), eye, upper=True).permute(1, 2, 0)
    return root, -inverse_root.diagonal().log().sum(dim=1)
