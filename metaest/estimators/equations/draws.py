r"""Draws of the constants of one task, weighted so that they follow the posterior and not its normal approximation.

Draws of u come from a mixture: Laplace's normal approximation, the prior for what that does not see, and, as long as
few draws carry the weight, Student distributions around the weighted mean of all draws so far. Each draw is weighted by
:math:`e^{-J(u)}` over the density of the whole mixture, so that no part of the posterior found once is lost again
(adaptive multiple importance sampling; Cornuet and others, 2012, :doi:`10.1111/j.1467-9469.2011.00756.x`). The
population's own uncertainty is normal and independent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.equations.adaptive_draws import N_DRAWS, Proposal, draw, effective, root
from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.mixture_draws import Losses, axes_of, draws_of_new_task, log_density
from metaest.estimators.equations.uncertain import NewTask
from metaest.estimators.normal_points import normal_points
from metaest.exceptions import warn

__all__ = [
    "Draws",
    "deviation",
    "draws_of_posterior",
    "draws_of_prior",
    "draws_without_rows",
    "mixed_draws",
    "weighted_quantile",
]

# effective number below which a warning says that interval ends are rough
ROUGH = 200
# effective number below which the normal approximation is better than the draws
TOO_FEW = 50


class Draws(NamedTuple):
    """Weighted draws of the constants of one task.

    Attributes
    ----------
    phi : Tensor of shape (constants, draws)
        Unconstrained.
    weight : Tensor of shape (draws,)
        They sum to one.
    share : float
        The share of the probability that posterior and normal approximation put in the same place: one less their
        total variation distance.
    """

    phi: Tensor
    weight: Tensor
    share: float


def draws_of_prior(posterior: Posterior) -> Draws:
    """Return draws of a task without rows: normal in the unconstrained space by assumption."""
    points = normal_points(N_DRAWS, len(posterior.phi))
    phi = posterior.phi + root(posterior.covariance[:, :, 0]) @ points
    return Draws(phi, torch.full((N_DRAWS,), 1 / N_DRAWS, dtype=torch.float64), 1.0)


def draws_without_rows(fitted: FittedEquation, covariates: NDArray[Any]) -> Draws:
    """Return draws of a task without rows, with covariates of shape (coefficients,)."""
    if fitted.uncertain is None:
        return draws_of_prior(fitted.prior_of(covariates))
    phi = draws_of_new_task(fitted.uncertain.of_task(fitted.design(covariates[None])))
    return Draws(phi, torch.full((phi.shape[1],), 1 / phi.shape[1], dtype=torch.float64), 1.0)


def mixed_draws(posterior: Draws, prior: Draws, share: float) -> Draws:
    """Return draws of a mixture; `share` is the probability of the posterior."""
    phi = torch.cat([posterior.phi, prior.phi], dim=1)
    return Draws(phi, torch.cat([share * posterior.weight, (1 - share) * prior.weight]), posterior.share)


def draws_of_posterior(
    fitted: FittedEquation,
    posterior: Posterior,
    X: NDArray[Any],
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None = None,
) -> Draws:
    """Return draws of a task with rows X, y and their weights.

    Constants that adapt by gradient steps are no mode of a posterior; theirs is taken as normal, with a share of NaN.
    """
    if fitted.by_gradient_steps:
        return draws_of_prior(posterior)._replace(share=float("nan"))
    design = fitted.design(fitted.covariates.of_rows(X, "draw")[None])

    def losses(phi: Tensor, log_scales: Tensor) -> Tensor:
        with torch.no_grad():
            noise = fitted.model.noise
            observations = noise.evaluated_at(one_task(X, y, phi.shape[1], sample_weight))
            values = fitted.model.curve(phi, observations)
            log_sigmas = [noise.scaled(fitted.population.log_sigma, log_scale) for log_scale in log_scales]
            return torch.stack([fitted.model.loss_of_curve(values, each, observations) for each in log_sigmas])

    if fitted.uncertain is not None:
        target = _target_of_uncertain(fitted.uncertain.of_task(design), posterior, losses)
    elif fitted.population.factor.shape[1]:
        target = _target(fitted, fitted.point(design).center, posterior, losses)
    else:
        return draws_of_prior(posterior)
    u, rest, weight, share = draw(target.height, target.normal, len(fitted.table))
    worth = effective(weight)
    if not worth >= ROUGH:
        warn(
            f"the posterior of this task is far from normal: {u.shape[1]} draws are worth {worth:.0f} equal ones, "
            + (
                "too few for quantiles; intervals are those of the normal approximation. Trust profile."
                if not worth >= TOO_FEW
                else "so that the ends of its intervals are rough."
            ),
            ConvergenceWarning,
        )
    if not worth >= TOO_FEW:  # a handful of draws is no distribution; the normal approximation is one
        return draws_of_prior(posterior)._replace(share=share)
    return Draws(target.center + target.axes @ u + target.rest @ rest, weight, share)


class _Target(NamedTuple):
    """The posterior of coordinates u of a task, whose constants are center + axes @ u and a normal rest.

    Attributes
    ----------
    height : callable
        Logarithm of the density of points of shape (coordinates, points), up to a constant.
    normal : Proposal
        The normal approximation.
    center : Tensor of shape (constants, 1)
    axes : Tensor of shape (constants, coordinates)
    rest : Tensor of shape (constants, constants)
        A root of the covariance of the rest.
    """

    height: Callable[[Tensor], Tensor]
    normal: Proposal
    center: Tensor
    axes: Tensor
    rest: Tensor


def _target(fitted: FittedEquation, center: Tensor, posterior: Posterior, losses: Losses) -> _Target:
    """Return the posterior of the deviation of a task from the fitted population."""
    factor, no_change = fitted.population.factor, center.new_zeros(1)

    def height(u: Tensor) -> Tensor:
        height = -losses(center + factor @ u, no_change)[0] - 0.5 * u.square().sum(dim=0)
        return torch.where(torch.isfinite(height), height, -torch.inf)

    mode = deviation(factor, posterior.phi - center)[:, 0]
    normal = Proposal.around(mode, posterior.deviation[:, :, 0], N_DRAWS)
    return _Target(height, normal, center, factor, _population_part(fitted, posterior))


def _target_of_uncertain(task: NewTask, posterior: Posterior, losses: Losses) -> _Target:
    """Return the posterior of the constants of a task under all populations."""
    mean, axes = axes_of(task)
    inner = axes.T @ posterior.information[:, :, 0] @ axes
    covariance = torch.linalg.inv(torch.eye(len(inner), dtype=inner.dtype) + inner)
    mode = deviation(axes, posterior.phi - mean[:, None])[:, 0]
    normal = Proposal.around(mode, covariance, N_DRAWS)
    rest = torch.zeros(len(mean), len(mean), dtype=mean.dtype)
    return _Target(log_density(task, losses), normal, mean[:, None], axes, rest)


def _population_part(fitted: FittedEquation, posterior: Posterior) -> Tensor:
    """Return a root of the covariance that the uncertainty of the population adds to that of a task."""
    factor = fitted.population.factor
    return root(posterior.covariance[:, :, 0] - factor @ posterior.deviation[:, :, 0] @ factor.T)


def weighted_quantile(values: Tensor, weight: Tensor, at: Tensor) -> Tensor:
    """Return quantiles of each row of values, of shape (rows, draws); values that are not finite count for nothing.

    Returns
    -------
    Tensor of shape (levels, rows)
    """
    usable = torch.isfinite(values)
    ordered, order = torch.where(usable, values, torch.inf).sort(dim=1)
    share = torch.where(usable, weight, 0.0).gather(1, order)
    share = share / share.sum(dim=1, keepdim=True)
    middle = share.cumsum(dim=1) - 0.5 * share
    right = torch.searchsorted(middle, at.expand(len(values), -1).contiguous()).clamp(1, values.shape[1] - 1)
    low, high = middle.gather(1, right - 1), middle.gather(1, right)
    part = ((at - low) / (high - low).clamp(min=1e-300)).clamp(0.0, 1.0)
    left_value, right_value = ordered.gather(1, right - 1), ordered.gather(1, right)
    right_value = torch.where(torch.isfinite(right_value), right_value, left_value)
    return (left_value + part * (right_value - left_value)).T


def deviation(factor: Tensor, away: Tensor) -> Tensor:
    """Return u with factor @ u = away, of shape (constants, n); each constant counts in units of its spread."""
    spread = factor.square().sum(dim=1, keepdim=True).sqrt()
    unit = torch.where(spread > 0, spread, 1.0)
    # torch's default driver, gelsy, takes uninitialised memory for the order of columns: another last bit now and then
    solution: Tensor = torch.linalg.lstsq(factor / unit, away / unit, driver="gelsd").solution
    return solution
