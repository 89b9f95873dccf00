"""Weighted draws from a density that is near a normal one, and may have further modes.

They come from a mixture: the normal distribution near the density, a wide one for what that does not see, and, as long
as few draws carry the weight, Student distributions around the weighted mean of all draws so far. Each draw is weighted
by the density over that of the whole mixture, so that no part found once is lost again (adaptive multiple importance
sampling; Cornuet and others, 2012, :doi:`10.1111/j.1467-9469.2011.00756.x`).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from scipy.stats import chi2
from torch import Tensor

from metaest.estimators.normal_points import normal_points

__all__ = ["N_DRAWS", "Proposal", "draw", "effective", "root", "spread_draws"]

# draws from the normal distribution, and from each Student distribution
N_DRAWS = 2048
# draws from the wide one
N_PRIOR = 256
# degrees of freedom of the Student distributions: tails heavy enough for most posteriors
DEGREES = 5.0
# effective number of draws at which drawing ends
ENOUGH = 1000
# proposals at most: the normal distribution, the wide one, and Student distributions
MOST_PROPOSALS = 8
# smallest eigenvalue of a proposal's covariance, as a share of the largest
SMALLEST_EIGENVALUE = 1e-14
# effective number of draws, per dimension and one, from which their covariance is taken
DRAWS_PER_DIMENSION = 10
# times that weights are evened out at most for it
EVENINGS = 10


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


class Proposal(NamedTuple):
    """A normal or Student distribution of u, and how many draws come from it."""

    mean: Tensor
    vectors: Tensor
    sd: Tensor
    n: int
    student: bool

    @classmethod
    def around(cls, mean: Tensor, covariance: Tensor, n: int, *, student: bool = False) -> "Proposal":
        """Return the distribution of a mean and a covariance, which may be singular."""
        values, vectors = torch.linalg.eigh(covariance)
        sd = values.clamp(min=SMALLEST_EIGENVALUE * float(values.max())).sqrt()
        return cls(mean[:, None], vectors, sd[:, None], n, student)

    def draw(self, points: Tensor) -> Tensor:
        """Return draws from points of a standard distribution, of shape (m, n)."""
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


def draw(log_posterior: Callable[[Tensor], Tensor], laplace: Proposal, p: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return draws of u, p normal ones beside them, their weights, and the share of the normal distribution.

    Parameters
    ----------
    log_posterior : callable
        Takes points of shape (m, n), and returns the logarithm of their density up to a constant, of shape (n,).
    laplace : Proposal
        The normal distribution near the density.
    p : int
    """
    m = len(laplace.mean)
    prior = Proposal.around(torch.zeros(m).double(), torch.eye(m).double(), N_PRIOR)
    proposals = [laplace, prior]
    points = [_points(m, p, proposal.n, i) for i, proposal in enumerate(proposals)]
    u = torch.cat([proposal.draw(part.u) for proposal, part in zip(proposals, points, strict=True)], dim=1)
    height = log_posterior(u)
    while True:
        log_mixture = _log_mixture(proposals, u)
        weight = torch.softmax(height - log_mixture, dim=0)
        if not effective(weight) < ENOUGH or len(proposals) == MOST_PROPOSALS:
            break
        proposals.append(Proposal.around(*_moments(u, weight), N_DRAWS, student=True))
        points.append(_points(m, p, N_DRAWS, len(points), student=True))
        new = proposals[-1].draw(points[-1].u)
        u, height = torch.cat([u, new], dim=1), torch.cat([height, log_posterior(new)])
    normal = torch.softmax(laplace.log_density(u) - log_mixture, dim=0)
    return u, torch.cat([part.rest for part in points], dim=1), weight, float(torch.minimum(weight, normal).sum())


def _log_mixture(proposals: list[Proposal], u: Tensor) -> Tensor:
    """Return the log-density of the proposals, each weighted by its share of the draws, up to the same constant."""
    shares = [proposal.n / u.shape[1] for proposal in proposals]
    densities = [p.log_density(u) + math.log(share) for p, share in zip(proposals, shares, strict=True)]
    return torch.logsumexp(torch.stack(densities), dim=0)


def spread_draws(log_posterior: Callable[[Tensor], Tensor], m: int, n: int) -> tuple[Tensor, Tensor, float]:
    """Return n draws of u that reach far into the tails, and their weights, of a density near the standard normal one.

    Their distribution is Student's around the weighted mean of many draws; the effective number of these comes last.
    """
    normal = Proposal.around(torch.zeros(m).double(), torch.eye(m).double(), N_DRAWS)
    u, _, weight, _ = draw(log_posterior, normal, 0)
    wide = Proposal.around(*_moments(u, weight), n, student=True)
    chosen = wide.draw(_points(m, 0, n, 0, student=True).u)
    return chosen, torch.softmax(log_posterior(chosen) - wide.log_density(chosen), dim=0), effective(weight)


def effective(weight: Tensor) -> float:
    """Return the effective number of draws: how many equally weighted ones are worth as much."""
    return 1 / float(weight.square().sum())


def _moments(u: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of weighted draws; weights are evened out as long as a few draws would make it up."""
    wanted = DRAWS_PER_DIMENSION * (len(u) + 1)
    for _ in range(EVENINGS):
        if effective(weight) >= wanted:
            break
        weight = weight.sqrt() / weight.sqrt().sum()
    mean = u @ weight
    away = u - mean[:, None]
    return mean, away * weight @ away.T


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
