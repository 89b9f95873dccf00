"""Walk forward: adapt to the past, trade until the next adaptation; for all assets and dates in one call."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from metaest import Task, TaskError, TaskSet
from metaest.functional.progress import progress as shown
from metaest_domains.trading.backtest import Backtest, earn
from metaest_domains.trading.dates import day_of, first_from
from metaest_domains.trading.policy import TradingPolicy, held
from metaest_domains.trading.prices import as_prices
from metaest_domains.trading.settings import as_days

__all__ = ["walk_forward"]

# adaptations in one call, limited by memory
AT_ONCE = 2000


def walk_forward(
    policy: TradingPolicy,
    prices: Any,
    *,
    adapt_window: int = 250,
    readapt_every: int = 21,
    lag: int = 1,
    cost: float | None = None,
    start: Any = None,
    periods_per_year: float | None = None,
    check_plausibility: bool = True,
    progress: bool = False,
) -> Backtest:
    """Trade assets with a policy that is regularly adapted to each of them.

    An adaptation uses only outcomes that are available at the close of its day: a position decided on day t has earned
    its return at the close of day t + lag + 1. The adapted policy decides until the day before the next adaptation.

    Parameters
    ----------
    policy : TradingPolicy
        A fitted policy. The user is responsible for not fitting it to these assets or this time.
    prices : DataFrame of shape (n_days, n_assets)
        Prices by date; leading missing values of an asset are days before its listing, trailing ones days after its
        delisting.
    adapt_window : int, default=250
        Days whose outcomes are used in an adaptation.
    readapt_every : int, default=21
        Days between adaptations.
    lag : int, default=1
        Days between a decision and the close at which it is taken. Every table shows the lag, since 0 is impossible in
        practice.
    cost : float, optional
        Cost of a change of position by one; that of the policy by default.
    start : date, optional
        First day of a decision; earlier days are used in adaptations. By default the first day with a whole window
        before it.
    periods_per_year : float, optional
        Number of rows per year, for the annualised figures of :meth:`Backtest.summary`; by default counted from the
        dates, as in :func:`sharpe`.
    check_plausibility : bool, default=True
        True warns of price jumps that look like share splits for which prices are not adjusted.
    progress : bool, default=False
        True shows a progress bar.

    Returns
    -------
    Backtest

    Raises
    ------
    ValueError
        When prices or settings are invalid.
    TaskError
        When no asset has a whole window before its last day.

    Warns
    -----
    UserWarning
        When a price jumps as in a share split.
    """
    check_is_fitted(policy)
    lag = as_days(lag, "lag", "walk_forward", least=0)
    adapt_window = as_days(adapt_window, "adapt_window", "walk_forward")
    readapt_every = as_days(readapt_every, "readapt_every", "walk_forward")
    frame = as_prices(prices, "walk_forward", check_plausibility=check_plausibility)
    seen = {name: policy.see(frame[name], lag) for name in frame.columns}
    n = len(frame)
    first_day = 0 if start is None else first_from(frame.index, start, "walk_forward")
    if first_day >= n:
        raise ValueError(f"walk_forward: start={start!r} is after the last day, {day_of(frame.index[-1])}.")
    plans: list[tuple[Any, int, Task]] = []
    for name, asset in seen.items():
        y = asset.outcome if policy.volatility_target is None else np.column_stack([asset.outcome, asset.scale])
        X = asset.X.to_numpy()
        usable = np.flatnonzero(np.isfinite(X).all(axis=1) & np.isfinite(asset.scale))
        if not len(usable):
            continue
        earliest = max(int(usable[0]) + adapt_window + lag, first_day)
        for day in range(earliest, int(usable[-1]) + 1, readapt_every):
            window = slice(day - lag - adapt_window, day - lag)
            plans.append((name, day, Task(f"{name} {day}", X[window], y[window], feature_names=tuple(asset.X.columns))))
    if not plans:
        raise TaskError(
            f"walk_forward: no asset has adapt_window={adapt_window} days with features and outcomes before its last."
        )
    positions = pd.DataFrame(np.nan, index=frame.index, columns=frame.columns)
    groups = [plans[begin : begin + AT_ONCE] for begin in range(0, len(plans), AT_ONCE)]
    for some in shown(groups, progress, "adaptations", "adaptation", len(plans), len):
        for (name, day, _), adapted in zip(
            some, policy.policy_.adapt_many(TaskSet([t for _, _, t in some])), strict=True
        ):
            days = slice(day, min(day + readapt_every, n))
            positions.loc[frame.index[days], name] = held(adapted, seen[name], days)
    cost = float(policy.policy_.cost) if cost is None else cost
    periods = policy.periods_per_year if periods_per_year is None else periods_per_year
    return earn(positions, frame, lag=lag, cost=cost, periods_per_year=periods, check_plausibility=False)
