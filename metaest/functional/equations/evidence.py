r"""The evidence of a population: the probability of the rows of its tasks, with their constants integrated out.

Laplace's approximation at the most probable :math:`\hat u_t` (Tierney and Kadane, 1986,
:doi:`10.1080/01621459.1986.10478240`),

.. math:: -\log p(y_t) \approx J_t(\hat u_t) + \tfrac12 \log \det H_t(\hat u_t),

with the expected second derivative :math:`H = I + A^\top D^\top W D A` (Gauss and Newton's for additive noise; FOCE
with interaction in pharmacometrics). It is positive definite everywhere, needs first derivatives of the equation only,
and is exact where the equation is linear in its unconstrained constants. nlme maximises the same quantity, but holds
the linearisation fixed while it does (Lindstrom and Bates, 1990, :doi:`10.2307/2532087`).

Of outcomes that are not normal, the true second derivative stands in its place, which the expected one equals only
where the curve is linear on the canonical scale of their distribution. With more than one node, the integral is that of
adaptive Gauss-Hermite quadrature (Pinheiro and Bates, 1995, :doi:`10.1080/10618600.1995.10474663`), of which
Laplace's approximation with the true second derivative is the one with one node.

The gradient is exact: one Newton step with the true second derivative, left in the graph, carries how
:math:`\hat u` follows the population (implicit function theorem).
"""

import math

import torch
from torch import Tensor

from metaest.functional.equations import small_matrices
from metaest.functional.equations.equation import Observations
from metaest.functional.equations.hierarchical import DIFFERENCE, Design, HierarchicalModel, PopulationParameters
from metaest.functional.equations.quadrature_rules import gauss_hermite

__all__ = ["follow", "negative_log_evidence", "query_loss"]


def negative_log_evidence(
    model: HierarchicalModel,
    population: PopulationParameters,
    design: Design,
    observations: Observations,
    u: Tensor,
    n_nodes: int = 1,
) -> Tensor:
    """Return the negative logarithm of the Laplace-approximate evidence of each task, or of that by quadrature.

    Parameters
    ----------
    model : HierarchicalModel
    population : PopulationParameters
    design : Design
    observations : Observations
    u : Tensor of shape (random, tasks)
        The most probable ones, from :class:`~metaest.functional.GaussNewton`; an error of size e in them is one of
        size e squared in the result.
    n_nodes : int, default=1
        Nodes of adaptive quadrature in each direction of u; 1 is Laplace's approximation.

    Returns
    -------
    Tensor of shape (tasks,)
        Differentiable in the population.
    """
    center = design.center(population.beta, len(population.factor))
    u = follow(model, population, center, observations, u)
    if (n_nodes > 1 or not model.noise.normal) and len(u):
        return _by_quadrature(model, population, center, observations, u, n_nodes)
    information = model.information(
        center + population.factor @ u, population.log_sigma, observations, differentiable=True
    ).in_random_directions(population.factor, u)
    factor = small_matrices.cholesky(information.matrix)
    return information.loss + 0.5 * small_matrices.log_determinant(factor, information.loss)


def _by_quadrature(
    model: HierarchicalModel,
    population: PopulationParameters,
    center: Tensor,
    observations: Observations,
    u: Tensor,
    n_nodes: int,
) -> Tensor:
    """Return the negative log-evidence of each task by quadrature around u, spread by the true second derivative."""
    m, tasks = u.shape
    curvature = _true_second_derivative(model, population, center, observations, u)
    lower = torch.linalg.cholesky_ex(curvature.permute(2, 0, 1)).L
    log_volume = -lower.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    nodes, weights = gauss_hermite(n_nodes)
    grid = torch.cartesian_prod(*[torch.arange(n_nodes)] * m).reshape(-1, m).T
    z = nodes[grid].to(u)
    log_weight = (weights.log() - 0.5 * math.log(2 * math.pi))[grid].sum(dim=0) + 0.5 * z.square().sum(dim=0)
    away = torch.linalg.solve_triangular(lower.transpose(1, 2), z.expand(tasks, -1, -1), upper=True)
    points = (u.T[..., None] + away).permute(1, 0, 2).reshape(m, -1)
    numbers = torch.arange(tasks, device=u.device).repeat_interleave(z.shape[1])
    phi = center[:, numbers] + population.factor @ points
    loss = model.loss(phi, population.log_sigma, observations.take(numbers))
    height = (loss + 0.5 * points.square().sum(dim=0)).reshape(tasks, -1)
    # a curve that allows no observation counts for nothing, and infinity less infinity is no gradient
    log_height = torch.where(torch.isfinite(height), log_weight - height, -torch.inf)
    losses: Tensor = -torch.logsumexp(log_height, dim=1) - log_volume
    return losses


def _true_second_derivative(
    model: HierarchicalModel, population: PopulationParameters, center: Tensor, observations: Observations, u: Tensor
) -> Tensor:
    """Return the second derivative of the negative log-posterior in u, of shape (random, random, tasks).

    By differences of exact gradients, which stay differentiable; the expected one where it is not positive definite.
    """
    m, tasks = u.shape
    steps = DIFFERENCE * torch.cat([u.new_zeros(1, m), torch.eye(m).to(u), -torch.eye(m).to(u)])
    points = (u[:, None] + steps.T[:, :, None]).reshape(m, -1)
    numbers = torch.arange(tasks, device=u.device).repeat(1 + 2 * m)
    phi = center[:, numbers] + population.factor @ points
    some = observations.take(numbers)
    around = model.information(phi, population.log_sigma, some, differentiable=True)
    around = around.in_random_directions(population.factor, points)
    gradients = around.gradient.reshape(m, 1 + 2 * m, tasks)[:, 1:]
    true = ((gradients[:, :m] - gradients[:, m:]) / (2 * DIFFERENCE)).transpose(0, 1)
    true = 0.5 * (true + true.transpose(0, 1))
    definite = torch.isfinite(small_matrices.cholesky(true.detach())[-1][-1])
    return torch.where(definite, true, around.matrix[..., :tasks])


def query_loss(
    model: HierarchicalModel,
    population: PopulationParameters,
    design: Design,
    support: Observations,
    query: Observations,
    u: Tensor,
) -> Tensor:
    r"""Return the mean negative log-density of each task's query rows, predicted from its support rows.

    A row is predicted as normal around the adapted curve, its variance that of the noise plus that of the curve,
    :math:`d^\top A H^{-1} A^\top d` with the slopes d of the curve at that row; of lognormal noise, all on the scale of
    logarithms. Where residuals correlate, those of the
    support rows around it move the centre, take from the noise and from the slopes.

    Parameters
    ----------
    model, population, design : as in :func:`negative_log_evidence`
    support, query : Observations
    u : Tensor of shape (random, tasks)
        The most probable ones given the support.

    Returns
    -------
    Tensor of shape (tasks,)
        Differentiable in the population.
    """
    center = design.center(population.beta, len(population.factor))
    u = follow(model, population, center, support, u)
    phi = center + population.factor @ u
    information = model.information(phi, population.log_sigma, support, differentiable=True)
    matrix = information.in_random_directions(population.factor, u).matrix
    noise = model.noise
    values, slopes = model.curve_and_slopes(phi, query, differentiable=True)
    variance = noise.variance(values, population.log_sigma, noise.accuracy(query))
    middle, slopes = noise.on_scale(values), noise.slopes_on_scale(values, slopes)
    if noise.correlation is not None:
        free = middle, slopes, variance
        middle, slopes, variance = _beside_support(model, phi, population.log_sigma, support, query, free)
    if len(u):
        posterior = small_matrices.inverse(small_matrices.cholesky(matrix), matrix)
        along = torch.einsum("pm,prt->mrt", population.factor, slopes)
        variance = variance + torch.einsum("mrt,mnt,nrt->rt", along, posterior, along)
    residual = noise.on_scale(query.y) - middle
    density = 0.5 * residual.square() / variance + 0.5 * (2 * torch.pi * variance).log() + noise.loss_of_scale(query.y)
    return query.masked(density).sum(dim=0) / query.mask.sum(dim=0).clamp(min=1)


def _beside_support(
    model: HierarchicalModel,
    phi: Tensor,
    log_sigma: Tensor,
    support: Observations,
    query: Observations,
    free: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return centres, slopes and variances of the noise of query rows, given the residuals of support rows.

    `free` are those without regard to support rows.
    """
    noise = model.noise
    assert noise.correlation is not None
    middle, slopes, variance = free
    curve, seen = model.curve_and_slopes(phi, support, differentiable=True)
    seen = noise.slopes_on_scale(curve, seen)
    sd = noise.variance(curve, log_sigma, noise.accuracy(support)).sqrt()
    bridge, scale = noise.correlation.bridge(support, query, log_sigma[-1]), variance.sqrt()
    moved = middle + scale * bridge.mean(support.masked(noise.residual(curve, support.y) / sd))
    with_residuals = [
        slope - scale * bridge.mean(support.masked(before / sd)) for slope, before in zip(slopes, seen, strict=True)
    ]
    return moved, torch.stack(with_residuals), variance * bridge.variance


def follow(
    model: HierarchicalModel, population: PopulationParameters, center: Tensor, observations: Observations, u: Tensor
) -> Tensor:
    """Return the most probable u with the graph of its dependence on the population.

    One Newton step with the true second derivative: it corrects what the search left, and its derivative in the
    population is that of the solution. Where the true one is not positive definite, u is at no minimum; the expected
    one stands in for it, and the gradient is approximate there.
    """
    if len(u) == 0:
        return u
    at = u.detach()
    fixed = population.detach()
    curvature = model.posterior_at(center.detach(), fixed.factor, fixed.log_sigma, observations, at).matrix
    phi = center + population.factor @ at
    information = model.information(phi, population.log_sigma, observations, differentiable=True)
    gradient = information.in_random_directions(population.factor, at).gradient
    step = small_matrices.solve(small_matrices.cholesky(curvature), gradient)
    usable = torch.isfinite(step.detach()).all(dim=0)
    return u.detach() - torch.where(usable, step, torch.zeros_like(step))
