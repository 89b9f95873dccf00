"""Where the population is looked for: the pooled fit from many starts, then the spread of the tasks around it."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equation.solving import normal_points
from metaest.functional import Equation, GaussNewton, HierarchicalModel, Noise, Observations, Population

__all__ = ["Start", "pooled_starts", "spread_around"]

MAX_TASKS, MAX_ROWS = 64, 2000
N_STARTS, N_STARTS_SLOW, MAX_TASKS_SLOW = 64, 16, 12
ROUNDS = 4
# starts lie this many scales from the user's values: a constant without bounds may be off by orders of magnitude
REACH, REACH_UNBOUNDED = (0.5, 1.0, 2.0, 4.0), (0.3, 1.0, 10.0, 100.0)
PREFERENCE = 1.02


class Start(NamedTuple):
    """One pooled fit: constants, and the root mean square of its residuals."""

    phi: Tensor
    rms: float


def pooled_starts(
    model: HierarchicalModel, initial: Tensor, observations: Observations, keep: int
) -> tuple[list[Start], Tensor]:
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
    starts : list of Start
        The best first; of solutions that fit almost equally well, the one nearest to the user's values.
    scale : Tensor of shape (constants,)
        How far each constant is thought to vary, in the unconstrained space.
    """
    rows = model.equation.mode == "rows"
    chosen = _some_tasks(observations, MAX_TASKS if rows else MAX_TASKS_SLOW)
    sub = observations.take(chosen)
    y = sub.y[sub.mask > 0]
    spread = float(y.std(correction=0))
    sigma = 0.1 * spread if spread > 0 else max(1e-3, 1e-3 * float(y.abs().max()))
    scale = _scales(model, initial, sub, max(spread, sigma))
    n_starts = N_STARTS if rows else N_STARTS_SLOW
    points = normal_points(n_starts, len(initial))
    unbounded = torch.tensor([kind == "identity" for kind in model.transforms.kinds])
    size = torch.where(unbounded, initial.abs().clamp(min=1.0), 1.0)
    turn = torch.arange(n_starts)
    near, far = (torch.tensor(reach, dtype=torch.float64)[turn % len(reach)] for reach in (REACH, REACH_UNBOUNDED))
    # every other start believes the response of the curve, the rest the size of the user's value
    believed = torch.where((turn // len(REACH)) % 2 == 0, scale[:, None], size[:, None])
    center = initial[:, None] + torch.where(unbounded[:, None], size[:, None] * far, believed * near) * points
    center[:, 0] = initial
    center[:, 4] = initial + scale * points[:, 4]
    pooled = _pool(model, sub)
    together = _together(sub, n_starts)
    log_sigma = torch.tensor([sigma], dtype=torch.float64).log()
    factor, solver = torch.diag(30 * torch.maximum(scale, size)), GaussNewton(max_iter=40, tol=1e-3)
    for _ in range(ROUNDS):  # the prior moves with the solution, so that it damps and does not pull
        found = solver.solve(pooled, center, factor, log_sigma, together)
        moved = center + factor @ found.u
        center = torch.where(torch.isfinite(moved).all(dim=0), moved, center)
    with torch.no_grad():
        residual = together.y - pooled.curve(center, together)
        mean_square = (together.mask * residual.square()).sum(dim=0) / together.mask.sum(dim=0)
    rms = torch.where(torch.isfinite(mean_square), mean_square, torch.inf).sqrt()
    return _different(center, rms, initial, scale, keep), scale


def _different(center: Tensor, rms: Tensor, initial: Tensor, scale: Tensor, keep: int) -> list[Start]:
    distance = ((center - initial[:, None]) / scale[:, None]).square().sum(dim=0)
    order = rms.argsort().tolist()
    near = [i for i in order if rms[i] <= PREFERENCE * rms[order[0]]]
    order = [min(near, key=lambda i: float(distance[i])), *order]
    starts: list[Start] = []
    for i in order:
        apart = [float(((center[:, i] - s.phi) / scale).abs().max()) for s in starts]
        if torch.isfinite(rms[i]) and all(d > 0.1 for d in apart) and len(starts) < keep:
            starts.append(Start(center[:, i], float(rms[i])))
    return starts


def _some_tasks(observations: Observations, most: int) -> Tensor:
    tasks = observations.y.shape[1]
    rows = float(observations.mask.sum()) / tasks
    n = max(1, min(tasks, most, int(MAX_ROWS / rows)))
    return torch.linspace(0, tasks - 1, n).round().long().unique()


def _scales(model: HierarchicalModel, initial: Tensor, observations: Observations, spread: float) -> Tensor:
    """One on a log or logit scale; otherwise the change that moves the curve by the spread of the data."""
    with torch.no_grad():
        phi = initial[:, None].expand(-1, observations.y.shape[1])
        _, slopes = model.curve_and_slopes(phi, observations)
    scale = torch.ones_like(initial)
    for k, kind in enumerate(model.transforms.kinds):
        if kind == "identity":
            slope = slopes[k][observations.mask > 0].square().mean().sqrt()
            size = max(abs(float(initial[k])), 1.0)
            response = float(spread / slope) if bool(torch.isfinite(slope)) and slope > 0 else size
            scale[k] = min(max(response, 1e-2 * size), 1e2 * size)
    return scale


def _pool(model: HierarchicalModel, observations: Observations) -> HierarchicalModel:
    """A model whose one task holds the rows of all."""
    equation, rows = model.equation, observations.y.shape[0]
    if equation.mode == "rows":
        return replace(model, noise=Noise())

    def pooled(X: Tensor, **constants: Tensor) -> Tensor:
        blocks = X.split(rows)
        return torch.cat([equation(list(constants.values()), block) for block in blocks])

    return replace(model, equation=Equation(pooled, equation.names, equation.mode), noise=Noise())


def _together(observations: Observations, n: int) -> Observations:
    """The rows of all tasks as one task, n times."""
    X = observations.by_task().reshape(1, -1, observations.X.shape[1]).expand(n, -1, -1)
    y = observations.y.T.reshape(1, -1).expand(n, -1)
    return Observations.stack(X, y, observations.mask.T.reshape(1, -1).expand(n, -1))


def spread_around(
    model: HierarchicalModel,
    start: Start,
    scale: Tensor,
    random: list[int],
    observations: Observations,
    smallest_sigma: float,
) -> tuple[Population, Tensor]:
    """Return a first population around a pooled fit: broad between tasks, with the noise the pooled fit leaves.

    Returns
    -------
    Population
        Without covariates.
    u : Tensor of shape (random, tasks)
        Zeros.
    """
    factor = torch.zeros(len(scale), len(random), dtype=torch.float64)
    for j, k in enumerate(random):
        factor[k, j] = 0.5 * scale[k]
    sigma = max(0.7 * start.rms, smallest_sigma)
    if model.noise.kind != "additive":
        with torch.no_grad():
            phi = start.phi[:, None].expand(-1, observations.y.shape[1])
            curve = model.curve(phi, observations)
            relative = (observations.y - curve).abs() / (curve.square() + model.noise.delta**2).sqrt()
        ratio = min(max(float(relative[observations.mask > 0].median()), 1e-3), 1.0)
        constants: list[Any] = [ratio] if model.noise.kind == "proportional" else [0.5 * sigma, 0.5 * ratio]
    else:
        constants = [sigma]
    log_sigma = torch.tensor(constants, dtype=torch.float64).log()
    u = torch.zeros(len(random), observations.y.shape[1], dtype=torch.float64)
    return Population(start.phi.clone(), factor, log_sigma), u
