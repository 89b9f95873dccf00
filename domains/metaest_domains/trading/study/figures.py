"""The figures of the study."""

from typing import Any

import numpy as np
import pandas as pd

from metaest_domains.trading.study.real import Walked

__all__ = ["plot_equity", "plot_lag_and_cost", "plot_positions", "plot_strength"]

SHOWN_FROM = "2019-01-01"
COLOURS: dict[Any, str] = {
    "adapted": "#d1701f", "unadapted": "#2369bd", "fine-tuned": "#4c9a6a", "from scratch": "#9b59b6",
    "ridge forecast": "#b8a13a", "buy and hold": "#bbbbbb", "buy and hold, scaled": "#222222",
    "momentum, scaled": "#8a8a8a",
}  # fmt: skip


def plot_equity(found: Walked) -> Any:
    """Draw what one unit became, at equal risk, and how far below its highest it was."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 5.5), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    for name, backtest in found.backtests.items():
        earned = backtest.portfolio
        # at a tenth a year each, so that what differs is not how much was risked
        value = np.exp((0.1 / np.sqrt(252) / earned.std() * earned).cumsum())
        ours = name == "adapted"
        settings = {"color": COLOURS[name], "lw": 1.8 if ours else 1.0, "zorder": 3 if ours else 2}
        above.plot(value.index, value, label=name, **settings)
        below.plot(value.index, 100 * (value / value.cummax() - 1), **settings)
    above.set(ylabel="value (risk of 10 % a year)", yscale="log")
    _plain_numbers(above)
    above.legend(frameon=False, fontsize=8, ncols=2)
    below.set(ylabel="below the highest (%)")
    _clean(above, below)
    return figure


def plot_positions(found: Walked, prices: pd.DataFrame) -> Any:
    """Draw one asset in the last years: its price, and what is held of it before and after adaptation."""
    import matplotlib.pyplot as plt

    name = found.after.columns[0]
    before, after = found.before.loc[SHOWN_FROM:, name], found.after.loc[SHOWN_FROM:, name]
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 4.5), sharex=True, layout="constrained")
    days = after.index
    above.plot(days, prices.loc[days, name], color="#222222", lw=1)
    above.set(ylabel=f"price of {name}")
    below.plot(before.index, before, color=COLOURS["unadapted"], lw=0.8, label="before adaptation")
    below.plot(days, after, color=COLOURS["adapted"], lw=0.8, label="adapted every month")
    below.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    below.set(ylabel="position (share of capital)")
    below.legend(frameon=False, fontsize=8)
    _clean(above, below)
    return figure


def plot_lag_and_cost(found: Walked) -> Any:
    """Draw Sharpe ratios by cost and by lag."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
    for name in found.by_cost:
        settings = {"color": COLOURS[name], "marker": "o", "ms": 3.5, "lw": 1.8 if name == "adapted" else 1.0}
        left.plot(found.by_cost.index, found.by_cost[name], label=name, **settings)
        right.plot(found.by_lag.index, found.by_lag[name], **settings)
    left.set(xlabel="cost (basis points)", ylabel="Sharpe ratio, 2010 to 2022")
    right.set(xlabel="lag (days); 0 cannot be traded")
    left.legend(frameon=False, fontsize=7)
    _clean(left, right)
    return figure


def plot_strength(shares: pd.DataFrame) -> Any:
    """Draw the share of what the best policy earns by the strength of the personalities."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    for name in shares.drop(columns="best"):
        axis.plot(100 * shares.index, 100 * shares[name], "o-", ms=4, color=COLOURS[name],
                  lw=1.8 if name == "adapted" else 1.0, label=name)  # fmt: skip
    axis.axhline(100, color="#bbbbbb", lw=0.8)
    axis.axhline(0, color="#bbbbbb", lw=0.8)
    axis.set(
        xlabel="autocorrelation of returns (%, either sign)", ylabel="Sharpe ratio (% of the best)", ylim=(-50, 105)
    )
    axis.legend(frameon=False, fontsize=8)
    _clean(axis)
    return figure


def _plain_numbers(axis: Any) -> None:
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")


def _clean(*axes: Any) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
