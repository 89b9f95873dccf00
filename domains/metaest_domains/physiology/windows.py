"""Windows of a series of readings: those of two hours, and the ones 30 and 60 minutes later."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metaest import TaskError
from metaest.tasks.arguments import as_flag, as_whole
from metaest.tasks.numbers import as_number, as_vector
from metaest.tasks.record import Record, set_fields
from metaest.tasks.times import elapsed
from metaest_domains.physiology.glucose_units import as_readings

__all__ = ["Windows", "glucose_windows"]

# greatest length of the grid of one series: 95 years of readings every five minutes
MOST_STEPS = 10_000_000


@dataclass(frozen=True, eq=False)
class Windows(Record):
    """Windows from which forecasts are made; arrays are read-only.

    Attributes
    ----------
    end : ndarray of shape (n_rows,)
        Time of the last reading of each window, in minutes.
    history : ndarray of shape (n_rows, n_readings)
        Readings of each window, in order of time.
    ahead : ndarray of shape (n_rows, n_horizons)
        Later readings, at the horizons.
    row : ndarray of shape (n_rows,)
        Position of the last reading of each window in the series.
    """

    end: NDArray[np.float64]
    history: NDArray[np.float64]
    ahead: NDArray[np.float64]
    row: NDArray[np.intp]

    def __post_init__(self) -> None:
        set_fields(self, end=as_vector(self.end, "windows: end"))
        n = len(self.end)
        for name in ("history", "ahead"):
            table = getattr(self, name)
            if not isinstance(table, np.ndarray) or table.ndim != 2 or len(table) != n or table.dtype.kind not in "fiu":
                raise TaskError(f"windows: {name} must be an array of numbers with {n} rows, like end.")
        row = as_vector(self.row, "windows: row")
        if len(row) != n or (row != np.floor(row)).any() or (row < 0).any() or (row > 2**53).any():
            raise TaskError(f"windows: row must contain {n} positions of readings, like end.")
        set_fields(self, row=row.astype(np.intp))
        super().__post_init__()

    def take(self, rows: NDArray[Any]) -> "Windows":
        """Return the chosen windows, by a mask or by their numbers."""
        chosen = np.asarray(rows)
        n = len(self.end)
        mask = chosen.dtype.kind == "b" and chosen.shape == (n,)
        numbered = chosen.dtype.kind in "iu" and chosen.ndim == 1 and bool(((chosen >= -n) & (chosen < n)).all())
        if not mask and not numbered:
            raise TaskError(f"rows must be a mask of {n} rows, or a list of row numbers, got {rows!r}.")
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

    Missing readings (NaN) are left out. The series is cut at gaps longer than `greatest_gap`. Within a piece, a step of
    the grid without a reading is interpolated between its neighbours. The last reading of a window and the later ones
    are always measured, so that no later reading enters a window.

    Parameters
    ----------
    time : array-like of shape (n,)
        Rising times: minutes, time differences, or dates, which become minutes since the first.
    glucose : array-like of shape (n,)
        Readings, in any unit; NaN for a missing one.
    n_readings : int, default=24
        Readings in a window.
    horizons : sequence of float, default=(30, 60)
        Minutes ahead, multiples of `step`.
    step : float, default=5
        Step of the grid in minutes.
    greatest_gap : float, default=30
        Longest gap inside a piece, in minutes.
    complete : bool, default=True
        True returns only windows with all later readings; False returns all windows, with NaN for missing later
        readings.

    Returns
    -------
    Windows

    Raises
    ------
    ValueError
        When times are missing, do not rise or cannot be read as minutes, readings are infinite or all missing, or
        horizons are not multiples of the step.
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
            f"times and horizons span more than {MOST_STEPS:,} steps of {step:g} minutes; check their unit."
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
    """Return times in minutes and readings, without missing ones, and their row numbers."""
    if isinstance(time, np.ndarray) and time.ndim == 2 and time.shape[1] == 1:
        time = time[:, 0]
    if isinstance(time, np.ndarray) and time.ndim > 1:
        raise ValueError(f"time must be one column, got an array of shape {np.shape(time)}.")
    t = elapsed(time, "min", "time")
    g = as_readings(glucose, "glucose").reshape(-1)
    if t.shape != g.shape or len(t) == 0:
        raise ValueError(f"time has {len(t)} values and glucose {len(g)}; they must have the same number, at least 1.")
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
    """Return the ends, readings and later readings of the windows of a series without gaps."""
    grid = t[0] + step * np.arange(int(np.floor((t[-1] - t[0]) / step + 0.5)) + 1)
    nearest = np.clip(np.searchsorted(t, grid), 1, max(1, len(t) - 1)) if len(t) > 1 else np.zeros(len(grid), int)
    if len(t) > 1:
        nearest = nearest - (grid - t[nearest - 1] < t[nearest] - grid)
    measured = np.abs(t[nearest] - grid) <= 0.5 * step
    value = np.where(measured, g[nearest], np.interp(grid, t, g))
    ends = np.arange(n - 1, len(grid))
    ends = ends[measured[ends]]
    ahead = np.full((len(ends), len(later)), np.nan)
    for j, shift in enumerate(later):
        on_grid = ends + shift < len(grid)
        followed = on_grid.copy()
        followed[on_grid] = measured[ends[on_grid] + shift]
        ahead[followed, j] = value[ends[followed] + shift]
    kept = np.isfinite(ahead).all(axis=1) if complete else np.ones(len(ends), dtype=bool)
    ends = ends[kept]
    ahead = ahead[kept]
    history = value[ends[:, None] + np.arange(1 - n, 1)] if len(ends) else np.empty((0, n))
    return t[nearest[ends]] if len(ends) else np.empty(0), history, ahead
