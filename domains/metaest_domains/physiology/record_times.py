"""Times of records in one unit: numbers, time differences, dates, or days with times of day."""

import datetime
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import TaskError
from metaest.tasks.columns import as_numbers
from metaest.tasks.times import elapsed, time_kind
from metaest_domains.physiology.record_columns import DAYS, Names

__all__ = ["record_times"]

_PARTS = re.compile(r"\s*(\d{1,4})[/\-. ](\d{1,2})[/\-. ](\d{1,4})(?:[T ].*)?\s*")
_OF_DAY = re.compile(r"\s*(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?\s*([AaPp][Mm])?\s*")
# a number of a day beyond which it must be a date such as 20240330
_GREATEST_DAY = 1_000_000
_NANOSECONDS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "D": 86400 * 10**9}
_DAY = 86400 * 10**9


def record_times(frame: pd.DataFrame, names: Names, where: str) -> NDArray[np.float64]:
    """Return the times of the records of one patient, in the unit of `names`.

    Numbers and time differences are taken as they are. Dates, and days with times of day, count from the first record.

    Parameters
    ----------
    frame : DataFrame
        Records of one patient.
    names : Names
    where : str
        How error messages begin.

    Raises
    ------
    TaskError
        When a time is missing or cannot be read; the message names column, row and remedy.
    """
    day = names.group("day")
    if day is None:
        return _of_column(frame[names.time], names, where)
    days = _days(frame[names.reserved[day]], DAYS[day], where)
    of_day = _times_of_day(frame[names.time], names, where)
    # whole nanoseconds, so that the same moments give the same bits in whatever form they are written
    at = days * _DAY + of_day
    return np.asarray((at - at.min()).astype(np.float64) / _NANOSECONDS[names.time_unit])


def _of_column(column: pd.Series, names: Names, where: str) -> NDArray[np.float64]:
    if time_kind(column):
        at = elapsed(column, names.time_unit, f"{where}: column {column.name!r}")
    else:
        clock = [(row, cell) for row, cell in column.items() if isinstance(cell, str) and _OF_DAY.fullmatch(cell)]
        if clock:
            row, cell = clock[0]
            raise TaskError(
                f"{where}: column {column.name!r} holds {cell!r} in row {row}, a time of day; add its day "
                "as a column DATE, or let pd.to_timedelta make a difference of times of it."
            )
        at = as_numbers(column, where)
    missing = np.flatnonzero(~np.isfinite(at))
    if len(missing):
        raise TaskError(f"{where}: column {column.name!r} is missing in row {column.index[missing[0]]}.")
    return at


def _days(column: pd.Series, order: str, where: str) -> NDArray[np.int64]:
    """Return the number of each day."""
    if time_kind(column):
        dates = pd.to_datetime(column)
        if dates.isna().any():
            raise TaskError(f"{where}: column {column.name!r} is missing in row {column.index[dates.isna()][0]}.")
        zone = getattr(dates.dt, "tz", None)
        midnight = dates.dt.tz_localize(None) if zone is not None else dates
        if (midnight != midnight.dt.normalize()).any():
            row = midnight.index[midnight != midnight.dt.normalize()][0]
            raise TaskError(
                f"{where}: column {column.name!r} holds a time of day in row {row}; pass it as time=, and drop the "
                "column of times of day."
            )
        return np.asarray((midnight - pd.Timestamp(0)) // pd.Timedelta(1, "D"), dtype=np.int64)
    return np.array([_day(cell, order, column, row, where) for row, cell in column.items()], dtype=np.int64)


def _day(cell: Any, order: str, column: pd.Series, row: Any, where: str) -> int:
    begin = f"{where}: column {column.name!r} holds {cell!r} in row {row}"
    parts = _PARTS.fullmatch(cell) if isinstance(cell, str) else None
    if parts is None:
        number = float(as_numbers(pd.Series([cell], index=[row], name=column.name), where)[0])
        if np.isnan(number):
            raise TaskError(f"{where}: column {column.name!r} is missing in row {row}.")
        if number != np.round(number) or abs(number) > _GREATEST_DAY:
            raise TaskError(
                f"{begin}, which is no number of a day; pd.to_datetime makes dates of it, such as pd.to_datetime("
                "frame[...], format='%Y%m%d')."
            )
        return int(number)
    texts = parts.groups()
    if order == "mdy" and "." in cell.strip()[:3]:
        raise TaskError(
            f"{begin}, which is day.month.year in most of the world, and text in DATE is month/day/year; rename the "
            "column DAT1 if the day comes first, or write it with strokes."
        )
    letters = "ymd" if len(texts[0]) > 2 else order  # a year of four digits in front: the order of ISO 8601
    letters = "ydm" if order == "ydm" and len(texts[0]) > 2 else letters
    values = dict(zip(letters, map(int, texts), strict=True))
    year = values["y"]
    if len(texts[letters.index("y")]) <= 2:
        year += 1900 if year > 50 else 2000  # as NONMEM reads years of two digits
    try:
        return datetime.date(year, values["m"], values["d"]).toordinal() - datetime.date(1970, 1, 1).toordinal()
    except ValueError as error:
        words = {"d": "day", "m": "month", "y": "year"}
        said = ", ".join(f"{words[letter]} {values[letter]}" for letter in letters)
        raise TaskError(f"{begin}, which is no date ({said}); DAT1 is day/month/year, DAT2 year/month/day.") from error


def _times_of_day(column: pd.Series, names: Names, where: str) -> NDArray[np.int64]:
    """Return times of day in nanoseconds; numbers are in the unit of the fit, as NONMEM's are in hours."""
    if time_kind(column) == "time differences":
        numbers = elapsed(column, names.time_unit, f"{where}: column {column.name!r}")
        return _whole(numbers, column, names, where)
    cells: Sequence[Any] = list(column)
    if any(isinstance(cell, (str, datetime.time)) for cell in cells):
        return np.array([_of_day(cell, column, row, where) for row, cell in column.items()], dtype=np.int64)
    return _whole(as_numbers(column, where), column, names, where)


def _whole(numbers: NDArray[np.float64], column: pd.Series, names: Names, where: str) -> NDArray[np.int64]:
    missing = np.flatnonzero(~np.isfinite(numbers))
    if len(missing):
        raise TaskError(f"{where}: column {column.name!r} is missing in row {column.index[missing[0]]}.")
    length = _DAY / _NANOSECONDS[names.time_unit]
    beyond = np.flatnonzero((numbers < 0) | (numbers > length))
    if len(beyond):
        raise TaskError(
            f"{where}: column {column.name!r} is {numbers[beyond[0]]:g} in row {column.index[beyond[0]]}, and beside a "
            f"column of days it is the time of day, from 0 to {length:g} ({names.time_unit}); drop the column of days "
            "where times count on from day to day, and write 8:30 for half past eight."
        )
    return np.round(numbers * _NANOSECONDS[names.time_unit]).astype(np.int64)


def _of_day(cell: Any, column: pd.Series, row: Any, where: str) -> int:
    if isinstance(cell, datetime.time):
        seconds = cell.hour * 3600 + cell.minute * 60 + cell.second
        return seconds * 10**9 + cell.microsecond * 1000
    parts = _OF_DAY.fullmatch(cell) if isinstance(cell, str) else None
    if parts is None:
        raise TaskError(
            f"{where}: column {column.name!r} holds {cell!r} in row {row}, which is no time of day such as 08:30."
        )
    hour, minute, second, half = parts.groups()
    hours, minutes = int(hour), int(minute)
    rest = float(second or 0)
    if half is not None:
        hours = hours % 12 + 12 * (half.lower() == "pm")
    if hours > 24 or minutes > 59 or rest >= 60 or (hours == 24 and (minutes or rest)):
        raise TaskError(f"{where}: column {column.name!r} holds {cell!r} in row {row}, which is no time of day.")
    return (hours * 3600 + minutes * 60) * 10**9 + round(rest * 1e9)
