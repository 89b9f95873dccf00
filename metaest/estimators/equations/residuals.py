r"""The test of independent residuals that follows every fit.

It compares products of residuals that follow one another in a task, in the order of time, with what independent
rows would give. A fitted curve follows its rows, so that residuals of independent rows are negatively correlated: with
the standardised slopes D of a task and the covariance C of its constants, their covariance is
:math:`Q = I - D C D^\top` (exactly so in a linear mixed model; Robinson, 1991, :doi:`10.1214/ss/1177011926`). With A
the matrix of neighbours, half a one beside the diagonal, the sum :math:`e^\top A e` has then the mean
:math:`\operatorname{tr} A Q` and the variance :math:`2 \operatorname{tr} A Q A Q`; the sums over tasks give a z value.
It is the numerator of the statistic of Durbin and Watson (1950, :doi:`10.1093/biomet/37.3-4.409`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.exceptions import CorrelatedResidualsWarning, warn
from metaest.functional import Correlation, Observations
from metaest.functional.equations.correlation import Lags

__all__ = ["LagOne", "residual_correlation", "warn_of_correlation"]

# z value from which rows are not independent: five in 100,000 fits by chance, were it normal
SIGNIFICANT = 3.9
# lag-1 correlation from which standard errors are off by more than a tenth: sqrt((1 + r) / (1 - r)) = 1.106
MATTERS = 0.1
# distance from the longest correlation time, as a share of it, from which the fitted one has run there
AT_END = 1e-3
# rows that the test looks at, at most
TESTED_ROWS = 200_000


class LagOne(NamedTuple):
    """The correlation of residuals that follow one another.

    Attributes
    ----------
    value, error : float
        The correlation, and its standard error were the rows independent.
    """

    value: float
    error: float


def residual_correlation(
    fitted: FittedEquation, posterior: Posterior, observations: Observations, time: int | None
) -> LagOne | None:
    """Return the lag-1 correlation of the residuals of a fit within tasks, corrected for the constants fitted.

    Parameters
    ----------
    fitted : FittedEquation
    posterior : Posterior
        Of all tasks.
    observations : Observations
        All rows.
    time : int or None
        The column of times; None: rows stand in their order.

    Returns
    -------
    LagOne or None
        With a correlation in the model, of what it leaves; None where no two rows follow one another.
    """
    tasks = observations.y.shape[1]
    some = evenly(tasks, max(1, int(tasks * TESTED_ROWS / observations.y.numel())))
    observations, posterior = observations.take(some), posterior.take(some)
    noise, log_sigma = fitted.model.noise, fitted.population.log_sigma
    with torch.no_grad():
        values, slopes = fitted.model.curve_and_slopes(posterior.phi, observations)
        sd = noise.variance(values, log_sigma, noise.accuracy(observations)).sqrt()
        output = noise.accuracy(observations).output
        if noise.correlation is None:
            order = None if time is None else Correlation("car1", time).order(observations)
            if output is not None:  # rows of one output follow one another
                start = torch.arange(len(output))[:, None].expand(output.shape) if order is None else order
                first = torch.where(observations.mask > 0, output, torch.inf).gather(0, start)
                order = start.gather(0, first.argsort(dim=0, stable=True))
            unlike = Lags(order, torch.zeros_like(sd[1:]), torch.ones_like(sd[1:]))
        else:
            unlike = noise.correlation.lags(observations, log_sigma[-1])

        def made_independent(values: Tensor) -> Tensor:
            return unlike.whitened(unlike.arranged(torch.nan_to_num(observations.masked(values / sd))))

        e = made_independent(noise.on_scale(observations.y) - noise.on_scale(values))
        D = torch.stack([made_independent(slope) for slope in noise.slopes_on_scale(values, slopes)])
        counted = unlike.arranged(observations.mask) > 0
        if noise.bounds.censors:
            below, above = noise.censored(observations.y, noise.accuracy(observations))
            counted = counted & ~unlike.arranged(below | above)
        pairs = (counted[1:] & counted[:-1]).double()
        if output is not None:
            of_rows = unlike.arranged(output)
            pairs = pairs * (of_rows[1:] == of_rows[:-1])
        n = float(pairs.sum())
        if n == 0:
            return None
        root = _roots(posterior.covariance)
        B = torch.einsum("krt,kmt->mrt", D, root)  # Q = I - B B'
        # A B, and with it the traces
        half = 0.5 * pairs * B[:, 1:], 0.5 * pairs * B[:, :-1]
        AB = torch.cat([half[0], torch.zeros_like(B[:, :1])], dim=1)
        AB[:, 1:] += half[1]
        inner = torch.einsum("mrt,nrt->mnt", B, AB)
        mean = -inner.diagonal().sum()
        variance = 2 * (0.5 * n - 2 * AB.square().sum() + inner.square().sum())
        # the noise is fitted as well: residuals in units in which their squares are what they should be
        left = (counted * (1 - B.square().sum(dim=0))).sum()
        unit = left / (counted * e.square()).sum()
        total = (pairs * e[1:] * e[:-1]).sum() * unit - mean
        if not bool(torch.isfinite(total)) or not float(variance) > 0 or not float(left) > 0:
            return None
    return LagOne(float(total) / n, float(variance.sqrt()) / n)


def _roots(covariance: Tensor) -> Tensor:
    """Return R with R R' the covariance of the constants of each task, of shape (p, p, tasks)."""
    moved = torch.nan_to_num(covariance.permute(2, 0, 1))
    sd = moved.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    unit = torch.where(sd > 0, sd, 1.0)
    values, vectors = torch.linalg.eigh(moved / unit[:, :, None] / unit[:, None])
    roots: Tensor = sd[:, :, None] * vectors * values.clamp(min=0).sqrt()[:, None]
    return roots.permute(1, 2, 0)


def warn_of_correlation(
    fitted: FittedEquation, posterior: Posterior, observations: Observations, time: int | None, *, updated: bool = False
) -> None:
    """Warn after a fit of residuals that correlate within tasks, and of a correlation that nothing limits.

    `updated` tells whether it was a published population that was updated.
    """
    if fitted.by_gradient_steps or not fitted.model.noise.normal:  # these end short of the best curve
        return
    correlation = fitted.model.noise.correlation
    lag = residual_correlation(fitted, posterior, observations, time)
    if lag is not None and lag.value > max(MATTERS, SIGNIFICANT * lag.error):
        by_rows = time is None if correlation is None else correlation.column is None
        how = "in the order of the rows" if by_rows else "in the order of time"
        if updated:
            remedy = (
                "a published population has independent rows: a fit of the tasks without it (prior=None) can learn the "
                "correlation, by noise_correlation='car1' (by times) or 'ar1' (by the order of rows)."
            )
        elif correlation is None:
            remedy = (
                "noise_correlation='car1' (by times) or 'ar1' (by the order of rows) learns the correlation; where "
                "the curve lies beside the rows for long stretches, mend the equation instead."
            )
        else:
            remedy = (
                f"what noise_correlation={correlation.kind!r} does not explain; the equation may miss the shape of "
                "the rows."
            )
        warn(
            f"fit: residuals that follow one another in a task are correlated ({how}; lag-1 correlation "
            f"{lag.value:.2f}, standard error {lag.error:.2g}): measurements are not independent, the equation does "
            "not have the shape of the data, or constants that are taken as shared vary between tasks. Standard errors "
            f"and intervals are too narrow then; {remedy}",
            CorrelatedResidualsWarning,
        )
    if correlation is not None and correlation.kind == "car1":
        tau = float(correlation.constant(fitted.population.log_sigma[-1]))
        if tau > (1 - AT_END) * correlation.longest:
            warn(
                f"fit: the correlation time of the residuals has run to its bound ({tau:.3g}, a hundred times the "
                "longest task): they are not told from shifts of whole tasks, and the noise has grown with it. Let a "
                "constant that shifts the curve vary between tasks, or mend the equation.",
                CorrelatedResidualsWarning,
            )
