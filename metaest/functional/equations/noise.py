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
:doi:`10.1023/A:1012299115260`); so has one above an upper limit, or between two numbers
(:mod:`metaest.functional.equations.censoring`). Limits may differ between rows.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.censoring import HALF_LOG_2PI, NARROW, Bound, Bounds, between, beyond
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
    """The accuracy of single observations, and what they are known to lie between, where that differs between them.

    Attributes
    ----------
    weight : Tensor of shape (rows, tasks) or None
        Divisor of the variance of the noise; None where all observations are alike.
    variance : Tensor of shape (rows, tasks) or None
        Variance of the measurement, which is added; None where there is none.
    bounds : Bounds or None
        The limits of each row, Tensors of shape (rows, tasks); None where they are the same in all rows.
    output : Tensor of shape (rows, tasks) or None
        The number of the output of each row, where there are several.
    """

    weight: Tensor | None = None
    variance: Tensor | None = None
    bounds: Any = None
    output: Tensor | None = None

    @property
    def alike(self) -> bool:
        """Tell whether all observations are equally accurate."""
        return self.weight is None and self.variance is None and self.output is None

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
    limit : float, Column or None
        Limit of quantification: an observation below it counts only as being below the limit.
    column : int or None
        The column of X with the standard deviation of each measurement.
    correlation : Correlation or None
        The correlation of the residuals of a task; its constant z follows those of the noise.
    limit_from : float, Column or None
        What an observation below the limit is known not to lie below.
    upper_limit : float, Column or None
        An observation above it counts only as being above it.

    The constants are the logarithms of the standard deviations, then the power of power noise, then z.
    """

    kind: NoiseKind = "additive"
    delta: float = 0.0
    limit: Bound = None
    column: int | None = None
    correlation: Correlation | None = None
    limit_from: Bound = None
    upper_limit: Bound = None

    @property
    def bounds(self) -> Bounds:
        """What is known by an interval."""
        return Bounds(self.limit, self.limit_from, self.upper_limit)

    @property
    def normal(self) -> bool:
        """Whether observations, or their logarithms, are normal around the curve; see `outcomes` for others."""
        return True

    @property
    def n_scales(self) -> int:
        """Number of standard deviations among the noise constants."""
        return 2 if self.kind in ("combined", "combined1") else 1

    @property
    def scale_places(self) -> list[int]:
        """Which of the noise constants are standard deviations."""
        return list(range(self.n_scales))

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

    def each(self, log_sigma: Tensor) -> Iterable[tuple[Any, "Noise", Tensor]]:
        """Return label, noise and noise constants of each output; None and this one where there is one output."""
        return [(None, self, log_sigma)]

    def units(self, accuracy: "Accuracy") -> Tensor | float:
        """Return by how much the residuals of each row are multiplied to compare them: those of several outputs."""
        return 1.0

    def scaled(self, log_sigma: Tensor, by: Tensor | float) -> Tensor:
        """Return noise constants whose standard deviations are greater by a factor with the logarithm `by`."""
        if self.n_constants == self.n_scales:
            return log_sigma + by
        return torch.cat([log_sigma[: self.n_scales] + by, log_sigma[self.n_scales :]])

    def evaluated_at(self, observations: Observations) -> Observations:
        """Return the rows at which the equation is evaluated for the likelihood: the given ones."""
        return observations

    def predicted(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return what is predicted of observations around a curve with values `f`: the curve."""
        return f

    def accuracy(self, observations: Observations) -> Accuracy:
        """Return the accuracy of the rows, from their weights and the column of standard deviations; their limits."""
        shape, bounds = observations.y.shape, self.bounds
        ends = bounds.of_rows(observations.X, shape) if bounds.by_column else None
        if self.column is None:
            return ALIKE if observations.weight is None and ends is None else Accuracy(observations.weight, bounds=ends)
        return Accuracy(observations.weight, observations.X[:, self.column].reshape(shape).square(), ends)

    def simplest(self) -> "Noise":
        """Return the noise of one constant, the same along the curve, on the same scale and with the same limits."""
        kind: NoiseKind = "lognormal" if self.logarithmic else "additive"
        return Noise(kind, limit=self.limit, limit_from=self.limit_from, upper_limit=self.upper_limit)

    def ends(self, accuracy: Accuracy) -> Any:
        """Return the limits of rows: numbers of all of them, or Tensors."""
        return self.bounds if accuracy.bounds is None else accuracy.bounds

    def censored(self, y: Tensor, accuracy: Accuracy = ALIKE) -> tuple[Tensor, Tensor]:
        """Return which observations lie below a limit, and which above an upper one."""
        limit, _, upper = self.ends(accuracy)
        no = torch.zeros_like(y, dtype=torch.bool)
        return (no if limit is None else y < limit), (no if upper is None else y > upper)

    def on_scale(self, values: Tensor) -> Tensor:
        """Return curves or observations on the scale on which the noise is normal."""
        return values.clamp(min=0).log() if self.logarithmic else values

    def from_scale(self, values: Tensor) -> Tensor:
        """Return curves or observations in the unit of y, from the scale on which the noise is normal."""
        return values.exp() if self.logarithmic else values

    def slopes_on_scale(self, f: Tensor, slopes: Tensor) -> Tensor:
        """Return the derivatives of the curve `f` as those of its values on the scale of the noise."""
        return slopes / f if self.logarithmic else slopes

    def residual(self, f: Tensor, y: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return observations less the curve on the scale of the noise; of one beyond a limit, the least it can be."""
        nearest = self.nearest(f, y, accuracy)
        apart = self.on_scale(nearest) - self.on_scale(f)
        # of a curve at zero there is no logarithm
        return torch.where(nearest == f, 0.0, apart) if self.logarithmic and self.bounds.censors else apart

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
        if self.bounds.censors:
            return self._censored(f, y, log_sigma, accuracy)
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

    def nearest(self, f: Tensor, y: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return observations; where one lies beyond a limit, the value there that comes nearest to f."""
        limit, start, upper = self.ends(accuracy)
        if limit is not None:
            below = f.clamp(max=limit) if start is None else f.clamp(max=limit).clamp(min=start)
            y = torch.where(y < limit, below, y)
        return y if upper is None else torch.where(y > upper, f.clamp(min=upper), y)

    def log_scale(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the logarithm of the constant of every observation's density, the least its loss can be.

        It is 0 beyond a limit, and that of the probability of an interval in the middle of the noise.
        """
        v = self.variance(f, log_sigma, accuracy)
        constant = 0.5 * (2 * torch.pi * v).log() + self.loss_of_scale(y)
        if not self.bounds.censors:
            return constant
        below, above = self.censored(y, accuracy)
        constant = torch.where(below | above, 0.0, constant)
        limit, start, _ = self.ends(accuracy)
        if limit is None or start is None:
            return constant
        width = self._interval(limit, start)
        share = torch.erf(width / (8 * v).sqrt())
        inside = torch.where(share > NARROW, -share.log(), 0.5 * (2 * torch.pi * v).log() - width.log())
        return torch.where(below, inside, constant)

    def _interval(self, limit: Any, start: Any) -> Tensor:
        """Return the width of intervals on the scale of the noise."""
        low, high = (self.on_scale(torch.as_tensor(end, dtype=torch.float64)) for end in (start, limit))
        return high - low

    def _lognormal(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy) -> NoiseTerms:
        """Return the terms of additive noise of logarithms, as those of observations in the unit of y."""
        if not self.bounds.censors:
            loss, slope, weight = replace(self, kind="additive").terms(self.on_scale(f), y.log(), log_sigma, accuracy)
            return NoiseTerms(loss + y.log(), slope / f, weight / f.square())
        below, above = self.censored(y, accuracy)
        ends, log_y = self.ends(accuracy), y.log()
        logarithms: Any = Bounds(*(None if end is None else _log(end) for end in ends))
        # which rows are beyond a limit is not for the rounding of logarithms to say
        if ends.limit is not None:
            # a curve of zero has its observations below the limit for certain, and no logarithm
            f = torch.where(below, f.clamp(min=CERTAIN * ends.limit), f)
            log_y = torch.where(below, logarithms.limit - 1, log_y.clamp(min=logarithms.limit))
        if ends.upper_limit is not None:
            log_y = torch.where(above, logarithms.upper_limit + 1, log_y.clamp(max=logarithms.upper_limit))
        of_logarithms = replace(self, kind="additive")
        loss, slope, weight = of_logarithms.terms(
            self.on_scale(f), log_y, log_sigma, accuracy._replace(bounds=logarithms)
        )
        return NoiseTerms(torch.where(below | above, loss, loss + log_y), slope / f, weight / f.square())

    def _censored(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy) -> NoiseTerms:
        """Return the terms of observations; one beyond a limit has the probability of lying there for a likelihood."""
        limit, start, upper = self.ends(accuracy)
        measured = replace(self, limit=None, limit_from=None, upper_limit=None)
        seen = measured.terms(f, y, log_sigma, accuracy)
        terms: tuple[Tensor, ...] = (seen.loss, seen.slope, seen.weight.expand_as(f))
        v = self.variance(f, log_sigma, accuracy)
        growth = self.growth(f, log_sigma, accuracy)

        def along(z: Tensor) -> Tensor:  # dz / df
            return -1 / v.sqrt() - 0.5 * z * growth / v

        if limit is not None:
            below = y < limit
            b = torch.where(below, (limit - f) / v.sqrt(), 0.0)
            parts: tuple[Tensor, ...] = beyond(b, along(b))
            if start is not None:
                parts = self._inside(f, v, along, (start, limit), below, log_sigma, accuracy, parts)
            terms = tuple(torch.where(below, new, old) for new, old in zip(parts, terms, strict=True))
        if upper is not None:
            z = torch.where(y > upper, (f - upper) / v.sqrt(), 0.0)
            parts = beyond(z, 1 / v.sqrt() - 0.5 * z * growth / v)
            terms = tuple(torch.where(y > upper, new, old) for new, old in zip(parts, terms, strict=True))
        return NoiseTerms(*terms)

    def _inside(
        self,
        f: Tensor,
        v: Tensor,
        along: Callable[[Tensor], Tensor],
        ends: tuple[Any, Any],
        below: Tensor,
        log_sigma: Tensor,
        accuracy: Accuracy,
        parts: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        """Return the terms of observations between two ends, and `parts` of those without a lower one."""
        start, limit = (torch.as_tensor(end, dtype=f.dtype, device=f.device).expand_as(f) for end in ends)
        bounded = below & torch.isfinite(start)
        # what is not chosen must stay finite, for its gradient is multiplied by zero
        start = torch.where(bounded, start, limit - 1)
        a, b = (start - f) / v.sqrt(), (limit - f) / v.sqrt()
        narrow = bounded & (b - a < NARROW)
        a = torch.where(narrow, b - 1, a)
        wide = between(a, b, along(a), along(b))
        # the density at the middle times the width
        measured = replace(self, limit=None, limit_from=None, upper_limit=None)
        spike = measured.terms(f, 0.5 * (start + limit), log_sigma, accuracy)
        flat = spike.loss - torch.where(narrow, limit - start, 1.0).log(), spike.slope, spike.weight.expand_as(f)
        inside = (torch.where(narrow, one, other) for one, other in zip(flat, wide, strict=True))
        return tuple(torch.where(bounded, one, other) for one, other in zip(inside, parts, strict=True))


def _log(end: Any) -> Any:
    """Return the logarithm of a limit; of what is not above zero, minus infinity."""
    if isinstance(end, Tensor):
        return end.clamp(min=0).log()
    return math.log(end) if end > 0 else -math.inf
