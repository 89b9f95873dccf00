r"""Times of events, from a hazard that is a curve, censored to the right.

Of a hazard h the log-likelihood of a row is :math:`y \log h(t) - \int h`, from when the unit was first at risk to t.
The integral is a sum over times between, at which the equation is evaluated as in further rows; each adds to the loss
by itself, so that all else is as for counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from metaest.functional.equations.counts import PoissonCounts
from metaest.functional.equations.observations import Observations
from metaest.functional.equations.outcome import Fault, first_fault
from metaest.functional.equations.quadrature_rules import gauss_legendre

__all__ = ["TimeToEvent"]

# nodes of the integral of a hazard, and the power that draws them to its beginning, where a hazard may be infinite
HAZARD_NODES = 20
HAZARD_POWER = 4


@dataclass(frozen=True)
class TimeToEvent(PoissonCounts):
    r"""Whether an event had happened by the time of a row, from the hazard that the equation returns.

    .. math:: \log p = y \log h(t) - \int_s^t h(v)\, dv

    y is 1 where the event happened at the time t of the row, and 0 where it had not happened until then (censored to
    the right). ``predict`` returns the probability that it has happened by t. The hazard is integrated over 20
    times between s and t, at which the equation is asked for it.

    Parameters
    ----------
    time : str or int
        The column of X, by name or by number, with the time t, which the equation reads as well.
    entry : str or int, optional
        The column of X with the time s from which the unit was observed; 0 by default.

    Examples
    --------
    >>> from metaest import EquationRegressor, Parameter, TimeToEvent
    >>> def hazard(X, rate):
    ...     return rate + 0 * X[:, 0]
    >>> rate = {"rate": Parameter(1.0, lower=0)}
    >>> model = EquationRegressor(hazard, rate, noise=TimeToEvent(time=0))
    >>> clinics = [([[t], [2 * t], [3.0]], [1, 1, 0]) for t in (0.2, 0.9, 0.4, 1.3, 0.7)]
    >>> fitted = model.fit(clinics)
    >>> fitted.predict([[0.5], [1.0]]).shape
    (2,)
    """

    time: str | int = field(kw_only=True)
    entry: str | int | None = field(default=None, kw_only=True)
    kind: Any = field(default="time-to-event", init=False)

    @property
    def labels(self) -> Mapping[str, str | int]:
        """The columns of times."""
        return {"time": self.time, **({} if self.entry is None else {"entry": self.entry})}

    @property
    def classes(self) -> int | None:
        """Two: it has happened, or not."""
        return 2

    @property
    def simulates(self) -> bool:
        """No: the times of rows are when the events happened."""
        return False

    @property
    def what_curve_is(self) -> str:
        """The equation returns a hazard."""
        return "the hazard at the time of the row"

    def evaluated_at(self, observations: Observations) -> Observations:
        """Return the rows at their times without time at risk, and at times between, weighted for the integral."""
        share, weight = _hazard_rule(HAZARD_NODES, HAZARD_POWER)
        X, (rows, tasks) = observations.X, observations.y.shape
        start, end = self._ends(X)
        between = start + (end - start) * share[:, None]
        columns = X.T.repeat(1, 1 + len(share))
        columns[int(self.time)] = torch.cat([end, between.reshape(-1)])
        at_risk = ((end - start) * weight[:, None]).reshape(-1, tasks)
        n = len(share) * rows
        return Observations(
            columns.T,
            torch.cat([observations.y, observations.y.new_zeros(n, tasks)]),
            observations.mask.repeat(1 + len(share), 1),
            observations.full,
            torch.cat([torch.zeros_like(observations.y), at_risk]),
        )

    def predicted(self, f: Tensor, observations: Observations, log_sigma: Tensor) -> Tensor:
        """Return the probability that the event has happened, from hazards at the rows of `evaluated_at`."""
        rows, tasks = observations.y.shape
        weight = self.evaluated_at(observations).weight
        assert weight is not None
        return -torch.expm1(-(weight * f).reshape(-1, rows, tasks).sum(dim=0))

    def draw(self, f: Tensor, observations: Observations, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        """Return whether the event has happened by the times of the rows, from hazards at those of `evaluated_at`."""
        happened = self.predicted(f, observations, log_sigma)
        usable = torch.isfinite(happened)
        drawn = torch.bernoulli(torch.where(usable, happened, 0.0).clamp(0, 1), generator=generator)
        return torch.where(usable, drawn, torch.nan)

    def _ends(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return from when to when the unit of each row is observed."""
        end = X[:, int(self.time)]
        return torch.zeros_like(end) if self.entry is None else X[:, int(self.entry)], end

    def row_fault(self, X: Tensor) -> Fault | None:
        """Return the first row that ends before it begins, or begins before 0."""
        start, end = self._ends(X)
        return first_fault(
            ~(end >= start) | (start < 0),
            lambda row: f"the unit is observed from {start[row]:g} to {end[row]:g}",
            "a time no earlier than its beginning is wanted, which is at least 0",
        )

    def fault(self, X: Tensor, y: Tensor) -> Fault | None:
        """Return the first row with another y than 0 and 1, or with a time at which nothing can have been observed."""
        start, end = self._ends(X)
        return (
            first_fault(
                (y != 0) & (y != 1), lambda row: f"y is {y[row]:g}", "1 (the event happened then) or 0 (not yet)"
            )
            or self.row_fault(X)
            or first_fault(
                end == start,
                lambda row: f"the unit is observed from {start[row]:g} to {end[row]:g}",
                "a time later than its beginning is wanted",
            )
        )

    def degenerate(self, X: Tensor, y: Tensor) -> str:
        """Return a sentence where no event happened."""
        return "" if bool((y > 0).any()) else f"no event happened in {len(y)} rows: any hazard near 0 fits as well"


@lru_cache(maxsize=4)
def _hazard_rule(n: int, power: int) -> tuple[Tensor, Tensor]:
    """Return times and weights of an integral from 0 to 1, by Gauss and Legendre in the root of time."""
    nodes, weights = gauss_legendre(n)
    s = 0.5 * (nodes + 1)
    return s**power, 0.5 * weights * power * s ** (power - 1)
