"""Curves, bands and intervals of one task, from what is known of its constants."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equation.batches import one_task
from metaest.estimators.equation.posterior import Calibrated, Posterior
from metaest.estimators.equation.solving import normal_points

__all__ = ["curve", "curve_and_sd", "draws", "interval", "root"]

# the noise around every drawn curve smooths the quantiles of an observation, so fewer draws do
N_DRAWS_CURVE, N_DRAWS = 2048, 512
BISECTIONS = 45


def curve(calibrated: Calibrated, posterior: Posterior, X: NDArray[Any]) -> NDArray[Any]:
    """Curve of one task at its most probable constants, of shape (rows,)."""
    with torch.no_grad():
        return np.asarray(calibrated.model.curve(posterior.phi, one_task(X))[:, 0].numpy())


def curve_and_sd(calibrated: Calibrated, posterior: Posterior, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Curve and its standard deviation, to first order in the constants."""
    values, slopes = calibrated.model.curve_and_slopes(posterior.phi, one_task(X))
    d = slopes[:, :, 0].detach()
    variance = torch.einsum("kr,kj,jr->r", d, posterior.covariance[:, :, 0], d)
    return values[:, 0].detach().numpy(), variance.clamp(min=0).sqrt().numpy()


def draws(posterior: Posterior, n: int) -> Tensor:
    """Well-spread points of the posterior of one task, always the same, of shape (constants, n)."""
    points = normal_points(n, len(posterior.phi))
    return posterior.phi + root(posterior.covariance[:, :, 0]) @ points


def interval(
    calibrated: Calibrated, posterior: Posterior, X: NDArray[Any], level: float, of: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper ends, of shape (rows,), that leave out equal probability on both sides.

    Constants drawn from the posterior go through the equation, so the ends respect whatever the equation respects; for
    an observation the noise around each drawn curve is added in closed form.
    """
    n = N_DRAWS_CURVE if of == "curve" else N_DRAWS
    phi = draws(posterior, n)
    with torch.no_grad():
        curves = calibrated.model.curve(phi, one_task(X, copies=n))
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    if of == "curve":
        ends = torch.nanquantile(curves, tails, dim=1)
        return ends[0].numpy(), ends[1].numpy()
    sd = calibrated.model.noise.variance(curves, calibrated.population.log_sigma).sqrt()
    usable = torch.isfinite(curves) & torch.isfinite(sd)
    curves, sd = torch.where(usable, curves, 0.0), torch.where(usable, sd, 1.0)
    share = usable.double() / usable.sum(dim=1, keepdim=True)
    low = torch.where(usable, curves - 9 * sd, torch.inf).amin(dim=1).expand(2, -1)
    high = torch.where(usable, curves + 9 * sd, -torch.inf).amax(dim=1).expand(2, -1)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        below = (share * torch.special.ndtr((middle[..., None] - curves) / sd)).sum(dim=-1) < tails[:, None]
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    ends = 0.5 * (low + high)
    return ends[0].numpy(), ends[1].numpy()


def root(covariance: Tensor) -> Tensor:
    """Return R with R R' the covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    found: Tensor = vectors * values.clamp(min=0).sqrt()
    return found
