"""Study simulated assets: compare adapted policies with the best one, which knows the character of each asset."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from metaest_datasets import make_market
from metaest_domains.trading.backtest import earn
from metaest_domains.trading.features import PriceFeatures
from metaest_domains.trading.optimal import best_policy
from metaest_domains.trading.policy import TradingPolicy
from metaest_domains.trading.study.methods import METHODS, after_a_look, fitted, ridge_after_a_look

__all__ = ["shares_by_strength", "simulated"]

# days to which a policy is adapted
LOOK = 60
# days after them on which it is evaluated
AFTER = 250
# cost of a change of position by one: 5 basis points
COST = 0.0005
# lambda of the mean-variance utility
RISK_AVERSION = 10.0
# penalties, and factors of the position, of the ridge forecast that are compared
ALPHAS = (1.0, 10.0, 100.0, 1000.0)
GAINS = (0.1, 0.25, 0.5, 1.0, 2.0)
# personalities of the training assets
EVERY = ("trending", "mean-reverting", "regime-switching", "random walk")
# settings of all policies; the first 10 days have no features, so the support is shorter than LOOK
SETTINGS: dict[str, Any] = {
    "utility": "mean-variance",
    "risk_aversion": RISK_AVERSION,
    "cost": COST,
    "support_size": LOOK - 10,
    "query_size": 100,
    "max_iter": 1000,
    "random_state": 0,
}


def simulated(strength: float = 0.35, n_train: int = 200, n_test: int = 200, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Tune every method on training assets, and compare them on unseen ones.

    A position decided at a close is traded at that close (lag 0): with a first-order autocorrelation only, a trend and
    a reversal can hardly be distinguished after a lag of one day.

    Returns
    -------
    dict of str to DataFrame
        ``sharpe``: Sharpe ratios on the 250 days after the adaptation, one row for each asset that trends or reverts,
        one column for each method and ``best``. ``random walk``: the same for random walks. ``turnover`` and ``drag``:
        annual change of position in random walks, and its cost. ``chosen``: the settings of each method.
    """
    features = PriceFeatures((1, 2, 5), 10)
    training, _ = make_market(n_train, 400, personalities=EVERY, strength=strength, random_state=seed)
    tuning, _ = make_market(n_train // 2, LOOK + AFTER, personalities=EVERY, strength=strength, random_state=seed + 1)
    test, assets = make_market(n_test, LOOK + AFTER, personalities=EVERY[:2], strength=strength, random_state=seed + 2)
    walks, _ = make_market(n_test // 2, LOOK + AFTER, personalities=EVERY[3:], random_state=seed + 3)
    sharpe = {}
    walk = {}
    turnover = {}
    drag = {}
    chosen = {}

    def note(name: str, trade: Any, label: str) -> None:
        sharpe[name] = _sharpes(trade(test), test)
        positions = trade(walks)
        result = earn(positions, walks, lag=0, cost=COST).summary().iloc[:-1]
        walk[name] = result["sharpe"]
        turnover[name] = result["turnover"]
        drag[name] = COST * result["turnover"]
        chosen[name] = label

    plain = None
    for name, candidates in METHODS.items():
        models = fitted(candidates, training, SETTINGS, features, lag=0)
        plain = models[0]
        tuned = [float(_sharpes(_trade(name, model, tuning), tuning).mean()) for model in models]
        best = int(np.argmax(tuned))
        note(name, lambda prices, name=name, model=models[best]: _trade(name, model, prices), candidates[best].label)
    assert plain is not None
    grid = list(itertools.product(ALPHAS, GAINS))

    def by_ridge(prices: pd.DataFrame, alpha: float, gain: float) -> pd.DataFrame:
        return ridge_after_a_look(plain, prices, LOOK, alpha, RISK_AVERSION / gain)

    alpha, gain = max(grid, key=lambda pair: float(_sharpes(by_ridge(tuning, *pair), tuning).mean()))
    note("ridge forecast", lambda prices: by_ridge(prices, alpha, gain), f"alpha={alpha:g}, gain {gain:g}")
    policies = {kind: best_policy(kind, strength, cost=COST, risk_aversion=RISK_AVERSION) for kind in EVERY[:2]}
    kinds = dict(zip(assets.index, assets["personality"], strict=True))
    optimal = {name: policies[kinds[name]].positions(test[name]) for name in test}
    positions = pd.DataFrame(optimal, index=test.index)
    positions.iloc[: LOOK - 1] = np.nan
    sharpe["best"] = _sharpes(positions, test)
    frames = {"sharpe": sharpe, "random walk": walk, "turnover": turnover, "drag": drag}
    tables = {key: pd.DataFrame(columns) for key, columns in frames.items()}
    return {**tables, "chosen": pd.DataFrame({"settings": chosen})}


def table(result: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the Sharpe ratio of each method, its share of the best, and the lead of the adapted policy over it."""
    sharpe = result["sharpe"]
    rows = {}
    for name in [method for method in sharpe if method != "best"]:
        lead = sharpe["adapted"] - sharpe[name]
        error = 1.96 * lead.std(ddof=1) / np.sqrt(len(lead))
        rows[name] = {
            "sharpe": sharpe[name].mean(),
            "share of the best, %": 100 * sharpe[name].mean() / sharpe["best"].mean(),
            "adapted above it": lead.mean(),
            "lower": lead.mean() - error,
            "upper": lead.mean() + error,
            "random walk": result["random walk"][name].mean(),
            "turnover there": result["turnover"][name].mean(),
            "drag there, % a year": 100 * result["drag"][name].mean(),
        }
    return pd.DataFrame(rows).T


def shares_by_strength(strengths: Sequence[float], seed: int = 0) -> pd.DataFrame:
    """Return the share of the best policy's Sharpe ratio by the strength of the personalities, for each method."""
    rows = {}
    for strength in strengths:
        sharpe = simulated(strength, seed=seed)["sharpe"].mean()
        rows[strength] = {**sharpe.drop("best") / sharpe["best"], "best": sharpe["best"]}
    return pd.DataFrame(rows).T


def _trade(name: str, model: TradingPolicy, prices: pd.DataFrame) -> pd.DataFrame:
    if name != "unadapted":
        return after_a_look(model, prices, LOOK)
    positions = model.positions(prices)
    positions.iloc[: LOOK - 1] = np.nan
    return positions


def _sharpes(positions: pd.DataFrame, prices: pd.DataFrame) -> "pd.Series[float]":
    return earn(positions, prices, lag=0, cost=COST).summary()["sharpe"].iloc[:-1]
