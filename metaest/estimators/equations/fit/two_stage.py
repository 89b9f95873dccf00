"""A first population from fits of each task alone: the classical two-stage start of mixed-effects software.

Where the likelihood of a task has many valleys (frequencies, delays), a curve fitted to all tasks together is in none
of them, and a population around it takes the tasks for noise. Tasks alone show where they are; medians over them bear
that some end elsewhere.
"""

import torch
from torch import Tensor

from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.fit.starts import beside, points_around, scales, sizes, spread_of
from metaest.estimators.equations.map_estimate import search_widely
from metaest.functional import GaussNewton, HierarchicalModel, Noise, Observations, Population

__all__ = ["alone"]

MAX_TASKS, N_POINTS, MAX_TASKS_SLOW, N_POINTS_SLOW = 40, 1024, 8, 64
BROAD, BROAD_UNBOUNDED = 3.0, 10.0
# of a normal distribution, by the median of absolute deviations
MAD = 1.4826
FARTHEST = 4.0


def alone(
    model: HierarchicalModel,
    initial: Tensor,
    random: list[int],
    observations: Observations,
    smallest_sigma: float,
) -> tuple[Population, Tensor] | None:
    """Fit some tasks alone, from many points around the user's values, and describe how they are spread.

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
    Population
        Without covariates.
    u : Tensor of shape (random, tasks)
        Where the tasks were found; zeros for the others.

    None where tasks have too few rows to be fitted alone, or the noise is not additive.
    """
    p, rows = len(initial), observations.mask.sum(dim=0)
    able = torch.nonzero(rows > p)[:, 0]
    if model.noise.kind != "additive" or len(able) < max(3, len(rows) // 2):
        return None
    together = model.equation.mode == "rows"
    most, n = (MAX_TASKS, N_POINTS) if together else (MAX_TASKS_SLOW, N_POINTS_SLOW)
    few = able[evenly(len(able), most)]
    some = observations.take(few)
    some = beside(model.noise, some, 0.1 * spread_of(some))
    unit = sizes(model, initial, some)
    broad = [BROAD_UNBOUNDED if kind == "identity" else BROAD for kind in model.transforms.kinds]
    size = torch.tensor(broad, dtype=torch.float64) * torch.maximum(scales(model, initial, some), unit)
    center = initial[:, None].expand(-1, len(few))
    plain = HierarchicalModel(model.equation, model.transforms, Noise(limit=model.noise.limit))
    log_sigma = torch.tensor([0.1 * spread_of(some)], dtype=torch.float64).log()
    points = (points_around(model, initial, unit, n) - initial[:, None]) / size[:, None]
    solver = GaussNewton(max_iter=40, tol=1e-2, newton_after=40)
    zeros = torch.zeros(p, len(few), dtype=torch.float64)
    found, _ = search_widely(solver, plain, center, torch.diag(size), log_sigma, some, zeros, points)
    phi = center + size[:, None] * found.u
    with torch.no_grad():
        curve = plain.curve(phi, some)
        square = some.weighed((plain.noise.nearest(curve, some.y) - curve).square()).sum(dim=0)
    usable = torch.isfinite(square) & torch.isfinite(phi).all(dim=0)
    if int(usable.sum()) < 3:
        return None
    few, phi, square = few[usable], phi[:, usable], square[usable]
    left = rows[few] - p
    beta = phi.median(dim=1).values
    sd = MAD * (phi - beta[:, None]).abs().median(dim=1).values
    sigma = max(float((square / left).median().sqrt()), smallest_sigma)
    factor = torch.zeros(p, len(random), dtype=torch.float64)
    for j, k in enumerate(random):
        factor[k, j] = sd[k].clamp(min=1e-3 * float(size[k]), max=float(size[k]))
    u = torch.zeros(len(random), observations.y.shape[1], dtype=torch.float64)
    own = (phi[random] - beta[random, None]) / factor[random].diagonal()[:, None]
    u[:, few] = own.clamp(min=-FARTHEST, max=FARTHEST)
    return Population(beta, factor, torch.tensor([sigma], dtype=torch.float64).log()), u
