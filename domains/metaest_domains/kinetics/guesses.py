"""Initial values are read off the data: rough, but of the right magnitude whatever the units."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest import TaskSet
from metaest_domains.kinetics.rates import GAS_CONSTANT

__all__ = ["half_time", "half_times", "middle_temperature", "slope_of_rates"]

# a curve whose largest value is below this has not begun to transform, and has no half-time
_LEAST_RISE = 0.1
# largest value taken for a curve that was stopped early: half of it, 0.25, is the least level counted as half-way
_LEAST_END = 0.5


def half_times(time: NDArray[Any], y: NDArray[Any], tasks: TaskSet) -> NDArray[Any]:
    """Return the time at which each task reaches half of its largest value; NaN where the task does not rise."""
    times = np.full(len(tasks), np.nan)
    for i in range(len(tasks)):
        rows = slice(tasks.offsets[i], tasks.offsets[i + 1])
        order = np.argsort(time[rows], kind="stable")
        t = time[rows][order]
        values = y[rows][order]
        level = 0.5 * max(values.max(), _LEAST_END if values.max() > _LEAST_RISE else np.inf)
        later = np.flatnonzero(values >= level)
        if len(later):
            j = int(later[0])
            before = t[j - 1] if j else 0.0
            times[i] = 0.5 * (before + t[j]) or t[j]
    return np.where(times > 0, times, np.nan)


def half_time(time: NDArray[Any], y: NDArray[Any], tasks: TaskSet) -> float:
    """Return the median of the half-times; where no task has one, the latest time."""
    halves = half_times(time, y, tasks)
    if np.isfinite(halves).any():
        return float(np.nanmedian(halves))
    return float(time.max()) or 1.0


def middle_temperature(temperature: NDArray[Any]) -> float:
    """Return the mean temperature, to the nearest kelvin."""
    return float(np.round(temperature.mean()))


def slope_of_rates(time: NDArray[Any], temperature: NDArray[Any], y: NDArray[Any], tasks: TaskSet) -> float:
    """Return an activation energy (kJ/mol) from half-times at different temperatures; NaN for a single temperature."""
    rates = []
    inverse = []
    for i in range(len(tasks)):
        rows = slice(tasks.offsets[i], tasks.offsets[i + 1])
        for value in np.unique(temperature[rows]):
            at_value = temperature[rows] == value
            one = TaskSet.from_arrays(time[rows][at_value, None], y[rows][at_value], np.zeros(int(at_value.sum())))
            half = half_times(time[rows][at_value], y[rows][at_value], one)[0]
            if np.isfinite(half):
                rates.append(-np.log(half))
                inverse.append(-1 / (GAS_CONSTANT * value))
    if len(rates) < 2 or np.ptp(inverse) == 0:
        return float("nan")
    return float(np.polyfit(inverse, rates, 1)[0])
