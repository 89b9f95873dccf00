r"""Exact concentrations of linear models between events, from which peaks, crossings and areas are computed.

Between two events (a dose, the start or the end of an infusion) the state of a linear model has a closed form. With
coefficients :math:`A_i` and rates :math:`\lambda_i` after a bolus of one unit, an amount g in the gut and an inflow r,

.. math:: z_i' = -\lambda_i z_i + A_i (k_a g + r), \qquad g' = -k_a g, \qquad C = \sum_i z_i .
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metaest_domains.physiology.disposition import Exponentials, between

__all__ = ["Course", "Given", "highest"]

# points at which a segment is evaluated to bracket its extremum: 60 over about seven decades of time, a ratio of 1.3
N_POINTS = 60
# first of these points after the event, in units of the fastest time constant
FIRST = 1e-3
# last of them, in units of the slowest time constant, where a stretch without end is cut: e^-50 of the amount is left
LAST = 50.0
# golden sections, which reduce a bracket to 1e-9 of its length
GOLDEN_STEPS = 44
# bisections, which reduce a bracket to 1e-15 of its length
HALVINGS = 50
# share of a bracket that a golden section keeps
GOLDEN = 0.6180339887498949
# numbers of one temporary array: 32 MB in float64
BLOCK = 4_000_000
# relative difference of times below which a dose counts as given at that time
SAME = 1e-9


class Given(NamedTuple):
    """Doses: the start, the amount and the duration of each, of shape (n_doses,)."""

    time: Tensor
    amount: Tensor
    duration: Tensor


class Segments(NamedTuple):
    """The stretches of time between events, with the state at the start of each, for each draw of the constants.

    Attributes
    ----------
    start, end : Tensor of shape (events, draws)
        Times, on the clock of the regimen.
    gut : Tensor of shape (events, draws)
        Amount in the gut.
    inflow : Tensor of shape (events, draws)
        Amount per time of running infusions.
    modes : Tensor of shape (terms, events, draws)
        Contribution of each exponential to the concentration.
    """

    start: Tensor
    end: Tensor
    gut: Tensor
    inflow: Tensor
    modes: Tensor

    def take(self, chosen: slice | Tensor) -> "Segments":
        """Return the segments after some of the events, given as a slice or a mask."""
        return Segments(*(part[..., chosen, :] for part in self))


@dataclass(frozen=True)
class Course:
    """The concentrations of a linear model under a regimen, for draws of the constants.

    Attributes
    ----------
    parts : list of (coefficient, rate), each of shape (draws,)
        Exponentials after a bolus of one unit, the slowest last.
    absorption : Tensor of shape (draws,) or None
        Rate of absorption of oral doses; None for intravenous ones.
    segments : Segments
    """

    parts: Exponentials
    absorption: Tensor | None
    segments: Segments

    @classmethod
    def of(
        cls,
        parts: Exponentials,
        absorption: Tensor | None,
        lag: Tensor | None,
        given: Given,
        events: Tensor | None = None,
    ) -> "Course":
        """Compute the states after each event of a regimen.

        Parameters
        ----------
        parts, absorption
            See the attributes.
        lag : Tensor of shape (draws,), optional
            Time from a dose to the start of its absorption.
        given : Given
            The doses.
        events : Tensor of shape (n,), optional
            Further times at which a segment begins.
        """
        like = parts[0][1]
        ends = given.time + given.duration
        at = torch.unique(torch.cat([given.time, ends] + ([] if events is None else [events])))
        running = (given.duration > 0) & (given.time <= at[:, None]) & (at[:, None] < ends)
        inflow = (running * given.amount / torch.where(given.duration > 0, given.duration, 1.0)).sum(dim=1)
        at_once = ((given.duration == 0) & (given.time == at[:, None])).to(like.dtype) @ given.amount
        start = at[:, None] + (torch.zeros_like(like) if lag is None else lag)
        shape = len(at), len(like)
        empty = Segments(start, start, start.new_zeros(shape), inflow[:, None].expand(shape), start.new_zeros(0))
        gut = torch.zeros_like(like)
        modes = torch.zeros(len(parts), *like.shape, dtype=like.dtype)
        guts = []
        states = []
        for j, amount in enumerate(at_once):
            if j:
                course = cls(parts, absorption, empty)
                state = gut, inflow[j - 1].expand_as(gut), modes
                modes = course._modes(at[j] - at[j - 1], *state)
                gut = course._gut(at[j] - at[j - 1], gut)
            if absorption is None:
                modes = modes + amount * torch.stack([a for a, _ in parts])
            else:
                gut = gut + amount
            guts.append(gut)
            states.append(modes)
        end = torch.cat([start[1:], torch.full_like(start[:1], torch.inf)])
        return cls(parts, absorption, Segments(start, end, torch.stack(guts), empty.inflow, torch.stack(states, dim=1)))

    def plus(self, other: "Course", factor: Tensor) -> "Course":
        """Return the sum of this course and a multiple of another one over the same events, `factor` for each draw."""
        segments = self.segments
        added = other.segments
        joined = segments._replace(
            gut=segments.gut + factor * added.gut,
            inflow=segments.inflow + factor * added.inflow,
            modes=segments.modes + factor * added.modes,
        )
        return Course(self.parts, self.absorption, joined)

    def of_draws(self, chosen: slice) -> "Course":
        """Return the course of some of the draws."""
        absorption = None if self.absorption is None else self.absorption[chosen]
        segments = Segments(*(part[..., chosen] for part in self.segments))
        return Course([(a[chosen], rate[chosen]) for a, rate in self.parts], absorption, segments)

    def before(self, time: float) -> Tensor:
        """Return the concentration just before a time, of shape (draws,): doses given at that time do not count."""
        segments = self.segments
        limit = time * (1 - SAME)
        active = (segments.start < limit) & (limit <= segments.end)
        values = self.value((time - segments.start).clamp(min=0), segments)
        return torch.where(active, values, 0.0).sum(dim=0)

    def at(self, times: Tensor) -> Tensor:
        """Return the concentration of each draw at its time, of shape (draws,): doses given at that time count."""
        segments = self.segments
        active = (segments.start <= times) & (times < segments.end)
        return torch.where(active, self.value((times - segments.start).clamp(min=0), segments), 0.0).sum(dim=0)

    def peak(self, start: float, until: float) -> tuple[Tensor, Tensor]:
        """Return the greatest concentration between two times and the time of it, of shape (draws,)."""
        best = torch.zeros_like(self.parts[0][1])
        when = torch.full_like(best, start)
        for segments, low, high in self.stretches(start, until):
            points, values = self.points(segments, low, high)
            tau, value = self._extremum(segments, points, values)
            value = torch.where(low <= high, value, -torch.inf)
            top, which = value.max(dim=0)
            time = (segments.start + tau).gather(0, which[None])[0]
            better = top > best
            best = torch.where(better, top, best)
            when = torch.where(better, time, when)
        return best, when

    def time_above(self, threshold: float, start: float, until: float) -> Tensor:
        """Return the time for which the concentration exceeds a threshold between two times, of shape (draws,)."""
        total = torch.zeros_like(self.parts[0][1])
        for segments, low, high in self.stretches(start, until):
            points, values = self.points(segments, low, high)
            turns = [self._extremum(segments, points, sign * values, sign)[0] for sign in (1.0, -1.0)]
            points = torch.cat([points, torch.stack(turns)]).sort(dim=0).values
            above = self.value(points, segments) > threshold
            gap = (points[1:] - points[:-1]).clamp(min=0)
            length = torch.where(above[1:] & above[:-1], gap, 0.0)
            crossing = torch.nonzero(above[1:] != above[:-1], as_tuple=True)
            if len(crossing[0]):
                first = points[:-1][crossing]
                last = points[1:][crossing]
                rising = above[1:][crossing]
                root = self._crossing(first, last, rising, segments, crossing[1:], threshold)
                length = length.index_put(crossing, torch.where(rising, last - root, root - first))
            total = total + torch.where(low < high, length.sum(dim=0), 0.0).sum(dim=0)
        return total

    def area(self, start: float, end: float) -> Tensor:
        """Return the area under the concentrations between two times, of shape (draws,); the end may be infinite."""
        total = torch.zeros_like(self.parts[0][1])
        for segments, low, high in self.stretches(start, end):
            valid = low < high
            low = torch.where(valid, low, 0.0)
            high = torch.where(valid, high, 0.0)
            entered = segments.inflow * (high - low)
            if self.absorption is not None:
                entered = entered + self._gut(low, segments.gut) - self._gut(high, segments.gut)
            state = segments.gut, segments.inflow, segments.modes
            lost = self._modes(low, *state) - self._modes(high, *state)
            pieces = [(lost[i] + a * entered) / rate for i, (a, rate) in enumerate(self.parts)]
            total = total + torch.where(valid, torch.stack(pieces).sum(dim=0), 0.0).sum(dim=0)
        return total

    def _gut(self, tau: Tensor, gut: Tensor) -> Tensor:
        return gut if self.absorption is None else gut * torch.exp(-self.absorption * tau)

    def _modes(self, tau: Tensor, gut: Tensor, inflow: Tensor, modes: Tensor) -> Tensor:
        """Return the contributions of the exponentials at a time after an event."""
        values = []
        for (a, rate), z in zip(self.parts, modes, strict=True):
            value = z * torch.exp(-rate * tau)
            if self.absorption is None:
                value = value - a * inflow * torch.expm1(-rate * tau) / rate
            else:
                value = value + a * self.absorption * gut * between(tau, rate, self.absorption)
            values.append(value)
        return torch.stack(values)

    def value(self, tau: Tensor, segments: Segments) -> Tensor:
        """Return the concentrations at times after the event of each segment."""
        return self._modes(tau, segments.gut, segments.inflow, segments.modes).sum(dim=0)

    def stretches(self, start: float, end: float) -> Iterator[tuple[Segments, Tensor, Tensor]]:
        """Yield segments, with the start and end, counted from its event, of the part of each between two times."""
        slowest = self.parts[-1][1] if self.absorption is None else torch.minimum(self.parts[-1][1], self.absorption)
        n_events, n_draws = self.segments.start.shape
        size = max(1, BLOCK // (N_POINTS * n_draws))
        for first in range(0, n_events, size):
            segments = self.segments.take(slice(first, first + size))
            low = (start - segments.start).clamp(min=0)
            high = segments.end.clamp(max=end) - segments.start
            # a segment without end is cut where nothing is left
            yield segments, low, torch.where(torch.isinf(high), low + LAST / slowest, high)

    def points(self, segments: Segments, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return times after the event, of shape (points, events, draws), and the concentrations at them."""
        rates = [rate for _, rate in self.parts] + ([] if self.absorption is None else [self.absorption])
        fastest = torch.stack(rates).amax(dim=0)
        slowest = torch.stack(rates).amin(dim=0)
        length = (high - low).clamp(min=0)
        last = torch.minimum(length, LAST / slowest)
        first = torch.minimum(last, FIRST / fastest)
        share = torch.linspace(0, 1, N_POINTS - 2, dtype=low.dtype)[:, None, None]
        ratio = torch.where(first > 0, last / torch.where(first > 0, first, 1.0), 1.0)
        inner = low + first * ratio**share
        points = torch.cat([low[None], torch.minimum(inner, low + length), (low + length)[None]])
        return points, self.value(points, segments)

    def _extremum(self, segments: Segments, points: Tensor, values: Tensor, sign: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the time and value of each segment's maximum (minimum, with a sign of -1), by golden sections."""
        top, which = values.max(dim=0)
        best = points.gather(0, which[None])[0]
        left = points.gather(0, (which - 1).clamp(min=0)[None])[0]
        right = points.gather(0, (which + 1).clamp(max=len(points) - 1)[None])[0]
        middle = highest(lambda tau: sign * self.value(tau, segments), left, right, GOLDEN_STEPS)
        value = sign * self.value(middle, segments)
        return torch.where(value > top, middle, best), torch.maximum(value, top)

    def _crossing(
        self,
        left: Tensor,
        right: Tensor,
        rising: Tensor,
        segments: Segments,
        where: tuple[Tensor, ...],
        threshold: float,
    ) -> Tensor:
        """Return the times at which a threshold is crossed, in some segments of some draws, by bisection."""
        event, draw = where
        parts = [(a[draw], rate[draw]) for a, rate in self.parts]
        course = Course(parts, None if self.absorption is None else self.absorption[draw], self.segments)
        state = segments.gut[event, draw], segments.inflow[event, draw], segments.modes[:, event, draw]
        for _ in range(HALVINGS):
            middle = 0.5 * (left + right)
            beyond = (course._modes(middle, *state).sum(dim=0) > threshold) == rising
            left = torch.where(beyond, left, middle)
            right = torch.where(beyond, middle, right)
        return 0.5 * (left + right)


def highest(function: Callable[[Tensor], Tensor], left: Tensor, right: Tensor, n_steps: int) -> Tensor:
    """Return the argument of the maximum of a function with one maximum in each bracket, by golden sections."""
    inner = right - GOLDEN * (right - left)
    outer = left + GOLDEN * (right - left)
    f_inner = function(inner)
    f_outer = function(outer)
    for _ in range(n_steps):
        falls = f_inner > f_outer
        left = torch.where(falls, left, inner)
        right = torch.where(falls, outer, right)
        fresh = torch.where(falls, right - GOLDEN * (right - left), left + GOLDEN * (right - left))
        value = function(fresh)
        inner, outer = torch.where(falls, fresh, outer), torch.where(falls, inner, fresh)
        f_inner, f_outer = torch.where(falls, value, f_outer), torch.where(falls, f_inner, value)
    return 0.5 * (left + right)
