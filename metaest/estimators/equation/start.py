"""Where the population is looked for: the pooled fit from many starts, then the spread of the tasks around it."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equation.batches import evenly
from metaest.estimators.equation.solving import normal_points
from metaest.functional import Equation, GaussNewton, HierarchicalModel, Noise, Observations, Population

__all__ = ["Start", "beside", "points_around", "pooled_starts", "scales", "sizes", "spread_around"]

MAX_TASKS, MAX_ROWS = 64, 2000
# points looked at and points searched from: cheap where one call evaluates all rows, fewer where it takes one a task
N_POINTS, N_STARTS, SCREEN_ROWS = 1024, 32, 300
N_POINTS_SLOW, N_STARTS_SLOW, MAX_TASKS_SLOW = 64, 8, 12
ROUNDS = 4
# powers of ten by which the distance from the user's values varies, in units of its size where there are no bounds:
# such a constant may be off by orders of magnitude, and on a log or logit scale that is a matter of a few units
REACH, REACH_UNBOUNDED = (-0.5, 0.7), (-0.7, 1.7)
MAGNITUDES = 7.0


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
    y = sub.y[sub.mask > 0]
    spread = float(y.std(correction=0))
    sigma = 0.1 * spread if spread > 0 else max(1e-3, 1e-3 * float(y.abs().max()))
    sub = beside(model.noise, sub, sigma)
    scale = scales(model, initial, sub, max(spread, sigma))
    n_points, n_starts = (N_POINTS, N_STARTS) if rows else (N_POINTS_SLOW, N_STARTS_SLOW)
    center = _promising(model, initial, sub, n_points, n_starts)
    pooled = _pool(model, sub)
    together = _together(sub, n_starts)
    log_sigma = torch.tensor([sigma], dtype=torch.float64).log()
    factor = torch.diag(30 * torch.maximum(scale, initial.abs()))
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
    return _different(center, rms, scale, keep)


def _promising(
    model: HierarchicalModel, initial: Tensor, observations: Observations, n_points: int, n_starts: int
) -> Tensor:
    """Return the user's values and points around them, near and far, that fit best without a search."""
    center = points_around(model, initial, n_points)
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


def sizes(model: HierarchicalModel, phi: Tensor) -> Tensor:
    """One on a log or logit scale; without bounds the size of the value itself, or one where that is zero."""
    unbounded = torch.tensor([kind == "identity" for kind in model.transforms.kinds])
    return torch.where(unbounded & (phi != 0), phi.abs(), 1.0)


def points_around(model: HierarchicalModel, initial: Tensor, n_points: int) -> Tensor:
    """Return points around the user's values, near and far, of shape (constants, points)."""
    p = len(initial)
    unbounded = torch.tensor([kind == "identity" for kind in model.transforms.kinds])
    size = sizes(model, initial)
    points = normal_points(n_points, 2 * p)
    ends = torch.where(unbounded, torch.tensor(REACH_UNBOUNDED)[:, None], torch.tensor(REACH)[:, None]).double()
    low, width = ends[0][:, None], (ends[1] - ends[0])[:, None]
    reach = 10 ** (low + width * torch.special.ndtr(points[p:]))
    center = initial[:, None] + size[:, None] * reach * points[:p]
    # without bounds nothing says how large a constant is: every third point tries it at any order of magnitude
    anywhere = points[:p].sign() * size[:, None] * 10 ** (MAGNITUDES * (2 * torch.special.ndtr(points[p:]) - 1))
    lost = unbounded[:, None] & (torch.arange(n_points) % 3 == 2)
    found: Tensor = torch.where(lost, anywhere, center)
    return found


def _different(center: Tensor, rms: Tensor, scale: Tensor, keep: int) -> list[Start]:
    order = [0, *rms.argsort().tolist()]  # the user's values are the first ones searched from
    starts: list[Start] = []
    for i in order:
        apart = [float(((center[:, i] - s.phi) / torch.minimum(scale, 1 + s.phi.abs())).abs().max()) for s in starts]
        if torch.isfinite(rms[i]) and all(d > 0.05 for d in apart) and len(starts) < keep:
            starts.append(Start(center[:, i], float(rms[i])))
    return starts


def beside(noise: Noise, observations: Observations, sigma: float) -> Observations:
    """Return observations weighed by their accuracy, that of their measurement included, under noise of that size."""
    accuracy = noise.accuracy(observations)
    if accuracy.variance is None:
        return observations
    plain = torch.full_like(observations.y, sigma**2)
    return observations._replace(weight=plain / accuracy.scatter(plain))


def _some_tasks(observations: Observations, most: int, most_rows: int = MAX_ROWS) -> Tensor:
    tasks = observations.y.shape[1]
    rows = float(observations.mask.sum()) / tasks
    return evenly(tasks, max(1, min(most, int(most_rows / rows))))


def scales(model: HierarchicalModel, initial: Tensor, observations: Observations, spread: float) -> Tensor:
    """One on a log or logit scale; otherwise the change that moves the curve by the spread of the data."""
    with torch.no_grad():
        phi = initial[:, None].expand(-1, observations.y.shape[1])
        _, slopes = model.curve_and_slopes(phi, observations)
    scale = torch.ones_like(initial)
    for k, kind in enumerate(model.transforms.kinds):
        if kind == "identity":
            slope = slopes[k][observations.mask > 0].square().mean().sqrt()
            size = abs(float(initial[k])) or 1.0
            response = float(spread / slope) if bool(torch.isfinite(slope)) and slope > 0 else size
            scale[k] = min(max(response, 1e-10 * size), 1e10 * size)
    return scale


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
    for j, k in enumerate(random):
        response = float(slopes[k][observations.mask > 0].square().mean().sqrt())
        size = 1.0 if model.transforms.kinds[k] != "identity" else abs(float(start.phi[k])) or 1.0
        sd = start.rms / response if response > 0 else size
        factor[k, j] = min(max(sd, 1e-3 * size), (2.0 if model.transforms.kinds[k] != "identity" else 1e3) * size)
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
