"""Conversion of dates and time differences into numbers of one unit, and their refusal where numbers are wanted."""

import datetime
from collections.abc import Iterator, Mapping, Set
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metaest.exceptions import TaskError
from metaest.tasks.containers import plain, spelled_out

__all__ = ["TIME_REMEDY", "TIME_UNITS", "check_time_unit", "elapsed", "numbers_only", "time_kind"]

# attoseconds, as whole numbers so that conversions are exact; months and years have no fixed length
_STORED = {"as": 1, "fs": 10**3, "ps": 10**6, "ns": 10**9, "us": 10**12, "ms": 10**15, "s": 10**18}
_STORED |= {"m": 60 * 10**18, "h": 3600 * 10**18, "D": 86400 * 10**18, "W": 7 * 86400 * 10**18}

# units of time that a reader can be asked for, by the name that numpy stores
TIME_UNITS = {"ms": "ms", "s": "s", "min": "m", "h": "h", "D": "D"}

# what to write instead, where numbers are wanted
TIME_REMEDY = {
    "time differences": "divide them by pd.Timedelta('1h') for hours",
    "dates": "subtract the first one, and divide the differences by pd.Timedelta('1h') for hours",
}

_DIFFERENCES = (datetime.timedelta, np.timedelta64)  # pd.Timedelta is a datetime.timedelta
_DATES = (datetime.date, np.datetime64, datetime.time, pd.Period)  # pd.Timestamp is a datetime.date


def time_kind(values: Any) -> str | None:
    """Return "dates" or "time differences" where values hold them, and None elsewhere.

    Parameters
    ----------
    values : scalar, array-like, Series or Index
        Lists and arrays of objects are looked into.

    Returns
    -------
    str or None
    """
    if (hasattr(values, "to_list") or hasattr(values, "to_pylist")) and not isinstance(values, (pd.Series, pd.Index)):
        values = plain(values)
    dtype = getattr(values, "dtype", None)
    kind = getattr(dtype, "kind", None)
    if kind in ("m", "M"):
        return "time differences" if kind == "m" else "dates"
    if isinstance(dtype, pd.PeriodDtype):
        return "dates"
    if dtype is not None and kind != "O":
        return None
    if dtype is None and not isinstance(values, (list, tuple, *_DIFFERENCES, *_DATES)):
        return None
    return _kind_of_objects(values)


def _kind_of_objects(values: Any) -> str | None:
    try:
        flat = np.asarray(values, dtype=object).ravel()
    except (TypeError, ValueError, RuntimeError):  # ragged, or holding tensors: other checks say where
        return None
    kinds = {type(value) for value in flat.tolist()} if flat.dtype == object else set()
    if any(issubclass(kind, _DIFFERENCES) for kind in kinds):
        return "time differences"
    return "dates" if any(issubclass(kind, _DATES) for kind in kinds) else None


def numbers_only(values: Any, what: str) -> None:
    """Raise a TaskError where values hold dates or time differences.

    Parameters
    ----------
    values : scalar, array-like, Series or Index
    what : str
        How the message names them, for instance ``"times"``.
    """
    kind = time_kind(values)
    if kind:
        raise TaskError(
            f"{what}: {kind} were passed, and numbers in the unit of the fit are wanted; {TIME_REMEDY[kind]}."
        )


def check_time_unit(unit: Any) -> None:
    """Raise a TaskError unless this is a key of TIME_UNITS."""
    if not isinstance(unit, str) or unit not in TIME_UNITS:
        raise TaskError(f"time_unit must be one of {', '.join(map(repr, TIME_UNITS))}, got {unit!r}.")


def elapsed(values: ArrayLike | pd.Series | pd.Index, unit: str = "h", where: str = "times") -> NDArray[np.float64]:
    """Return times as numbers in one unit, whatever the resolution they are stored in.

    Numbers are returned as they are. Time differences are divided by the unit. Dates become the time since the
    earliest of them; those with a time zone are compared in UTC, so that daylight saving does not change them; those
    without one are taken as they stand.

    Parameters
    ----------
    values : array-like, Series or Index of shape (n,)
        Numbers, time differences or dates; of pandas, numpy, pyarrow or Python.
    unit : {"ms", "s", "min", "h", "D"}, default="h"
    where : str
        How the error message begins, for instance ``"task 'A': column 'time'"``.

    Returns
    -------
    ndarray of float64, shape (n,)
        Missing values are NaN.

    Raises
    ------
    TaskError
        When values are text, times of day or periods, when kinds are mixed, or some dates have a time zone and some
        have none.

    Examples
    --------
    >>> import pandas as pd
    >>> from metaest.tasks.times import elapsed
    >>> elapsed(pd.to_timedelta(["0 min", "90 min"]), "h")
    array([0. , 1.5])
    >>> elapsed(pd.to_datetime(["2024-03-30 08:00", "2024-03-31 08:00"]), "D")
    array([0., 1.])
    """
    check_time_unit(unit)
    values = plain(values, where)
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "mM":
        values = values.filled(np.timedelta64("NaT") if values.dtype.kind == "m" else np.datetime64("NaT"))
    elif isinstance(values, (list, tuple)):
        values = spelled_out(values, where)
    kind = time_kind(values)
    if kind is None:
        return _as_numbers(values, where)
    stored = _as_stored(values, kind, where)
    if kind == "dates":
        present = stored[~np.isnat(stored)]
        if not len(present):
            return np.full(len(stored), np.nan)
        stored = stored - present.min()
    return _in_units(stored, unit, where)


def _as_numbers(values: Any, where: str) -> NDArray[np.float64]:
    try:
        # numpy cannot mask dates as NaN, so that masks are read by pandas
        if isinstance(values, (str, bytes, Mapping, Set, Iterator)):
            raise TypeError
        series = values if isinstance(values, pd.Series) else pd.Series(values)
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise TaskError(f"{where}: one row of times is wanted, got {type(values).__name__}.") from error
    if pd.api.types.is_bool_dtype(series.dtype) or pd.api.types.is_complex_dtype(series.dtype):
        raise TaskError(f"{where}: numbers, time differences or dates are wanted, got {series.dtype} values.")
    texts = series if series.dtype.kind in "OS" else ()
    word = next((value for value in texts if isinstance(value, (str, bytes))), None)
    if word is not None:
        raise TaskError(
            f"{where} holds the text {word!r}; numbers are wanted, or dates and time differences, which "
            "pd.to_datetime and pd.to_timedelta make of text."
        )
    try:
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError, OverflowError, NotImplementedError) as error:
        cell = next((v for v in series if not isinstance(v, (int, float)) and v is not None and v is not pd.NA), None)
        raise TaskError(
            f"{where}: numbers, time differences or dates are wanted, got {type(cell).__name__} values."
        ) from error


def _as_stored(values: Any, kind: str, where: str) -> NDArray[Any]:
    """Return numpy's own dates (in UTC where they have a zone) or time differences."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        return values.ravel()
    series = values if isinstance(values, pd.Series) else pd.Series(values)
    if isinstance(series.dtype, pd.ArrowDtype):
        series = series.astype(object)
    if series.dtype.kind == "O":
        series = _from_objects(series, kind, where)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(series.to_numpy())


def _from_objects(series: pd.Series, kind: str, where: str) -> pd.Series:
    present = series[series.notna()]
    wanted = _DIFFERENCES if kind == "time differences" else (datetime.date, np.datetime64)
    strange = [value for value in present if not isinstance(value, wanted)]
    if strange and all(isinstance(value, datetime.time) for value in present):
        raise TaskError(f"{where} holds times of day without a date; combine them with their dates.")
    if strange and all(isinstance(value, pd.Period) for value in present):
        raise TaskError(f"{where} holds periods; to_timestamp() makes dates of them.")
    if strange:
        raise TaskError(
            f"{where} holds {kind} and {strange[0]!r} ({type(strange[0]).__name__}); all must be of one kind: numbers, "
            "time differences, or dates."
        )
    if kind == "time differences":
        return pd.to_timedelta(series)
    zones = {getattr(value, "tzinfo", None) is not None for value in present}
    if len(zones) > 1:
        raise TaskError(f"{where} holds dates with a time zone and dates without; give all of them one.")
    return pd.to_datetime(series, utc=zones == {True})


def _in_units(stored: NDArray[Any], unit: str, where: str) -> NDArray[np.float64]:
    name, count = np.datetime_data(stored.dtype)
    if name not in _STORED:
        raise TaskError(f"{where} holds time differences in units of {name!r}, which have no fixed length.")
    ratio = Fraction(count * _STORED[name], _STORED[TIME_UNITS[unit]])
    numbers = stored.astype(np.int64).astype(np.float64) * ratio.numerator / ratio.denominator
    numbers[np.isnat(stored)] = np.nan
    return np.asarray(numbers)
