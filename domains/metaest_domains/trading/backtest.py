"""What positions earn: after a lag, net of costs, and measured the same way for all that is compared."""

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
    """Positions in assets and what they earned.

    Attributes
    ----------
    positions : DataFrame of shape (n_days, n_assets)
        By the day they were decided.
    returns : DataFrame of shape (n_days, n_assets)
        Net of costs, by the day they were earned; missing where nothing was held and nothing paid.
    lag : int
        Days between decision and trade. With 0, positions are decided and traded at the same close, which is impossible
        in practice; every table shows the lag.
    cost : float
        Cost of a change of position by one, as a share of capital.
    periods_per_year : float or None
        Number of rows per year; None where neither the dates nor the user gave it.
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
            # a copy, which later changes of the user's frame do not reach
            object.__setattr__(self, name, as_frame(frame, "Backtest", name))
            if np.isinf(getattr(self, name).to_numpy()).any():
                raise ValueError(f"Backtest: {name} hold an infinite number.")
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
        """The mean of all assets that are traded on a day: of equal risk where positions are scaled to it."""
        return self.returns.mean(axis=1).dropna()

    def between(self, first: Any = None, last: Any = None) -> "Backtest":
        """Return the days from `first` to `last`, by when they were earned."""
        for name, day in (("first", first), ("last", last)):
            if day is not None:
                first_from(self.returns.index, day, "between", name)
        positions = self.positions.loc[first:last]
        returns = self.returns.loc[first:last]
        return Backtest(positions, returns, self.lag, self.cost, self.periods_per_year)

    def summary(self) -> pd.DataFrame:
        """Return one row an asset and one for the portfolio.

        Returns
        -------
        DataFrame
            ``sharpe``, ``sortino``, ``return``, ``volatility`` and ``turnover``, all annualised, ``max_drawdown``,
            ``hit_rate`` (share of days with a gain among those with a gain or loss), ``exposure`` (mean size of the
            position), ``lag``, ``cost``. Turnover is the mean change of position, where a missing position counts as 0
            and the first day is left out. NaN where there are too few days; ratios as :func:`sharpe` and
            :func:`sortino` define them.

        Warns
        -----
        UserWarning
            When rows have no dates: 252 a year are assumed. When dates do not tell how many rows a year has: annualised
            figures are NaN; see `periods_per_year` of :func:`earn`.
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
        """Return the portfolio as one of skfolio's, for its measures and plots."""
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
    """Return what positions earn.

    A position decided at the close of day t is taken at the close of day t + lag, pays its cost there, and earns the
    return to the next day's close. The cost of a trade is counted on the day of that return.

    Parameters
    ----------
    positions : DataFrame, Series or array-like of shape (n_days, n_assets)
        By the day they are decided, as shares of capital. A missing position counts as 0: it earns nothing, and the
        change to and from it is paid, as is the first position. One series goes with the prices of one asset.
    prices : DataFrame, Series or array-like of shape (n_days, n_assets)
        Of the same days; assets without positions are ignored. An asset whose prices end before the last day is sold at
        the last of them, and that sale is paid.
    lag : int, default=1
    cost : float, default=0.0
        Cost of a change of position by one, as a share of capital, at least 0 and below 1: 0.0005 is 5 basis points.
    periods_per_year : float, optional
        Number of rows per year, for the annualised figures of :meth:`Backtest.summary`; by default counted from the
        dates, as in :func:`sharpe`.
    check_plausibility : bool, default=True
        Whether to warn of price jumps that look like share splits for which prices are not adjusted.

    Returns
    -------
    Backtest

    Raises
    ------
    ValueError
        When positions and prices are not of the same days, when a position is infinite or has no prices to be traded
        at, or when prices or settings are invalid.

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
        raise ValueError(f"earn: with lag={lag} at least {2 + lag} days of prices are needed, got {len(frame)}.")
    _check_traded(decided, frame, lag)
    # by the day of the trade; an asset whose prices end is sold at the last of them
    taken = decided.shift(lag).where(frame.shift(-1).notna())
    paid = (cost * changes(taken)).shift(1)
    moves = frame.pct_change(fill_method=None).fillna(0.0)
    net = taken.shift(1).fillna(0.0) * moves - paid
    net = net.where(taken.shift(1).notna() | (paid > 0))
    periods = periods_of(frame.index) if periods is None else periods
    return Backtest(_from_first_to_exit(decided), net.dropna(how="all"), lag, cost, periods)


def _from_first_to_exit(decided: pd.DataFrame) -> pd.DataFrame:
    """Return the days from the first position to the exit from the last, with the days between that have none."""
    there = np.flatnonzero(decided.notna().any(axis=1))
    return decided.iloc[there[0] : there[-1] + 2] if len(there) else decided.iloc[:0]


def _check_traded(decided: pd.DataFrame, prices: pd.DataFrame, lag: int) -> None:
    """Raise where a position is in an asset that is not listed yet, or no longer."""
    unlisted = prices.ffill().shift(-lag).isna() & prices.bfill().notna()
    unlisted.iloc[len(prices) - lag :] = False
    missing = ((decided.fillna(0.0) != 0) & (unlisted | prices.bfill().isna())).to_numpy()
    if missing.any():
        row, column = (int(place[0]) for place in np.nonzero(missing))
        name = decided.columns[column]
        day = day_of(decided.index[row])
        raise ValueError(
            f"earn: the position in asset {name!r} decided on {day} has no "
            "prices to be traded at; write positions.where(prices.notna())."
        )


def _mean(values: NDArray[Any]) -> float:
    """Return the mean of the values that are not missing; NaN where there are none."""
    there = values[~np.isnan(values.astype(np.float64))]
    return float(there.mean()) if len(there) else np.nan
