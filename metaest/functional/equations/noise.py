r"""The noise of observations around a curve f: its variance v, and the density of an observation.

=============== ==================================================
additive        :math:`v = \sigma^2`
proportional    :math:`v = \sigma^2 (f^2 + \delta^2)`
combined        :math:`v = \sigma^2 + \rho^2 f^2`
=============== ==================================================

Where the accuracy of single observations is known, as a weight w and as a standard deviation s of the measurement, the
variance is :math:`v / w + s^2`. The small :math:`\delta` keeps a curve that passes through zero from having no noise
there at all. Observations are independent, unless the residuals of a task correlate
(:mod:`metaest.functional.equations.correlation`); `terms` are those of independent ones.

An observation below a limit of quantification L has the probability of lying there as its density,
:math:`\Phi((L - f) / \sqrt v)` (method M3; Beal, 2001, :doi:`10.1023/A:1012299115260`).
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.correlation import Correlation
from metaest.functional.equations.equation import Observations

__all__ = ["Accuracy", "Noise", "NoiseKind", "NoiseTerms"]

NoiseKind = Literal["additive", "proportional", "combined"]


class NoiseTerms(NamedTuple):
    """Loss of every observation, and its first derivative and expected second derivative in the curve.

    The weight of additive noise is one number, unless the accuracy of observations differs.
    """

    loss: Tensor
    slope: Tensor
    weight: Tensor


class Accuracy(NamedTuple):
    """The accuracy of single observations, where it differs between them.

    Attributes
    ----------
    weight : Tensor of shape (rows, tasks) or None
        Divisor of the variance of the noise; None where all observations are alike.
    variance : Tensor of shape (rows, tasks) or None
        Variance of the measurement, which is added; None where there is none.
    """

    weight: Tensor | None = None
    variance: Tensor | None = None

    @property
    def alike(self) -> bool:
        """Tell whether all observations are equally accurate."""
        return self.weight is None and self.variance is None

    def scatter(self, v: Tensor) -> Tensor:
        """Return the variance of observations whose noise has the variance v."""
        v = v if self.weight is None else v / self.weight
        return v if self.variance is None else v + self.variance


ALIKE = Accuracy()


@dataclass(frozen=True)
class Noise:
    """A normal noise whose variance may depend on the curve.

    Parameters
    ----------
    kind : {"additive", "proportional", "combined"}
    delta : float
        For "proportional" alone, in the unit of y: the standard deviation is that of a curve of size
        sqrt(f^2 + delta^2), so that it stays above 0 where the curve f is 0.
    limit : float or None
        Limit of quantification: an observation below it counts only as being below the limit.
    column : int or None
        The column of X with the standard deviation of each measurement.
    correlation : Correlation or None
        The correlation of the residuals of a task; its constant z follows the logarithms of the standard deviations.
    """

    kind: NoiseKind = "additive"
    delta: float = 0.0
    limit: float | None = None
    column: int | None = None
    correlation: Correlation | None = None

    @property
    def n_scales(self) -> int:
        """Number of standard deviations among the noise constants."""
        return 2 if self.kind == "combined" else 1

    @property
    def n_constants(self) -> int:
        """Number of noise constants."""
        return self.n_scales + (self.correlation is not None)

    def scaled(self, log_sigma: Tensor, by: Tensor | float) -> Tensor:
        """Return noise constants whose standard deviations are greater by a factor with the logarithm `by`."""
        if self.correlation is None:
            return log_sigma + by
        return torch.cat([log_sigma[:-1] + by, log_sigma[-1:]])

    def accuracy(self, observations: Observations) -> Accuracy:
        """Return the accuracy of the rows, from their weights and the column of standard deviations."""
        if self.column is None:
            return ALIKE if observations.weight is None else Accuracy(observations.weight)
        sd = observations.X[:, self.column].reshape(observations.y.shape)
        return Accuracy(observations.weight, sd.square())

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of observations of a curve with values `f`, at the logarithms of the noise constants."""
        square = (2 * log_sigma).exp()
        if self.kind == "additive":
            v = square[0].expand_as(f)
        elif self.kind == "proportional":
            v = square[0] * (f.square() + self.delta**2)
        else:
            v = square[0] + square[1] * f.square()
        return accuracy.scatter(v)

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        r"""Return each observation's negative log-density, :math:`\tfrac12 (y - f)^2 / v + \tfrac12 \log 2 \pi v`.

        The weight is the expected second derivative in f, :math:`1/v + \tfrac12 (v'/v)^2`, which is never negative.

        Parameters
        ----------
        f, y : Tensor of one shape
        log_sigma : Tensor of shape (n_constants,)
        accuracy : Accuracy

        Returns
        -------
        NoiseTerms
        """
        if self.limit is not None:
            return self._censored(f, y, log_sigma, accuracy, self.limit)
        residual = y - f
        if self.kind == "additive" and accuracy.alike:
            precision = (-2 * log_sigma[0]).exp()
            loss = 0.5 * precision * residual.square() + (log_sigma[0] + HALF_LOG_2PI)
            return NoiseTerms(loss, -precision * residual, precision)
        v = self.variance(f, log_sigma, accuracy)
        relative = self.growth(f, log_sigma, accuracy) / v
        standard = residual.square() / v
        loss = 0.5 * standard + 0.5 * v.log() + HALF_LOG_2PI
        slope = -residual / v + 0.5 * relative * (1 - standard)
        return NoiseTerms(loss, slope, 1 / v + 0.5 * relative.square())

    def growth(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the derivative of the variance in the curve."""
        if self.kind == "additive":
            return torch.zeros_like(f)
        growth = 2 * (2 * log_sigma[self.n_scales - 1]).exp() * f
        return growth if accuracy.weight is None else growth / accuracy.weight

    def nearest(self, f: Tensor, y: Tensor) -> Tensor:
        """Return observations; where one lies below the limit, the value below it that comes nearest to f."""
        return y if self.limit is None else torch.where(y < self.limit, f.clamp(max=self.limit), y)

    def log_scale(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the logarithm of the normal density's constant of every observation; 0 below the limit."""
        constant = 0.5 * (2 * torch.pi * self.variance(f, log_sigma, accuracy)).log()
        return constant if self.limit is None else torch.where(y < self.limit, 0.0, constant)

    def _censored(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy, limit: float) -> NoiseTerms:
        """Return the terms of observations; one below the limit has the probability of lying there for a likelihood."""
        seen = replace(self, limit=None).terms(f, y, log_sigma, accuracy)
        v = self.variance(f, log_sigma, accuracy)
        growth = self.growth(f, log_sigma, accuracy)
        z = (limit - f) / v.sqrt()
        along = -1 / v.sqrt() - 0.5 * z * growth / v  # dz / df
        loss = -torch.special.log_ndtr(z)
        # of the standard normal: density over distribution function, without overflow in its tail
        ratio = (-0.5 * z.square() - HALF_LOG_2PI + loss).exp()
        below = y < limit
        return NoiseTerms(
            torch.where(below, loss, seen.loss),
            torch.where(below, -ratio * along, seen.slope),
            # never negative: log-concave
            torch.where(below, (ratio * (ratio + z)).clamp(min=0) * along.square(), seen.weight.expand_as(f)),
        )


HALF_LOG_2PI = 0.5 * float(torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64)))
