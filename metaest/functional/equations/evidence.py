r"""The evidence of a population: the probability of the rows of its tasks, with their constants integrated out.

Laplace's approximation at the most probable :math:`\hat u_t` (Tierney and Kadane, 1986,
:doi:`10.1080/01621459.1986.10478240`),

.. math:: -\log p(y_t) \approx J_t(\hat u_t) + \tfrac12 \log \det H_t(\hat u_t),

with the expected second derivative :math:`H = I + A^\top D^\top W D A` (Gauss and Newton's for additive noise; FOCE
with interaction in pharmacometrics). It is positive definite everywhere, needs first derivatives of the equation only,
and is exact where the equation is linear in its unconstrained constants. nlme maximises the same quantity, but holds
the linearisation fixed while it does (Lindstrom and Bates, 1990, :doi:`10.2307/2532087`).

The gradient is exact: one Newton step with the true second derivative, left in the graph, carries how
:math:`\hat u` follows the population (implicit function theorem).
"""

import torch
from torch import Tensor

from metaest.functional.equations import small_matrices
from metaest.functional.equations.equation import Observations
from metaest.functional.equations.hierarchical import Design, HierarchicalModel, PopulationParameters

__all__ = ["follow", "negative_log_evidence", "query_loss"]


def negative_log_evidence(
    model: HierarchicalModel, population: PopulationParameters, design: Design, observations: Observations, u: Tensor
) -> Tensor:
    """Return the negative logarithm of the Laplace-approximate evidence of each task.

    Parameters
    ----------
    model : HierarchicalModel
    population : PopulationParameters
    design : Design
    observations : Observations
    u : Tensor of shape (random, tasks)
        The most probable ones, from :class:`~metaest.functional.GaussNewton`; an error of size e in them is one of
        size e squared in the result.

    Returns
    -------
    Tensor of shape (tasks,)
        Differentiable in the population.
    """
    center = design.center(population.beta, len(population.factor))
    u = follow(model, population, center, observations, u)
    information = model.information(
        center + population.factor @ u, population.log_sigma, observations, differentiable=True
    ).in_random_directions(population.factor, u)
    factor = small_matrices.cholesky(information.matrix)
    return information.loss + 0.5 * small_matrices.log_determinant(factor, information.loss)


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
