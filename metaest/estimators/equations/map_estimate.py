"""The search for a task's constants, from several starts where one start leaves doubt."""

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.stats import chi2, norm, qmc
from torch import Tensor

from metaest.functional import GaussNewton, HierarchicalModel, Observations, SolveCode
from metaest.functional.equations import small_matrices
from metaest.functional.equations.gauss_newton import MapResult

__all__ = ["misfit", "most_probable", "normal_points", "search_widely"]

# the wide search: points looked at, points searched from, how far they reach, and how many at once
N_WIDE, N_TRIES, WIDE_SD, MOST_CELLS = 256, 8, 1.5, 500_000
N_WIDE_SLOW, N_TRIES_SLOW = 32, 4
SCREEN_ROWS = 60
# points around a place where the search is stuck, in posterior standard deviations, and what counts as no gain
N_AROUND, AROUND, TRIFLE = 64, (0.01, 0.1, 0.5), 0.05
# twice J at the solution is a chi-square variable with as many degrees of freedom as rows; a fit that is worse than all
# but this share of them is poor enough to look elsewhere
DOUBT = 1e-5


def normal_points(n: int, dimension: int, seed: int = 0) -> Tensor:
    """Return n well-spread points of a standard normal distribution, the same for a seed, of shape (dimension, n)."""
    if dimension == 0:
        return torch.zeros(0, n, dtype=torch.float64)
    uniform = qmc.Sobol(dimension, scramble=True, rng=seed).random(n)
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
    others, _ = search_widely(
        solver,
        model,
        center[:, again],
        factor,
        log_sigma,
        observations.take(again),
        torch.zeros_like(found.u[:, again]),
    )
    old = torch.where(torch.isfinite(found.loss[again]), found.loss[again], torch.inf)
    # another solution has to be better by more than the accuracy of the search
    gained = (others.loss < old - 1e-6) | (
        (found.code[again] != SolveCode.CONVERGED) & (others.code == SolveCode.CONVERGED) & (others.loss <= old + 1e-6)
    )
    for part, other in zip(found, others, strict=True):
        part[..., again[gained]] = other[..., gained]
    stuck = torch.nonzero((found.code == SolveCode.STALLED) | (found.code == SolveCode.MAX_ITER))[:, 0]
    if len(stuck):
        corner = _is_lowest(model, center[:, stuck], factor, log_sigma, observations.take(stuck), found.u[:, stuck])
        found.code[stuck[corner]] = int(SolveCode.CONVERGED)
    return found


def _is_lowest(
    model: HierarchicalModel,
    center: Tensor,
    factor: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    u: Tensor,
) -> Tensor:
    """Whether no point around u is lower by more than a trifle: an equation with a kink has corners for minima."""
    m, tasks = u.shape
    with torch.no_grad():
        known = model.information(center + factor @ u, log_sigma, observations).in_random_directions(factor, u)
        sd = small_matrices.inverse(small_matrices.cholesky(known.matrix), known.matrix).diagonal().T.sqrt()
        away = normal_points(N_AROUND, m)
        away = torch.cat([away * size for size in AROUND], dim=1)
        n = away.shape[1]
        numbers = torch.arange(tasks).repeat_interleave(n)
        points = u[:, numbers] + sd[:, numbers] * away.repeat(1, tasks)
        loss = model.loss(center[:, numbers] + factor @ points, log_sigma, observations.take(numbers))
        height = (loss + 0.5 * points.square().sum(dim=0)).reshape(tasks, n)
    lowest = torch.where(torch.isfinite(height), height, torch.inf).min(dim=1).values
    found: Tensor = torch.isfinite(known.loss) & (lowest > known.loss - TRIFLE)
    return found


def search_widely(
    solver: GaussNewton,
    model: HierarchicalModel,
    center: Tensor,
    factor: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    start: Tensor,
    points: Tensor | None = None,
) -> tuple[MapResult, Tensor]:
    """Search every task from the best of many points spread over the population, and from `start`.

    Parameters
    ----------
    solver, model, center, factor, log_sigma, observations, start
        As :meth:`metaest.functional.GaussNewton.solve` takes them.
    points : Tensor of shape (random, points), optional
        Where to look; by default spread over the population.

    Returns
    -------
    MapResult
    gain : Tensor of shape (tasks,)
        By how much the negative log-posterior is lower than where the search from `start` ends.
    """
    m, tasks = start.shape
    if m == 0:
        return solver.solve(model, center, factor, log_sigma, observations, start), start.new_zeros(tasks)
    if points is None:
        points = WIDE_SD * normal_points(N_WIDE if model.equation.mode == "rows" else N_WIDE_SLOW, m)
    n, tries = points.shape[1], N_TRIES if model.equation.mode == "rows" else N_TRIES_SLOW
    # an equation whose rows see each other needs all of them
    screened = observations.thin(SCREEN_ROWS) if model.equation.mode == "rows" else observations
    size = max(1, MOST_CELLS // (n * len(screened.y)))
    parts, gains = [], []
    for first in range(0, tasks, size):
        chosen = torch.arange(first, min(first + size, tasks))
        some = chosen.repeat_interleave(n)
        with torch.no_grad():
            u = points.repeat(1, len(chosen))
            loss = model.loss(center[:, some] + factor @ u, log_sigma, screened.take(some))
        height = torch.where(torch.isfinite(loss), loss + 0.5 * u.square().sum(dim=0), torch.inf).reshape(-1, n)
        promising = points[:, height.argsort(dim=1)[:, : tries - 1]]  # (random, tasks, tries)
        starts = torch.cat([start[:, chosen, None], promising], dim=2).reshape(m, -1)
        again = chosen.repeat_interleave(tries)
        found = solver.solve(model, center[:, again], factor, log_sigma, observations.take(again), starts)
        reached = torch.where(torch.isfinite(found.loss), found.loss, torch.inf).reshape(-1, tries)
        lowest = tries * torch.arange(len(chosen)) + reached.argmin(dim=1)
        parts.append([part[..., lowest] for part in found])
        gains.append(reached[:, 0] - reached.min(dim=1).values)
    best = MapResult(*(torch.cat(group, dim=-1) for group in zip(*parts, strict=True)))
    return best, torch.nan_to_num(torch.cat(gains), nan=0.0)


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
    accuracy = model.noise.accuracy(observations)
    if model.noise.kind == "additive" and model.noise.limit is None and accuracy.alike:
        constant = rows * (log_sigma[0] + 0.5 * math.log(2 * math.pi))
    else:
        with torch.no_grad():
            log_scale = model.noise.log_scale(model.curve(phi, observations), observations.y, log_sigma, accuracy)
        constant = observations.masked(log_scale).sum(dim=0)
    return 2 * (loss - constant) / _limits(len(observations.mask))[rows.long()]


@lru_cache(maxsize=64)
def _limits(n: int) -> Tensor:
    """Greatest plausible sum of squares by number of rows, 0 to n."""
    limits = torch.from_numpy(chi2.isf(DOUBT, np.arange(n + 1)))
    limits[0] = torch.inf
    return limits
