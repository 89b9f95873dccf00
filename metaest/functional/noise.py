r"""What scatters a task's observations around its curve f.

=============== ==================================================
additive        :math:`v = \sigma^2`
proportional    :math:`v = \sigma^2 (f^2 + \delta^2)`
combined        :math:`v = \sigma^2 + \rho^2 f^2`
=============== ==================================================

The small :math:`\delta` keeps a curve that passes through zero from having no noise there at all.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Noise", "NoiseKind", "NoiseTerms"]

NoiseKind = Literal["additive", "proportional", "combined"]


class NoiseTerms(NamedTuple):
    """Loss of every observation, and its first derivative and expected second derivative in the curve.

    The weight of additive noise is one number.
    """

    loss: Tensor
    slope: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Noise:
    """A normal noise whose variance may depend on the curve.

    Parameters
    ----------
    kind : {"additive", "proportional", "combined"}
    delta : float
        Smallest size of the curve in the proportional part of the noise, in the units of y.
    """

    kind: NoiseKind = "additive"
    delta: float = 0.0

    @property
    def n_constants(self) -> int:
        """Number of noise constants."""
        return 2 if self.kind == "combined" else 1

    def variance(self, f: Tensor, log_sigma: Tensor) -> Tensor:
        """Variance of observations of a curve with values `f`; `log_sigma` holds the logarithms of the constants."""
        square = (2 * log_sigma).exp()
        if self.kind == "additive":
            return square[0].expand_as(f)
        if self.kind == "proportional":
            return square[0] * (f.square() + self.delta**2)
        return square[0] + square[1] * f.square()

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor) -> NoiseTerms:
        r"""Negative log-density of every observation, :math:`\tfrac12 (y - f)^2 / v + \tfrac12 \log 2 \pi v`.

        The weight is the expected second derivative in f, :math:`1/v + \tfrac12 (v'/v)^2`, which is never negative.

        Parameters
        ----------
        f, y : Tensor of one shape
        log_sigma : Tensor of shape (n_constants,)

        Returns
        -------
        NoiseTerms
        """
        residual = y - f
        if self.kind == "additive":
            precision = (-2 * log_sigma[0]).exp()
            loss = 0.5 * precision * residual.square() + (log_sigma[0] + HALF_LOG_2PI)
            return NoiseTerms(loss, -precision * residual, precision)
        v = self.variance(f, log_sigma)
        relative = 2 * (2 * log_sigma[-1]).exp() * f / v  # v' / v
        standard = residual.square() / v
        loss = 0.5 * standard + 0.5 * v.log() + HALF_LOG_2PI
        slope = -residual / v + 0.5 * relative * (1 - standard)
        return NoiseTerms(loss, slope, 1 / v + 0.5 * relative.square())


HALF_LOG_2PI = 0.5 * float(torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64)))
