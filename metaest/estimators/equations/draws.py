r"""Draws of the constants of one task, weighted so that they follow the posterior and not its normal approximation.

Draws of u come from a mixture: Laplace's normal approximation, the prior for what that does not see, and, as long as
few draws carry the weight, Student distributions around the weighted mean of all draws so far. Each draw is weighted by
:math:`e^{-J(u)}` over the density of the whole mixture, so that no part of the posterior found once is lost again
(adaptive multiple importance sampling; Cornuet and others, 2012, :doi:`10.1111/j.1467-9469.2011.00756.x`). The
population's own uncertainty is normal and independent.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.map_estimate import normal_points
from metaest.exceptions import warn

__all__ = ["Draws", "deviation", "draws_of_posterior", "draws_of_prior", "mixed_draws", "root", "weighted_quantile"]

# draws from Laplace's approximation, and from each Student distribution
N_DRAWS = 2048
# draws from the prior
N_PRIOR = 256
# degrees of freedom of the Student distributions: tails heavy enough for most posteriors
DEGREES = 5.0
# effective number of draws at which drawing ends
ENOUGH = 1000
# effective number below which a warning says that interval ends are rough
ROUGH = 200
# effective number below which the normal approximation is better than the draws
TOO_FEW = 50
# proposals at most: Laplace's approximation, the prior, and Student distributions
MOST_PROPOSALS = 8
# smallest eigenvalue of a proposal's covariance, as a share of the largest
SMALLEST_EIGENVALUE = 1e-14
# effective number of draws, per dimension and one, from which their covariance is taken
DRAWS_PER_DIMENSION = 10
# times that weights are evened out at most for it
EVENINGS = 10


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


class _Points(NamedTuple):
    """Well-spread points of a standard distribution of u, and normal ones for the uncertainty of the population."""

    u: Tensor
    rest: Tensor


@lru_cache(maxsize=64)
def _points(m: int, p: int, n: int, seed: int, *, student: bool = False) -> _Points:
    """Return n points for m deviations and p constants."""
    normal = normal_points(n, m + 1 + p, seed)
    u, rest = normal[:m], normal[m + 1 :]
    if student:
        spread = torch.from_numpy(chi2.ppf(torch.special.ndtr(normal[m]).numpy(), DEGREES)) / DEGREES
        u = u / spread.sqrt()
    return _Points(u, rest)


class _Proposal(NamedTuple):
    """A normal or Student distribution of u, and how many draws come from it."""

    mean: Tensor
    vectors: Tensor
    sd: Tensor
    n: int
    student: bool

    @classmethod
    def around(cls, mean: Tensor, covariance: Tensor, n: int, *, student: bool = False) -> "_Proposal":
        values, vectors = torch.linalg.eigh(covariance)
        sd = values.clamp(min=SMALLEST_EIGENVALUE * float(values.max())).sqrt()
        return cls(mean[:, None], vectors, sd[:, None], n, student)

    def draw(self, points: Tensor) -> Tensor:
        return self.mean + self.vectors @ (self.sd * (self.vectors.T @ points))

    def log_density(self, u: Tensor) -> Tensor:
        """Return the log-density, without the term -m/2 log(2 pi) that all proposals share."""
        m = len(u)
        square = ((self.vectors.T @ (u - self.mean)) / self.sd).square().sum(dim=0)
        volume = float(self.sd.log().sum())
        if not self.student:
            return -0.5 * square - volume
        half = 0.5 * DEGREES
        constant = math.lgamma(half + 0.5 * m) - math.lgamma(half) - 0.5 * m * math.log(half)
        return constant - (half + 0.5 * m) * torch.log1p(square / DEGREES) - volume


def draws_of_prior(posterior: Posterior) -> Draws:
    """Return draws of a task without rows: normal in the unconstrained space by assumption."""
    points = normal_points(N_DRAWS, len(posterior.phi))
    phi = posterior.phi + root(posterior.covariance[:, :, 0]) @ points
    return Draws(phi, torch.full((N_DRAWS,), 1 / N_DRAWS, dtype=torch.float64), 1.0)


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
    factor = fitted.population.factor
    m = factor.shape[1]
    if fitted.by_gradient_steps:
        return draws_of_prior(posterior)._replace(share=float("nan"))
    if m == 0:
        return draws_of_prior(posterior)
    point = fitted.point(fitted.design(fitted.covariates.of_rows(X, "draw")[None]))
    center = point.center

    def log_posterior(u: Tensor) -> Tensor:
        with torch.no_grad():
            observations = one_task(X, y, u.shape[1], sample_weight)
            loss = fitted.model.loss(point.constants(u), point.log_sigma, observations)
        height = -loss - 0.5 * u.square().sum(dim=0)
        return torch.where(torch.isfinite(height), height, -torch.inf)

    mode = deviation(factor, posterior.phi - center)[:, 0]
    u, rest, weight, share = _draw(
        log_posterior, _Proposal.around(mode, posterior.deviation[:, :, 0], N_DRAWS), len(fitted.table)
    )
    worth = _worth(weight)
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
    return Draws(center + factor @ u + _population_part(fitted, posterior) @ rest, weight, share)


def _draw(
    log_posterior: Callable[[Tensor], Tensor], laplace: _Proposal, p: int
) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return draws of u, p normal ones beside them, their weights, and the share of Laplace's approximation."""
    m = len(laplace.mean)
    prior = _Proposal.around(torch.zeros(m).double(), torch.eye(m).double(), N_PRIOR)
    proposals = [laplace, prior]
    points = [_points(m, p, proposal.n, i) for i, proposal in enumerate(proposals)]
    u = torch.cat([proposal.draw(part.u) for proposal, part in zip(proposals, points, strict=True)], dim=1)
    height = log_posterior(u)
    while True:
        log_mixture = _log_mixture(proposals, u)
        weight = torch.softmax(height - log_mixture, dim=0)
        if not _worth(weight) < ENOUGH or len(proposals) == MOST_PROPOSALS:
            break
        proposals.append(_Proposal.around(*_moments(u, weight), N_DRAWS, student=True))
        points.append(_points(m, p, N_DRAWS, len(points), student=True))
        new = proposals[-1].draw(points[-1].u)
        u, height = torch.cat([u, new], dim=1), torch.cat([height, log_posterior(new)])
    normal = torch.softmax(laplace.log_density(u) - log_mixture, dim=0)
    return u, torch.cat([part.rest for part in points], dim=1), weight, float(torch.minimum(weight, normal).sum())


def _log_mixture(proposals: list[_Proposal], u: Tensor) -> Tensor:
    """Return the log-density of the proposals, each weighted by its share of the draws, up to the same constant."""
    shares = [proposal.n / u.shape[1] for proposal in proposals]
    densities = [p.log_density(u) + math.log(share) for p, share in zip(proposals, shares, strict=True)]
    return torch.logsumexp(torch.stack(densities), dim=0)


def _worth(weight: Tensor) -> float:
    """Return the effective number of draws: how many equally weighted ones are worth as much."""
    return 1 / float(weight.square().sum())


def _moments(u: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of weighted draws; weights are evened out as long as a few draws would make it up."""
    wanted = DRAWS_PER_DIMENSION * (len(u) + 1)
    for _ in range(EVENINGS):
        if _worth(weight) >= wanted:
            break
        weight = weight.sqrt() / weight.sqrt().sum()
    mean = u @ weight
    away = u - mean[:, None]
    return mean, away * weight @ away.T


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


def root(covariance: Tensor) -> Tensor:
    """Return R with R R' the covariance, which may be singular.

    The symmetric root of the correlations, times standard deviations: the only one that depends neither on the units of
    the constants nor on which eigenvectors of equal eigenvalues are returned.
    """
    sd = covariance.diagonal().clamp(min=0).sqrt()
    unit = torch.where(sd > 0, sd, 1.0)
    values, vectors = torch.linalg.eigh(covariance / unit / unit[:, None])
    factor: Tensor = sd[:, None] * ((vectors * values.clamp(min=0).sqrt()) @ vectors.T)
    return factor
