"""Draw the figures of the study."""

from typing import Any

import pandas as pd

from metaest_domains.trading.plots import plot_drawdown, plot_equity, plot_positions, plot_sharpe
from metaest_domains.trading.study.real import Walked

__all__ = ["draw_equity", "draw_lag_and_cost", "draw_positions", "draw_strength"]

# first day of the figure of positions
SHOWN_FROM = "2019-01-01"
# colours of the methods
COLOURS: dict[Any, str] = {
    "adapted": "#d1701f",
    "unadapted": "#2369bd",
    "fine-tuned": "#4c9a6a",
    "from scratch": "#9b59b6",
    "ridge forecast": "#b8a13a",
    "buy and hold": "#bbbbbb",
    "buy and hold, scaled": "#222222",
    "momentum, scaled": "#8a8a8a",
}


def draw_equity(result: Walked) -> Any:
    """Draw the value of one unit of capital at equal risk, and its drawdown."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 5.5), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    # all strategies at an annualised risk of 10 %, so that they differ in skill rather than in risk
    plot_equity(result.backtests, volatility=0.1, colors=COLOURS, ax=above)
    plot_drawdown(result.backtests, volatility=0.1, colors=COLOURS, ax=below)
    above.set(xlabel="", ylabel="value (risk of 10 % a year)")
    below.set(ylabel="below the highest (%)")
    below.get_legend().remove()
    _mark_adapted(above, ncols=2)
    _mark_adapted(below)
    return figure


def draw_positions(result: Walked, prices: pd.DataFrame) -> Any:
    """Draw one asset in the last years: its price, and the positions before and after adaptation."""
    import matplotlib.pyplot as plt

    name = result.after.columns[0]
    before = result.before.loc[SHOWN_FROM:, name]
    after = result.after.loc[SHOWN_FROM:, name]
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 4.5), sharex=True, layout="constrained")
    days = after.index
    above.plot(days, prices.loc[days, name], color="#222222", lw=1)
    above.set(ylabel=f"price of {name}")
    above.spines[["top", "right"]].set_visible(False)
    colours = {"before adaptation": COLOURS["unadapted"], "adapted every month": COLOURS["adapted"]}
    plot_positions({"before adaptation": before, "adapted every month": after}, colors=colours, ax=below)
    return figure


def draw_lag_and_cost(result: Walked) -> Any:
    """Draw Sharpe ratios by cost and by lag."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
    plot_sharpe(result.by_cost.rename_axis("cost (basis points)"), colors=COLOURS, ax=left)
    plot_sharpe(result.by_lag.rename_axis("lag (days); 0 is impossible in practice"), colors=COLOURS, ax=right)
    left.set(ylabel="annualised Sharpe ratio, 2010 to 2022")
    right.set(ylabel="")
    right.get_legend().remove()
    _mark_adapted(left, fontsize=7)
    _mark_adapted(right)
    return figure


def draw_strength(shares: pd.DataFrame) -> Any:
    """Draw the share of the best policy's Sharpe ratio by the strength of the personalities."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    percent = 100 * shares.drop(columns="best")
    percent.index = pd.Index(100 * shares.index, name="autocorrelation of returns (%, either sign)")
    plot_sharpe(percent, colors=COLOURS, ax=axis)
    axis.axhline(100, color="#bbbbbb", lw=0.8, zorder=0)
    axis.set(ylabel="Sharpe ratio (% of the best)", ylim=(-50, 105))
    _mark_adapted(axis)
    return figure


def _mark_adapted(axis: Any, **legend: Any) -> None:
    """Draw the line of the adapted policy broader, and in front of the others."""
    for line in axis.lines:
        if line.get_label() == "adapted":
            line.set(linewidth=2.0, zorder=3)
    if axis.get_legend() is not None:
        axis.legend(**{"frameon": False, "fontsize": 8, **legend})
