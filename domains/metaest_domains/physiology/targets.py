"""What a dose is to reach: a trough, a peak, an area or a time above a concentration, at least or within a range."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from metaest.tasks.numbers import as_number
from metaest_domains.physiology.courses import Courses, LinearCourses
from metaest_domains.physiology.regimen import Regimen
from metaest_domains.physiology.treatment import require_linear, target_time

__all__ = ["Target", "read_target"]


class Exposure(ABC):
    """A quantity of the concentrations that rises with the dose, up to `most`."""

    most = np.inf
    # why no dose may reach it
    unreached = "none of it is in the blood"

    @abstractmethod
    def value(self, courses: Courses) -> Tensor:
        """Return the exposure, of shape (draws,)."""

    @abstractmethod
    def factor(self, courses: Courses, goal: float) -> Tensor:
        """Return the least factor of the planned doses, at least 0, with which the exposure reaches a goal."""


@dataclass(frozen=True)
class Trough(Exposure):
    """The concentration just before a time."""

    time: float

    def value(self, courses: Courses) -> Tensor:
        """Return the concentration."""
        return courses.before(self.time)

    def factor(self, courses: Courses, goal: float) -> Tensor:
        """Return the factor for a concentration."""
        return courses.factor_before(goal, self.time)


@dataclass(frozen=True)
class Peak(Exposure):
    """The greatest concentration between two times."""

    start: float
    end: float

    def value(self, courses: Courses) -> Tensor:
        """Return the concentration."""
        return courses.peak(self.start, self.end)[0]

    def factor(self, courses: Courses, goal: float) -> Tensor:
        """Return the factor for a concentration."""
        return courses.factor_of_peak(goal, self.start, self.end)


@dataclass(frozen=True)
class Area(Exposure):
    """The area under the concentrations between two times."""

    start: float
    end: float

    def value(self, courses: Courses) -> Tensor:
        """Return the area."""
        assert isinstance(courses, LinearCourses)
        return courses.total.area(self.start, self.end)

    def factor(self, courses: Courses, goal: float) -> Tensor:
        """Return the factor for an area."""
        assert isinstance(courses, LinearCourses)
        return courses.factor_of_area(goal, self.start, self.end)


@dataclass(frozen=True)
class ShareAbove(Exposure):
    """The share of the time between two times for which the concentration is above another one."""

    most = 1.0
    unreached = "it is not in the blood for that share of the time"
    concentration: float
    start: float
    end: float

    def value(self, courses: Courses) -> Tensor:
        """Return the share."""
        assert isinstance(courses, LinearCourses)
        time = courses.total.time_above(self.concentration, self.start, self.end)
        return time / (self.end - self.start)

    def factor(self, courses: Courses, goal: float) -> Tensor:
        """Return the factor for a share."""
        assert isinstance(courses, LinearCourses)
        time = min(goal, 1.0) * (self.end - self.start)
        return courses.factor_of_time_above(self.concentration, time, self.start, self.end)


@dataclass(frozen=True)
class Target:
    """What a dose is to reach.

    Attributes
    ----------
    exposure : Exposure
    low, high : float
        The range; infinite where there is no upper end.
    ranged : bool
        Whether it was given as a range.
    time : float
        When it is to be reached.
    """

    exposure: Exposure
    low: float
    high: float
    ranged: bool
    time: float

    @property
    def goal(self) -> float:
        """The middle of the range, or its lower end where there is no upper one."""
        return 0.5 * (self.low + self.high) if np.isfinite(self.high) else self.low

    def __str__(self) -> str:
        if not self.ranged:
            return f"{self.low:g}"
        return f"{self.low:g} to {self.high:g}" if np.isfinite(self.high) else f"{self.low:g} or more"


def read_target(
    where: str,
    patient: Any,
    regimen: Regimen,
    targets: Mapping[str, Any],
    *,
    concentration: float | None,
    start: float | None,
    time: float | None,
) -> Target:
    """Return the target among arguments by name, or raise an error that names what is wrong with them.

    Parameters
    ----------
    where : str
        The function that was called.
    patient : AdaptedEquation or fitted model
    regimen : Regimen
    targets : dict of str to float or (float, float)
        ``target_trough``, ``target_peak``, ``target_auc`` and ``target_time_above``, of which one is not None.
    concentration, start, time : float, optional
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"{where} requires one of target_trough, target_peak, target_auc and target_time_above.")
    kind, value = given.popitem()
    interval = kind in ("target_auc", "target_time_above")
    if (start is None) == interval:
        raise ValueError(
            f"{where}: start= is where the interval of target_auc or target_time_above begins, and of these alone; "
            f"got {kind}."
        )
    if (concentration is None) == (kind == "target_time_above"):
        raise ValueError(
            f"{where}: concentration= is what target_time_above is to exceed, and belongs to it alone; got {kind}."
        )
    at = target_time(regimen, time)
    first = float(regimen.time[0])
    begin = first if start is None else as_number(start, f"{where}: start", least=0, wanted="a time of at least 0")
    if interval:
        require_linear(patient)
        if not begin < at:
            raise ValueError(f"{where}: the interval has to end after its start; got {begin:g} to {at:g}.")
    exposure: Exposure
    if kind == "target_trough":
        exposure = Trough(at)
    elif kind == "target_peak":
        exposure = Peak(first, at)
    elif kind == "target_auc":
        exposure = Area(begin, at)
    else:
        above = as_number(concentration, f"{where}: concentration", above=0, wanted="a concentration above 0")
        exposure = ShareAbove(above, begin, at)
    return _in_range(f"{where}: {kind}", value, exposure, at)


WANTED = {
    Trough: "a concentration",
    Peak: "a concentration",
    Area: "an area",
    ShareAbove: "a share of the time up to 1,",
}


def _in_range(where: str, value: Any, exposure: Exposure, time: float) -> Target:
    """Return the target of one number, or of a range of two."""
    wanted = f"{WANTED[type(exposure)]} above 0"
    if not isinstance(value, (tuple, list)):
        low = as_number(value, where, above=0, most=exposure.most, wanted=f"{wanted}, or a range (low, high),")
        return Target(exposure, low, np.inf, False, time)
    if len(value) != 2:
        raise ValueError(f"{where}: a range is (low, high), got {value!r}.")
    low = as_number(value[0], f"{where}: low", least=0, most=exposure.most, wanted=f"{wanted}, or 0,")
    if isinstance(value[1], (float, np.floating)) and value[1] == np.inf:
        high = np.inf
    else:
        high = as_number(value[1], f"{where}: high", above=0, most=exposure.most, wanted=wanted)
    if not low < high:
        raise ValueError(f"{where}: the range goes from {low:g} to {high:g}; (low, high) with low < high is wanted.")
    return Target(exposure, low, high if high < exposure.most else np.inf, True, time)
