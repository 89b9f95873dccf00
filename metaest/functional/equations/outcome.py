r"""Outcomes that are not normal around a curve f: binary, counts, categories in order, times of events, outliers.

=================== ==========================================================================================
bernoulli           y is 0 or 1, and 1 with the probability f
binomial            y of n trials, each with the probability f
poisson             y = 0, 1, 2, ... with the mean f
negative-binomial   the same with the variance :math:`f + \alpha f^2`
ordinal             y = 0 ... K - 1, :math:`P(y \le k) = 1 / (1 + e^{f - c_k})`, :math:`0 = c_0 < c_1 < ...`
time-to-event       y is 1 where the event happened at the time of the row, 0 where it had not; f is the hazard
student-t           y is f plus a scale times a variable of Student's distribution
=================== ==========================================================================================

Each is a :class:`~metaest.functional.equations.noise.Noise` in that a search asks it for the loss of observations, its
slope in f and a second derivative that is never negative. It says further what is predicted of an observation (its
mean, or the curve), draws observations and knows which ones are possible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.noise import ALIKE, Accuracy, Noise
from metaest.functional.equations.observations import Observations

__all__ = ["Fault", "Outcome", "first_fault", "gamma_draws", "log_gamma_ratio", "not_counts"]

# argument from which the logarithm of the gamma function is summed by Stirling's series
LARGE = 200.0


class Fault(NamedTuple):
    """What is wrong with the observation of a row, and what helps.

    Attributes
    ----------
    row : int
    what : str
    remedy : str
    """

    row: int
    what: str
    remedy: str


@dataclass(frozen=True)
class Outcome(Noise):
    """A distribution of observations around a curve that is not normal; a base class.

    Its constants stand where those of a noise stand: the logarithm of a dispersion, cut points, a scale.
    """

    kind: Any = field(default="", init=False)
    delta: float = field(default=0.0, init=False, repr=False)
    limit: None = field(default=None, init=False, repr=False)
    column: int | None = field(default=None, init=False, repr=False)
    correlation: None = field(default=None, init=False, repr=False)
    limit_from: None = field(default=None, init=False, repr=False)
    upper_limit: None = field(default=None, init=False, repr=False)

    @property
    def normal(self) -> bool:
        """Whether observations are normal around the curve."""
        return False

    @property
    def labels(self) -> Mapping[str, str | int]:
        """The columns of X that it reads, by the name of the attribute."""
        return {}

    @property
    def classes(self) -> int | None:
        """How many values an observation may have, 0 to this less one; None where these are not few."""
        return None

    @property
    def simulates(self) -> bool:
        """Whether data like those of a fit can be drawn, row by row."""
        return True

    @property
    def what_curve_is(self) -> str:
        """What the equation returns, in the field's words."""
        return "the mean of y"

    @property
    def n_scales(self) -> int:
        """Number of standard deviations among the constants."""
        return 0

    @property
    def logarithmic(self) -> bool:
        """Whether logarithms of observations are normal."""
        return False

    @property
    def homoscedastic(self) -> bool:
        """Whether the variance is the same along the curve."""
        return False

    @property
    def n_constants(self) -> int:
        """Number of constants."""
        return 0

    @property
    def smallest(self) -> list[float]:
        """Lower bounds of the constants."""
        return []

    @property
    def largest(self) -> list[float]:
        """Upper bounds of the constants."""
        return []

    def first(self, y: Tensor) -> Tensor:
        """Return constants from which a search may start, for observations y."""
        return y.new_zeros(0)

    def shown(self, log_sigma: Tensor) -> dict[str, float]:
        """Return the constants in the unit in which they are reported, by name."""
        return {}

    def scaled(self, log_sigma: Tensor, by: Tensor | float) -> Tensor:
        """Return constants whose standard deviations are greater by a factor with the logarithm `by`."""
        return torch.cat([log_sigma[: self.n_scales] + by, log_sigma[self.n_scales :]])

    def accuracy(self, observations: Observations) -> Accuracy:
        """Return what differs between rows: their weights."""
        return ALIKE if observations.weight is None else Accuracy(observations.weight)

    def simplest(self) -> "Outcome":
        """Return the distribution of a first search: itself."""
        return self

    def predicted(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return the mean of observations, of shape (rows, tasks), from values of the curve."""
        return f

    def probabilities(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return the probability of each value of an observation, of shape (classes, rows, tasks)."""
        mean = self.predicted(f, observations, log_sigma)
        return torch.stack([1 - mean, mean])

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return observations around curves with values f, of shape (rows, tasks)."""
        raise NotImplementedError

    def impossible(self, f: Tensor) -> Tensor:
        """Tell for each value whether it is none that the equation may return."""
        return torch.zeros_like(f, dtype=torch.bool)

    def fault(self, X: Tensor, y: Tensor) -> Fault | None:
        """Return what is wrong with the first row that is no observation of this kind; None where all are."""
        return None

    def row_fault(self, X: Tensor) -> Fault | None:
        """Return what is wrong with the first row of which nothing can be predicted; None where all are right."""
        return None

    def degenerate(self, X: Tensor, y: Tensor) -> str:
        """Return a sentence on observations of a fit that leave its constants open; empty where they do not."""
        return ""

    def square(self, residual: Tensor, log_sigma: Tensor) -> Tensor:
        """Return squares of residuals in units of the scale, each with the weight it has in its estimate."""
        return torch.ones_like(residual)


def not_counts(values: Tensor) -> Tensor:
    """Tell for each number whether it is no count."""
    return ~((values >= 0) & (values.floor() == values))


def first_fault(wrong: Tensor, what: Callable[[int], str], remedy: str) -> Fault | None:
    """Return the fault of the first row that is wrong."""
    rows = torch.nonzero(wrong)[:, 0]
    return Fault(int(rows[0]), what(int(rows[0])), remedy) if len(rows) else None


def gamma_draws(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Return draws of gamma distributions of scale 1."""
    draws: Tensor = torch._standard_gamma(shape, generator=generator)
    return draws


def log_gamma_ratio(y: Tensor, r: Tensor) -> Tensor:
    r"""Return :math:`\log \Gamma(y + r) - \log \Gamma(r) - y \log r`, which is small beside its parts for large r."""
    few = r.clamp(max=LARGE)
    plain = torch.lgamma(y + few) - torch.lgamma(few) - y * few.log()
    many = r.clamp(min=LARGE)
    series = (y + many - 0.5) * torch.log1p(y / many) - y + _stirling(y + many) - _stirling(many)
    return torch.where(r > LARGE, series, plain)


def _stirling(x: Tensor) -> Tensor:
    """Return what Stirling's series has beyond its leading terms."""
    return 1 / (12 * x) - 1 / (360 * x**3)
