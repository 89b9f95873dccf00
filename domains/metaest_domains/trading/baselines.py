"""Baselines for a policy: positions that need no learning."""

from typing import Any

import numpy as np
import pandas as pd

from metaest_domains.trading.dates import yearly
from metaest_domains.trading.features import risk_scale
from metaest_domains.trading.prices import as_prices
from metaest_domains.trading.settings import as_days, as_number

__all__ = ["buy_and_hold", "momentum"]


def buy_and_hold(
    prices: Any,
    *,
    volatility_target: float | None = None,
    window: int = 20,
    max_leverage: float = 3.0,
    periods_per_year: float | None = None,
    check_plausibility: bool = True,
) -> pd.DataFrame:
    """Hold every asset all the time.

    Parameters
    ----------
    prices : DataFrame, Series or array-like of shape (n_days, n_assets)
    volatility_target : float, optional
        Annualised standard deviation of the position in each asset; None holds a position of 1 in each.
    window : int, default=20
        Days over which the volatility is computed.
    max_leverage : float, default=3.0
        Largest position, with `volatility_target`.
    periods_per_year : float, optional
        Number of rows per year, for `volatility_target`; by default counted from the dates, as in :func:`sharpe`.
    check_plausibility : bool, default=True
        True warns of price jumps that look like share splits for which prices are not adjusted.

    Returns
    -------
    DataFrame of shape (n_days, n_assets)
        Positions by the day of the decision; missing without a price, or without enough past for the volatility.

    Raises
    ------
    ValueError
        When prices or settings are invalid, or no asset has more days than the window.

    Warns
    -----
    UserWarning
        When a price jumps as in a share split; with `volatility_target`, when rows have no dates.
    """
    frame = as_prices(prices, "buy_and_hold", check_plausibility=check_plausibility)
    return _held(frame, volatility_target, window, max_leverage, periods_per_year, "buy_and_hold")


def momentum(
    prices: Any,
    *,
    horizon: int = 250,
    volatility_target: float | None = None,
    window: int = 20,
    max_leverage: float = 3.0,
    periods_per_year: float | None = None,
    check_plausibility: bool = True,
) -> pd.DataFrame:
    """Hold what rose over a horizon, and sell what fell.

    Time-series momentum (Moskowitz and others, 2012, :doi:`10.1016/j.jfineco.2011.11.003`).

    Parameters
    ----------
    prices, volatility_target, window, max_leverage, periods_per_year, check_plausibility
        As in :func:`buy_and_hold`.
    horizon : int, default=250
        Number of rows over which the price change is computed; at least 1.

    Returns
    -------
    DataFrame of shape (n_days, n_assets)
        Positions by the day of the decision; missing over the first `horizon` days of an asset.

    Raises
    ------
    ValueError
        When prices or settings are invalid, or no asset has more days than the horizon.

    Warns
    -----
    UserWarning
        As in :func:`buy_and_hold`.
    """
    frame = as_prices(prices, "momentum", check_plausibility=check_plausibility)
    _check_days(frame, horizon, "horizon", "momentum")
    rose = (frame / frame.shift(horizon) - 1).apply(np.sign)
    return rose * _held(frame, volatility_target, window, max_leverage, periods_per_year, "momentum")


def _held(
    frame: pd.DataFrame,
    target: float | None,
    window: int,
    most: float,
    periods_per_year: float | None,
    where: str,
) -> pd.DataFrame:
    """Return positions of 1, or the positions whose annualised standard deviation is `target`."""
    most = as_number(most, "max_leverage", where)
    as_days(window, "window", where)
    if periods_per_year is not None:
        as_number(periods_per_year, "periods_per_year", where)
    if target is None:
        return frame.notna().astype(float).where(frame.notna())
    target = as_number(target, "volatility_target", where)
    _check_days(frame, window, "window", where)
    periods = yearly(frame.index, periods_per_year, where)
    held = {}
    for asset in frame:
        there = frame[asset].dropna()
        scale = risk_scale(there.to_numpy(dtype=np.float64), window, target, most, periods)
        held[asset] = pd.Series(scale, index=there.index).reindex(frame.index)
    return pd.DataFrame(held, index=frame.index, columns=frame.columns)


def _check_days(frame: pd.DataFrame, days: int, name: str, where: str) -> None:
    as_days(days, name, where)
    longest = int(frame.notna().sum().max())
    if longest <= days:
        raise ValueError(f"{where}: {name}={days} requires more than {days} days of prices, got {longest}.")
