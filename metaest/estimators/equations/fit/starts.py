"""Starts of the search for the population: a pooled fit of all tasks, fits of single tasks, or the user's values.

The pooled fit takes all tasks for one and is searched from many points; a population around it varies as much as the
residuals allow. Where the likelihood of a task has many local optima (frequencies, delays), a curve fitted to all tasks
together is in none of them, and the tasks pass for noise: then fits of single tasks show where they are, the classical
two-stage start of mixed-effects software, by medians that bear that some tasks end elsewhere. Where tasks have too few
rows for that, a population around the user's values is tried as well, wide and of little noise: around a pooled fit of
tasks that differ much, whatever they differ in passes for noise, and a fit may end there.
"""

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.map_estimate import search_widely
from metaest.estimators.normal_points import normal_points
from metaest.functional import (
    Equation,
    GaussNewton,
    HierarchicalModel,
    Noise,
    Observations,
    Outcome,
    PopulationParameters,
)
from metaest.functional.equations.hierarchical import Point
from metaest.functional.equations.outputs import OutputNoise

__all__ = [
    "PooledFit",
    "around_initial_values",
    "around_pooled_fit",
    "from_single_tasks",
    "pooled_fits",
    "scales",
    "sizes",
    "spread_of",
]

# tasks of a pooled fit, where one call evaluates all rows
POOLED_TASKS = 64
# rows of a pooled fit
POOLED_ROWS = 2000
# tasks and rows by which points are screened, and tasks of a pooled fit where every task needs a call
FEW_TASKS = 12
SCREEN_ROWS = 300
# points screened, where one call evaluates all rows
SCREENED = 1024
# the same, where every task needs a call
SCREENED_SLOW = 64
# points that a pooled fit is searched from, where one call evaluates all rows
SEARCHED = 32
# the same, where every task needs a call
SEARCHED_SLOW = 8
# searches of a pooled fit, each around the last solution, so that the prior damps the steps and does not pull
ROUNDS = 4
# width of that prior, in sizes of the constants
PRIOR_WIDTH = 30
# noise of a first search, as a share of the spread of the targets
FIRST_NOISE = 0.1
# distance in sizes of the constants from which two pooled fits differ
DISTINCT = 0.05
# distance of the points from the user's values, as powers of ten of the size of a constant, on a log or logit scale,
# where orders of magnitude are a matter of a few units
REACH = (-0.5, 0.7)
# the same for a constant without bounds, whose size may be unlike that of its initial value
REACH_UNBOUNDED = (-0.7, 1.7)
# powers of ten up and down, over which every third point tries a constant without bounds
MAGNITUDES = 7.0
# greatest ratio of the change that moves the curve and the size of the value itself
GREATEST_RATIO = 1e10
# standard deviation of equal numbers, as a share of their size, that rounding explains
ROUNDING = 1e-12
# share of the residuals that a first population takes for noise, since the variation between tasks explains the rest
NOISE_SHARE = 0.7
# the same for each of two noise constants
NOISE_SHARE_OF_TWO = 0.5
# first power of power noise
FIRST_POWER = 0.5
# smallest first standard deviation between tasks, in sizes of the constant; also the smallest coefficient of variation
SMALLEST_SD = 1e-3
# largest first standard deviation between tasks of a constant with a bound: two units of a log or logit scale
LARGEST_SD = 2.0
# the same of a constant without bounds, in sizes
LARGEST_SD_UNBOUNDED = 1e3
# single tasks that are fitted, where one call evaluates all tasks
SINGLE_TASKS = 40
# the same, where every task needs a call
SINGLE_TASKS_SLOW = 8
# fewest tasks that show a spread
LEAST_TASKS = 3
# prior of a single task, in sizes of a constant with a bound: almost flat
FLAT_PRIOR = 3.0
# the same of a constant without bounds
FLAT_PRIOR_UNBOUNDED = 10.0
# standard deviation of a normal distribution over the median of its absolute deviations
MAD_TO_SD = 1.4826
# standard deviations between tasks at which the start of a single task is cut off
FARTHEST_START = 4.0
# logarithm of a number that is not infinite yet
LARGEST_EXPONENT = 700.0
# solver of the first searches: rough, without Newton steps
FIRST_SOLVER = GaussNewton(max_iter=40, tol=1e-2, newton_after=40)


class PooledFit(NamedTuple):
    """One set of constants fitted to all tasks, unconstrained, and the root mean square of its residuals."""

    phi: Tensor
    rms: float


def pooled_fits(model: HierarchicalModel, initial: Tensor, observations: Observations, n: int) -> list[PooledFit]:
    """Fit one set of constants to all tasks by least squares, from the user's values and from points around them.

    Parameters
    ----------
    model : HierarchicalModel
    initial : Tensor of shape (constants,)
        The user's values, unconstrained.
    observations : Observations
        A few dozen tasks at most are used.
    n : int
        How many different solutions to return at most.

    Returns
    -------
    list of PooledFit
        First the solution that descends from the user's values, then the best others.
    """
    one_call = model.equation.mode == "rows"
    chosen = _some_tasks(observations, POOLED_TASKS if one_call else FEW_TASKS)
    sub = observations.take(chosen)
    sigma = FIRST_NOISE * spread_of(sub, model.noise)
    sub = _with_measurement_errors(model.noise, sub, sigma)
    size, scale = sizes(model, initial, sub), scales(model, initial, sub)
    n_points, n_starts = (SCREENED, SEARCHED) if one_call else (SCREENED_SLOW, SEARCHED_SLOW)
    center = _promising(model, initial, size, sub, n_points, n_starts)
    pooled = _pooled_model(model, sub)
    together = _as_one_task(sub, n_starts)
    log_sigma = _of_search(model.noise, sub)
    factor = torch.diag(PRIOR_WIDTH * torch.maximum(scale, size))
    for _ in range(ROUNDS):
        center = _searched(FIRST_SOLVER, pooled, center, factor, log_sigma, together)
    rms = _rms(pooled, center, together, log_sigma)
    return _distinct(model, center, rms, scale, n)


def _searched(
    solver: GaussNewton,
    model: HierarchicalModel,
    center: Tensor,
    factor: Tensor,
    log_sigma: Tensor,
    observations: Observations,
) -> Tensor:
    """Return where searches from some constants end; the constants themselves where that is not finite."""
    moved = center + factor @ solver.solve(model, center, factor, log_sigma, observations).u
    return torch.where(torch.isfinite(moved).all(dim=0), moved, center)


def _of_search(noise: Noise, observations: Observations) -> Tensor:
    """Return the constants of the noise of a first search."""
    if isinstance(noise, Outcome):
        return noise.first(observations.y[observations.mask > 0])
    return torch.tensor([FIRST_NOISE * spread_of(observations, noise)], dtype=torch.float64).log()


def _rms(model: HierarchicalModel, phi: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
    """Return the root mean square of the residuals of each task; infinite where it is not finite.

    Of outcomes that are not normal, a number that puts them in the order of their likelihood.
    """
    with torch.no_grad():
        if not model.noise.normal:
            mean = model.loss(phi, log_sigma, observations) / observations.mask.sum(dim=0)
            return torch.where(torch.isfinite(mean), mean, torch.inf).clamp(max=LARGEST_EXPONENT).exp()
        curve = model.curve(phi, observations)
        residual = model.noise.residual(curve, observations.y, model.noise.accuracy(observations))
        mean_square = observations.weighed(residual.square()).sum(dim=0) / observations.mask.sum(dim=0)
    return torch.where(torch.isfinite(mean_square), mean_square, torch.inf).sqrt()


def _promising(
    model: HierarchicalModel, initial: Tensor, size: Tensor, observations: Observations, n_points: int, n_starts: int
) -> Tensor:
    """Return the user's values and points around them, near and far, that fit best without a search."""
    center = _points_around(model, initial, size, n_points)
    few = observations.take(_some_tasks(observations, FEW_TASKS, SCREEN_ROWS))
    pooled = _pooled_model(model, few)
    with torch.no_grad():
        if not model.noise.bounds.censors:
            # a likelihood of equal noise puts points in the order of their squared errors; one with limits does not
            zero, eye = initial.new_zeros(len(initial), 1), torch.eye(len(initial), dtype=initial.dtype)
            log_sigma = _of_search(model.noise, few)
            misfit = pooled.losses_at(zero, eye, log_sigma, _as_one_task(few, 1), center)[0]
        else:
            together = _as_one_task(few, n_points)
            curve = pooled.curve(center, together)
            residual = pooled.noise.residual(curve, together.y, pooled.noise.accuracy(together))
            misfit = together.weighed(residual.square()).sum(dim=0)
    order = torch.where(torch.isfinite(misfit), misfit, torch.inf).argsort()
    # the best ones may all lie in one valley: take as many from the better quarter at large
    half = n_starts // 2
    rest = torch.linspace(half, max(half + 1, n_points // 4), n_starts - half - 1).long()
    return torch.cat([initial[:, None], center[:, order[:half]], center[:, order[rest]]], dim=1)


def spread_of(observations: Observations, noise: Noise | None = None) -> float:
    """Return the standard deviation of the targets, on the scale of a noise where one is given.

    It is their size where all are the same, and one where that is 0. Of several outputs it is that of the first.
    """
    if isinstance(noise, OutputNoise):
        return noise.spreads[0]
    y = observations.y[observations.mask > 0]
    y = y if noise is None else noise.on_scale(y)
    spread, size = float(y.std(correction=0)), float(y.abs().max())
    return spread if spread > ROUNDING * size else size or 1.0


def sizes(model: HierarchicalModel, phi: Tensor, observations: Observations) -> Tensor:
    """Return 1 for constants on a log or logit scale, and the size of the value for those without bounds.

    Where that value is zero, its size is the change that moves the curve by the spread of the data.
    """
    zero = _unbounded(model) & (phi == 0)
    size = torch.where(_unbounded(model), phi.abs(), 1.0)
    if not bool(zero.any()):
        return size
    return torch.where(zero, torch.nan_to_num(_responses(model, phi, observations), nan=1.0), size)


def scales(
    model: HierarchicalModel, initial: Tensor, observations: Observations, slopes: Tensor | None = None
) -> Tensor:
    """Return 1 on a log or logit scale, and otherwise the change that moves the curve by the spread of the data.

    `slopes` are those of the curves in the constants, on the scale of the noise, where they have been worked out.
    """
    size, response = sizes(model, initial, observations), _responses(model, initial, observations, slopes)
    within = torch.minimum(torch.maximum(response, size / GREATEST_RATIO), size * GREATEST_RATIO)
    return torch.where(_unbounded(model) & ~torch.isnan(response), within, size)


def _unbounded(model: HierarchicalModel) -> Tensor:
    return torch.tensor([kind == "identity" for kind in model.transforms.kinds])


def _responses(
    model: HierarchicalModel, phi: Tensor, observations: Observations, slopes: Tensor | None = None
) -> Tensor:
    """Return the change of each constant that moves the curve by the spread of the data; NaN where none does."""
    if slopes is None:
        with torch.no_grad():
            curve, slopes = model.curve_and_slopes(phi[:, None].expand(-1, observations.y.shape[1]), observations)
            slopes = model.noise.slopes_on_scale(curve, slopes)
            slopes = slopes * model.noise.units(model.noise.accuracy(observations))
    real = observations.mask > 0
    size = torch.stack([slope[real].square().mean().sqrt() for slope in slopes])
    response = spread_of(observations, model.noise) / size
    return torch.where(torch.isfinite(response) & (response > 0), response, torch.nan)


def _points_around(model: HierarchicalModel, initial: Tensor, size: Tensor, n_points: int) -> Tensor:
    """Return points around the user's values, near and far in units of `size`, of shape (constants, points)."""
    p = len(initial)
    unbounded = _unbounded(model)
    points, share = _spread_points(n_points, p)
    ends = torch.where(
        unbounded,
        torch.tensor(REACH_UNBOUNDED, dtype=torch.float64)[:, None],
        torch.tensor(REACH, dtype=torch.float64)[:, None],
    )
    low, width = ends[0][:, None], (ends[1] - ends[0])[:, None]
    reach = 10 ** (low + width * share)
    center = initial[:, None] + size[:, None] * reach * points
    # without bounds nothing says how large a constant is: every third point tries it at any order of magnitude
    anywhere = points.sign() * size[:, None] * 10 ** (MAGNITUDES * (2 * share - 1))
    third = unbounded[:, None] & (torch.arange(n_points) % 3 == 2)
    around: Tensor = torch.where(third, anywhere, center)
    return around


@lru_cache(maxsize=32)
def _spread_points(n: int, p: int) -> tuple[Tensor, Tensor]:
    """Return n well-spread points, normal in p directions and uniform in p others, always the same."""
    points = normal_points(n, 2 * p)
    return points[:p], torch.special.ndtr(points[p:])


def _distinct(model: HierarchicalModel, center: Tensor, rms: Tensor, scale: Tensor, n: int) -> list[PooledFit]:
    """Return the n best solutions that lie apart from one another, after the one from the user's values."""
    unbounded, scale_of, places = _unbounded(model).numpy(), scale.numpy(), center.T.numpy()
    fits: list[PooledFit] = []
    units: list[NDArray[np.float64]] = []
    for i in [0, *rms.argsort().tolist()]:
        place = places[i]
        with np.errstate(all="ignore"):
            apart = [np.abs((place - s.phi.numpy()) / unit).max() for s, unit in zip(fits, units, strict=True)]
        if math.isfinite(rms[i]) and all(d > DISTINCT for d in apart):
            fits.append(PooledFit(center[:, i], float(rms[i])))
            units.append(np.where(unbounded & (place != 0), np.minimum(scale_of, np.abs(place)), scale_of))
            if len(fits) == n:
                break
    return fits


def _with_measurement_errors(noise: Noise, observations: Observations, sigma: float) -> Observations:
    """Return observations whose weights include the errors of their measurement, for a noise of SD `sigma`.

    Of several outputs that is the noise of the first; that of others is larger as their observations spread more.
    """
    accuracy = noise.accuracy(observations)
    if accuracy.variance is None and accuracy.output is None:
        return observations
    plain = torch.full_like(observations.y, sigma**2)
    return observations._replace(weight=plain / accuracy.scatter(plain / noise.units(accuracy) ** 2))


def _some_tasks(observations: Observations, most: int, most_rows: int = POOLED_ROWS) -> Tensor:
    """Return numbers of tasks, evenly spread, that hold at most so many rows together."""
    tasks = observations.y.shape[1]
    rows = float(observations.mask.sum()) / tasks
    return evenly(tasks, max(1, min(most, int(most_rows / rows))))


def _pooled_model(model: HierarchicalModel, observations: Observations) -> HierarchicalModel:
    """Return a model whose one task holds the rows of all."""
    equation, rows = model.equation, observations.y.shape[0]
    noise = model.noise.simplest()
    if equation.mode == "rows":
        return replace(model, noise=noise)

    def pooled(X: Tensor, **constants: Tensor) -> Tensor:
        blocks = (X[first : first + rows] for first in range(0, len(X), rows))
        return torch.cat([equation(list(constants.values()), block) for block in blocks])

    return replace(model, equation=Equation(pooled, equation.names, equation.mode), noise=noise)


def _as_one_task(observations: Observations, n: int) -> Observations:
    """Return the rows of all tasks as one task, n times."""
    X = observations.by_task().reshape(1, -1, observations.X.shape[1]).expand(n, -1, -1)
    y = observations.y.T.reshape(1, -1).expand(n, -1)
    weight = None if observations.weight is None else observations.weight.T.reshape(1, -1).expand(n, -1)
    return Observations.stack(X, y, observations.mask.T.reshape(1, -1).expand(n, -1), weight)


def around_pooled_fit(
    model: HierarchicalModel,
    fit: PooledFit,
    random: list[int],
    observations: Observations,
    smallest_sigma: float,
) -> tuple[PopulationParameters, Tensor]:
    """Return a first population around a pooled fit.

    Each constant alone varies enough between tasks to explain the residuals of the pooled fit; so does the noise.

    Returns
    -------
    PopulationParameters
        Without covariates.
    u : Tensor of shape (random, tasks)
        Zeros.
    """
    phi = fit.phi[:, None].expand(-1, observations.y.shape[1])
    curve, slopes = (part.detach() for part in model.curve_and_slopes(phi, observations))
    if not model.noise.normal:
        return _around_pooled_outcome(model, fit.phi, random, observations)
    slopes = model.noise.slopes_on_scale(curve, slopes) * model.noise.units(model.noise.accuracy(observations))
    factor = torch.zeros(len(phi), len(random), dtype=torch.float64)
    # a pooled fit may end next to zero, and the size of its value then says nothing
    size = torch.maximum(sizes(model, fit.phi, observations), scales(model, fit.phi, observations, slopes))
    real = observations.mask > 0
    for j, k in enumerate(random):
        response = float(slopes[k][real].square().mean().sqrt())
        most = float(size[k]) * (LARGEST_SD if model.transforms.kinds[k] != "identity" else LARGEST_SD_UNBOUNDED)
        sd = fit.rms / response if response > 0 else float(size[k])
        factor[k, j] = min(max(sd, SMALLEST_SD * float(size[k])), most)
    sigma, ratio = max(NOISE_SHARE * fit.rms, smallest_sigma), 0.0
    if not model.noise.homoscedastic:
        nearest = model.noise.nearest(curve, observations.y, model.noise.accuracy(observations))
        relative = (nearest - curve).abs() / (curve.square() + model.noise.delta**2).sqrt()
        relative = relative if observations.weight is None else relative * observations.weight.sqrt()
        ratio = min(max(float(relative[observations.mask > 0].median()), SMALLEST_SD), 1.0)
    u = torch.zeros(len(random), observations.y.shape[1], dtype=torch.float64)
    return PopulationParameters(fit.phi.clone(), factor, _first_noise(model.noise, sigma, ratio)), u


def _around_pooled_outcome(
    model: HierarchicalModel, phi: Tensor, random: list[int], observations: Observations
) -> tuple[PopulationParameters, Tensor]:
    """Return a first population around a pooled fit of outcomes that are not normal.

    Each constant varies by half of the standard error that one row leaves it.
    """
    tasks, log_sigma = observations.y.shape[1], _of_search(model.noise, observations)
    with torch.no_grad():
        information = model.information(phi[:, None].expand(-1, tasks), log_sigma, observations).matrix
    of_a_row = information.diagonal().sum(dim=0) / observations.mask.sum()
    size, factor = sizes(model, phi, observations), torch.zeros(len(phi), len(random), dtype=torch.float64)
    for j, k in enumerate(random):
        sd = 0.5 / math.sqrt(float(of_a_row[k])) if float(of_a_row[k]) > 0 else float(size[k])
        most = LARGEST_SD if model.transforms.kinds[k] != "identity" else LARGEST_SD_UNBOUNDED * float(size[k])
        factor[k, j] = min(max(sd, SMALLEST_SD * float(size[k])), most)
    return PopulationParameters(phi.clone(), factor, log_sigma), torch.zeros(len(random), tasks, dtype=torch.float64)


def around_initial_values(
    model: HierarchicalModel, initial: Tensor, random: list[int], observations: Observations, smallest_sigma: float
) -> tuple[PopulationParameters, Tensor]:
    """Return a first population around the user's values: each constant varies widely, and the noise is small.

    Returns
    -------
    PopulationParameters
        Without covariates.
    u : Tensor of shape (random, tasks)
        Zeros.
    """
    size = LARGEST_SD * torch.maximum(sizes(model, initial, observations), scales(model, initial, observations))
    factor = torch.zeros(len(initial), len(random), dtype=torch.float64)
    for j, k in enumerate(random):
        factor[k, j] = size[k]
    sigma = max(FIRST_NOISE * spread_of(observations, model.noise), smallest_sigma)
    u = torch.zeros(len(random), observations.y.shape[1], dtype=torch.float64)
    first = (
        _first_noise(model.noise, sigma, FIRST_NOISE) if model.noise.normal else _of_search(model.noise, observations)
    )
    return PopulationParameters(initial.clone(), factor, first), u


def _first_noise(noise: Noise, sigma: float, ratio: float) -> Tensor:
    """Return first noise constants from a standard deviation on the scale of the noise, and a coefficient of variation.

    The second counts where the noise depends on the curve.
    """
    if isinstance(noise, OutputNoise):
        of_each = zip(noise.parts, noise.spreads, strict=True)
        return torch.cat([_first_noise(part, sigma * spread / noise.spreads[0], ratio) for part, spread in of_each])
    if noise.kind == "power":  # between additive and proportional noise
        first = 0.5 * (math.log(sigma) + math.log(ratio * noise.reference))
        return torch.tensor([first, FIRST_POWER], dtype=torch.float64)
    constants = [sigma]
    if not noise.homoscedastic:
        constants = [NOISE_SHARE_OF_TWO * sigma, NOISE_SHARE_OF_TWO * ratio] if noise.n_scales == 2 else [ratio]
    return torch.tensor(constants, dtype=torch.float64).log()


def from_single_tasks(
    model: HierarchicalModel,
    initial: Tensor,
    random: list[int],
    observations: Observations,
    smallest_sigma: float,
) -> tuple[PopulationParameters, Tensor] | None:
    """Fit some tasks one by one, from many points around the user's values, and describe how they are spread.

    Parameters
    ----------
    model : HierarchicalModel
    initial : Tensor of shape (constants,)
        The user's values, unconstrained.
    random : list of int
        Constants that vary.
    observations : Observations
    smallest_sigma : float

    Returns
    -------
    PopulationParameters
        Without covariates.
    u : Tensor of shape (random, tasks)
        Where the fitted tasks are; zeros for the others.

    None where tasks have too few rows to be fitted one by one, or the noise depends on the curve.
    """
    p, rows = len(initial), observations.mask.sum(dim=0)
    able = torch.nonzero(rows > p)[:, 0]
    if not model.noise.homoscedastic or len(able) < max(LEAST_TASKS, len(rows) // 2):
        return None
    one_call = model.equation.mode == "rows"
    most, n_points = (SINGLE_TASKS, SCREENED) if one_call else (SINGLE_TASKS_SLOW, SCREENED_SLOW)
    few = able[evenly(len(able), most)]
    some = observations.take(few)
    some = _with_measurement_errors(model.noise, some, FIRST_NOISE * spread_of(some, model.noise))
    unit = sizes(model, initial, some)
    widths = [FLAT_PRIOR_UNBOUNDED if kind == "identity" else FLAT_PRIOR for kind in model.transforms.kinds]
    size = torch.tensor(widths, dtype=torch.float64) * torch.maximum(scales(model, initial, some), unit)
    center = initial[:, None].expand(-1, len(few))
    plain = replace(model, noise=model.noise.simplest())
    log_sigma = torch.tensor([FIRST_NOISE * spread_of(some, model.noise)], dtype=torch.float64).log()
    points = (_points_around(model, initial, unit, n_points) - initial[:, None]) / size[:, None]
    zeros = torch.zeros(p, len(few), dtype=torch.float64)
    point = Point(center, torch.diag(size), log_sigma)
    result, _ = search_widely(FIRST_SOLVER, plain, point, some, zeros, points)
    phi = center + size[:, None] * result.u
    with torch.no_grad():
        curve = plain.curve(phi, some)
        residual = plain.noise.residual(curve, some.y, plain.noise.accuracy(some))
        square = some.weighed(residual.square()).sum(dim=0)
    usable = torch.isfinite(square) & torch.isfinite(phi).all(dim=0)
    if int(usable.sum()) < LEAST_TASKS:
        return None
    few, phi, square = few[usable], phi[:, usable], square[usable]
    degrees_of_freedom = rows[few] - p
    beta = phi.median(dim=1).values
    sd = MAD_TO_SD * (phi - beta[:, None]).abs().median(dim=1).values
    sigma = max(float((square / degrees_of_freedom).median().sqrt()), smallest_sigma)
    factor = torch.zeros(p, len(random), dtype=torch.float64)
    for j, k in enumerate(random):
        factor[k, j] = sd[k].clamp(min=SMALLEST_SD * float(size[k]), max=float(size[k]))
    u = torch.zeros(len(random), observations.y.shape[1], dtype=torch.float64)
    deviations = (phi[random] - beta[random, None]) / factor[random].diagonal()[:, None]
    u[:, few] = deviations.clamp(min=-FARTHEST_START, max=FARTHEST_START)
    return PopulationParameters(beta, factor, _first_noise(model.noise, sigma, 0.0)), u
