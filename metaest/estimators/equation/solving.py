"""The search for a task's constants, from several starts where one start leaves doubt."""

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.stats import chi2, norm, qmc
from torch import Tensor

from metaest.functional import GaussNewton, HierarchicalModel, MapResult, Observations, SolveCode

__all__ = ["RESTARTS", "misfit", "most_probable", "normal_points"]

RESTARTS = 8
RESTART_SD = 1.5
# twice J at the solution is a chi-square variable with as many degrees of freedom as rows; a fit that is worse than all
# but this share of them is poor enough to look elsewhere
DOUBT = 1e-5


def normal_points(n: int, dimension: int) -> Tensor:
    """Return n well-spread points of a standard normal distribution, always the same, of shape (dimension, n)."""
    if dimension == 0:
        return torch.zeros(0, n, dtype=torch.float64)
    uniform = qmc.Sobol(dimension, scramble=True, rng=0).random(n)
    return torch.from_numpy(norm.ppf(uniform.clip(1e-6, 1 - 1e-6))).T.contiguous()


def most_probable(
    solver: GaussNewton,
    model: HierarchicalModel,
    center: Tensor,
    factor: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    start: Tensor | None = None,
) -> MapResult:
    """Find the most probable constants of every task.

    Tasks whose search does not converge, or whose rows lie improbably far from the curve found, are searched anew from
    points spread over the prior, and the best of all is kept.

    Parameters
    ----------
    solver, model, center, factor, log_sigma, observations, start
        As :meth:`metaest.functional.GaussNewton.solve` takes them.

    Returns
    -------
    MapResult
    """
    found = solver.solve(model, center, factor, log_sigma, observations, start)
    poor = ~(misfit(model, center + factor @ found.u, found.loss, log_sigma, observations) <= 1)
    again = torch.nonzero(poor | (found.code != SolveCode.CONVERGED))[:, 0]
    if len(again) == 0 or len(factor.T) == 0:
        return found
    points = normal_points(RESTARTS, factor.shape[1]) * RESTART_SD
    points[:, 0] = 0.0  # the centre of the prior, where `start` was another point
    repeated = again.repeat_interleave(RESTARTS)
    others = solver.solve(
        model, center[:, repeated], factor, log_sigma, observations.take(repeated), points.repeat(1, len(again))
    )
    usable = torch.where(torch.isfinite(others.loss), others.loss, torch.inf).reshape(-1, RESTARTS)
    best = usable.argmin(dim=1) + RESTARTS * torch.arange(len(again))
    old = torch.where(torch.isfinite(found.loss[again]), found.loss[again], torch.inf)
    # another solution has to be better by more than the accuracy of the search
    gained = (others.loss[best] < old - 1e-6) | (
        (found.code[again] != SolveCode.CONVERGED)
        & (others.code[best] == SolveCode.CONVERGED)
        & (others.loss[best] <= old + 1e-6)
    )
    chosen, source = again[gained], best[gained]
    for part, other in zip(found, others, strict=True):
        part[..., chosen] = other[..., source]
    return found


def misfit(
    model: HierarchicalModel, phi: Tensor, loss: Tensor, log_sigma: Tensor, observations: Observations
) -> Tensor:
    """How far the rows of each task lie from its curve, and its constants from the population.

    Parameters
    ----------
    model : HierarchicalModel
    phi : Tensor of shape (constants, tasks)
        The most probable ones.
    loss : Tensor of shape (tasks,)
        J there.
    log_sigma : Tensor of shape (noise constants,)
    observations : Observations

    Returns
    -------
    Tensor of shape (tasks,)
        The sum of squares, in units of the noise and of the spread between tasks, over what one task in 100,000
        exceeds.
    """
    rows = observations.mask.sum(dim=0)
    if model.noise.kind == "additive":
        constant = rows * (log_sigma[0] + 0.5 * math.log(2 * math.pi))
    else:
        with torch.no_grad():
            variance = model.noise.variance(model.curve(phi, observations), log_sigma)
        constant = 0.5 * observations.masked((2 * math.pi * variance).log()).sum(dim=0)
    return 2 * (loss - constant) / _limits(len(observations.mask))[rows.long()]


@lru_cache(maxsize=64)
def _limits(n: int) -> Tensor:
    """Greatest plausible sum of squares by number of rows, 0 to n."""
    limits = torch.from_numpy(chi2.isf(DOUBT, np.arange(n + 1)))
    limits[0] = torch.inf
    return limits
