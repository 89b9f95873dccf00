"""Walk forward: adapt to what is known, trade until the next adaptation; all assets and dates in one call."""

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

# adaptations in one call: what they hold must fit into memory
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
    """Trade assets with a policy that is adapted to each of them again and again.

    On a day of adaptation, outcomes are those known at its close: a position decided on day t has earned at the close
    of day t + lag + 1, and only such days are looked at. The adapted policy decides until the day before the next
    adaptation.

    Parameters
    ----------
    policy : TradingPolicy
        Fitted. Whether it has seen these assets, or this time, is yours to say.
    prices : DataFrame of shape (n_days, n_assets)
        By date; leading missing values of an asset are days before it was listed, trailing ones days after it ended.
    adapt_window : int, default=250
        Days whose outcomes are looked at.
    readapt_every : int, default=21
        Days between adaptations.
    lag : int, default=1
        Days between a decision and the close at which it is taken. 0 has to be asked for, and stands in every table.
    cost : float, optional
        Of a change of position by one; that of the policy by default.
    start : date, optional
        No day before it is decided on, though looked at; by default the first day with a whole window before it.
    periods_per_year : float, optional
        Number of rows per year, for the annualised figures of :meth:`Backtest.summary`; by default counted from the
        dates, as in :func:`sharpe`.
    check_plausibility : bool, default=True
        Whether to warn of price jumps that look like share splits for which prices are not adjusted.
    progress : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    Backtest

    Raises
    ------
    ValueError
        When prices or settings are invalid.
    TaskError
        When no asset has a whole window before the last day.

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
            look = slice(day - lag - adapt_window, day - lag)
            plans.append((name, day, Task(f"{name} {day}", X[look], y[look], feature_names=tuple(asset.X.columns))))
    if not plans:
        raise TaskError(
            f"walk_forward: no asset has adapt_window={adapt_window} days with features and outcomes before the last."
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
