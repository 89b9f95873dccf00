"""What positions earn: after a lag, net of costs, and measured the same way for all that is compared."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from metaest_domains.trading.features import DAYS
from metaest_domains.trading.measures import drawdown, sharpe, sortino
from metaest_domains.trading.prices import as_prices, day_of

__all__ = ["Backtest", "earn"]


@dataclass(frozen=True, eq=False)
class Backtest:
    """Positions in assets and what they earned.

    Attributes
    ----------
    positions : DataFrame of shape (n_days, n_assets)
        By the day they were decided.
    returns : DataFrame of shape (n_days, n_assets)
        Net of costs, by the day they were earned; missing where nothing was held.
    lag : int
        Days between decision and trade. 0 is what nobody can trade; it stands in every table.
    cost : float
        Of a change of position by one.
    """

    positions: pd.DataFrame
    returns: pd.DataFrame
    lag: int
    cost: float

    def __repr__(self) -> str:
        marked = " (decides and trades at the same close)" if self.lag == 0 else ""
        first, last = (day_of(self.returns.index[i]) for i in (0, -1))
        return (
            f"Backtest({self.returns.shape[1]} assets, {first} to {last}, lag={self.lag}{marked}, "
            f"cost={1e4 * self.cost:g} basis points)"
        )

    @cached_property
    def portfolio(self) -> "pd.Series[float]":
        """The mean of all assets that are traded on a day: of equal risk where positions are scaled to it."""
        return self.returns.mean(axis=1).dropna()

    def between(self, first: Any = None, last: Any = None) -> "Backtest":
        """Return the days from `first` to `last`, by when they were earned."""
        return Backtest(self.positions.loc[first:last], self.returns.loc[first:last], self.lag, self.cost)

    def summary(self) -> pd.DataFrame:
        """Return one row an asset and one for the portfolio.

        Returns
        -------
        DataFrame
            ``sharpe``, ``sortino``, ``return`` and ``volatility`` a year, ``max_drawdown``, ``turnover`` a year,
            ``hit_rate`` (days above zero among those that moved), ``exposure`` (mean size of the position), ``lag``,
            ``cost``.
        """
        rows = {name: self._row(self.returns[name].dropna(), self.positions[[name]]) for name in self.returns}
        rows["portfolio"] = self._row(self.portfolio, self.positions)
        return pd.DataFrame(rows).T.astype({"lag": int})

    def _row(self, earned: "pd.Series[float]", positions: pd.DataFrame) -> dict[str, Any]:
        values = earned.to_numpy()
        moved = values[values != 0]
        return {
            "sharpe": sharpe(values),
            "sortino": sortino(values),
            "return": DAYS * values.mean(),
            "volatility": np.sqrt(DAYS) * values.std(),
            "max_drawdown": drawdown(values),
            "turnover": DAYS * float(np.nanmean(positions.diff().abs().to_numpy())),
            "hit_rate": float((moved > 0).mean()) if len(moved) else np.nan,
            "exposure": float(np.nanmean(positions.abs().to_numpy())),
            "lag": self.lag,
            "cost": self.cost,
        }

    def to_skfolio(self) -> Any:
        """Return the portfolio as one of skfolio's, for its measures and plots."""
        from skfolio import Portfolio

        returns = self.returns.dropna()
        return Portfolio(X=returns, weights=np.full(returns.shape[1], 1 / returns.shape[1]), name=repr(self))


def earn(positions: pd.DataFrame, prices: Any, *, lag: int = 1, cost: float = 0.0) -> Backtest:
    """Return what positions earn.

    A position decided at the close of day t is taken at the close of day t + lag, pays its cost there, and earns the
    return to the next day's close.

    Parameters
    ----------
    positions : DataFrame of shape (n_days, n_assets)
        By the day they are decided; missing where there is none. The first one is paid for as well.
    prices : DataFrame of shape (n_days, n_assets)
        Of the same days and assets.
    lag : int, default=1
    cost : float, default=0.0
        Of a change of position by one: 0.0005 is 5 basis points.

    Returns
    -------
    Backtest
    """
    if lag < 0 or int(lag) != lag:
        raise ValueError(f"lag must be a whole number of days from 0 on, got {lag!r}.")
    frame = as_prices(prices, "earn").loc[:, list(positions.columns)]
    if not positions.index.equals(frame.index):
        raise ValueError("earn: positions and prices must have the same days.")
    moves = frame.pct_change(fill_method=None)
    paid = cost * positions.diff().abs().where(positions.shift().notna(), positions.abs())
    net = positions.shift(1 + lag) * moves - paid.shift(1 + lag)
    return Backtest(positions.dropna(how="all"), net.dropna(how="all"), int(lag), float(cost))
