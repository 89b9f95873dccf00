r"""Successes of trials and counts, whose probability or mean is a curve.

The dispersion :math:`\alpha` of the negative binomial distribution is that of the variance :math:`f + \alpha f^2`, the
second kind of Cameron and Trivedi (2013, :doi:`10.1017/CBO9781139013567`); 0 is Poisson's distribution.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaest.functional.equations.noise import ALIKE, Accuracy, NoiseTerms
from metaest.functional.equations.observations import Observations
from metaest.functional.equations.outcome import Fault, Outcome, first_fault, gamma_draws, log_gamma_ratio, not_counts

__all__ = ["Bernoulli", "Binomial", "NegativeBinomial", "PoissonCounts"]

# probabilities nearer to 0 or 1 are taken for this near: rounding is no certainty
NEAREST = 1e-300
NEAREST_TO_ONE = 1 - 2.0**-53
# excess over 1, or under 0, of a probability that rounding explains
ROUNDED = 1e-9
# least and greatest dispersion of the negative binomial distribution
DISPERSIONS = (1e-10, 1e4)
# where its search starts
FIRST_DISPERSION = 0.5


@dataclass(frozen=True)
class Bernoulli(Outcome):
    """An observation of 0 or 1, which is 1 with the probability that the equation returns."""

    kind: Any = field(default="bernoulli", init=False)

    @property
    def classes(self) -> int | None:
        """Two."""
        return 2

    @property
    def what_curve_is(self) -> str:
        """The equation returns a probability."""
        return "the probability of y = 1"

    def impossible(self, f: Tensor) -> Tensor:
        """Tell for each value whether it is no probability."""
        return (f < -ROUNDED) | (f > 1 + ROUNDED)

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        """Return each observation's negative log-probability, its slope, and its expected second derivative in f."""
        n: Any = 1.0 if accuracy.weight is None else accuracy.weight
        p = f.clamp(min=NEAREST, max=NEAREST_TO_ONE)
        loss = -torch.special.xlogy(y, p) - (n - y) * torch.log1p(-p)
        variance = p * (1 - p)
        return NoiseTerms(torch.where(self.impossible(f), torch.inf, loss), (n * p - y) / variance, n / variance)

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of observations."""
        n: Any = 1.0 if accuracy.weight is None else accuracy.weight
        variance: Tensor = n * (f * (1 - f)).clamp(min=0)
        return variance

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return observations of 0 or 1."""
        usable = torch.isfinite(f)
        drawn = torch.bernoulli(torch.where(usable, f, 0.0).clamp(0, 1), generator=generator)
        return torch.where(usable, drawn, torch.nan)

    def fault(self, X: Tensor, y: Tensor) -> Fault | None:
        """Return the first row with another number than 0 and 1."""
        return first_fault((y != 0) & (y != 1), lambda row: f"y is {y[row]:g}", "0 or 1 is wanted")

    def degenerate(self, X: Tensor, y: Tensor) -> str:
        """Return a sentence where all observations are 0, or all are 1."""
        if bool((y != y[0]).any()):
            return ""
        return f"y is {y[0]:g} in all {len(y)} rows: any probability near {y[0]:g} fits as well"


@dataclass(frozen=True)
class Binomial(Bernoulli):
    r"""How many of a number of trials succeed, each with the probability that the equation returns.

    .. math:: P(y) = \binom{n}{y} f^y (1 - f)^{n - y}

    ``predict`` returns the mean :math:`n f` of rows with their own n.

    Parameters
    ----------
    trials : str or int
        The column of X, by name or by number, with the number n of trials of each row, a whole number of at least 0.
        The equation has no use for it.

    Examples
    --------
    >>> import torch
    >>> from metaest import Binomial, EquationRegressor
    >>> def risk(X, intercept, slope):
    ...     return torch.sigmoid(intercept + slope * X[:, 0])
    >>> constants = {"intercept": 0.0, "slope": 0.0}
    >>> model = EquationRegressor(risk, constants, random=["intercept"], noise=Binomial(trials=1))
    >>> rows = [[-1.0, 10], [0.0, 10], [1.0, 10]]
    >>> herds = [(rows, y) for y in ([1, 2, 5], [2, 6, 9], [0, 2, 4], [3, 4, 8], [1, 5, 9], [0, 1, 3])]
    >>> fitted = model.fit(herds)
    >>> fitted.adapt(rows[:2], [3, 7]).predict([[1.0, 20]]).shape
    (1,)
    """

    trials: str | int = field(kw_only=True)
    kind: Any = field(default="binomial", init=False)

    @property
    def labels(self) -> Mapping[str, str | int]:
        """The column of numbers of trials."""
        return {"trials": self.trials}

    @property
    def classes(self) -> int | None:
        """None: the number differs between rows."""
        return None

    @property
    def what_curve_is(self) -> str:
        """The equation returns a probability."""
        return "the probability of a trial"

    def trials_of(self, observations: Observations) -> Tensor:
        """Return the number of trials of each row, of shape (rows, tasks)."""
        return observations.X[:, int(self.trials)].reshape(observations.y.shape)

    def accuracy(self, observations: Observations) -> Accuracy:
        """Return the numbers of trials, as weights."""
        return Accuracy(self.trials_of(observations))

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        """Return each observation's negative log-probability, its slope, and its expected second derivative in f."""
        n: Any = accuracy.weight
        loss, slope, weight = super().terms(f, y, log_sigma, accuracy)
        ways = torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)
        return NoiseTerms(loss - ways, slope, weight)

    def predicted(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return the mean number of successes."""
        return f * self.trials_of(observations)

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return numbers of successes."""
        usable, n = torch.isfinite(f), self.trials_of(observations)
        drawn = torch.binomial(n.expand_as(f), torch.where(usable, f, 0.0).clamp(0, 1), generator=generator)
        return torch.where(usable, drawn, torch.nan)

    def row_fault(self, X: Tensor) -> Fault | None:
        """Return the first row whose number of trials is no whole number."""
        n = X[:, int(self.trials)]
        return first_fault(not_counts(n), lambda row: f"the number of trials is {n[row]:g}", "a whole number is wanted")

    def fault(self, X: Tensor, y: Tensor) -> Fault | None:
        """Return the first row whose trials or successes are no whole numbers, or with more successes than trials."""
        n = X[:, int(self.trials)]
        return (
            self.row_fault(X)
            or first_fault(not_counts(y), lambda row: f"y is {y[row]:g}", "a whole number of successes is wanted")
            or first_fault(y > n, lambda row: f"y is {y[row]:g} of {n[row]:g} trials", "at most all of them succeed")
        )

    def degenerate(self, X: Tensor, y: Tensor) -> str:
        """Return a sentence where no trial succeeded, or all did."""
        if bool((y == 0).all() | (y == X[:, int(self.trials)]).all()):
            what, near = ("no", 0) if bool((y == 0).all()) else ("every", 1)
            return f"{what} trial in any of {len(y)} rows succeeded: any probability near {near} fits as well"
        return ""


@dataclass(frozen=True)
class PoissonCounts(Outcome):
    """A count, of which the equation returns the mean."""

    kind: Any = field(default="poisson", init=False)

    def impossible(self, f: Tensor) -> Tensor:
        """Tell for each value whether it is below zero."""
        return f < 0

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        """Return each observation's negative log-probability, its slope, and its expected second derivative in f.

        With weights they are times at risk, with the mean f times the weight; the constant of that is left out.
        """
        w: Any = 1.0 if accuracy.weight is None else accuracy.weight
        rate = f.clamp(min=NEAREST)
        loss = w * f - torch.special.xlogy(y, rate) + torch.lgamma(y + 1)
        lost = self.impossible(f) | ((f == 0) & (y > 0))
        return NoiseTerms(torch.where(lost, torch.inf, loss), w - y / rate, w / rate)

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of counts, which is their mean."""
        return f.clamp(min=0)

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return counts."""
        usable = torch.isfinite(f) & (f >= 0)
        return torch.where(usable, torch.poisson(torch.where(usable, f, 0.0), generator=generator), torch.nan)

    def fault(self, X: Tensor, y: Tensor) -> Fault | None:
        """Return the first row that is no count."""
        return first_fault(not_counts(y), lambda row: f"y is {y[row]:g}", "a count is wanted: 0, 1, 2, ...")

    def degenerate(self, X: Tensor, y: Tensor) -> str:
        """Return a sentence where all counts are zero."""
        return "" if bool((y > 0).any()) else f"y is 0 in all {len(y)} rows: any mean near 0 fits as well"


@dataclass(frozen=True)
class NegativeBinomial(PoissonCounts):
    """A count with the mean f that the equation returns and the variance f + alpha f^2, with one learned alpha."""

    kind: Any = field(default="negative-binomial", init=False)

    @property
    def n_constants(self) -> int:
        """One: the logarithm of the dispersion."""
        return 1

    @property
    def smallest(self) -> list[float]:
        """Lower bound of the logarithm of the dispersion."""
        return [math.log(DISPERSIONS[0])]

    @property
    def largest(self) -> list[float]:
        """Upper bound of the logarithm of the dispersion."""
        return [math.log(DISPERSIONS[1])]

    def first(self, y: Tensor) -> Tensor:
        """Return the logarithm of a moderate dispersion."""
        return y.new_tensor([math.log(FIRST_DISPERSION)])

    def shown(self, log_sigma: Tensor) -> dict[str, float]:
        """Return the dispersion alpha."""
        return {"dispersion": float(log_sigma[0].exp())}

    def terms(self, f: Tensor, y: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> NoiseTerms:
        """Return each count's negative log-probability, its slope, and its expected second derivative in f."""
        alpha = log_sigma[0].exp()
        rate = f.clamp(min=NEAREST)
        grown = 1 + alpha * rate
        ways = log_gamma_ratio(y, 1 / alpha) - torch.lgamma(y + 1)
        loss = (y + 1 / alpha) * torch.log1p(alpha * f) - torch.special.xlogy(y, rate) - ways
        lost = self.impossible(f) | ((f == 0) & (y > 0))
        # one division after the other: the square of a rate of 0 has no room among numbers, and derivatives have it
        return NoiseTerms(torch.where(lost, torch.inf, loss), (rate - y) / rate / grown, 1 / rate / grown)

    def variance(self, f: Tensor, log_sigma: Tensor, accuracy: Accuracy = ALIKE) -> Tensor:
        """Return the variance of counts."""
        return (f + log_sigma[0].exp() * f.square()).clamp(min=0)

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return counts: Poisson's around means that a gamma distribution scatters."""
        alpha = log_sigma[0].exp()
        scatter = alpha * gamma_draws(1 / alpha.expand_as(f), generator)
        return super().draw(f * scatter, observations, log_sigma, generator)
