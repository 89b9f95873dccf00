r"""Draws from what is known of one task, weighted so that they follow the posterior and not its normal approximation.

Draws of u from Laplace's normal approximation are weighted by :math:`e^{-J(u)}` over their own density (importance
sampling; Geweke, 1989, :doi:`10.2307/1913710`). Where few of them carry the weight, a Student distribution around the
weighted mean takes over. The population's own uncertainty is normal and independent.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from metaest.estimators.equation.batches import one_task
from metaest.estimators.equation.posterior import Calibrated, Posterior
from metaest.estimators.equation.solving import normal_points
from metaest.functional import GaussNewton

__all__ = ["Draws", "draws_of_posterior", "draws_of_prior", "root", "weighted_quantile"]

N_DRAWS = 2048
DEGREES = 5.0
ENOUGH_SHARE, ROUNDS = 0.5, 3
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
        How many equally weighted draws of the normal approximation are worth as much, as a share of them all: near one
        where that approximation is good, near zero where it misleads.
    """

    phi: Tensor
    weight: Tensor
    share: float


def draws_of_prior(posterior: Posterior) -> Draws:
    """Draws of a task without rows: normal in the unconstrained space by assumption."""
    points = normal_points(N_DRAWS, len(posterior.phi))
    phi = posterior.phi + root(posterior.covariance[:, :, 0]) @ points
    return Draws(phi, torch.full((N_DRAWS,), 1 / N_DRAWS, dtype=torch.float64), 1.0)


def draws_of_posterior(calibrated: Calibrated, posterior: Posterior, X: NDArray[Any], y: NDArray[Any]) -> Draws:
    """Draws of a task with rows X, y.

    Constants that adapt by gradient steps are no mode of a posterior; theirs is taken as normal.
    """
    factor = calibrated.population.factor
    m = factor.shape[1]
    if m == 0 or not isinstance(calibrated.solver, GaussNewton):
        return draws_of_prior(posterior)
    covariates, p = calibrated.covariates, len(calibrated.table)
    design = covariates.design(covariates.of_rows(X, "draw")[None], p)
    center = design.center(calibrated.population.beta, p)
    observations = one_task(X, y, copies=N_DRAWS)
    mean, shape = torch.linalg.lstsq(factor, posterior.phi - center).solution, posterior.own[:, :, 0]
    rounds: list[tuple[float, Tensor, Tensor, Tensor]] = []
    for i in range(ROUNDS):
        points, density, rest = _points(m, p, student=i > 0)
        u = mean + root(shape) @ points
        with torch.no_grad():
            loss = calibrated.model.loss(center + factor @ u, calibrated.population.log_sigma, observations)
        log_weight = -loss - 0.5 * u.square().sum(dim=0) - density
        weight = torch.softmax(torch.where(torch.isfinite(log_weight), log_weight, -torch.inf), dim=0)
        rounds.append((1 / float(weight.square().sum()) / N_DRAWS, u, weight, rest))
        if rounds[-1][0] > ENOUGH_SHARE:
            break
        mean = (u @ weight)[:, None]
        shape = (u - mean) * weight @ (u - mean).T + 1e-3 * shape
    share, u, weight, rest = max(rounds, key=lambda found: found[0])
    if not share > TOO_FEW / N_DRAWS:  # a handful of draws is no distribution; the normal approximation is one
        return draws_of_prior(posterior)._replace(share=rounds[0][0])
    return Draws(center + factor @ u + _population_part(calibrated, posterior) @ rest, weight, rounds[0][0])


def _population_part(calibrated: Calibrated, posterior: Posterior) -> Tensor:
    """Return a root of what the uncertainty of the population adds to the covariance of a task."""
    factor = calibrated.population.factor
    return root(posterior.covariance[:, :, 0] - factor @ posterior.own[:, :, 0] @ factor.T)


@lru_cache(maxsize=16)
def _points(m: int, p: int, *, student: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return points of a normal or Student distribution, their log-density up to a constant, and p more normal ones."""
    normal = normal_points(N_DRAWS, m + p + 1)
    points, rest = normal[:m], normal[m + 1 :]
    if not student:
        return points, -0.5 * points.square().sum(dim=0), rest
    spread = torch.from_numpy(chi2.ppf(torch.special.ndtr(normal[m]).numpy(), DEGREES)) / DEGREES
    points = points / spread.sqrt()
    return points, -(DEGREES + m) / 2 * torch.log1p(points.square().sum(dim=0) / DEGREES), rest


def weighted_quantile(values: Tensor, weight: Tensor, at: Tensor) -> Tensor:
    """Quantiles of each row of values, of shape (rows, draws); values that are not finite count for nothing.

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


def root(covariance: Tensor) -> Tensor:
    """Return R with R R' the covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    found: Tensor = vectors * values.clamp(min=0).sqrt()
    return found
