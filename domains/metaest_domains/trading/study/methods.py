"""What is compared: each method with the settings it may choose from on training assets."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from metaest import MAMLPolicy, TaskSet
from metaest_domains.trading.features import PriceFeatures
from metaest_domains.trading.policy import TradingPolicy, held

__all__ = ["METHODS", "Candidate", "after_a_look", "fitted", "ridge_after_a_look"]


@dataclass(frozen=True)
class Candidate:
    """Settings of one way to learn a policy.

    Attributes
    ----------
    label : str
    fit : dict
        Settings of the fit.
    after : dict
        Settings that are set once it is fitted.
    """

    label: str
    fit: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def _steps(fit: dict[str, Any], rates: list[float], counts: list[int]) -> list[Candidate]:
    return [
        Candidate(f"{n} steps of {rate:g}", fit, {"inner_steps": n, "inner_lr": rate}) for rate in rates for n in counts
    ]


_JOINT = {"inner_steps": 0, "learn_inner_lr": False}
METHODS: dict[str, list[Candidate]] = {
    "adapted": [
        Candidate(f"{n} steps, {width} units", {"inner_steps": n, "hidden_layer_sizes": (width,)})
        for n in (3, 5)
        for width in (16, 32)
    ],
    "unadapted": [Candidate(f"{width} units", {**_JOINT, "hidden_layer_sizes": (width,)}) for width in (8, 16, 32)],
    "fine-tuned": _steps(_JOINT, [0.03, 0.1, 0.3, 1.0], [3, 10, 30]),
    "from scratch": _steps({**_JOINT, "max_iter": 1, "meta_lr": 0.0}, [0.03, 0.1, 0.3, 1.0], [3, 10, 30, 100]),
}


def fitted(
    candidates: list[Candidate], prices: pd.DataFrame, settings: dict[str, Any], features: PriceFeatures, **trading: Any
) -> list[TradingPolicy]:
    """Fit every candidate to the prices of training assets; those that differ after the fit alone share one."""
    known: dict[str, MAMLPolicy] = {}
    found = []
    for own in candidates:
        key = repr(sorted(own.fit.items()))
        model = TradingPolicy(MAMLPolicy(**{**settings, **own.fit}), features, **trading)
        if key not in known:
            known[key] = model.fit(prices).policy_
        model.fit_from(known[key], own.after)
        found.append(model)
    return found


def after_a_look(model: TradingPolicy, prices: pd.DataFrame, look: int) -> pd.DataFrame:
    """Return positions from the end of a look of so many days at each asset, adapted to what was seen in it."""
    tasks = model.tasks(prices.iloc[:look])
    positions = {}
    for name, adapted in zip(prices.columns, model.policy_.adapt_many(TaskSet(list(tasks))), strict=True):
        positions[name] = held(adapted, model.see(prices[name]))
    return _from(pd.DataFrame(positions, index=prices.index), look)


def ridge_after_a_look(
    model: TradingPolicy, prices: pd.DataFrame, look: int, alpha: float, risk_aversion: float, limit: float = 1.0
) -> pd.DataFrame:
    """Return positions by a ridge forecast of the outcome from the same features, in the units of the same utility."""
    positions = {}
    for name in prices:
        task = model.tasks(prices[[name]].iloc[:look])[0]
        spread = task.X.std(axis=0) + 1e-12
        forecast = Ridge(alpha=alpha).fit(task.X / spread, task.y.reshape(len(task.y), -1)[:, 0])
        seen = model.see(prices[name])
        there = seen.X.notna().all(axis=1).to_numpy()
        wanted = forecast.predict(seen.X.to_numpy()[there] / spread) / (2 * risk_aversion * np.square(task.y).mean())
        own = np.full(len(prices), np.nan)
        own[there] = np.clip(wanted, -limit, limit)
        positions[name] = own
    return _from(pd.DataFrame(positions, index=prices.index), look)


def _from(positions: pd.DataFrame, look: int) -> pd.DataFrame:
    positions.iloc[: look - 1] = np.nan
    return positions
