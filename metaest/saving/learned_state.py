"""The parts of an object that a file holds: settings of an estimator and learned attributes, for all classes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator

from metaest.saving.stored_names import as_stored

__all__ = ["settings_of", "state_of"]

# worked out again when a file is read
_DERIVED = ("module_", "_given")
# tables with a row a training task, by its name
_BY_TASK = ("task_params_", "task_coefficients_")


def settings_of(estimator: BaseEstimator) -> dict[str, Any]:
    """Return the constructor's parameters; callbacks are code, and no part of a file."""
    settings: dict[str, Any] = estimator.get_params(deep=False)
    return {name: () if name == "callbacks" else value for name, value in settings.items()}


def state_of(thing: Any, keep_rows: bool) -> Mapping[str, Any]:
    """Return what an object holds beside settings, by its names in files; rows of training tasks where wanted."""
    return as_stored(type(thing), _state_of(thing, keep_rows))


def _state_of(thing: Any, keep_rows: bool) -> Mapping[str, Any]:
    """Return what an object holds beside settings, by attribute."""
    if hasattr(thing, "_written_fields"):
        return {name: getattr(thing, name) for name in thing._written_fields if hasattr(thing, name)}
    if isinstance(thing, BaseEstimator):
        settings = thing.get_params(deep=False)
        state = {name: value for name, value in vars(thing).items() if name not in settings and name not in _DERIVED}
        return state if keep_rows else _without_rows(state)
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return {name: getattr(thing, name) for name in thing._fields}
    fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing) if field.init}
    # what only some predictors have
    further = ("feature_names_in_", "feature_shape_")
    return fields | {name: vars(thing)[name] for name in further if name in getattr(thing, "__dict__", {})}


def _without_rows(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out rows of training tasks, and write hashes for their names."""
    if "_judged" in state:
        state["_judged"] = None
    for name in _BY_TASK:
        table = state.get(name)
        if table is not None:
            hashes = [f"{name_hash:016x}" for name_hash in state["_task_names"].tolist()]
            if table.index.nlevels > 1:  # one row a unit of a task: the tasks in their order
                number = pd.factorize(table.index.get_level_values(0))[0]
                further = [table.index.get_level_values(level) for level in range(1, table.index.nlevels)]
                of_units: Any = [[hashes[i] for i in number], *further]
                state[name] = table.set_axis(pd.MultiIndex.from_arrays(of_units, names=table.index.names))
                continue
            state[name] = table.set_axis(pd.Index(hashes, name=table.index.name))
    return state
