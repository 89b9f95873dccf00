"""Curves, bands and intervals of one task, from what is known of its constants."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.draws import Draws, weighted_quantile
from metaest.estimators.equations.fitted import Calibrated, Posterior
from metaest.exceptions import warn
from metaest.functional import Observations

__all__ = ["MOST_SIMULATED", "curve", "curve_and_sd", "interval", "mean_curve", "simulated", "spread_of_observations"]

BLOCK, NEWTON_STEPS = 50, 60
# tasks simulated in one call; more do not fit into memory
MOST_SIMULATED = 10**7
# error of the probability below an end of an interval, far below that of the draws
ACCURACY = 1e-6
# probability of constants without a finite curve up to which no warning is given
NEGLIGIBLE = 1e-9
# effective number of draws below which a mean is reported as that of a few draws
FEW = 50
# share of the mean in one draw above which it is reported as that of a few draws
LARGEST = 0.1


def curve(calibrated: Calibrated, posterior: Posterior, X: NDArray[Any]) -> NDArray[Any]:
    """Curve of one task at its most probable constants, of shape (rows,)."""
    with torch.no_grad():
        values = np.asarray(calibrated.model.curve(posterior.phi, one_task(X))[:, 0].numpy())
    return values


def curve_and_sd(calibrated: Calibrated, posterior: Posterior, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Curve and its standard deviation, to first order in the constants."""
    values, slopes = calibrated.model.curve_and_slopes(posterior.phi, one_task(X))
    d = slopes[:, :, 0].detach()
    variance = torch.einsum("kr,kj,jr->r", d, posterior.covariance[:, :, 0], d)
    return values[:, 0].detach().numpy(), variance.clamp(min=0).sqrt().numpy()


def mean_curve(calibrated: Calibrated, draws: Draws, X: NDArray[Any], where: str = "predict_mean") -> NDArray[Any]:
    """Return the mean of the curves of weighted draws, of shape (rows,)."""
    with torch.no_grad():
        curves = calibrated.model.curve(draws.phi, one_task(X, copies=draws.phi.shape[1]))
    usable = torch.isfinite(curves)
    weight = torch.where(usable, draws.weight, 0.0)
    _warn_of_mean(torch.where(usable, curves, 0.0), draws.weight, usable, where)
    return np.asarray(((torch.where(usable, curves, 0.0) * weight).sum(dim=1) / weight.sum(dim=1)).numpy())


def _warn_of_mean(curves: Tensor, weight: Tensor, usable: Tensor, where: str) -> None:
    """Warn where the mean of curves, of shape (rows, draws), does not exist or is that of a few draws."""
    lost = torch.where(usable, 0.0, weight).sum(dim=1)
    if float(lost.max()) > NEGLIGIBLE:
        row = int(lost.argmax())
        warn(
            f"{where}: in row {row} the curve is not finite for {float(lost[row]):.2%} of the probability of the "
            "constants, so that its mean does not exist; what is returned is the mean of the finite ones. Use predict "
            "or predict_interval.",
        )
    part = curves.abs() * weight
    total = part.sum(dim=1)
    share = part / torch.where(total > 0, total, 1.0)[:, None]
    worth = 1 / share.square().sum(dim=1).clamp(min=1e-12)
    few = (total > 0) & ((worth < FEW) | (share.amax(dim=1) > LARGEST))
    if bool(few.any()):
        row = int(torch.where(few, worth, torch.inf).argmin())
        warn(
            f"{where}: the mean in row {row} is made by a few extreme draws of the constants ({len(weight)} draws are "
            f"worth {float(worth[row]):.0f} equal ones there; {int(few.sum())} such rows in all): it depends on which "
            "constants were drawn, and may not exist. Use predict or predict_interval.",
        )


def simulated(
    calibrated: Calibrated,
    draws: Draws,
    X: NDArray[Any],
    n: int,
    rng: np.random.Generator,
    weight: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return observations of n tasks drawn from what is known, of shape (n, rows)."""
    probability = (draws.weight / draws.weight.sum()).numpy()
    chosen = torch.from_numpy(rng.choice(len(probability), n, p=probability))
    with torch.no_grad():
        rows = one_task(X, copies=n, weight=weight)
        curves = calibrated.model.curve(draws.phi[:, chosen], rows)
        sd = _variance(calibrated, curves, rows).sqrt()
    drawn = np.asarray((curves + sd * torch.from_numpy(rng.standard_normal(curves.shape))).T.numpy())
    lost = (~np.isfinite(drawn)).sum(axis=0)
    if lost.any():
        row = int(lost.argmax())
        warn(f"simulate: {lost[row]} of the {n} values drawn in row {row} are not finite, because the equation is not.")
    return drawn


def spread_of_observations(
    calibrated: Calibrated,
    mean: NDArray[Any],
    sd: NDArray[Any],
    X: NDArray[Any],
    weight: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the standard deviation of observations in rows X around curves of a given standard deviation."""
    noise = _variance(calibrated, torch.from_numpy(mean)[:, None], one_task(X, weight=weight))[:, 0].numpy()
    return np.asarray(np.sqrt(sd**2 + noise))


def _variance(calibrated: Calibrated, curves: Tensor, rows: Observations) -> Tensor:
    noise = calibrated.model.noise
    return noise.variance(curves, calibrated.population.log_sigma, noise.accuracy(rows))


def interval(
    calibrated: Calibrated,
    draws: Draws,
    X: NDArray[Any],
    level: float,
    of: str,
    weight: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper ends, of shape (rows,), that leave out equal probability on both sides.

    Constants drawn from the posterior go through the equation, so the ends respect whatever the equation respects; for
    an observation the noise around each drawn curve is added in closed form.
    """
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    # an equation whose rows see each other needs all of them at once
    size = BLOCK if calibrated.model.equation.mode == "rows" else len(X)
    blocks = [slice(first, first + size) for first in range(0, len(X), size)]
    ends = [
        _ends(calibrated, draws, X[block], tails, of, None if weight is None else weight[block]) for block in blocks
    ]
    low, high = torch.cat(ends, dim=1).numpy()
    return low, high


def _ends(
    calibrated: Calibrated, draws: Draws, X: NDArray[Any], tails: Tensor, of: str, weight: NDArray[Any] | None
) -> Tensor:
    rows = one_task(X, copies=draws.phi.shape[1], weight=weight)
    with torch.no_grad():
        curves = calibrated.model.curve(draws.phi, rows)
    if of == "curve":
        return weighted_quantile(curves, draws.weight, tails)
    sd = _variance(calibrated, curves, rows).sqrt()
    usable = torch.isfinite(curves) & torch.isfinite(sd)
    curves, sd = torch.where(usable, curves, 0.0), torch.where(usable, sd, 1.0)
    share = torch.where(usable, draws.weight, 0.0)
    share = (share / share.sum(dim=1, keepdim=True))[None]
    # Newton's method on the distribution function of the mixture of normals. Quantiles of the draws moved by nine
    # standard deviations of the noise bracket the end, however far the tails of the draws reach; halving the bracket
    # wherever a step would leave it gets there too
    low = weighted_quantile(torch.where(usable, curves - 9 * sd, torch.nan), draws.weight, tails)
    high = weighted_quantile(torch.where(usable, curves + 9 * sd, torch.nan), draws.weight, tails)
    ends = 0.5 * (low + high)
    for _ in range(NEWTON_STEPS):
        z = (ends[..., None] - curves) / sd
        error = (share * torch.special.ndtr(z)).sum(dim=-1) - tails[:, None]
        if bool((error.abs() < ACCURACY).all()):
            break
        density = (share * (-0.5 * z.square()).exp() / sd).sum(dim=-1) / (2 * torch.pi) ** 0.5
        low, high = torch.where(error < 0, ends, low), torch.where(error < 0, high, ends)
        step = ends - error / density
        ends = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    answer: Tensor = ends
    return answer
