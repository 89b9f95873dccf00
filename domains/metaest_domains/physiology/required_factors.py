"""The factor of planned doses with which concentrations are above a threshold for a given time."""

from typing import NamedTuple

import torch
from torch import Tensor

from metaest_domains.physiology.course import BLOCK, N_POINTS, Course

__all__ = ["RequiredFactors", "factor_of_time_above"]

# logarithm of a factor that stands for "with any dose" (minus) and "with none" (plus)
BEYOND = 690.0
# Newton steps, or bisections where these leave the bracket, at most: 40 of the latter leave 1e-12 of it
MOST_STEPS = 40
# share of a time within which such a search ends
CLOSE = 1e-8
# times the solution between points of time is corrected by the exact time, at most; each takes two digits off its error
CORRECTIONS = 3
# share of a time within which they end
EXACT = 1e-6
# share of a time by which an answer may fall short of it
SHORT = 1e-9


class RequiredFactors(NamedTuple):
    """The logarithms of the least factors with which the concentration reaches a threshold, on stretches of time.

    The concentration is that of past doses and, times the factor, of planned ones. Along a stretch the logarithm is
    taken as linear in time, which is exact where one exponential is left.

    Attributes
    ----------
    least, greatest : Tensor of shape (stretches, draws)
    length : Tensor of shape (stretches, draws)
    """

    least: Tensor
    greatest: Tensor
    length: Tensor

    @classmethod
    def of(cls, fixed: Course, unit: Course, threshold: float, start: float, end: float) -> "RequiredFactors | None":
        """Compute them between two times, for two courses over the same events; None where nothing is in the blood."""
        parts = []
        for (past, low, high), (planned, _, _) in zip(
            fixed.stretches(start, end), unit.stretches(start, end), strict=True
        ):
            inside = (low < high).any(dim=1)
            if not bool(inside.any()):
                continue
            past, planned, low, high = past.take(inside), planned.take(inside), low[inside], high[inside]
            points, added = unit.points(planned, low, high)
            lacking = threshold - fixed.value(points, past)
            factor = torch.where(added > 0, lacking / torch.where(added > 0, added, 1.0), torch.inf)
            logs = factor.clamp(min=0).log().clamp(-BEYOND, BEYOND)
            logs = torch.where(lacking < 0, -BEYOND, logs)
            length = (points[1:] - points[:-1]) * (low < high)
            parts.append([
                torch.minimum(logs[1:], logs[:-1]).flatten(0, 1),
                torch.maximum(logs[1:], logs[:-1]).flatten(0, 1),
                length.clamp(min=0).flatten(0, 1),
            ])  # fmt: skip
        return cls(*(torch.cat(each) for each in zip(*parts, strict=True))) if parts else None

    def time_above(self, log_factor: Tensor) -> tuple[Tensor, Tensor]:
        """Return the time above the threshold with a factor for each draw, and its slope, both of shape (draws,)."""
        width = (self.greatest - self.least).clamp(min=1e-12)
        share = (log_factor - self.least) / width
        inside = (share > 0) & (share < 1)
        time = (self.length * share.clamp(0.0, 1.0)).sum(dim=0)
        return time, torch.where(inside, self.length / width, 0.0).sum(dim=0)

    def solved(self, time: Tensor, first: Tensor | None = None) -> Tensor:
        """Return the logarithm of the least factor with which the threshold is exceeded for a time of each draw.

        Parameters
        ----------
        time : Tensor of shape (draws,)
        first : Tensor of shape (draws,), optional
            Where the search starts.
        """
        low = torch.where(self.least > -BEYOND, self.least, BEYOND).amin(dim=0)
        high = torch.where(self.greatest < BEYOND, self.greatest, -BEYOND).amax(dim=0)
        high = torch.where(self.time_above(high)[0] >= time, high, BEYOND)
        at = 0.5 * (low + high) if first is None else first
        solution = at.clone()
        rest, place = self, torch.arange(len(at))
        for _ in range(MOST_STEPS):
            value, slope = rest.time_above(at)
            low, high = torch.where(value >= time, low, at), torch.where(value >= time, at, high)
            solution[place] = at
            going = ((value - time).abs() > CLOSE * time) & (high - low > CLOSE)
            step = at - (value - time) / slope
            at = torch.where((step > low) & (step < high), step, 0.5 * (low + high))
            if not bool(going.any()):
                break
            if int(going.sum()) < len(going) / 2:  # a few draws take many steps
                rest = RequiredFactors(*(part[:, going] for part in rest))
                place, at, low, high, time = (part[going] for part in (place, at, low, high, time))
        return solution


def factor_of_time_above(
    fixed: Course, unit: Course, threshold: float, time: float, start: float, end: float
) -> Tensor:
    """Return the least factor of the planned doses with which a threshold is exceeded for a time between two times.

    Parameters
    ----------
    fixed, unit : Course
        Of past doses, and of planned ones.
    threshold : float
        Above 0.
    time : float
        Above 0, at most end - start.
    start, end : float

    Returns
    -------
    Tensor of shape (draws,)
        0 where past doses suffice, infinite where no dose does.
    """
    n_draws = len(fixed.parts[0][1])
    # a lag moves events by draw, so that all of them may matter
    size = max(1, BLOCK // (N_POINTS * len(unit.segments.start)))
    parts = [slice(first, first + size) for first in range(0, n_draws, size)]
    return torch.cat([_solve(fixed.of_draws(p), unit.of_draws(p), threshold, time, start, end) for p in parts])


def _solve(fixed: Course, unit: Course, threshold: float, time: float, start: float, end: float) -> Tensor:
    """Return the factors of some draws."""
    target = torch.full_like(fixed.parts[0][1], time)
    required = RequiredFactors.of(fixed, unit, threshold, start, end)
    if required is None:
        return torch.full_like(target, torch.inf)
    enough = torch.zeros_like(target, dtype=torch.bool)
    if any(bool(part.any()) for part in (fixed.segments.gut, fixed.segments.inflow, fixed.segments.modes)):
        enough = fixed.time_above(threshold, start, end) >= time * (1 - SHORT)
    never = required.time_above(torch.full_like(target, BEYOND - 1))[0] < time * (1 - SHORT)
    solution = required.solved(target)
    wanted = target
    for _ in range(CORRECTIONS):
        factor = torch.where(never | enough, 1.0, solution.exp())
        short = torch.where(never | enough, 0.0, target - fixed.plus(unit, factor).time_above(threshold, start, end))
        if bool((short.abs() <= EXACT * time).all()):
            break
        wanted = (wanted + short).clamp(0.0, end - start)
        solution = required.solved(wanted, solution)
    return torch.where(enough, 0.0, torch.where(never, torch.inf, solution.exp()))
