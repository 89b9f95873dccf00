"""Where the population is looked for: the pooled fit from many starts, then the spread of the tasks around it."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.map_estimate import normal_points
from metaest.functional import Equation, GaussNewton, HierarchicalModel, Noise, Observations, Population

__all__ = ["Start", "beside", "points_around", "pooled_starts", "scales", "sizes", "spread_around", "spread_of"]

MAX_TASKS, MAX_ROWS = 64, 2000
# points looked at and points searched from: cheap where one call evaluates all rows, fewer where it takes one a task
N_POINTS, N_STARTS, SCREEN_ROWS = 1024, 32, 300
N_POINTS_SLOW, N_STARTS_SLOW, MAX_TASKS_SLOW = 64, 8, 12
ROUNDS = 4
# powers of ten by which the distance from the user's values varies, in units of its size where there are no bounds:
# such a constant may be off by orders of magnitude, and on a log or logit scale that is a matter of a few units
REACH, REACH_UNBOUNDED = (-0.5, 0.7), (-0.7, 1.7)
MAGNITUDES = 7.0
# greatest ratio of the change that moves the curve and the size of the value itself
FARTHEST = 1e10
# share of the size of equal numbers that their standard deviation may be, from rounding
ROUNDING = 1e-12


class Start(NamedTuple):
    """One pooled fit: constants, and the root mean square of its residuals."""

    phi: Tensor
    rms: float


def pooled_starts(model: HierarchicalModel, initial: Tensor, observations: Observations, keep: int) -> list[Start]:
    """Fit one set of constants to all tasks by least squares, from the user's values and from points around them.

    Parameters
    ----------
    model : HierarchicalModel
    initial : Tensor of shape (constants,)
        Unconstrained.
    observations : Observations
        A few dozen tasks at most are used.
    keep : int
        How many different solutions to return.

    Returns
    -------
    list of Start
        The one that descends from the user's values first, then the best others.
    """
    rows = model.equation.mode == "rows"
    chosen = _some_tasks(observations, MAX_TASKS if rows else MAX_TASKS_SLOW)
    sub = observations.take(chosen)
    sigma = 0.1 * spread_of(sub)
    sub = beside(model.noise, sub, sigma)
    size, scale = sizes(model, initial, sub), scales(model, initial, sub)
    n_points, n_starts = (N_POINTS, N_STARTS) if rows else (N_POINTS_SLOW, N_STARTS_SLOW)
    center = _promising(model, initial, size, sub, n_points, n_starts)
    pooled = _pool(model, sub)
    together = _together(sub, n_starts)
    log_sigma = torch.tensor([sigma], dtype=torch.float64).log()
    factor = torch.diag(30 * torch.maximum(scale, size))
    solver = GaussNewton(max_iter=40, tol=1e-2, newton_after=40)
    for _ in range(ROUNDS):  # the prior moves with the solution, so that it damps and does not pull
        found = solver.solve(pooled, center, factor, log_sigma, together)
        moved = center + factor @ found.u
        center = torch.where(torch.isfinite(moved).all(dim=0), moved, center)
    with torch.no_grad():
        curve = pooled.curve(center, together)
        residual = pooled.noise.nearest(curve, together.y) - curve
        mean_square = together.weighed(residual.square()).sum(dim=0) / together.mask.sum(dim=0)
    rms = torch.where(torch.isfinite(mean_square), mean_square, torch.inf).sqrt()
    return _different(model, center, rms, scale, keep)


def _promising(
    model: HierarchicalModel, initial: Tensor, size: Tensor, observations: Observations, n_points: int, n_starts: int
) -> Tensor:
    """Return the user's values and points around them, near and far, that fit best without a search."""
    center = points_around(model, initial, size, n_points)
    few = observations.take(_some_tasks(observations, MAX_TASKS_SLOW, SCREEN_ROWS))
    pooled, together = _pool(model, few), _together(few, n_points)
    with torch.no_grad():
        curve = pooled.curve(center, together)
        error = together.weighed((pooled.noise.nearest(curve, together.y) - curve).square()).sum(dim=0)
    order = torch.where(torch.isfinite(error), error, torch.inf).argsort()
    # the best ones may all lie in one valley: take as many from the better quarter at large
    half = n_starts // 2
    rest = torch.linspace(half, max(half + 1, n_points // 4), n_starts - half - 1).long()
    return torch.cat([initial[:, None], center[:, order[:half]], center[:, order[rest]]], dim=1)


def spread_of(observations: Observations) -> float:
    """Return the standard deviation of the targets; their size where all are the same, one where that is 0."""
    y = observations.y[observations.mask > 0]
    spread, size = float(y.std(correction=0)), float(y.abs().max())
    return spread if spread > ROUNDING * size else size or 1.0


def sizes(model: HierarchicalModel, phi: Tensor, observations: Observations) -> Tensor:
    """Return 1 for constants on a log or logit scale, and the size of the value for those without bounds.

    Where that value is zero, its size is the change that moves the curve by the spread of the data.
    """
    nothing = _unbounded(model) & (phi == 0)
    if not bool(nothing.any()):
        return torch.where(_unbounded(model), phi.abs(), 1.0)
    size = torch.where(_unbounded(model), phi.abs(), 1.0)
    return torch.where(nothing, torch.nan_to_num(_responses(model, phi, observations), nan=1.0), size)


def _unbounded(model: HierarchicalModel) -> Tensor:
    return torch.tensor([kind == "identity" for kind in model.transforms.kinds])


def _responses(model: HierarchicalModel, phi: Tensor, observations: Observations) -> Tensor:
    """Return the change of each constant that moves the curve by the spread of the data; NaN where none does."""
    with torch.no_grad():
        _, slopes = model.curve_and_slopes(phi[:, None].expand(-1, observations.y.shape[1]), observations)
    size = torch.stack([slope[observations.mask > 0].square().mean().sqrt() for slope in slopes])
    response = spread_of(observations) / size
    return torch.where(torch.isfinite(response) & (response > 0), response, torch.nan)


def points_around(model: HierarchicalModel, initial: Tensor, size: Tensor, n_points: int) -> Tensor:
    """Return points around the user's values, near and far in units of `size`, of shape (constants, points)."""
    p = len(initial)
    unbounded = _unbounded(model)
    points = normal_points(n_points, 2 * p)
    ends = torch.where(
        unbounded,
        torch.tensor(REACH_UNBOUNDED, dtype=torch.float64)[:, None],
        torch.tensor(REACH, dtype=torch.float64)[:, None],
    )
    low, width = ends[0][:, None], (ends[1] - ends[0])[:, None]
    reach = 10 ** (low + width * torch.special.ndtr(points[p:]))
    center = initial[:, None] + size[:, None] * reach * points[:p]
    # without bounds nothing says how large a constant is: every third point tries it at any order of magnitude
    anywhere = points[:p].sign() * size[:, None] * 10 ** (MAGNITUDES * (2 * torch.special.ndtr(points[p:]) - 1))
    lost = unbounded[:, None] & (torch.arange(n_points) % 3 == 2)
    found: Tensor = torch.where(lost, anywhere, center)
    return found


def _different(model: HierarchicalModel, center: Tensor, rms: Tensor, scale: Tensor, keep: int) -> list[Start]:
    unbounded = _unbounded(model)
    order = [0, *rms.argsort().tolist()]  # the user's values are the first ones searched from
    starts: list[Start] = []
    for i in order:
        units = [torch.where(unbounded & (s.phi != 0), torch.minimum(scale, s.phi.abs()), scale) for s in starts]
        apart = [float(((center[:, i] - s.phi) / u).abs().max()) for s, u in zip(starts, units, strict=True)]
        if torch.isfinite(rms[i]) and all(d > 0.05 for d in apart) and len(starts) < keep:
            starts.append(Start(center[:, i], float(rms[i])))
    return starts


def beside(noise: Noise, observations: Observations, sigma: float) -> Observations:
    """Return observations whose weights include the errors of their measurement, for a noise of SD `sigma`."""
    accuracy = noise.accuracy(observations)
    if accuracy.variance is None:
        return observations
    plain = torch.full_like(observations.y, sigma**2)
    return observations._replace(weight=plain / accuracy.scatter(plain))


def _some_tasks(observations: Observations, most: int, most_rows: int = MAX_ROWS) -> Tensor:
    tasks = observations.y.shape[1]
    rows = float(observations.mask.sum()) / tasks
    return evenly(tasks, max(1, min(most, int(most_rows / rows))))


def scales(model: HierarchicalModel, initial: Tensor, observations: Observations) -> Tensor:
    """One on a log or logit scale; otherwise the change that moves the curve by the spread of the data."""
    size, response = sizes(model, initial, observations), _responses(model, initial, observations)
    within = torch.minimum(torch.maximum(response, size / FARTHEST), size * FARTHEST)
    return torch.where(_unbounded(model) & ~torch.isnan(response), within, size)


def _pool(model: HierarchicalModel, observations: Observations) -> HierarchicalModel:
    """Return a model whose one task holds the rows of all."""
    equation, rows = model.equation, observations.y.shape[0]
    noise = Noise(limit=model.noise.limit)
    if equation.mode == "rows":
        return replace(model, noise=noise)

    def pooled(X: Tensor, **constants: Tensor) -> Tensor:
        blocks = (X[first : first + rows] for first in range(0, len(X), rows))
        return torch.cat([equation(list(constants.values()), block) for block in blocks])

    return replace(model, equation=Equation(pooled, equation.names, equation.mode), noise=noise)


def _together(observations: Observations, n: int) -> Observations:
    """Return the rows of all tasks as one task, n times."""
    X = observations.by_task().reshape(1, -1, observations.X.shape[1]).expand(n, -1, -1)
    y = observations.y.T.reshape(1, -1).expand(n, -1)
    weight = None if observations.weight is None else observations.weight.T.reshape(1, -1).expand(n, -1)
    return Observations.stack(X, y, observations.mask.T.reshape(1, -1).expand(n, -1), weight)


def spread_around(
    model: HierarchicalModel,
    start: Start,
    random: list[int],
    observations: Observations,
    smallest_sigma: float,
) -> tuple[Population, Tensor]:
    """Return a first population around a pooled fit.

    Each constant alone varies enough between tasks to explain what the pooled fit leaves; so does the noise.

    Returns
    -------
    Population
        Without covariates.
    u : Tensor of shape (random, tasks)
        Zeros.
    """
    phi = start.phi[:, None].expand(-1, observations.y.shape[1])
    curve, slopes = (part.detach() for part in model.curve_and_slopes(phi, observations))
    factor = torch.zeros(len(phi), len(random), dtype=torch.float64)
    # a pooled fit may end next to zero, and the size of its value then says nothing
    size = torch.maximum(sizes(model, start.phi, observations), scales(model, start.phi, observations))
    for j, k in enumerate(random):
        response = float(slopes[k][observations.mask > 0].square().mean().sqrt())
        most = float(size[k]) * (2.0 if model.transforms.kinds[k] != "identity" else 1e3)
        sd = start.rms / response if response > 0 else float(size[k])
        factor[k, j] = min(max(sd, 1e-3 * float(size[k])), most)
    sigma = max(0.7 * start.rms, smallest_sigma)
    if model.noise.kind != "additive":
        seen = model.noise.nearest(curve, observations.y)
        relative = (seen - curve).abs() / (curve.square() + model.noise.delta**2).sqrt()
        relative = relative if observations.weight is None else relative * observations.weight.sqrt()
        ratio = min(max(float(relative[observations.mask > 0].median()), 1e-3), 1.0)
        constants: list[Any] = [ratio] if model.noise.kind == "proportional" else [0.5 * sigma, 0.5 * ratio]
    else:
        constants = [sigma]
    log_sigma = torch.tensor(constants, dtype=torch.float64).log()
    u = torch.zeros(len(random), observations.y.shape[1], dtype=torch.float64)
    return Population(start.phi.clone(), factor, log_sigma), u
