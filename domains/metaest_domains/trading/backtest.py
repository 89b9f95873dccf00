"""Backtests: returns of positions after a lag and net of costs, measured in the same way for all strategies."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import warn
from metaest_domains.trading.dates import day_of, first_from, periods_of, yearly
from metaest_domains.trading.measures import drawdown, sharpe_of, sortino_of
from metaest_domains.trading.positions import as_positions, changes
from metaest_domains.trading.prices import as_frame, as_prices
from metaest_domains.trading.settings import as_cost, as_days, as_number

__all__ = ["Backtest", "earn"]


@dataclass(frozen=True, eq=False)
class Backtest:
    """Positions in assets and their returns.

    Attributes
    ----------
    positions : DataFrame of shape (n_days, n_assets)
        Positions by the day of the decision.
    returns : DataFrame of shape (n_days, n_assets)
        Returns net of costs, by the day they were earned; missing on days without a position or a cost.
    lag : int
        Days between decision and trade. With 0, positions are decided and traded at the same close, which is impossible
        in practice; every table shows the lag.
    cost : float
        Cost of a change of position by one, as a share of capital.
    periods_per_year : float or None
        Number of rows per year; None if neither the dates nor the user determined it.
    """

    positions: pd.DataFrame
    returns: pd.DataFrame
    lag: int
    cost: float
    periods_per_year: float | None = None

    def __post_init__(self) -> None:
        for name in ("positions", "returns"):
            frame = getattr(self, name)
            if not isinstance(frame, pd.DataFrame):
                raise TypeError(f"Backtest: {name} must be a data frame by day, got {type(frame).__name__}.")
            # a copy, so that later changes of the user's frame have no effect
            object.__setattr__(self, name, as_frame(frame, "Backtest", name))
            if np.isinf(getattr(self, name).to_numpy()).any():
                raise ValueError(f"Backtest: {name} contain an infinite number.")
        if not self.returns.columns.equals(self.positions.columns):
            raise ValueError(
                f"Backtest: positions and returns must have the same assets, got {list(self.positions.columns)[:5]} "
                f"and {list(self.returns.columns)[:5]}."
            )
        object.__setattr__(self, "lag", as_days(self.lag, "lag", "Backtest", least=0))
        object.__setattr__(self, "cost", as_cost(self.cost, "Backtest"))
        if self.periods_per_year is not None:
            periods = as_number(self.periods_per_year, "periods_per_year", "Backtest")
            object.__setattr__(self, "periods_per_year", periods)

    def __repr__(self) -> str:
        marked = " (decides and trades at the same close)" if self.lag == 0 else ""
        days = "no days"
        if len(self.returns):
            days = " to ".join(day_of(self.returns.index[i]) for i in (0, -1))
        n = self.returns.shape[1]
        return (
            f"Backtest({n} asset{'s' * (n != 1)}, {days}, lag={self.lag}{marked}, "
            f"cost={1e4 * self.cost:g} basis points)"
        )

    @cached_property
    def portfolio(self) -> "pd.Series[float]":
        """Mean return of all assets that are traded on a day."""
        return self.returns.mean(axis=1).dropna()

    def between(self, first: Any = None, last: Any = None) -> "Backtest":
        """Return the part of the backtest from day `first` to day `last`."""
        for name, day in (("first", first), ("last", last)):
            if day is not None:
                first_from(self.returns.index, day, "between", name)
        positions = self.positions.loc[first:last]
        returns = self.returns.loc[first:last]
        return Backtest(positions, returns, self.lag, self.cost, self.periods_per_year)

    def summary(self) -> pd.DataFrame:
        """Return measures of each asset and of the portfolio.

        Returns
        -------
        DataFrame
            One row for each asset and one for the portfolio. ``sharpe``, ``sortino``, ``return``, ``volatility`` and
            ``turnover``, all annualised, ``max_drawdown``, ``hit_rate`` (share of days with a gain among those with a
            gain or loss), ``exposure`` (mean size of the position), ``lag``, ``cost``. Turnover is the mean change of
            position; a missing position counts as 0 and the first day is left out. NaN for too few days; ratios as in
            :func:`sharpe` and :func:`sortino`.

        Warns
        -----
        UserWarning
            When rows have no dates: 252 rows a year are assumed. When dates do not determine the rows per year:
            annualised figures are NaN; see `periods_per_year` of :func:`earn`.
        """
        try:
            periods = yearly(self.returns.index, self.periods_per_year, "summary")
        except ValueError as error:
            warn(f"{error} Annualised figures are missing.")
            periods = np.nan
        rows = {name: self._row(self.returns[name].dropna(), self.positions[[name]], periods) for name in self.returns}
        rows["portfolio"] = self._row(self.portfolio, self.positions, periods)
        return pd.DataFrame(rows).T.astype({"lag": int})

    def _row(self, earned: "pd.Series[float]", positions: pd.DataFrame, periods: float) -> dict[str, Any]:
        values: NDArray[np.float64] = np.asarray(earned, dtype=np.float64)
        turned = changes(positions).where(positions.notna() | positions.shift().notna()).iloc[1:]
        return {
            "sharpe": sharpe_of(values, periods),
            "sortino": sortino_of(values, periods),
            "return": periods * _mean(values),
            "volatility": np.sqrt(periods) * values.std() if len(values) > 1 else np.nan,
            "max_drawdown": drawdown(values) if len(values) else np.nan,
            "turnover": periods * _mean(turned.to_numpy()),
            "hit_rate": _mean(values[values != 0] > 0),
            "exposure": _mean(positions.abs().to_numpy()),
            "lag": self.lag,
            "cost": self.cost,
        }

    def to_skfolio(self) -> Any:
        """Return the portfolio as a skfolio Portfolio, for its measures and plots."""
        from skfolio import Portfolio

        returns = self.returns.dropna()
        return Portfolio(X=returns, weights=np.full(returns.shape[1], 1 / returns.shape[1]), name=repr(self))


def earn(
    positions: Any,
    prices: Any,
    *,
    lag: int = 1,
    cost: float = 0.0,
    periods_per_year: float | None = None,
    check_plausibility: bool = True,
) -> Backtest:
    """Return the backtest of positions.

    A position decided at the close of day t is taken at the close of day t + lag, pays its cost there, and earns the
    return to the next day's close. The cost of a trade is counted on the day of that return.

    Parameters
    ----------
    positions : DataFrame, Series or array-like of shape (n_days, n_assets)
        Positions by the day of the decision, as shares of capital. A missing position counts as 0: it earns nothing,
        and changes to and from it cost as any other, as does the first position. A single series requires prices of a
        single asset.
    prices : DataFrame, Series or array-like of shape (n_days, n_assets)
        Prices of the same days; assets without positions are ignored. An asset whose prices end before the last day is
        sold at its last price, at the usual cost.
    lag : int, default=1
        Days between a decision and the close at which it is taken.
    cost : float, default=0.0
        Cost of a change of position by one, as a share of capital, at least 0 and below 1: 0.0005 is 5 basis points.
    periods_per_year : float, optional
        Number of rows per year, for the annualised figures of :meth:`Backtest.summary`; by default counted from the
        dates, as in :func:`sharpe`.
    check_plausibility : bool, default=True
        True warns of price jumps that look like share splits for which prices are not adjusted.

    Returns
    -------
    Backtest

    Raises
    ------
    ValueError
        When positions and prices have different days, when a position is infinite or in an asset without a price, or
        when prices or settings are invalid.

    Warns
    -----
    UserWarning
        When a price jumps as in a share split.
    """
    lag = as_days(lag, "lag", "earn", least=0)
    cost = as_cost(cost, "earn")
    periods = None if periods_per_year is None else yearly(None, periods_per_year, "earn")
    frame = as_prices(prices, "earn", check_plausibility=check_plausibility)
    decided, frame = as_positions(positions, frame, "earn")
    if len(frame) < 2 + lag:
        raise ValueError(f"earn: lag={lag} requires at least {2 + lag} days of prices, got {len(frame)}.")
    _check_traded(decided, frame, lag)
    # positions by the day of the trade; an asset whose prices end is sold at its last price
    taken = decided.shift(lag).where(frame.shift(-1).notna())
    paid = (cost * changes(taken)).shift(1)
    moves = frame.pct_change(fill_method=None).fillna(0.0)
    net = taken.shift(1).fillna(0.0) * moves - paid
    net = net.where(taken.shift(1).notna() | (paid > 0))
    periods = periods_of(frame.index) if periods is None else periods
    return Backtest(_from_first_to_exit(decided), net.dropna(how="all"), lag, cost, periods)


def _from_first_to_exit(decided: pd.DataFrame) -> pd.DataFrame:
    """Return the days from the first position to the exit from the last, days without a position included."""
    there = np.flatnonzero(decided.notna().any(axis=1))
    return decided.iloc[there[0] : there[-1] + 2] if len(there) else decided.iloc[:0]


def _check_traded(decided: pd.DataFrame, prices: pd.DataFrame, lag: int) -> None:
    """Raise if a position is in an asset that is not listed yet, or no longer."""
    unlisted = prices.ffill().shift(-lag).isna() & prices.bfill().notna()
    unlisted.iloc[len(prices) - lag :] = False
    missing = ((decided.fillna(0.0) != 0) & (unlisted | prices.bfill().isna())).to_numpy()
    if missing.any():
        row, column = (int(place[0]) for place in np.nonzero(missing))
        name = decided.columns[column]
        day = day_of(decided.index[row])
        raise ValueError(
            f"earn: the position in asset {name!r} decided on {day} has no "
            "price at which it could be traded; write positions.where(prices.notna())."
        )


def _mean(values: NDArray[Any]) -> float:
    """Return the mean of the values that are not missing; NaN if all are missing."""
    there = values[~np.isnan(values.astype(np.float64))]
    return float(there.mean()) if len(there) else np.nan
