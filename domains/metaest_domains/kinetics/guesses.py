"""Initial values read off the data: rough, but of the right magnitude whatever the units."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest import TaskSet
from metaest_domains.kinetics.rates import GAS_CONSTANT

__all__ = ["half_time", "half_times", "middle_temperature", "slope_of_rates"]


def half_times(time: NDArray[Any], y: NDArray[Any], tasks: TaskSet) -> NDArray[Any]:
    """Time at which each task has gone half of its own way; NaN where it goes none."""
    found = np.full(len(tasks), np.nan)
    for i in range(len(tasks)):
        rows = slice(tasks.offsets[i], tasks.offsets[i + 1])
        order = np.argsort(time[rows], kind="stable")
        t, own = time[rows][order], y[rows][order]
        level = 0.5 * max(own.max(), 0.5 if own.max() > 0.1 else np.inf)
        later = np.flatnonzero(own >= level)
        if len(later):
            j = int(later[0])
            before = t[j - 1] if j else 0.0
            found[i] = 0.5 * (before + t[j]) or t[j]
    return np.where(found > 0, found, np.nan)


def half_time(time: NDArray[Any], y: NDArray[Any], tasks: TaskSet) -> float:
    """Return the median of the half-times; where no task has one, the latest time."""
    found = half_times(time, y, tasks)
    if np.isfinite(found).any():
        return float(np.nanmedian(found))
    return float(time.max()) or 1.0


def middle_temperature(temperature: NDArray[Any]) -> float:
    """Return the mean temperature, to the nearest kelvin."""
    return float(np.round(temperature.mean()))


def slope_of_rates(time: NDArray[Any], temperature: NDArray[Any], y: NDArray[Any], tasks: TaskSet) -> float:
    """Return an activation energy (kJ/mol) from half-times at different temperatures; NaN where there is one alone."""
    rates, inverse = [], []
    for i in range(len(tasks)):
        rows = slice(tasks.offsets[i], tasks.offsets[i + 1])
        for value in np.unique(temperature[rows]):
            own = temperature[rows] == value
            one = TaskSet.from_arrays(time[rows][own, None], y[rows][own], np.zeros(int(own.sum())))
            half = half_times(time[rows][own], y[rows][own], one)[0]
            if np.isfinite(half):
                rates.append(-np.log(half))
                inverse.append(-1 / (GAS_CONSTANT * value))
    if len(rates) < 2 or np.ptp(inverse) == 0:
        return float("nan")
    return float(np.polyfit(inverse, rates, 1)[0])
