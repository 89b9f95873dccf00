"""Plot backtests: value, drawdown, positions, and Sharpe ratios by cost or lag."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from metaest.tasks.numbers import as_vector
from metaest_domains.axes import current_axes
from metaest_domains.trading.backtest import Backtest
from metaest_domains.trading.dates import yearly
from metaest_domains.trading.prices import as_frame
from metaest_domains.trading.settings import as_number

__all__ = ["plot_drawdown", "plot_equity", "plot_positions", "plot_sharpe"]

Strategies = Any  # a Backtest, or a mapping of names to them
# ratio of highest to lowest value below which the ticks of a logarithmic axis are evenly spaced
NARROW = 4.0


def plot_equity(
    backtests: Strategies,
    *,
    volatility: float | None = None,
    colors: Mapping[Any, Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the value of one unit of capital over time, on a logarithmic scale.

    Parameters
    ----------
    backtests : Backtest, or dict of str to Backtest
        Backtests whose portfolios are drawn.
    volatility : float, optional
        Annualised standard deviation to which the returns of each are scaled, so that strategies are compared at equal
        risk. The factor is computed from the whole backtest, hence was not available on its first day.
    colors : dict of str to color, optional
        Colors by the names of the backtests; others take matplotlib's colors in turn.
    ax : matplotlib.axes.Axes, optional
        The current axes of pyplot by default.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    ValueError
        When a backtest has no days, or has constant returns with `volatility`.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    ax = current_axes(ax, grid=False)
    values = _values(backtests, volatility, "plot_equity")
    for name, value in values.items():
        ax.plot(value.index, value.where(value > 0), lw=1.1, label=name, **_color(name, colors))
    ax.set(yscale="log", xlabel=_time_label(values), ylabel="value of 1 invested")
    if volatility is not None:
        ax.set_ylabel(f"value of 1 invested (annualised risk of {100 * float(volatility):g} %)")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(MaxNLocator(6) if high < NARROW * low else LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    _legend(ax)
    return ax


def plot_drawdown(
    backtests: Strategies,
    *,
    volatility: float | None = None,
    colors: Mapping[Any, Any] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the drawdown: the distance of the value from its earlier maximum, in per cent.

    Parameters
    ----------
    backtests, volatility, colors, ax
        As in :func:`plot_equity`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    ValueError
        As in :func:`plot_equity`.
    """
    ax = current_axes(ax, grid=False)
    values = _values(backtests, volatility, "plot_drawdown")
    for name, value in values.items():
        highest = value.cummax().clip(lower=1.0)
        ax.plot(value.index, 100 * (value / highest - 1), lw=1, label=name, **_color(name, colors))
    ax.set(xlabel=_time_label(values), ylabel="below the highest value (%)")
    _legend(ax)
    return ax


def plot_positions(
    positions: Any, *, asset: Any = None, colors: Mapping[Any, Any] | None = None, ax: Any = None
) -> Any:
    """Draw positions by the day of the decision, as steps that last until the next decision.

    Parameters
    ----------
    positions : Series, DataFrame, Backtest, or dict of str to any of these
        One line for each asset of a frame or backtest, one for each name of a dict.
    asset : str, optional
        The only asset to be drawn; required if an entry of a dict has several assets.
    colors, ax
        As in :func:`plot_equity`; colors go by the labels of the lines.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    ValueError
        When there are no positions in the asset, or an entry of a dict has several assets and none is chosen.
    """
    ax = current_axes(ax, grid=False)
    lines: dict[Any, pd.Series[float]] = {}
    if isinstance(positions, Mapping):
        if not positions:
            raise ValueError("plot_positions: positions is empty.")
        for name, each in positions.items():
            chosen = _assets(each, asset)
            if len(chosen) != 1:
                raise ValueError(f"plot_positions: {name!r} has positions in {len(chosen)} assets; pass asset=.")
            lines[name] = next(iter(chosen.values()))
    else:
        lines = _assets(positions, asset)
    for name, line in lines.items():
        ax.plot(line.index, line, drawstyle="steps-post", lw=1, label=name, **_color(name, colors))
    ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.set(xlabel=_time_label(lines), ylabel="position (share of capital)")
    _legend(ax)
    return ax


def plot_sharpe(ratios: pd.DataFrame, *, colors: Mapping[Any, Any] | None = None, ax: Any = None) -> Any:
    """Draw Sharpe ratios of strategies against a setting, such as cost, lag or horizon.

    Parameters
    ----------
    ratios : DataFrame
        A column for each strategy, a row for each value; the name of the index is the label of the horizontal axis.
    colors, ax
        As in :func:`plot_equity`; colors go by the names of the columns.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Examples
    --------
    Ratios of a backtest by cost::

        costs = pd.Index([0, 2, 5, 10], name="cost (basis points)")
        ratios = {c: sharpe(earn(positions, prices, cost=1e-4 * c).portfolio) for c in costs}
        plot_sharpe(pd.DataFrame({"momentum": ratios}).rename_axis(costs.name))
    """
    if not isinstance(ratios, pd.DataFrame) or ratios.empty:
        raise TypeError(
            f"plot_sharpe: ratios must be a data frame with a column for each strategy, got {type(ratios).__name__}."
        )
    for name in ratios:
        as_vector(ratios[name], f"plot_sharpe: ratios of {name!r}", missing=True, infinite=True)
    ax = current_axes(ax, grid=False)
    for name in ratios:
        ax.plot(ratios.index, ratios[name], "o-", ms=3.5, lw=1.2, label=name, **_color(name, colors))
    ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
    ax.set(xlabel="" if ratios.index.name is None else str(ratios.index.name), ylabel="annualised Sharpe ratio")
    _legend(ax)
    return ax


def _values(backtests: Strategies, volatility: float | None, where: str) -> dict[Any, "pd.Series[float]"]:
    """Return the compounded value of each backtest's portfolio by the day it was earned; 0 after a total loss."""
    if volatility is not None:
        volatility = as_number(volatility, "volatility", where)
    if isinstance(backtests, Mapping) and not backtests:
        raise ValueError(f"{where}: backtests is empty.")
    values = {}
    for name, backtest in (backtests if isinstance(backtests, Mapping) else {"portfolio": backtests}).items():
        if not isinstance(backtest, Backtest):
            raise ValueError(f"{where}: backtests must be those of earn or walk_forward, got {backtest!r}.")
        earned = backtest.portfolio
        if not len(earned):
            raise ValueError(f"{where}: the backtest {name!r} has no days.")
        if volatility is not None:
            spread = float(earned.std(ddof=0)) * yearly(earned.index, backtest.periods_per_year, where) ** 0.5
            if not spread > 0:
                raise ValueError(f"{where}: the backtest {name!r} has constant returns, so its risk cannot be scaled.")
            earned = earned * (volatility / spread)
        with np.errstate(over="ignore", invalid="ignore"):
            value = (1 + earned).cumprod()
        if not np.isfinite(value).all():
            scaled = "" if volatility is None else f", scaled to volatility={volatility:g},"
            raise ValueError(f"{where}: the backtest {name!r}{scaled} has returns whose product is beyond 1e308.")
        values[name] = value.where((earned > -1).cummin(), 0.0)
    return values


def _assets(positions: Any, asset: Any) -> dict[Any, "pd.Series[float]"]:
    table = positions.positions if isinstance(positions, Backtest) else positions
    frame = as_frame(table, "plot_positions", "positions")
    if asset is not None and not any(type(asset) is type(name) and asset == name for name in frame):
        raise ValueError(
            f"plot_positions: there are no positions in asset {asset!r}, but in {list(frame.columns)[:5]}."
        )
    return {name: frame[name] for name in frame if asset is None or name == asset}


def _color(name: Any, colors: Mapping[Any, Any] | None) -> dict[str, Any]:
    return {"color": colors[name]} if colors is not None and name in colors else {}


def _time_label(lines: Mapping[Any, "pd.Series[float]"]) -> str:
    return "date" if all(isinstance(line.index, pd.DatetimeIndex) for line in lines.values()) else "row"


def _legend(ax: Any) -> None:
    if len(ax.get_legend_handles_labels()[0]) > 1:
        ax.legend(frameon=False, fontsize=8)
