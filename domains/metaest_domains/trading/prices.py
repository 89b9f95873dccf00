"""Reading of prices: checked, by date, one column per asset."""

from typing import Any

import numpy as np
import pandas as pd

from metaest_domains.trading.dates import day_of, read_dates
from metaest_domains.trading.splits import warn_of_splits

__all__ = ["as_frame", "as_prices", "one_asset"]

# columns of one asset that stand beside each other in a vendor's table
FIELDS = {"open", "high", "low", "close", "adj close", "adj_close", "adjclose", "volume", "vwap", "dividends"}


def as_prices(prices: Any, where: str, *, check_plausibility: bool = True) -> pd.DataFrame:
    """Return prices as a frame of float, by date or number, one column an asset.

    Leading missing values of an asset are days before it was listed, trailing ones days after it ended; both stay.

    Parameters
    ----------
    prices : DataFrame, Series or array-like of shape (n_days,) or (n_days, n_assets)
    where : str
        How messages begin.
    check_plausibility : bool, default=True
        Whether to warn of jumps that look like splits.

    Raises
    ------
    ValueError
        When dates are not in order or occur twice, or a price is missing between others, not a number, or not above 0;
        the message names asset and day.
    """
    frame = as_frame(prices, where, "prices")
    if not len(frame) or not len(frame.columns):
        raise ValueError(f"{where}: there are no prices.")
    fields = [name for name in frame.columns if str(name).strip().lower() in FIELDS]
    if len(fields) > 1:
        raise ValueError(
            f"{where}: columns {fields} look like fields of one asset; one column an asset is wanted, such as "
            f"prices[[{fields[-1] if 'close' in str(fields[-1]).lower() else 'Close'!r}]]."
        )
    values = frame.to_numpy()
    for j, name in enumerate(frame.columns):
        listed = np.flatnonzero(~np.isnan(values[:, j]))
        if not len(listed):
            raise ValueError(f"{where}: asset {name!r} has no price.")
        since = values[listed[0] : listed[-1] + 1, j]
        wrong = np.flatnonzero(~np.isfinite(since) | (since <= 0))
        if len(wrong):
            day, value = frame.index[listed[0] + wrong[0]], since[wrong[0]]
            raise ValueError(f"{where}: the price of asset {name!r} on {day_of(day)} {_fault(value, since)}.")
    if check_plausibility:
        warn_of_splits(frame, where)
    return frame


def as_frame(values: Any, where: str, what: str) -> pd.DataFrame:
    """Return a frame of float by date, in order of time, one column an asset; missing values stay.

    Parameters
    ----------
    values : DataFrame, Series or array-like of shape (n_days,) or (n_days, n_assets)
    where : str
        How messages begin.
    what : {"prices", "positions"}
        What messages call the values.
    """
    if isinstance(values, pd.Series):
        values = values.to_frame(values.name if values.name is not None else "asset")
    frame = values if isinstance(values, pd.DataFrame) else pd.DataFrame(_columns(values, where, what))
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(
            f"{where}: columns of {what} have {frame.columns.nlevels} levels, such as {frame.columns[0]!r}; one column "
            "an asset is wanted: select one field."
        )
    if frame.columns.duplicated().any():
        raise ValueError(f"{where}: asset {frame.columns[frame.columns.duplicated()][0]!r} occurs twice.")
    numbers = {}
    for name in frame.columns:
        try:
            numbers[name] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {what} must be numbers; column {name!r} is not ({error}).") from error
    if any(pd.api.types.is_datetime64_any_dtype(frame[name]) for name in frame.columns):
        raise ValueError(f"{where}: {what} must be numbers; a column holds dates, which belong in the index.")
    index = read_dates(frame.index, where)
    if index.has_duplicates:
        raise ValueError(f"{where}: {day_of(index[index.duplicated()][0])} occurs twice.")
    if not index.is_monotonic_increasing:
        i = int(np.flatnonzero(~(index[1:] > index[:-1]))[0])
        raise ValueError(f"{where}: {day_of(index[i + 1])} comes after {day_of(index[i])}; sort by date.")
    return pd.DataFrame(numbers, index=index, columns=frame.columns)


def one_asset(prices: Any, where: str, *, check_plausibility: bool = True) -> "pd.Series[float]":
    """Return the prices of one asset."""
    frame = as_prices(prices, where, check_plausibility=check_plausibility)
    if frame.shape[1] != 1:
        raise ValueError(f"{where}: prices of one asset are wanted, got {frame.shape[1]} columns.")
    return frame.iloc[:, 0]


def _fault(value: float, since: Any) -> str:
    if not np.isnan(value):
        returns = "; these look like returns, not prices" if np.nanmedian(np.abs(since)) < 0.5 and value < 0 else ""
        return f"is {value:g}; prices above 0 are wanted{returns}"
    return "is missing between others; fill it, for example with the last price (ffill)"


def _columns(values: Any, where: str, what: str) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = np.asarray(values)
    if array.ndim not in (1, 2):
        raise ValueError(f"{where}: {what} have {array.ndim} dimensions; days, or days and assets, are wanted.")
    return array.reshape(len(array), -1)
