"""Noise with outliers: residuals of Student's distribution (Lange, Little, Taylor, 1989).

:doi:`10.1080/01621459.1989.10478852`.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaest.functional.equations.censoring import HALF_LOG_2PI
from metaest.functional.equations.noise import ALIKE, Accuracy, NoiseTerms
from metaest.functional.equations.observations import Observations
from metaest.functional.equations.outcome import Outcome, gamma_draws, log_gamma_ratio

__all__ = ["StudentT"]

# least and greatest degrees of freedom: Cauchy's distribution, and one that data cannot tell from a normal one
DEGREES = (1.0, 1e3)
# where their search starts
FIRST_DEGREES = 5.0


@dataclass(frozen=True)
class StudentT(Outcome):
    r"""Noise with outliers: the curve plus a learned scale times a variable of Student's distribution.

    .. math:: p(y) \propto \frac1s \left(1 + \frac{(y - f)^2}{\nu s^2}\right)^{-(\nu + 1) / 2}

    ``noise_`` has the ``scale`` s and the ``degrees_of_freedom`` :math:`\nu`. The fewer these are, the less a
    row far from the curve counts; from 30 on the distribution is nearly normal.

    Parameters
    ----------
    degrees_of_freedom : float, optional
        Above 0. Learned by default, between 1 and 1000.

    Examples
    --------
    >>> from metaest import EquationRegressor, StudentT
    >>> def line(X, slope):
    ...     return slope * X[:, 0]
    >>> rows = [[1.0], [2.0], [3.0], [4.0]]
    >>> tasks = [(rows, [k, 2 * k + 0.1, 3 * k - 0.1, 40.0 if k == 1 else 4 * k]) for k in (1, 1.2, 0.8, 1.1, 0.9)]
    >>> fitted = EquationRegressor(line, {"slope": 1.0}, noise=StudentT(degrees_of_freedom=3)).fit(tasks)
    >>> bool(fitted.population_.loc["slope", "value"] < 1.1)
    True
    """

    degrees_of_freedom: float | None = field(default=None, kw_only=True)
    kind: Any = field(default="student-t", init=False)

    def __post_init__(self) -> None:
        df = self.degrees_of_freedom
        if df is not None and (isinstance(df, bool) or not isinstance(df, (int, float)) or not df > 0):
            raise ValueError(f"StudentT: degrees_of_freedom must be a number above 0, or None to learn it; got {df!r}.")

    @property
    def what_curve_is(self) -> str:
        """The equation returns the centre of observations."""
        return "the centre of y"

    @property
    def n_scales(self) -> int:
        """One scale."""
        return 1

    @property
    def n_constants(self) -> int:
        """The logarithms of the scale and, where they are learned, of the degrees of freedom."""
        return 1 + (self.degrees_of_freedom is None)

    @property
    def smallest(self) -> list[float]:
        """Lower bounds; that of the scale is the fit's to say."""
        return [-math.inf] + [math.log(DEGREES[0])] * (self.n_constants - 1)

    @property
    def largest(self) -> list[float]:
        """Upper bounds."""
        return [math.inf] + [math.log(DEGREES[1])] * (self.n_constants - 1)

    def degrees(self, log_sigma: Tensor) -> Tensor:
        """Return the degrees of freedom."""
        df = self.degrees_of_freedom
        return log_sigma[1].exp() if df is None else log_sigma.new_tensor(float(df))

    def first(self, y: Tensor) -> Tensor:
        """Return the logarithm of a scale from the spread of y, and that of few degrees of freedom."""
        spread = float((y - y.median()).abs().median()) or float(y.std(correction=0)) or float(y.abs().max()) or 1.0
        return y.new_tensor([math.log(spread), math.log(FIRST_DEGREES)][: self.n_constants])

    def shown(self, log_sigma: Tensor) -> dict[str, float]:
        """Return scale and degrees of freedom."""
        return {"scale": float(log_sigma[0].exp()), "degrees_of_freedom": float(self.degrees(log_sigma))}

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        """Return each observation's negative log-density, its slope, and its expected second derivative in f."""
        df, square = self.degrees(log_sigma), (2 * log_sigma[0]).exp()
        residual = y - f
        z = residual.square() / square
        constant = HALF_LOG_2PI + log_sigma[0] - log_gamma_ratio(log_sigma.new_tensor(0.5), 0.5 * df)
        loss = constant + 0.5 * (df + 1) * torch.log1p(z / df)
        slope = -(df + 1) * residual / (df * square * (1 + z / df))
        return NoiseTerms(loss, slope, ((df + 1) / ((df + 3) * square)).expand_as(f))

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of observations, which is infinite of two degrees of freedom and fewer."""
        df = self.degrees(log_sigma)
        wide = (2 * log_sigma[0]).exp() * df / (df - 2).clamp(min=0)
        return wide.expand_as(f)

    def square(self, residual: Tensor, log_sigma: Tensor) -> Tensor:
        """Return squares of residuals in units of the scale, with less weight far from the curve."""
        df = self.degrees(log_sigma)
        z = residual.square() * (-2 * log_sigma[0]).exp()
        return z * (df + 1) / (df + z)

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return observations."""
        df = self.degrees(log_sigma)
        normal = torch.randn(f.shape, generator=generator, dtype=f.dtype)
        chi = 2 * gamma_draws((0.5 * df).expand_as(f), generator) / df
        return f + log_sigma[0].exp() * normal / chi.sqrt()
