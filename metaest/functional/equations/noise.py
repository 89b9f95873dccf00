r"""The noise of observations around a curve f: its variance v, and the density of an observation.

=============== ==================================================
additive        :math:`v = \sigma^2`
proportional    :math:`v = \sigma^2 (f^2 + \delta^2)`
combined        :math:`v = \sigma^2 + \rho^2 f^2`
power           :math:`v = \tau^2 ((f^2 + \delta^2) / s^2)^p`
=============== ==================================================

In power noise :math:`\tau` is the standard deviation of a curve of the size :math:`s = 1000\,\delta`: about that of
the data, so that its estimate hardly depends on that of p. It is :math:`\sigma |f|^p` with
:math:`\sigma = \tau / s^p` (nlme's varPower; Pinheiro and Bates, 2000, :doi:`10.1007/b98882`); p = 0 is additive
noise and p = 1 proportional.

Where the accuracy of single observations is known, as a weight w and as a standard deviation s of the measurement, the
variance is :math:`v / w + s^2`. The small :math:`\delta` keeps a curve that passes through zero from having no noise
there at all. Observations are independent, unless the residuals of a task correlate
(:mod:`metaest.functional.equations.correlation`); `terms` are those of independent ones.

An observation below a limit of quantification L has the probability of lying there as its density,
:math:`\Phi((L - f) / \sqrt v)` (method M3; Beal, 2001, :doi:`10.1023/A:1012299115260`).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.correlation import Correlation
from metaest.functional.equations.equation import Observations

__all__ = ["MOST_POWER", "Accuracy", "Noise", "NoiseKind", "NoiseTerms"]

NoiseKind = Literal["additive", "proportional", "combined", "power"]

# size of the curve at which power noise has its standard deviation, in units of delta
REFERENCE = 1000.0
# the power is kept between minus this and this
MOST_POWER = 5.0


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
    kind : {"additive", "proportional", "combined", "power"}
    delta : float
        For "proportional" and "power", in the unit of y: the standard deviation is that of a curve of size
        sqrt(f^2 + delta^2), so that it stays above 0 where the curve f is 0. Where it is 0, the first constant of power
        noise is that of a curve of size 1.
    limit : float or None
        Limit of quantification: an observation below it counts only as being below the limit.
    column : int or None
        The column of X with the standard deviation of each measurement.
    correlation : Correlation or None
        The correlation of the residuals of a task; its constant z follows those of the noise.

    The constants are the logarithms of the standard deviations, then the power of power noise, then z.
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
        return self.n_scales + (self.kind == "power") + (self.correlation is not None)

    @property
    def reference(self) -> float:
        """The size of the curve at which power noise has its standard deviation."""
        delta: Any = self.delta  # a tensor where rows are compiled
        return REFERENCE * delta if isinstance(delta, Tensor) or delta > 0 else 1.0

    @property
    def largest(self) -> list[float]:
        """Upper bounds of the noise constants."""
        power = [MOST_POWER] if self.kind == "power" else []
        return [math.inf] * self.n_scales + power + ([] if self.correlation is None else [self.correlation.bounds[1]])

    def scaled(self, log_sigma: Tensor, by: Tensor | float) -> Tensor:
        """Return noise constants whose standard deviations are greater by a factor with the logarithm `by`."""
        if self.n_constants == self.n_scales:
            return log_sigma + by
        return torch.cat([log_sigma[: self.n_scales] + by, log_sigma[self.n_scales :]])

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
        elif self.kind == "power":
            v = (2 * log_sigma[0] + log_sigma[1] * ((f.square() + self.delta**2) / self.reference**2).log()).exp()
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
        if self.kind == "power":
            growth = 2 * log_sigma[1] * f / (f.square() + self.delta**2) * self.variance(f, log_sigma)
            return growth if accuracy.weight is None else growth / accuracy.weight
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
