"""Windows of a series of readings: the last two hours, and what comes 30 and 60 minutes later."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metaest import TaskError
from metaest.tasks.arguments import as_flag, as_whole
from metaest.tasks.numbers import as_number, as_vector
from metaest.tasks.record import Record
from metaest.tasks.times import elapsed
from metaest_domains.physiology.glucose_units import as_readings

__all__ = ["Windows", "glucose_windows"]

# places of the grid of one series: 190 years of readings every ten seconds would be more
MOST_STEPS = 10_000_000


@dataclass(frozen=True, eq=False)
class Windows(Record):
    """Rows of a forecast; arrays are read-only.

    Attributes
    ----------
    end : ndarray of shape (n_rows,)
        Time of the last reading of each window, in minutes.
    history : ndarray of shape (n_rows, n_readings)
        Readings, the last one last.
    ahead : ndarray of shape (n_rows, n_horizons)
        Readings to come.
    row : ndarray of shape (n_rows,)
        Number of the last reading of each window among the readings passed.
    """

    end: NDArray[np.float64]
    history: NDArray[np.float64]
    ahead: NDArray[np.float64]
    row: NDArray[np.intp]

    def __post_init__(self) -> None:
        self._set(end=as_vector(self.end, "windows: end"))
        n = len(self.end)
        for name in ("history", "ahead"):
            table = getattr(self, name)
            if not isinstance(table, np.ndarray) or table.ndim != 2 or len(table) != n or table.dtype.kind not in "fiu":
                raise TaskError(f"windows: {name} must be an array of numbers with {n} rows, as end has.")
        row = as_vector(self.row, "windows: row")
        if len(row) != n or (row != np.floor(row)).any() or (row < 0).any() or (row > 2**53).any():
            raise TaskError(f"windows: row must hold {n} numbers of readings, as end has.")
        self._set(row=row.astype(np.intp))
        super().__post_init__()

    def take(self, rows: NDArray[Any]) -> "Windows":
        """Return the chosen rows, by a mask or by numbers."""
        chosen = np.asarray(rows)
        n = len(self.end)
        mask = chosen.dtype.kind == "b" and chosen.shape == (n,)
        numbered = chosen.dtype.kind in "iu" and chosen.ndim == 1 and bool(((chosen >= -n) & (chosen < n)).all())
        if not mask and not numbered:
            raise TaskError(f"rows must be a mask of {n} rows, or a list of their numbers, got {rows!r}.")
        return Windows(self.end[chosen], self.history[chosen], self.ahead[chosen], self.row[chosen])


def glucose_windows(
    time: ArrayLike,
    glucose: ArrayLike,
    *,
    n_readings: int = 24,
    horizons: Sequence[float] = (30, 60),
    step: float = 5.0,
    greatest_gap: float = 30.0,
    complete: bool = True,
) -> Windows:
    """Cut a series into overlapping windows on a grid of equal steps.

    Missing readings (NaN) are left out. The series is cut where two readings are more than `greatest_gap` apart. Within
    a piece, a place of the grid without a reading is interpolated between its neighbours; the last reading of a window
    and those to come are measured ones, so that nothing that comes later enters a window.

    Parameters
    ----------
    time : array-like of shape (n,)
        Rising: minutes, time differences, or dates, which become minutes since the first.
    glucose : array-like of shape (n,)
        Readings, in any unit; NaN where one is missing.
    n_readings : int, default=24
    horizons : sequence of float, default=(30, 60)
        Minutes ahead, multiples of `step`.
    step : float, default=5
        Minutes.
    greatest_gap : float, default=30
        Minutes.
    complete : bool, default=True
        Whether only windows are returned whose later readings are known; otherwise these are NaN where they are not.

    Returns
    -------
    Windows

    Raises
    ------
    ValueError
        When times are missing, do not rise or cannot be read as minutes, readings are infinite or all missing, or
            horizons are no multiples of the step.
    """
    step = as_number(step, "step", least=1e-3, wanted="a number of minutes of at least 0.001")
    complete = as_flag(complete, "complete")
    greatest_gap = as_number(greatest_gap, "greatest_gap", above=0, wanted="a number of minutes above 0")
    n_readings = as_whole(n_readings, "n_readings", most=MOST_STEPS)
    t, g, rows = _series(time, glucose)
    later = as_vector(horizons, "horizons") / step
    if not len(later):
        raise TaskError("horizons must hold at least one number of minutes.")
    if later.max() > MOST_STEPS or (t[-1] - t[0]) / step > MOST_STEPS:
        raise TaskError(
            f"times and horizons reach over more than {MOST_STEPS:,} steps of {step:g} minutes; check their unit."
        )
    if not np.allclose(later, later.round()) or (later < 1).any():
        raise ValueError(f"horizons must be multiples of {step:g} minutes, got {(later * step).tolist()}.")
    parts = [
        _windows(t[piece], g[piece], n_readings, later.round().astype(int), step, complete)
        for piece in np.split(np.arange(len(t)), np.flatnonzero(np.diff(t) > greatest_gap) + 1)
    ]
    end, history, ahead = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Windows(end, history, ahead, rows[np.searchsorted(t, end)])


def _series(time: Any, glucose: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return minutes and readings without missing ones, and their row numbers."""
    t = elapsed(np.reshape(time, -1) if isinstance(time, np.ndarray) else time, "min", "time")
    g = as_readings(glucose, "glucose").reshape(-1)
    if t.shape != g.shape or len(t) == 0:
        raise ValueError(f"time has {len(t)} values and glucose {len(g)}; as many are wanted, and at least one.")
    for name, wrong in (("time is missing or infinite", ~np.isfinite(t)), ("glucose is infinite", np.isinf(g))):
        if wrong.any():
            raise ValueError(f"{name} in reading {int(np.argmax(wrong))}.")
    if (np.diff(t) <= 0).any():
        where = int(np.argmax(np.diff(t) <= 0)) + 1
        raise ValueError(f"times must rise; reading {where} comes at {t[where]:g} after {t[where - 1]:g} minutes.")
    rows = np.flatnonzero(~np.isnan(g))
    if not len(rows):
        raise ValueError("all readings are missing.")
    return t[rows], g[rows], rows


def _windows(
    t: NDArray[Any], g: NDArray[Any], n: int, later: NDArray[np.intp], step: float, complete: bool
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    grid = t[0] + step * np.arange(int(np.floor((t[-1] - t[0]) / step + 0.5)) + 1)
    nearest = np.clip(np.searchsorted(t, grid), 1, max(1, len(t) - 1)) if len(t) > 1 else np.zeros(len(grid), int)
    if len(t) > 1:
        nearest = nearest - (grid - t[nearest - 1] < t[nearest] - grid)
    own = np.abs(t[nearest] - grid) <= 0.5 * step
    value = np.where(own, g[nearest], np.interp(grid, t, g))
    ends = np.arange(n - 1, len(grid))
    ends = ends[own[ends]]
    ahead = np.full((len(ends), len(later)), np.nan)
    for j, shift in enumerate(later):
        there = ends + shift < len(grid)
        known = there.copy()
        known[there] = own[ends[there] + shift]
        ahead[known, j] = value[ends[known] + shift]
    kept = np.isfinite(ahead).all(axis=1) if complete else np.ones(len(ends), dtype=bool)
    ends = ends[kept]
    ahead = ahead[kept]
    history = value[ends[:, None] + np.arange(1 - n, 1)] if len(ends) else np.empty((0, n))
    return t[nearest[ends]] if len(ends) else np.empty(0), history, ahead
