"""Curves, bands and intervals of one task, from what is known of its constants."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.estimators.equation.batches import one_task
from metaest.estimators.equation.posterior import Calibrated, Posterior
from metaest.estimators.equation.sampling import Draws, weighted_quantile

__all__ = ["curve", "curve_and_sd", "interval"]

BISECTIONS = 32


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


def interval(
    calibrated: Calibrated, draws: Draws, X: NDArray[Any], level: float, of: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper ends, of shape (rows,), that leave out equal probability on both sides.

    Constants drawn from the posterior go through the equation, so the ends respect whatever the equation respects; for
    an observation the noise around each drawn curve is added in closed form.
    """
    with torch.no_grad():
        curves = calibrated.model.curve(draws.phi, one_task(X, copies=draws.phi.shape[1]))
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    if of == "curve":
        ends = weighted_quantile(curves, draws.weight, tails)
        return ends[0].numpy(), ends[1].numpy()
    sd = calibrated.model.noise.variance(curves, calibrated.population.log_sigma).sqrt()
    usable = torch.isfinite(curves) & torch.isfinite(sd)
    curves, sd = torch.where(usable, curves, 0.0), torch.where(usable, sd, 1.0)
    share = torch.where(usable, draws.weight, 0.0)
    share = share / share.sum(dim=1, keepdim=True)
    low = torch.where(usable, curves - 9 * sd, torch.inf).amin(dim=1).expand(2, -1)
    high = torch.where(usable, curves + 9 * sd, -torch.inf).amax(dim=1).expand(2, -1)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        below = (share * torch.special.ndtr((middle[..., None] - curves) / sd)).sum(dim=-1) < tails[:, None]
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    ends = 0.5 * (low + high)
    return ends[0].numpy(), ends[1].numpy()
