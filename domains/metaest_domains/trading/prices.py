"""Prices as they are read: checked, by date, one column an asset."""

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["as_prices", "day_of"]


def as_prices(prices: Any, where: str) -> pd.DataFrame:
    """Return prices as a frame of float, by date or number, one column an asset.

    Leading missing values of an asset are days before it was listed, and stay.

    Parameters
    ----------
    prices : DataFrame, Series or array-like of shape (n_days,) or (n_days, n_assets)
    where : str
        How messages begin.

    Raises
    ------
    ValueError
        When dates fall, or come twice, or a price is missing between others, not a number, or not above 0; the message
        names asset and day.
    """
    if isinstance(prices, pd.Series):
        prices = prices.to_frame(prices.name if prices.name is not None else "asset")
    frame = prices if isinstance(prices, pd.DataFrame) else pd.DataFrame(_columns(prices, where))
    if not len(frame) or not len(frame.columns):
        raise ValueError(f"{where}: there are no prices.")
    if frame.columns.duplicated().any():
        raise ValueError(f"{where}: asset {frame.columns[frame.columns.duplicated()][0]!r} stands twice.")
    if frame.index.duplicated().any():
        raise ValueError(f"{where}: {day_of(frame.index[frame.index.duplicated()][0])} stands twice.")
    if not frame.index.is_monotonic_increasing:
        i = int(np.flatnonzero(~(frame.index[1:] > frame.index[:-1]))[0])
        raise ValueError(f"{where}: {day_of(frame.index[i + 1])} comes after {day_of(frame.index[i])}; sort by date.")
    try:
        values = frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: prices must be numbers ({error}).") from error
    for j, name in enumerate(frame.columns):
        known = np.flatnonzero(~np.isnan(values[:, j]))
        if not len(known):
            raise ValueError(f"{where}: asset {name!r} has no price.")
        own = values[known[0] :, j]
        wrong = np.flatnonzero(~np.isfinite(own) | (own <= 0))
        if len(wrong):
            day, value = frame.index[known[0] + wrong[0]], own[wrong[0]]
            what = "is missing" if np.isnan(value) else f"is {value:g}; prices above 0 are wanted"
            raise ValueError(f"{where}: the price of asset {name!r} on {day_of(day)} {what}.")
    return pd.DataFrame(values, index=frame.index, columns=frame.columns)


def _columns(prices: Any, where: str) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = np.asarray(prices)
    if values.ndim not in (1, 2):
        raise ValueError(f"{where}: prices have {values.ndim} dimensions; days, or days and assets, are wanted.")
    return values.reshape(len(values), -1)


def day_of(day: Any) -> str:
    """Return a date without its time, or a number, in words."""
    return str(day.date()) if isinstance(day, pd.Timestamp) else str(day)
