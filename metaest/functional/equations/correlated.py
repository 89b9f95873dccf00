r"""The likelihood of rows whose residuals correlate: loss, gradient and expected second derivative in the constants.

With the standardised residuals s = (y - f) / sd (of logarithms for lognormal noise, with the slopes of the logarithm of
the curve), the matrix L that makes them independent (``Lags.whitened``) and the
correlation matrix R, the loss of a task is

.. math:: \tfrac12 \lVert L s \rVert^2 + \tfrac12 \sum_i \log 2 \pi v_i + \tfrac12 \log \det R.

With the slopes d of the curve and :math:`e = \tfrac12 d\, v'/v`, by which the noise grows along with the curve, the
Fisher information of two constants k and l is

.. math:: \sum_i (L d_k / \mathrm{sd})_i (L d_l / \mathrm{sd})_i + 2 \sum_i e_{ki} e_{li}
          + \sum_i \frac{\rho_i^2}{1 - \rho_i^2} (e_{ki} - e_{k,i-1}) (e_{li} - e_{l,i-1}),

since :math:`R^{-1}` is tridiagonal: a sum of squares, so that it is never negative, and one pass over the rows. Without
correlation it is that of independent rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.censoring import HALF_LOG_2PI
from metaest.functional.equations.correlation import Lags
from metaest.functional.equations.equation import Observations
from metaest.functional.equations.noise import Accuracy, Noise

__all__ = ["correlated_information", "correlated_loss", "log_roots", "whitened_residuals"]

# number of products of slopes up to which one operation forms them all
FEW = 2**14


class _Rows(NamedTuple):
    """The rows of tasks in the order of time, beside their curves."""

    lags: Lags
    # without padding
    full: bool
    mask: Tensor
    curve: Tensor
    sd: Tensor
    # derivative of the variance in the curve, over the variance; None where the noise does not grow with the curve
    growth: Tensor | None
    # zero for padding
    residual: Tensor
    # of observations, by the scale on which the noise is normal
    loss_of_scale: Tensor | float

    @classmethod
    def of(cls, noise: Noise, f: Tensor, log_sigma: Tensor, observations: Observations) -> "_Rows":
        assert noise.correlation is not None
        lags = noise.correlation.lags(observations, log_sigma[-1])
        f, y, mask = (lags.arranged(values) for values in (f, observations.y, observations.mask))
        weight, variance, *_ = noise.accuracy(observations)
        accuracy = Accuracy(*(None if part is None else lags.arranged(part) for part in (weight, variance)))
        v = noise.variance(f, log_sigma, accuracy)
        sd = v.sqrt()
        growth = None if noise.homoscedastic else noise.growth(f, log_sigma, accuracy) / v
        residual = noise.residual(f, y) / sd
        if not observations.full:
            residual = torch.where(mask > 0, residual, 0.0)
        return cls(lags, observations.full, mask, f, sd, growth, residual, noise.loss_of_scale(y))

    def masked(self, values: Tensor) -> Tensor:
        return values if self.full else torch.where(self.mask > 0, values, 0.0)

    def loss(self, white: Tensor) -> Tensor:
        row_losses = 0.5 * white.square() + self.masked(self.sd.log() + HALF_LOG_2PI + self.loss_of_scale)
        return row_losses.sum(dim=0) + self.lags.log_determinant()


def correlated_loss(noise: Noise, f: Tensor, log_sigma: Tensor, observations: Observations) -> Tensor:
    """Return the negative log-likelihood of each task, of shape (tasks,), at curves of shape (rows, tasks)."""
    rows = _Rows.of(noise, f, log_sigma, observations)
    return rows.loss(rows.lags.whitened(rows.residual))


def whitened_residuals(noise: Noise, f: Tensor, log_sigma: Tensor, observations: Observations) -> Tensor:
    """Return independent residuals of unit variance, (rows, tasks), in the order of time; zeros for the padding."""
    rows = _Rows.of(noise, f, log_sigma, observations)
    return rows.lags.whitened(rows.residual)


def log_roots(noise: Noise, log_sigma: Tensor, observations: Observations) -> Tensor | float:
    """Return what correlation adds to the logarithm of the constant of the density of each task; 0 without it."""
    if noise.correlation is None:
        return 0.0
    return noise.correlation.lags(observations, log_sigma[-1]).log_determinant()


def correlated_information(
    noise: Noise, f: Tensor, slopes: list[Tensor], log_sigma: Tensor, observations: Observations
) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, gradient and expected second derivative of each task in the constants.

    Parameters
    ----------
    noise : Noise
        With a correlation.
    f : Tensor of shape (rows, tasks)
        The curves.
    slopes : list of Tensor of shape (rows, tasks)
        Their derivatives in each constant.
    log_sigma : Tensor of shape (noise constants,)
    observations : Observations

    Returns
    -------
    loss : Tensor of shape (tasks,)
    gradient : Tensor of shape (constants, tasks)
    matrix : Tensor of shape (constants, constants, tasks)
    """
    rows = _Rows.of(noise, f, log_sigma, observations)
    lags = rows.lags
    white = lags.whitened(rows.residual)
    D = [rows.masked(noise.slopes_on_scale(rows.curve, lags.arranged(slope))) for slope in slopes]
    pulled = lags.pulled_back(white)
    if rows.growth is None:
        first = -pulled / rows.sd
    else:
        first = -(1 / rows.sd + 0.5 * rows.residual * rows.growth) * pulled + 0.5 * rows.growth
    first = rows.masked(first)
    gradient = torch.stack([(first * d).sum(dim=0) for d in D])
    blocks = [lags.whitened(rows.masked(d / rows.sd)) for d in D]
    if rows.growth is not None:
        grown = [rows.masked(0.5 * rows.growth * d) for d in D]
        ratio = lags.rho / lags.root
        blocks = [
            torch.cat([block, 2**0.5 * e, ratio * (e[1:] - e[:-1])]) for block, e in zip(blocks, grown, strict=True)
        ]
    return rows.loss(white), gradient, _products(blocks)


def _products(blocks: list[Tensor]) -> Tensor:
    """Return sums over rows of the products of all pairs, of shape (constants, constants, tasks)."""
    p = len(blocks)
    if p * p * blocks[0].numel() <= FEW:
        stacked = torch.stack(blocks)
        return (stacked[:, None] * stacked).sum(dim=2)
    table: list[list[Tensor]] = []
    for k in range(p):
        table.append([table[j][k] if j < k else (blocks[k] * blocks[j]).sum(dim=0) for j in range(p)])
    return torch.stack([entry for row in table for entry in row]).reshape(p, p, -1)
