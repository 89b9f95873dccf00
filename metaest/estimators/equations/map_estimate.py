"""MAP estimates: the most probable constants of each task under a population, with restarts in doubtful cases.

One damped Gauss-Newton search a task is enough for most tasks. A task whose search did not converge, or whose rows lie
improbably far from its curve, is searched again from points spread over the population. Noise that depends on the
curve can hide a wrong curve in a greater variance, where its rows look plausible: there, a task is searched again too
where one of some points spread over the population is more probable than what was found.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from metaest.estimators.normal_points import normal_points
from metaest.functional import GaussNewton, HierarchicalModel, Observations, SolveCode
from metaest.functional.equations import small_matrices
from metaest.functional.equations.correlated import log_roots
from metaest.functional.equations.gauss_newton import MapResult
from metaest.functional.equations.hierarchical import Point

__all__ = ["map_estimate", "map_estimate_and_misfit", "misfit", "search_widely"]

# points per task that the wide search evaluates without searching, where one call evaluates all tasks
SCREENED = 256
# the same, where every task needs a call
SCREENED_SLOW = 32
# points per task that the wide search starts from, the given start among them
STARTS = 8
# the same, where every task needs a call
STARTS_SLOW = 4
# points per task that have to be less probable than the end of a search, where the noise depends on the curve
COMPARED = 64
# spread of the screened points, in standard deviations between tasks: wider than the population, since it may be wrong
WIDE_SD = 1.5
# rows per task that are enough to rank the screened points
SCREEN_ROWS = 60
# values of the curve that one call of the screening computes at most: 4 MB
MOST_VALUES = 500_000
# points around a stalled search that are compared with it, at each distance
POINTS_AROUND = 64
# the distances of these points, in posterior standard deviations
DISTANCES_AROUND = (0.01, 0.1, 0.5)
# a point around a stalled search counts as lower where it gains more than this, in units of the log-posterior
LEAST_DESCENT = 0.05
# another solution has to be better by this, in units of the log-posterior: the accuracy of a search
ACCURACY = 1e-6
# twice the loss at the solution is a chi-square variable with as many degrees of freedom as rows; a fit worse than all
# but this share of tasks is searched again
DOUBTFUL_SHARE = 1e-5


def map_estimate(
    solver: GaussNewton,
    model: HierarchicalModel,
    point: Point,
    observations: Observations,
    start: Tensor | None = None,
) -> MapResult:
    """Find the most probable constants of every task.

    Tasks whose search does not converge, or whose rows lie improbably far from the curve, are searched again from
    points spread over the prior, and the best result is returned. Where the noise depends on the curve, so are
    tasks for which one of some such points is more probable than what was found.

    Parameters
    ----------
    solver : GaussNewton
    model : HierarchicalModel
    point : Point
    observations : Observations
    start : Tensor of shape (random, tasks), optional
        Where the search starts; zeros by default.

    Returns
    -------
    MapResult
    """
    return map_estimate_and_misfit(solver, model, point, observations, start)[0]


def map_estimate_and_misfit(
    solver: GaussNewton,
    model: HierarchicalModel,
    point: Point,
    observations: Observations,
    start: Tensor | None = None,
) -> tuple[MapResult, Tensor]:
    """Return the result of :func:`map_estimate`, and the :func:`misfit` of each task there."""
    center, factor, log_sigma = point
    result = solver.solve(model, center, factor, log_sigma, observations, start)
    unlikely = misfit(model, point.constants(result.u), result.loss, log_sigma, observations)
    poor = ~(unlikely <= 1)
    if not model.noise.homoscedastic:
        poor |= _is_beaten(model, point, observations, result.loss)
    again = torch.nonzero(poor | (result.code != SolveCode.CONVERGED))[:, 0]
    if len(again) == 0 or len(factor.T) == 0:
        return result, unlikely
    zeros = torch.zeros_like(result.u[:, again])
    others, _ = search_widely(solver, model, point.take(again), observations.take(again), zeros)
    old = torch.where(torch.isfinite(result.loss[again]), result.loss[again], torch.inf)
    converged_now = (result.code[again] != SolveCode.CONVERGED) & (others.code == SolveCode.CONVERGED)
    better = (others.loss < old - ACCURACY) | (converged_now & (others.loss <= old + ACCURACY))
    for part, other in zip(result, others, strict=True):
        part[..., again[better]] = other[..., better]
    stuck = torch.nonzero((result.code == SolveCode.STALLED) | (result.code == SolveCode.MAX_ITER))[:, 0]
    if len(stuck):
        corner = _is_lowest(model, point.take(stuck), observations.take(stuck), result.u[:, stuck])
        result.code[stuck[corner]] = int(SolveCode.CONVERGED)
    changed = again[better]
    if len(changed):
        phi, some = point.take(changed).constants(result.u[:, changed]), observations.take(changed)
        unlikely[changed] = misfit(model, phi, result.loss[changed], log_sigma, some)
    return result, unlikely


def _is_beaten(model: HierarchicalModel, point: Point, observations: Observations, loss: Tensor) -> Tensor:
    """Return whether one of some points spread over the population is more probable than what has this loss."""
    m, tasks = point.factor.shape[1], len(loss)
    points = WIDE_SD * normal_points(COMPARED if model.equation.mode == "rows" else SCREENED_SLOW, m)
    squares = 0.5 * points.square().sum(dim=0)
    size = max(1, MOST_VALUES // (len(squares) * len(observations.y)))
    parts = []
    for first in range(0, tasks, size):
        some = torch.arange(first, min(first + size, tasks))
        part = observations if len(some) == tasks else observations.take(some)
        with torch.no_grad():
            height = squares + model.losses_at(point.center[:, some], point.factor, point.log_sigma, part, points)
        parts.append(torch.where(torch.isfinite(height), height, torch.inf).min(dim=1).values)
    beaten: Tensor = torch.cat(parts) < loss - ACCURACY
    return beaten


def _is_lowest(model: HierarchicalModel, point: Point, observations: Observations, u: Tensor) -> Tensor:
    """Return whether no point around u is lower: the minimum of an equation with a kink may be a corner."""
    center, factor, log_sigma = point
    m, tasks = u.shape
    with torch.no_grad():
        info = model.information(point.constants(u), log_sigma, observations).in_random_directions(factor, u)
        sd = small_matrices.inverse(small_matrices.cholesky(info.matrix), info.matrix).diagonal().T.sqrt()
        away = normal_points(POINTS_AROUND, m)
        away = torch.cat([away * size for size in DISTANCES_AROUND], dim=1)
        n = away.shape[1]
        numbers = torch.arange(tasks).repeat_interleave(n)
        points = u[:, numbers] + sd[:, numbers] * away.repeat(1, tasks)
        loss = model.loss(center[:, numbers] + factor @ points, log_sigma, observations.take(numbers))
        height = (loss + 0.5 * points.square().sum(dim=0)).reshape(tasks, n)
    lowest = torch.where(torch.isfinite(height), height, torch.inf).min(dim=1).values
    is_lowest: Tensor = torch.isfinite(info.loss) & (lowest > info.loss - LEAST_DESCENT)
    return is_lowest


def search_widely(
    solver: GaussNewton,
    model: HierarchicalModel,
    point: Point,
    observations: Observations,
    start: Tensor,
    points: Tensor | None = None,
) -> tuple[MapResult, Tensor]:
    """Search every task from the best of many points spread over the population, and from `start`.

    Parameters
    ----------
    solver : GaussNewton
    model : HierarchicalModel
    point : Point
    observations : Observations
    start : Tensor of shape (random, tasks)
    points : Tensor of shape (random, points), optional
        Deviations to start from; by default spread over the population.

    Returns
    -------
    MapResult
    gain : Tensor of shape (tasks,)
        By how much the negative log-posterior is lower than where the search from `start` ends.
    """
    center, factor, log_sigma = point
    m, tasks = start.shape
    if m == 0:
        return solver.solve(model, center, factor, log_sigma, observations, start), start.new_zeros(tasks)
    one_call = model.equation.mode == "rows"
    if points is None:
        points = WIDE_SD * normal_points(SCREENED if one_call else SCREENED_SLOW, m)
    n, tries = points.shape[1], STARTS if one_call else STARTS_SLOW
    # an equation whose rows see each other needs all of them
    screened = observations.thin(SCREEN_ROWS) if one_call else observations
    size = max(1, MOST_VALUES // (n * len(screened.y)))
    parts, gains = [], []
    for first in range(0, tasks, size):
        chosen = torch.arange(first, min(first + size, tasks))
        part = screened if len(chosen) == tasks else screened.take(chosen)
        with torch.no_grad():
            loss = model.losses_at(center[:, chosen], factor, log_sigma, part, points)
        height = torch.where(torch.isfinite(loss), loss + 0.5 * points.square().sum(dim=0), torch.inf)
        best_ones = height.topk(tries - 1, dim=1, largest=False).indices
        promising = points[:, best_ones]  # (random, tasks, tries)
        starts = torch.cat([start[:, chosen, None], promising], dim=2).reshape(m, -1)
        again = chosen.repeat_interleave(tries)
        result = solver.solve(model, center[:, again], factor, log_sigma, observations.take(again), starts)
        reached = torch.where(torch.isfinite(result.loss), result.loss, torch.inf).reshape(-1, tries)
        lowest = tries * torch.arange(len(chosen)) + reached.argmin(dim=1)
        parts.append([part[..., lowest] for part in result])
        gains.append(reached[:, 0] - reached.min(dim=1).values)
    best = MapResult(*(torch.cat(group, dim=-1) for group in zip(*parts, strict=True)))
    return best, torch.nan_to_num(torch.cat(gains), nan=0.0)


def misfit(
    model: HierarchicalModel, phi: Tensor, loss: Tensor, log_sigma: Tensor, observations: Observations
) -> Tensor:
    """Return how improbable the rows of each task are under the population; 1 is the limit of what is plausible.

    Parameters
    ----------
    model : HierarchicalModel
    phi : Tensor of shape (constants, tasks)
        The most probable constants, unconstrained.
    loss : Tensor of shape (tasks,)
        Negative log-posterior there.
    log_sigma : Tensor of shape (noise constants,)
    observations : Observations

    Returns
    -------
    Tensor of shape (tasks,)
        The sum of squares, in units of the noise and of the spread between tasks, over the value that one task in
        100,000 exceeds; 0 of outcomes that are not normal.
    """
    if not model.noise.normal:  # of a row of 0 or 1, and of a row far out in a long tail, nothing is improbable
        return torch.zeros_like(loss)
    rows = observations.mask.sum(dim=0)
    accuracy = model.noise.accuracy(observations)
    if model.noise.kind == "additive" and not model.noise.bounds.censors and accuracy.alike:
        constant = rows * (log_sigma[0] + 0.5 * math.log(2 * math.pi))
    else:
        with torch.no_grad():
            log_scale = model.noise.log_scale(model.curve(phi, observations), observations.y, log_sigma, accuracy)
        constant = observations.masked(log_scale).sum(dim=0)
    with torch.no_grad():
        constant = constant + log_roots(model.noise, log_sigma, observations)
    return 2 * (loss - constant) / _plausible_squares(len(observations.mask))[rows.long()]


@lru_cache(maxsize=64)
def _plausible_squares(n: int) -> Tensor:
    """Return the greatest plausible sum of squares by number of rows, 0 to n."""
    limits = torch.from_numpy(chi2.isf(DOUBTFUL_SHARE, np.arange(n + 1)))
    limits[0] = torch.inf
    return limits
