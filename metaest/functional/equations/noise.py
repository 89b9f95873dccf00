r"""The noise of observations around a curve f: its variance v, and the density of an observation.

=============== ==================================================
additive        :math:`v = \sigma^2`
proportional    :math:`v = \sigma^2 (f^2 + \delta^2)`
combined        :math:`v = \sigma^2 + \rho^2 f^2`
combined1       :math:`v = (\sigma + \rho |f|)^2`
power           :math:`v = \tau^2 ((f^2 + \delta^2) / s^2)^p`
lognormal       :math:`v = \sigma^2` of :math:`\log y - \log f`
=============== ==================================================

Lognormal noise is additive noise on another scale, that of logarithms: residuals are differences there, slopes of the
curve are divided by it, and the density of y is that of its logarithm over y (the loss has :math:`\log y` more), so
that it compares with the density of other kinds. f is then the median of observations. Where f is not above zero, no
observation is possible.

In power noise :math:`\tau` is the standard deviation of a curve of the size :math:`s = 1000\,\delta`: about that of
the data, so that its estimate hardly depends on that of p. It is :math:`\sigma |f|^p` with
:math:`\sigma = \tau / s^p` (nlme's varPower; Pinheiro and Bates, 2000, :doi:`10.1007/b98882`); p = 0 is additive
noise and p = 1 proportional.

Where the accuracy of single observations is known, as a weight w and as a standard deviation s of the measurement, the
variance is :math:`v / w + s^2`. The small :math:`\delta` keeps a curve that passes through zero from having no noise
there at all. Observations are independent, unless the residuals of a task correlate
(:mod:`metaest.functional.equations.correlation`); `terms` are those of independent ones.

An observation below a limit of quantification L has the probability of lying there as its density,
:math:`\Phi((L - f) / \sqrt v)`, with logarithms of L and f for lognormal noise (method M3; Beal, 2001,
:doi:`10.1023/A:1012299115260`).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.correlation import Correlation
from metaest.functional.equations.equation import Observations

__all__ = ["MOST_POWER", "Accuracy", "Noise", "NoiseKind", "NoiseTerms"]

NoiseKind = Literal["additive", "proportional", "combined", "combined1", "power", "lognormal"]

# size of the curve at which power noise has its standard deviation, in units of delta
REFERENCE = 1000.0
# the power is kept between minus this and this
MOST_POWER = 5.0
# least curve of lognormal noise in a row below the limit, in units of the limit: the row is certain there
CERTAIN = 1e-100


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
    """A normal noise, of y or of its logarithm, whose variance may depend on the curve.

    Parameters
    ----------
    kind : {"additive", "proportional", "combined", "combined1", "power", "lognormal"}
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
        return 2 if self.kind in ("combined", "combined1") else 1

    @property
    def logarithmic(self) -> bool:
        """Whether the logarithms of observations are normal, and not the observations."""
        return self.kind == "lognormal"

    @property
    def homoscedastic(self) -> bool:
        """Whether the variance is the same along the curve, on the scale on which the noise is normal."""
        return self.kind in ("additive", "lognormal")

    @property
    def n_constants(self) -> int:
        """Number of noise constants."""
        return self.n_scales + (self.kind == "power") + (self.correlation is not None)

    @property
    def reference(self) -> float:
        """The size of the curve at which power noise has its standard deviation."""
        delta: Any = self.delta
        if isinstance(delta, Tensor):  # where rows are compiled
            at_floor: Any = torch.where(delta > 0, REFERENCE * delta, 1.0)
            return at_floor  # type: ignore[no-any-return]
        return REFERENCE * delta if delta > 0 else 1.0

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

    def simplest(self) -> "Noise":
        """Return the noise of one constant, the same along the curve, on the same scale and with the same limit."""
        return Noise("lognormal" if self.logarithmic else "additive", limit=self.limit)

    def on_scale(self, values: Tensor) -> Tensor:
        """Return curves or observations on the scale on which the noise is normal."""
        return values.clamp(min=0).log() if self.logarithmic else values

    def from_scale(self, values: Tensor) -> Tensor:
        """Return curves or observations in the unit of y, from the scale on which the noise is normal."""
        return values.exp() if self.logarithmic else values

    def slopes_on_scale(self, f: Tensor, slopes: Tensor) -> Tensor:
        """Return the derivatives of the curve `f` as those of its values on the scale of the noise."""
        return slopes / f if self.logarithmic else slopes

    def residual(self, f: Tensor, y: Tensor) -> Tensor:
        """Return observations less the curve on the scale of the noise; of one below the limit, the least it can be."""
        nearest = self.nearest(f, y)
        apart = self.on_scale(nearest) - self.on_scale(f)
        # of a curve at zero there is no logarithm
        return torch.where(nearest == f, 0.0, apart) if self.logarithmic and self.limit is not None else apart

    def loss_of_scale(self, y: Tensor) -> Tensor | float:
        """Return by how much the loss of observations in the unit of y is more than on the scale of the noise."""
        return y.log() if self.logarithmic else 0.0

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of residuals around a curve with values `f`, at the logarithms of the noise constants.

        That of observations, except for lognormal noise: there it is that of their logarithms.
        """
        square = (2 * log_sigma).exp()
        if self.homoscedastic:
            v = square[0].expand_as(f)
        elif self.kind == "proportional":
            v = square[0] * (f.square() + self.delta**2)
        elif self.kind == "power":
            v = (2 * log_sigma[0] + log_sigma[1] * ((f.square() + self.delta**2) / self.reference**2).log()).exp()
        elif self.kind == "combined":
            v = square[0] + square[1] * f.square()
        else:
            v = (log_sigma[0].exp() + log_sigma[1].exp() * f.abs()).square()
        return accuracy.scatter(v)

    def spread(self, f: Tensor, of_curve: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        r"""Return the variance of observations around curves of mean `f` and variance `of_curve`.

        The sum of that variance and the noise's. Lognormal noise is :math:`y = f e^\varepsilon`; with the variance v
        of :math:`\varepsilon` it is exactly :math:`f^2 e^v (e^v - 1) + s^2 e^{2v}` for a curve of variance
        :math:`s^2`.
        """
        v = self.variance(f, log_sigma, accuracy)
        if not self.logarithmic:
            return of_curve + v
        return f.square() * v.exp() * v.expm1() + of_curve * (2 * v).exp()

    def observed(self, f: Tensor, residual: Tensor) -> Tensor:
        """Return the observations of curves `f` that have these residuals on the scale of the noise."""
        if not self.logarithmic:
            return f + residual
        return torch.where(f < 0, torch.nan, f * residual.exp())

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
        if self.logarithmic:
            return self._lognormal(f, y, log_sigma, accuracy)
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
        if self.homoscedastic:
            return torch.zeros_like(f)
        if self.kind == "power":
            growth = 2 * log_sigma[1] * f / (f.square() + self.delta**2) * self.variance(f, log_sigma)
        elif self.kind == "combined1":
            share = log_sigma[1].exp()
            growth = 2 * (log_sigma[0].exp() + share * f.abs()) * share * f.sign()
        else:
            growth = 2 * (2 * log_sigma[self.n_scales - 1]).exp() * f
        return growth if accuracy.weight is None else growth / accuracy.weight

    def nearest(self, f: Tensor, y: Tensor) -> Tensor:
        """Return observations; where one lies below the limit, the value below it that comes nearest to f."""
        return y if self.limit is None else torch.where(y < self.limit, f.clamp(max=self.limit), y)

    def log_scale(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the logarithm of the normal density's constant of every observation; 0 below the limit."""
        constant = 0.5 * (2 * torch.pi * self.variance(f, log_sigma, accuracy)).log() + self.loss_of_scale(y)
        return constant if self.limit is None else torch.where(y < self.limit, 0.0, constant)

    def _lognormal(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy) -> NoiseTerms:
        """Return the terms of additive noise of logarithms, as those of observations in the unit of y."""
        if self.limit is None:
            loss, slope, weight = replace(self, kind="additive").terms(self.on_scale(f), y.log(), log_sigma, accuracy)
            return NoiseTerms(loss + y.log(), slope / f, weight / f.square())
        below, limit = y < self.limit, math.log(self.limit)
        # a curve of zero has its observations below the limit for certain, and no logarithm
        f = torch.where(below, f.clamp(min=CERTAIN * self.limit), f)
        # which rows are below it is not for the rounding of logarithms to say
        log_y = torch.where(below, limit - 1, y.log().clamp(min=limit))
        of_logarithms = replace(self, kind="additive", limit=limit)
        loss, slope, weight = of_logarithms.terms(self.on_scale(f), log_y, log_sigma, accuracy)
        return NoiseTerms(torch.where(below, loss, loss + log_y), slope / f, weight / f.square())

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
