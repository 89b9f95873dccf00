"""Read and check prices by date, with one column for each asset."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import pandas as pd

from metaest.tasks.arguments import as_flag
from metaest.tasks.containers import plain, spelled_out
from metaest.tasks.numbers import as_vector
from metaest.tasks.times import time_kind
from metaest_domains.trading.dates import day_of, read_dates
from metaest_domains.trading.splits import warn_of_splits

__all__ = ["as_columns", "as_frame", "as_prices", "one_asset"]

# names of columns of one asset in the table of a data vendor
FIELDS = {"open", "high", "low", "close", "adj close", "adj_close", "adjclose", "volume", "vwap", "dividends"}


def as_prices(prices: Any, where: str, *, check_plausibility: bool = True) -> pd.DataFrame:
    """Return prices as a frame of float, by date or number, with one column for each asset.

    Leading missing values of an asset are days before its listing, trailing ones days after its delisting; both are
    kept.

    Parameters
    ----------
    prices : DataFrame, Series or array-like of shape (n_days,) or (n_days, n_assets)
    where : str
        Beginning of messages.
    check_plausibility : bool, default=True
        True warns of jumps that look like splits.

    Raises
    ------
    ValueError
        When dates are not in order or occur twice, or a price is missing between others, not a number, or not above 0;
        the message names asset and day.
    """
    check_plausibility = as_flag(check_plausibility, f"{where}: check_plausibility")
    frame = as_frame(prices, where, "prices")
    if not len(frame) or not len(frame.columns):
        raise ValueError(f"{where}: prices are empty.")
    fields = [name for name in frame.columns if str(name).strip().lower() in FIELDS]
    if len(fields) > 1:
        raise ValueError(
            f"{where}: columns {fields} look like fields of one asset; there must be one column for each asset, such "
            f"as prices[[{fields[-1] if 'close' in str(fields[-1]).lower() else 'Close'!r}]]."
        )
    values = frame.to_numpy()
    for j, name in enumerate(frame.columns):
        listed = np.flatnonzero(~np.isnan(values[:, j]))
        if not len(listed):
            raise ValueError(f"{where}: asset {name!r} has no price.")
        since = values[listed[0] : listed[-1] + 1, j]
        wrong = np.flatnonzero(~np.isfinite(since) | (since <= 0))
        if len(wrong):
            day = frame.index[listed[0] + wrong[0]]
            value = since[wrong[0]]
            raise ValueError(f"{where}: the price of asset {name!r} on {day_of(day)} {_fault(value, since)}.")
    if check_plausibility:
        warn_of_splits(frame, where)
    return frame


def as_frame(values: Any, where: str, what: str) -> pd.DataFrame:
    """Return a frame of float by date, in order of time, with one column for each asset; missing values are kept.

    Parameters
    ----------
    values : DataFrame, Series or array-like of shape (n_days,) or (n_days, n_assets)
    where : str
        Beginning of messages.
    what : {"prices", "positions"}
        Name of the values in messages.

    Notes
    -----
    A frame of polars or pyarrow has no index: its column of dates becomes the index.
    """
    given = values
    values = plain(values, f"{where}: {what}")
    if isinstance(values, pd.Series):
        values = values.to_frame(values.name if values.name is not None else "asset")
    frame = values if isinstance(values, pd.DataFrame) else pd.DataFrame(as_columns(values, where, what))
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(
            f"{where}: columns of {what} have {frame.columns.nlevels} levels, such as {frame.columns[0]!r}; there must "
            "be one column for each asset: select one field."
        )
    if frame.columns.duplicated().any():
        raise ValueError(f"{where}: asset {frame.columns[frame.columns.duplicated()][0]!r} occurs twice.")
    if values is not given and isinstance(values, pd.DataFrame):
        frame = _dates_to_index(frame, where, what)  # a frame of polars or pyarrow has no index
    dated = [name for name in frame.columns if time_kind(frame[name]) == "dates"]
    if dated:
        raise ValueError(
            f"{where}: {what} must be numbers; column {dated[0]!r} holds dates, which must be in the index: "
            f"frame.set_index({dated[0]!r})."
        )
    numbers = {
        name: as_vector(frame[name], f"{where}: {what} must be numbers; column {name!r}", missing=True, infinite=True)
        for name in frame.columns
    }
    index = read_dates(frame.index, where)
    if index.has_duplicates:
        raise ValueError(f"{where}: the date {day_of(index[index.duplicated()][0])} occurs twice.")
    if not index.is_monotonic_increasing:
        i = int(np.flatnonzero(~(index[1:] > index[:-1]))[0])
        raise ValueError(f"{where}: {day_of(index[i + 1])} comes after {day_of(index[i])}; sort by date.")
    return pd.DataFrame(numbers, index=index, columns=frame.columns)


def one_asset(prices: Any, where: str, *, check_plausibility: bool = True) -> "pd.Series[float]":
    """Return the prices of one asset."""
    frame = as_prices(prices, where, check_plausibility=check_plausibility)
    if frame.shape[1] != 1:
        raise ValueError(f"{where}: prices must be those of one asset, got {frame.shape[1]} columns.")
    return frame.iloc[:, 0]


def _fault(value: float, since: Any) -> str:
    if not np.isnan(value):
        returns = "; these look like returns, not prices" if np.nanmedian(np.abs(since)) < 0.5 and value < 0 else ""
        return f"is {value:g}; prices must be above 0{returns}"
    return "is missing between others; fill it, for example with the previous price (ffill)"


def _dates_to_index(frame: pd.DataFrame, where: str, what: str) -> pd.DataFrame:
    """Return a frame with its column of dates as the index."""
    dated = [name for name in frame.columns if time_kind(frame[name]) == "dates"]
    if len(dated) > 1:
        raise ValueError(f"{where}: {what} have several columns of dates, {dated}; keep the one of the rows.")
    return frame.set_index(dated[0]) if dated else frame


def as_columns(values: Any, where: str, what: str) -> Any:
    """Return rows and columns of an array or of nested lists; masked values are missing."""
    if values is None or isinstance(values, (str, bytes, Set, Iterator)) or hasattr(values, "toarray"):
        raise ValueError(f"{where}: {what} must be a frame, a series or an array, got {type(values).__name__}.")
    if isinstance(values, Mapping):
        raise ValueError(f"{where}: {what} must be a frame, a series or an array; pd.DataFrame(...) converts a dict.")
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(object), None)
    elif isinstance(values, (list, tuple)):
        values = spelled_out(values, f"{where}: {what}")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError by torch, for a tensor with gradients
        raise ValueError(
            f"{where}: {what} do not form an array of numbers; rows must have the same length, and tensors no gradient."
        ) from error
    if array.ndim not in (1, 2):
        raise ValueError(f"{where}: {what} have {array.ndim} dimensions; they must be days, or days and assets.")
    if array.dtype.kind == "V":
        raise ValueError(f"{where}: {what} must be numbers, got an array of records; pd.DataFrame(...) converts it.")
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):
        array = np.asarray(values, dtype=object)
    return array[:, None] if array.ndim == 1 else array
