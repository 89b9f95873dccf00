"""Study real stocks: assets and years that were used in no fit and no choice of settings, with lag and costs."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metaest_datasets import load_sp500_prices
from metaest_domains.trading.backtest import Backtest, earn
from metaest_domains.trading.baselines import buy_and_hold, momentum
from metaest_domains.trading.features import PriceFeatures
from metaest_domains.trading.measures import deflated_sharpe, difference, sharpe
from metaest_domains.trading.policy import TradingPolicy
from metaest_domains.trading.study.methods import Candidate, fitted
from metaest_domains.trading.walk import walk_forward

__all__ = ["Walked", "real", "seconds", "table"]

# last day of the fits among which settings are chosen
TUNED_UNTIL = "2004-12-31"
# first day on which settings are compared
TUNED_FROM = "2005-01-01"
# first day of the test years
TEST_FROM = "2010-01-01"
# folds over assets
FOLDS = 4
# annualised standard deviation of a position in an asset
TARGET = 0.1
# days over which the volatility is computed
WINDOW = 60
# cost of a change of position by one: 5 basis points
COST = 0.0005
# days between adaptations: a month of trading days
EVERY_DAYS = 21
# days of the returns among the features
HORIZONS = (1, 5, 20, 60, 250)
# settings of all policies
SETTINGS: dict[str, Any] = {"utility": "sharpe", "cost": COST, "query_size": 250, "random_state": 0}
# two jumps of these prices look like splits: a fall of BBY in 1991, and a stale price of RRC in 1990
UNCHECKED: dict[str, Any] = {"check_plausibility": False}
# settings of one policy for all assets, trained without adaptation
_JOINT = {"inner_steps": 0, "learn_inner_lr": False}
# numbers of meta-steps
_LENGTHS = (30, 100, 300)
# days to which a policy is adapted
_LOOKS = (120, 250, 500)
# candidates of each method
METHODS: dict[str, list[Candidate]] = {
    "adapted": [
        Candidate(
            f"look {look}, {n} meta-steps, {units} units, {steps} steps",
            {"support_size": look, "max_iter": n, "hidden_layer_sizes": (units,), "inner_steps": steps},
        )
        for look, n, units, steps in itertools.product(_LOOKS, _LENGTHS, (4, 16), (3,))
    ],
    "unadapted": [
        Candidate(f"{n} meta-steps, {units} units", {**_JOINT, "max_iter": n, "hidden_layer_sizes": (units,)})
        for n, units in itertools.product(_LENGTHS, (4, 16))
    ],
    "fine-tuned": [
        Candidate(
            f"look {look}, {n} meta-steps, {steps} steps of {rate:g}",
            {**_JOINT, "support_size": look, "max_iter": n},
            {"inner_steps": steps, "inner_lr": rate},
        )
        for look, n, steps, rate in itertools.product(_LOOKS, _LENGTHS[:2], (3, 30), (0.03, 0.3))
    ],
    "from scratch": [
        Candidate(
            f"look {look}, {steps} steps of {rate:g}",
            {**_JOINT, "support_size": look, "max_iter": 1, "meta_lr": 0.0},
            {"inner_steps": steps, "inner_lr": rate},
        )
        for look, steps, rate in itertools.product(_LOOKS, (10, 100, 300), (0.03, 0.3, 1.0))
    ],
}


class Walked(NamedTuple):
    """Results of the walks through the test years.

    Attributes
    ----------
    backtests : dict of str to Backtest
        Backtests of all assets in the test years, by method and baseline.
    chosen : DataFrame
        Settings of each method in each fold.
    trials : list of float
        Sharpe ratios of all settings tried for the adapted policy, in the years in which they were compared.
    before, after : DataFrame
        Positions in the first asset in the test years, of the same model: without adaptation, and adapted.
    by_cost, by_lag : DataFrame
        Sharpe ratios of portfolios, one column for each method.
    """

    backtests: dict[str, Backtest]
    chosen: pd.DataFrame
    trials: list[float]
    before: pd.DataFrame
    after: pd.DataFrame
    by_cost: pd.DataFrame
    by_lag: pd.DataFrame


def folds(assets: Sequence[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield training and test assets of each fold; each asset is tested once."""
    for k in range(FOLDS):
        test = list(assets[k::FOLDS])
        yield [asset for asset in assets if asset not in test], test


def real(prices: pd.DataFrame | None = None, lags: Sequence[int] = range(6)) -> Walked:
    """Run the study; prices are those of :func:`metaest_datasets.load_sp500_prices` by default.

    In each fold settings are chosen on the training assets only: candidates are fitted to two thirds of them until
    2004, and compared on the others from 2005 to 2009. The chosen ones are fitted to all training assets until 2009.
    """
    prices = load_sp500_prices() if prices is None else prices
    early = prices[prices.index < TEST_FROM]
    walks: dict[str, list[dict[int, Backtest]]] = {name: [] for name in METHODS}
    chosen: dict[int, dict[str, str]] = {}
    trials: list[float] = []
    before = after = pd.DataFrame()
    for k, (training, test) in enumerate(folds(list(prices.columns))):
        third = training[k % 3 :: 3]
        rest = [asset for asset in training if asset not in third]
        chosen[k] = {}
        for name, candidates in METHODS.items():
            models = _fitted(candidates, early.loc[:TUNED_UNTIL, rest])
            ratios = [sharpe(_walked(model, early[third], 1, TUNED_FROM).portfolio) for model in models]
            best = candidates[int(np.argmax(ratios))]
            trials += ratios if name == "adapted" else []
            chosen[k][name] = f"{best.label} ({max(ratios):.2f})"
            [model] = _fitted([best], early[training])
            # every strategy learns from the returns at the same lag
            walks[name].append({lag: _walked(model, prices[test], lag, TEST_FROM) for lag in lags})
            if name == "adapted" and k == 0:
                first = test[:1]
                before = model.positions(prices[first]).loc[TEST_FROM:]
                after = walks[name][0][1].positions[first]
    order = list(prices.columns)
    at = {name: {lag: _joined([walk[lag] for walk in walked], order) for lag in lags} for name, walked in walks.items()}
    held = {
        "buy and hold": buy_and_hold(prices, **UNCHECKED),
        "buy and hold, scaled": buy_and_hold(prices, volatility_target=TARGET, window=WINDOW, **UNCHECKED),
        "momentum, scaled": momentum(prices, volatility_target=TARGET, window=WINDOW, **UNCHECKED),
    }
    for name, positions in held.items():
        at[name] = {lag: _earned(positions, prices, lag, COST) for lag in lags}
    by_lag = pd.DataFrame({name: {lag: sharpe(by[lag].portfolio) for lag in lags} for name, by in at.items()})
    backtests = {name: by[1] for name, by in at.items()}
    by_cost = pd.DataFrame(
        {
            name: {
                c: sharpe(_earned(backtest.positions.reindex(prices.index), prices, 1, c * 1e-4).portfolio)
                for c in (0, 2, 5, 10)
            }
            for name, backtest in backtests.items()
        }
    )
    return Walked(backtests, pd.DataFrame(chosen).T, trials, before, after, by_cost, by_lag)


def seconds(prices: pd.DataFrame) -> tuple[float, float]:
    """Return the seconds for fitting the largest candidate to 15 assets, and for its walk through the test years."""
    training, _ = next(folds(list(prices.columns)))
    started = time.perf_counter()
    [model] = _fitted([METHODS["adapted"][-1]], prices.loc[prices.index < TEST_FROM, training])
    fit = time.perf_counter() - started
    _walked(model, prices, 1, TEST_FROM)
    return fit, time.perf_counter() - started - fit


def table(result: Walked) -> pd.DataFrame:
    """Return measures of each method and baseline, with the lead of the adapted policy's Sharpe ratio over it."""
    adapted = result.backtests["adapted"].portfolio
    rows = {}
    for name, backtest in result.backtests.items():
        summary = backtest.summary().loc["portfolio"]
        lead = difference(adapted, backtest.portfolio)
        rows[name] = {
            **summary[["sharpe", "sortino", "volatility", "max_drawdown", "turnover", "hit_rate", "exposure"]],
            "adapted above it": lead.value,
            "lower": lead.lower,
            "upper": lead.upper,
            "lag": backtest.lag,
        }
    frame = pd.DataFrame(rows).T
    frame.loc["adapted", "deflated"] = deflated_sharpe(adapted, result.trials)
    return frame


def _fitted(candidates: list[Candidate], prices: pd.DataFrame) -> list[TradingPolicy]:
    features = PriceFeatures(HORIZONS, WINDOW)
    settings = {**SETTINGS, "support_size": 250}
    return fitted(candidates, prices, settings, features, lag=1, volatility_target=TARGET, **UNCHECKED)


def _earned(positions: pd.DataFrame, prices: pd.DataFrame, lag: int, cost: float) -> Backtest:
    return earn(positions, prices, lag=lag, cost=cost, **UNCHECKED).between(TEST_FROM)


def _walked(model: TradingPolicy, prices: pd.DataFrame, lag: int, start: str) -> Backtest:
    look = int(model.policy_.support_size)
    walk = walk_forward(model, prices, adapt_window=look, readapt_every=EVERY_DAYS, lag=lag, start=start, **UNCHECKED)
    return walk.between(start)


def _joined(parts: list[Backtest], order: list[Any]) -> Backtest:
    positions = pd.concat([part.positions for part in parts], axis=1)[order]
    returns = pd.concat([part.returns for part in parts], axis=1)[order]
    return Backtest(positions, returns, parts[0].lag, parts[0].cost, parts[0].periods_per_year)
