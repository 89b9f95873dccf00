"""Concentrations after past doses and planned ones, and the factor of the planned ones that reaches a target."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metaest_domains.physiology.course import SAME, Course, Given, highest
from metaest_domains.physiology.patient_equation import PatientEquation
from metaest_domains.physiology.required_factors import factor_of_time_above

__all__ = ["Courses", "LinearCourses", "SaturableCourses"]

# relative distance from the target at which a search for a dose stops
TOLERANCE = 1e-9
# greatest number of steps of such a search
MOST_STEPS = 60
# ratio by which a bracket of factors is moved until the target lies inside
WIDER = 4.0
# moves of a bracket after which the target counts as unreachable
MOST_WIDENINGS = 60
# time constants of absorption after which an oral dose is fully absorbed: e^-40 is below rounding
ABSORBED = 40.0
# golden sections, which reduce a bracket to 1e-6 of its length
SECTIONS = 29


class Courses(ABC):
    """Concentrations after past doses, which are fixed, and planned ones, which are multiplied by a factor."""

    @abstractmethod
    def before(self, time: float) -> Tensor:
        """Return the concentration just before a time, of shape (draws,)."""

    @abstractmethod
    def peak(self, start: float, until: float) -> tuple[Tensor, Tensor]:
        """Return the greatest concentration between two times and the time of it, of shape (draws,)."""

    @abstractmethod
    def factor_before(self, target: float, time: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a concentration just before a time."""

    @abstractmethod
    def factor_of_peak(self, target: float, start: float, until: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a greatest concentration."""


@dataclass(frozen=True)
class LinearCourses(Courses):
    """Courses of a linear model: the sum of those of past and planned doses."""

    fixed: Course
    unit: Course

    @property
    def total(self) -> Course:
        """The course after all doses, with a factor of 1."""
        return self.fixed.plus(self.unit, torch.ones_like(self.unit.parts[0][1]))

    def before(self, time: float) -> Tensor:
        """Return the concentration just before a time, of shape (draws,)."""
        return self.total.before(time)

    def peak(self, start: float, until: float) -> tuple[Tensor, Tensor]:
        """Return the greatest concentration between two times and the time of it, of shape (draws,)."""
        return self.total.peak(start, until)

    def factor_before(self, target: float, time: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a concentration just before a time."""
        return ((target - self.fixed.before(time)) / self.unit.before(time)).clamp(min=0)

    def factor_of_peak(self, target: float, start: float, until: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a greatest concentration.

        The peak is a convex function of the factor, as the maximum of linear ones, so that Newton's method from above
        descends to the root.
        """
        factor = target / self.unit.peak(start, until)[0]
        for _ in range(MOST_STEPS):
            top, when = self.fixed.plus(self.unit, factor).peak(start, until)
            slope = self.unit.at(when)
            step = torch.where(slope > 0, (top - target) / torch.where(slope > 0, slope, 1.0), factor)
            factor = torch.where(torch.isfinite(factor), (factor - step.clamp(min=0)).clamp(min=0), factor)
            if bool(((top - target).abs() <= TOLERANCE * target)[factor > 0].all()):
                break
        return torch.where(self.fixed.peak(start, until)[0] >= target, 0.0, factor)

    def factor_of_area(self, target: float, start: float, end: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for an area under the concentrations."""
        return ((target - self.fixed.area(start, end)) / self.unit.area(start, end)).clamp(min=0)

    def factor_of_time_above(self, threshold: float, time: float, start: float, end: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a time above a threshold."""
        return factor_of_time_above(self.fixed, self.unit, threshold, time, start, end)


@dataclass(frozen=True)
class SaturableCourses(Courses):
    """Courses of a model whose concentrations are not proportional to the dose; factors are found by a search."""

    equation: PatientEquation
    constants: dict[str, Tensor]
    fixed: Given
    new: Given

    def before(self, time: float, factor: Tensor | float = 1.0) -> Tensor:
        """Return the concentration just before a time, of shape (draws,)."""
        given = torch.cat([self.fixed.time, self.new.time]) < time * (1 - SAME)
        return self._at(torch.full_like(self._zero, time), factor, given)

    def peak(self, start: float, until: float, factor: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the greatest concentration between two times and the time of it, of shape (draws,).

        Between two events the concentration is monotonic after intravenous doses, and has at most one maximum after
        oral ones.
        """
        ends = torch.cat([self.fixed.time + self.fixed.duration, self.new.time + self.new.duration])
        events = torch.cat([self.fixed.time, self.new.time, ends])
        lag = self.constants["lag"][:, 0] if "lag" in self.constants else self._zero
        bounds = torch.cat([events[:, None] + lag, self._zero[None] + start, self._zero[None] + until])
        bounds = bounds.clamp(min=start, max=until).sort(dim=0).values
        times = bounds
        if self.equation.oral:
            left = bounds[:-1]
            right = torch.minimum(bounds[1:], left + ABSORBED / self.constants["absorption"][:, 0])
            times = torch.cat([bounds, highest(lambda at: self._at(at, factor), left, right, SECTIONS)])
        values = self._at(times, factor)
        top, which = values.max(dim=0)
        return top, times.gather(0, which[None])[0]

    def factor_before(self, target: float, time: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a concentration just before a time."""
        return _solved(lambda factor: self.before(time, factor), target, self._zero)

    def factor_of_peak(self, target: float, start: float, until: float) -> Tensor:
        """Return the factor of the planned doses, at least 0, for a greatest concentration."""
        return _solved(lambda factor: self.peak(start, until, factor)[0], target, self._zero)

    @property
    def _zero(self) -> Tensor:
        return torch.zeros_like(next(iter(self.constants.values()))[:, 0])

    def _at(self, times: Tensor, factor: Tensor | float, given: Tensor | None = None) -> Tensor:
        """Return the concentrations of draws at times of shape (..., draws), after all or some of the doses."""
        n = len(self._zero)
        at = times.reshape(-1, 1)
        copies = len(at) // n
        start, duration = (torch.cat([one, two]) for one, two in zip(self.fixed[::2], self.new[::2], strict=True))
        scale = torch.as_tensor(factor, dtype=times.dtype).expand(n)[:, None]
        amount = torch.cat([self.fixed.amount.expand(n, -1), scale * self.new.amount], dim=1).repeat(copies, 1)
        if given is not None:
            amount = amount * given
        constants = {name: value.repeat(copies, 1) for name, value in self.constants.items()}
        values = self.equation.concentration(amount, at - start, duration.expand(len(at), -1), constants)
        return values.reshape(times.shape)


def _solved(value: Callable[[Tensor], Tensor], target: float, zero: Tensor) -> Tensor:
    """Return the factors at which a rising function reaches a target.

    A factor is 0 if the function exceeds the target without any dose, infinite if no dose reaches the target, and NaN
    if the function was NaN during the search.
    """
    beyond = value(zero) >= target
    low = zero + 1 / WIDER
    high = zero + WIDER
    f_low = value(low) - target
    f_high = value(high) - target
    for _ in range(MOST_WIDENINGS):
        short = f_high < 0
        over = (f_low > 0) & ~beyond
        if not bool((short | over).any()):
            break
        # the whole bracket moves up, or down
        above = torch.where(short, high * WIDER, high)
        below = torch.where(over, low / WIDER, low)
        low, high = torch.where(short, high, below), torch.where(over, low, above)
        f_low = value(low) - target
        f_high = value(high) - target
    side = zero
    middle = high
    never = f_high < 0
    lost = torch.isnan(f_low) | torch.isnan(f_high)
    for _ in range(MOST_STEPS):
        # false position (Illinois): the value at an end that is kept twice in a row is halved
        share = (f_low / (f_low - f_high)).nan_to_num(0.5).clamp(0.0, 1.0)
        middle = low + share * (high - low)
        f = value(middle) - target
        lost = lost | torch.isnan(f)
        below = f < 0
        f_high = torch.where(below, torch.where(side > 0, 0.5 * f_high, f_high), f)
        f_low = torch.where(below, f, torch.where(side < 0, 0.5 * f_low, f_low))
        low = torch.where(below, middle, low)
        high = torch.where(below, high, middle)
        side = torch.where(below, 1.0, -1.0)
        # integration leaves jumps of the concentration that may exceed the tolerance
        solved = (f.abs() <= TOLERANCE * target) | (high - low <= TOLERANCE * high)
        if bool((solved | beyond | never | lost).all()):
            break
    middle = torch.where(lost, torch.nan, torch.where(never, torch.inf, middle))
    return torch.where(beyond, 0.0, middle)
