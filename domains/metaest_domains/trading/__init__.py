"""Trading policies meta-learned over many assets and adapted to the next, with backtests after lag and costs."""

from metaest_domains.trading.backtest import Backtest, earn
from metaest_domains.trading.baselines import buy_and_hold, momentum
from metaest_domains.trading.features import PriceFeatures
from metaest_domains.trading.measures import Difference, deflated_sharpe, difference, drawdown, sharpe, sortino
from metaest_domains.trading.plots import plot_drawdown, plot_equity, plot_positions, plot_sharpe
from metaest_domains.trading.policy import AdaptedTrader, TradingPolicy
from metaest_domains.trading.walk import walk_forward

__all__ = [
    "AdaptedTrader",
    "Backtest",
    "Difference",
    "PriceFeatures",
    "TradingPolicy",
    "buy_and_hold",
    "deflated_sharpe",
    "difference",
    "drawdown",
    "earn",
    "momentum",
    "plot_drawdown",
    "plot_equity",
    "plot_positions",
    "plot_sharpe",
    "sharpe",
    "sortino",
    "walk_forward",
]
