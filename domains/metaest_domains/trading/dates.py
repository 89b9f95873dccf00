"""Read dates of rows, write them in messages, and count the rows of a year."""

import datetime
from typing import Any

import numpy as np
import pandas as pd

from metaest.exceptions import warn
from metaest_domains.trading.settings import as_number

__all__ = ["day_of", "first_from", "periods_of", "read_dates", "yearly"]

# days in a year of a market that closes at weekends
TRADING_DAYS = 252
# days in a year of a market that never closes
CALENDAR_DAYS = 365
# share of Saturdays and Sundays above which a market never closes; the share is 2/7 if every day is present
WEEKENDS = 0.2
# shortest and longest median spacing of rows in days, and rows per year
SPACINGS = (
    (0.9, 1.5, TRADING_DAYS),
    (6.5, 7.5, 52),
    (28.0, 31.5, 12),
    (89.0, 92.5, 4),
    (180.0, 185.0, 2),
    (364.0, 367.0, 1),
)
# share of spacings that must at least be near the median
REGULAR = 0.8
# days; longest spacing of daily rows, over holidays and weekends
LONGEST_WEEKEND = 5.0


def read_dates(index: pd.Index, where: str) -> pd.Index:
    """Return dates as timestamps; an index of plain numbers is returned unchanged.

    Timestamps, periods, `datetime.date` and strings in ISO 8601 (2020-01-31) are dates.

    Raises
    ------
    ValueError
        When strings are not such dates, when numbers look like dates (20200131), or when a date is missing.
    """
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    elif isinstance(index, pd.MultiIndex):
        raise ValueError(
            f"{where}: rows have {index.nlevels} index levels {list(index.names)}; there must be one row for each "
            "date: unstack the assets into columns."
        )
    elif pd.api.types.is_object_dtype(index) or pd.api.types.is_string_dtype(index):
        try:
            if any(isinstance(day, (int, float)) and day == day for day in index):
                raise TypeError
            index = pd.DatetimeIndex(pd.to_datetime(index, format="ISO8601"), name=index.name)
        except (ValueError, TypeError):
            raise ValueError(
                f"{where}: rows are named {index[0]!r}, ..., which are not dates like 2020-01-31; convert them with "
                "pd.to_datetime, whose argument format= describes the dates."
            ) from None
    elif pd.api.types.is_integer_dtype(index) and len(index) and 19000101 <= index.min() <= index.max() <= 21001231:
        raise ValueError(
            f"{where}: rows are numbered {index[0]}, ..., which look like dates; write prices.index = "
            "pd.to_datetime(prices.index, format='%Y%m%d')."
        )
    if index.hasnans:
        raise ValueError(f"{where}: the date of row {int(np.flatnonzero(index.isna())[0])} is missing.")
    return index


def day_of(day: Any) -> str:
    """Return a date or number as text; a date includes its time unless that is midnight."""
    if isinstance(day, pd.Timestamp):
        return str(day.date()) if day == day.normalize() else str(day)
    return str(day)


def first_from(index: pd.Index, start: Any, where: str, name: str = "start") -> int:
    """Return the position of the first row on or after a date, or a row number if rows have no dates.

    Raises
    ------
    ValueError
        When the start is not a date, or only one of the start and the rows has a time zone.
    """
    try:
        if not isinstance(index, pd.DatetimeIndex):
            if isinstance(start, (bool, np.bool_, np.timedelta64)) or not isinstance(
                start, (int, float, np.integer, np.floating)
            ):
                raise TypeError
            if start != start:
                raise ValueError
            return int(index.searchsorted(start))
        if not isinstance(start, (str, datetime.date, np.datetime64, pd.Period)):
            raise TypeError
        day = pd.Timestamp(start.to_timestamp() if isinstance(start, pd.Period) else start)
        if pd.isna(day):
            raise ValueError
        return int(index.searchsorted(day))
    except (TypeError, ValueError, OverflowError):
        zone = getattr(index, "tz", None)
        rows = f"dates {'without a time zone' if zone is None else f'with the time zone {zone}'}"
        rows = f"{rows}, such as {day_of(index[0])}" if isinstance(index, pd.DatetimeIndex) else "numbers"
        raise ValueError(f"{where}: {name}={start!r} cannot be compared with the rows, which have {rows}.") from None


def periods_of(index: pd.Index) -> float | None:
    """Return the rows per year by the median spacing of dates; None if spacings are irregular or unusual.

    Daily rows are 252 a year, or 365 if more than 20 % of them are Saturdays and Sundays; weekly ones are 52, monthly
    ones 12, quarterly ones 4, half-yearly ones 2, yearly ones 1.
    """
    if not isinstance(index, pd.DatetimeIndex) or len(index) < 2:
        return None
    days = np.diff(index.to_numpy()) / np.timedelta64(1, "D")
    # the lower median: of a few days around a weekend, the spacing within the week
    median = float(np.sort(days)[(len(days) - 1) // 2])
    for shortest, longest, periods in SPACINGS:
        if shortest <= median <= longest:
            near = days <= LONGEST_WEEKEND if periods == TRADING_DAYS else np.abs(days / median - 1) < 0.5
            if near.mean() < REGULAR:
                return None
            if periods == TRADING_DAYS and _never_closes(index):
                return float(CALENDAR_DAYS)
            return float(periods)
    return None


def yearly(index: pd.Index | None, given: float | None, where: str) -> float:
    """Return the number of rows per year: as given, or from the dates.

    Warns
    -----
    UserWarning
        When nothing is given and rows have no dates: 252 is assumed.

    Raises
    ------
    ValueError
        When nothing is given and the dates do not determine it, or when the given value is not a number above 0.
    """
    if given is not None:
        return as_number(given, "periods_per_year", where)
    if not isinstance(index, pd.DatetimeIndex):
        warn(
            f"{where}: rows have no dates; {TRADING_DAYS} rows a year are assumed, the number of trading days. Pass "
            "periods_per_year= (52 for weekly rows, 12 for monthly ones)."
        )
        return float(TRADING_DAYS)
    periods = periods_of(index)
    if periods is None:
        spacing = ""
        if len(index) > 1:
            days = float(np.median(np.diff(index.to_numpy()) / np.timedelta64(1, "D")))
            spacing = f", whose median spacing is {days:.3g} days,"
        raise ValueError(
            f"{where}: the {len(index)} date(s){spacing} do not determine the number of rows per year; pass "
            "periods_per_year= (252 for trading days, 52 for weekly rows, 12 for monthly ones)."
        )
    return periods


def _never_closes(index: pd.DatetimeIndex) -> bool:
    weekday = index.day_of_week
    saturdays = (weekday == 5).mean()
    sundays = (weekday == 6).mean()
    return bool(saturdays > 0 and sundays > 0 and saturdays + sundays > WEEKENDS)
