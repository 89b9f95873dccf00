"""Methods that are compared, each with the settings from which it may choose on training assets."""

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
    """Settings of one candidate of a method.

    Attributes
    ----------
    label : str
    fit : dict
        Settings of the fit.
    after : dict
        Settings of the adaptation, which are set after the fit.
    """

    label: str
    fit: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def _steps(fit: dict[str, Any], rates: list[float], counts: list[int]) -> list[Candidate]:
    return [
        Candidate(f"{n} steps of {rate:g}", fit, {"inner_steps": n, "inner_lr": rate}) for rate in rates for n in counts
    ]


# settings of one policy for all assets, trained without adaptation
_JOINT = {"inner_steps": 0, "learn_inner_lr": False}
# candidates of each method
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
    """Fit every candidate to the prices of training assets; candidates with the same settings of the fit share one."""
    policies: dict[str, MAMLPolicy] = {}
    models = []
    for candidate in candidates:
        key = repr(sorted(candidate.fit.items()))
        model = TradingPolicy(MAMLPolicy(**{**settings, **candidate.fit}), features, **trading)
        if key not in policies:
            policies[key] = model.fit(prices).policy_
        model.fit_from(policies[key], candidate.after)
        models.append(model)
    return models


def after_a_look(model: TradingPolicy, prices: pd.DataFrame, look: int) -> pd.DataFrame:
    """Return positions in each asset after its first `look` days, to which the policy is adapted."""
    tasks = model.tasks(prices.iloc[:look])
    positions = {}
    for name, adapted in zip(prices.columns, model.policy_.adapt_many(TaskSet(list(tasks))), strict=True):
        positions[name] = held(adapted, model.see(prices[name]))
    return _from(pd.DataFrame(positions, index=prices.index), look)


def ridge_after_a_look(
    model: TradingPolicy, prices: pd.DataFrame, look: int, alpha: float, risk_aversion: float, limit: float = 1.0
) -> pd.DataFrame:
    """Return the positions of a ridge forecast of the outcome from the same features, for the same utility."""
    positions = {}
    for name in prices:
        task = model.tasks(prices[[name]].iloc[:look])[0]
        spread = task.X.std(axis=0) + 1e-12
        forecast = Ridge(alpha=alpha).fit(task.X / spread, task.y.reshape(len(task.y), -1)[:, 0])
        seen = model.see(prices[name])
        there = seen.X.notna().all(axis=1).to_numpy()
        optimal = forecast.predict(seen.X.to_numpy()[there] / spread) / (2 * risk_aversion * np.square(task.y).mean())
        position = np.full(len(prices), np.nan)
        position[there] = np.clip(optimal, -limit, limit)
        positions[name] = position
    return _from(pd.DataFrame(positions, index=prices.index), look)


def _from(positions: pd.DataFrame, look: int) -> pd.DataFrame:
    positions.iloc[: look - 1] = np.nan
    return positions
