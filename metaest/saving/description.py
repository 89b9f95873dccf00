"""The description of a model in its file, for people: columns, constants, seed, training tasks and losses."""

import math
from typing import Any

import numpy as np

__all__ = ["about"]


def about(model: Any) -> dict[str, Any]:
    """Return a description of a fitted model as JSON; nothing of it is read back.

    Parameters
    ----------
    model : fitted estimator

    Returns
    -------
    dict
        ``columns`` with mean and scale over the training rows, where there is a network; ``constants`` with values,
        units and bounds, ``covariance`` and ``noise``, where there is an equation; ``n_tasks``, ``tasks`` (hashes of
        their names), ``seed`` and ``scores``.
    """
    model = getattr(model, "model_", getattr(model, "policy_", model))
    model = getattr(model, "estimator", model)
    said: dict[str, Any] = {"n_tasks": _plain(getattr(model, "n_tasks_", None)), "seed": getattr(model, "_seed", None)}
    said["tasks"] = [f"{name:016x}" for name in getattr(model, "_task_names", np.empty(0, np.uint64)).tolist()]
    names = getattr(model, "feature_names_in_", None)
    n = int(getattr(model, "n_features_in_", 0))
    columns = [{"name": f"x{j}" if names is None else str(names[j])} for j in range(n)]
    network = getattr(model, "_network", None)
    if network is not None and columns:  # rows that are objects have none
        scaling = network.features_scaling
        for column, mean, scale in zip(columns, scaling.mean.reshape(-1), scaling.scale.reshape(-1), strict=True):
            column.update(mean=_plain(mean), scale=_plain(scale))
    said["columns"] = columns
    history = getattr(model, "history_", None)
    if history is not None and len(history):
        last = history.iloc[-1]
        said["scores"] = {str(name): _plain(last[name]) for name in history.columns if name not in ("seconds",)}
    if hasattr(model, "_fitted"):
        said |= _of_equation(model)
    return said


def _of_equation(model: Any) -> dict[str, Any]:
    table, covariance = model.population_, model.covariance_
    constants = [
        {"name": str(name), **{str(key): _plain(value) for key, value in row.items()}, "meaning": parameter.meaning}
        for (name, row), parameter in zip(table.iterrows(), model._fitted.given_table.values(), strict=True)
    ]
    return {
        "constants": constants,
        "covariance": {
            "of": [str(name) for name in covariance.columns],
            "values": [[_plain(value) for value in row] for row in covariance.to_numpy()],
        },
        "noise": _noise(model.noise_),
        "limit": _plain(model._fitted.limit),
    }


def _noise(table: Any) -> dict[str, Any]:
    """Return the constants of the noise, of several outputs by output."""
    if hasattr(table, "columns"):
        return {str(output): _noise(row.dropna()) for output, row in table.iterrows()}
    return {str(name): _plain(value) for name, value in table.items()}


def _plain(value: Any) -> Any:
    """Return a number or string as JSON has it; None where a number is not finite."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
