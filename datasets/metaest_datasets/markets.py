"""Prices of assets: simulated ones of known character, and real ones from installed packages."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from metaest.tasks.arguments import as_whole
from metaest.tasks.numbers import as_number
from metaest.tasks.random_state import generator_of

__all__ = ["PERSONALITIES", "load_index_prices", "load_sp500_prices", "make_market"]

PERSONALITIES = ("trending", "mean-reverting", "regime-switching", "random walk")
# probability per day that a regime ends: a regime lasts 60 days on average
SWITCH = 1 / 60


def make_market(
    n_assets: int = 100,
    n_days: int = 500,
    *,
    personalities: Sequence[str] = PERSONALITIES,
    strength: float = 0.35,
    volatility: float = 0.01,
    random_state: Any = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Simulate assets of known character.

    Daily returns follow :math:`r_t = \varphi_t r_{t-1} + \varepsilon_t` with :math:`\varphi = s` for "trending", -s for
    "mean-reverting", 0 for "random walk", and for "regime-switching" one of the first two, which changes with
    probability 1/60 a day. Every asset has the same standard deviation of returns.

    Parameters
    ----------
    n_assets : int, default=100
        Number of assets.
    n_days : int, default=500
        Number of prices of each.
    personalities : sequence of str
        Characters of the assets, which take turns.
    strength : float, default=0.35
        s, the first-order autocorrelation; at least 0 and below 1.
    volatility : float, default=0.01
        Standard deviation of a day's return.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    prices : DataFrame of shape (n_days, n_assets)
        Prices by business day from 2000-01-03.
    assets : DataFrame
        ``personality``, ``strength`` and ``volatility`` of each asset, one row each.

    Raises
    ------
    ValueError
        When a personality is unknown, or a number is outside its range.

    Examples
    --------
    >>> from metaest_datasets import make_market
    >>> prices, assets = make_market(8, 100, random_state=0)
    >>> prices.shape, assets.loc["trending 0", "personality"]
    ((100, 8), 'trending')
    """
    n_assets = as_whole(n_assets, "n_assets", most=100_000)
    n_days = as_whole(n_days, "n_days", most=50_000)
    if isinstance(personalities, str) or not isinstance(personalities, Sequence) or not len(personalities):
        raise ValueError(f"personalities must be a list of at least one word, got {personalities!r}.")
    for kind in personalities:
        if not isinstance(kind, str) or kind not in PERSONALITIES:
            raise ValueError(f"personalities: there is no {kind!r}; there are {', '.join(PERSONALITIES)}.")
    wanted = "strength must lie in [0, 1) and volatility above 0 and below 1"
    strength = as_number(strength, f"{wanted}; strength", least=0, below=1)
    volatility = as_number(volatility, f"{wanted}; volatility", above=0, below=1)
    rng = generator_of(random_state)
    kinds = [personalities[i % len(personalities)] for i in range(n_assets)]
    sign = np.array([{"trending": 1.0, "mean-reverting": -1.0, "random walk": 0.0}.get(kind, np.nan) for kind in kinds])
    switches = np.isnan(sign)
    now = np.where(switches, rng.choice([-1.0, 1.0], n_assets), sign)
    returns = np.empty((n_days, n_assets))
    before = volatility * rng.standard_normal(n_assets)
    for t in range(n_days):
        now = np.where(switches & (rng.random_sample(n_assets) < SWITCH), -now, now)
        phi = strength * now
        before = phi * before + volatility * np.sqrt(1 - phi**2) * rng.standard_normal(n_assets)
        returns[t] = before
    names = [f"{kind} {i}" for i, kind in enumerate(kinds)]
    days = pd.bdate_range("2000-01-03", periods=n_days, name="date")
    prices = pd.DataFrame(100 * np.cumprod(1 + returns, axis=0), index=days, columns=names)
    strengths = np.where(sign == 0, 0.0, strength)
    assets = pd.DataFrame({"personality": kinds, "strength": strengths, "volatility": volatility}, index=names)
    return prices, assets


def load_sp500_prices() -> pd.DataFrame:
    """Load daily closing prices of 20 large American stocks, 1990 to 2022, adjusted for splits and dividends.

    The stocks are those of today's index, selected when their success was known (survivorship bias): their mean return
    is not one that an investor could have earned. Every result on them should mention this.

    Returns
    -------
    DataFrame of shape (8313, 20)
        Prices by date, one column for each stock.

    Raises
    ------
    ImportError
        When the package skfolio, which contains them, is not installed (``pip install 'metaest[trading]'``).
    """
    try:
        from skfolio.datasets import load_sp500_dataset
    except ImportError as error:
        raise ImportError("load_sp500_prices requires skfolio: pip install 'metaest[trading]'") from error
    prices: pd.DataFrame = load_sp500_dataset()
    return prices.rename_axis("date")


def load_index_prices() -> pd.DataFrame:
    """Load daily prices of two stock indices and crude oil, 1999 to 2018.

    Returns
    -------
    DataFrame of shape (n_days, 3)
        "S&P 500", "NASDAQ" and "WTI crude oil" by date; days on which one of them was not traded are left out.

    Raises
    ------
    ImportError
        When the package arch, which contains them, is not installed (``pip install 'metaest[trading]'``).
    """
    try:
        from arch.data import nasdaq, sp500, wti
    except ImportError as error:
        raise ImportError("load_index_prices requires arch: pip install 'metaest[trading]'") from error
    columns = {
        "S&P 500": sp500.load()["Adj Close"],
        "NASDAQ": nasdaq.load()["Adj Close"],
        "WTI crude oil": wti.load()["DCOILWTICO"],
    }
    return pd.DataFrame(columns).dropna().rename_axis("date")
