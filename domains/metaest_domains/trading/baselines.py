"""What a policy has to be better than: positions that need no learning."""

from typing import Any

import numpy as np
import pandas as pd

from metaest_domains.trading.features import risk_scale
from metaest_domains.trading.prices import as_prices

__all__ = ["buy_and_hold", "momentum"]


def buy_and_hold(
    prices: Any, *, volatility_target: float | None = None, window: int = 20, max_leverage: float = 3.0
) -> pd.DataFrame:
    """Hold every asset, all of the time.

    Parameters
    ----------
    prices : DataFrame of shape (n_days, n_assets)
    volatility_target : float, optional
        A year's standard deviation to hold of each; None for one share of capital.
    window : int, default=20
        Days of the volatility.
    max_leverage : float, default=3.0

    Returns
    -------
    DataFrame of shape (n_days, n_assets)
        Positions by the day they are decided.
    """
    frame = as_prices(prices, "buy_and_hold")
    if volatility_target is None:
        return frame.notna().astype(float).where(frame.notna())
    held = {name: _scaled(frame[name], volatility_target, window, max_leverage) for name in frame}
    return pd.DataFrame(held, index=frame.index)


def momentum(
    prices: Any,
    *,
    horizon: int = 250,
    volatility_target: float | None = None,
    window: int = 20,
    max_leverage: float = 3.0,
) -> pd.DataFrame:
    """Hold what rose over a horizon, and sell what fell.

    Time-series momentum (Moskowitz and others, 2012, :doi:`10.1016/j.jfineco.2011.11.003`).

    Parameters
    ----------
    prices, volatility_target, window, max_leverage
        As :func:`buy_and_hold` takes them.
    horizon : int, default=250
        Days.

    Returns
    -------
    DataFrame of shape (n_days, n_assets)
    """
    frame = as_prices(prices, "momentum")
    rose = (frame / frame.shift(horizon) - 1).apply(np.sign)
    held = buy_and_hold(frame, volatility_target=volatility_target, window=window, max_leverage=max_leverage)
    return rose * held


def _scaled(own: "pd.Series[float]", target: float, window: int, most: float) -> "pd.Series[float]":
    known = own.dropna()
    scale = risk_scale(known.to_numpy(dtype=np.float64), window, target, most)
    return pd.Series(scale, index=known.index).reindex(own.index)
