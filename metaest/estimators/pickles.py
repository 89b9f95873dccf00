"""Pickles: stamped with the version that made them, without rows of training tasks."""

from copy import deepcopy
from typing import Any, TypeVar

from sklearn.exceptions import InconsistentVersionWarning

from metaest.exceptions import warn
from metaest.version import __version__

__all__ = ["Stamped", "check_stamp", "copied", "model_state", "stamped"]

_STAMP = "_metaest_version"

T = TypeVar("T")


def stamped(state: dict[str, Any] | None) -> dict[str, Any]:
    """Return the state of an object for a pickle, with the version that makes it."""
    return {**(state or {}), _STAMP: __version__}


def check_stamp(thing: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state from a pickle without its stamp, and warn where another version of metaest made it."""
    state = dict(state)
    made_by = state.pop(_STAMP, "before 0.1")
    if made_by != __version__:
        name = f"{type(thing).__name__} (of metaest)"
        warn(
            InconsistentVersionWarning(
                estimator_name=name, current_sklearn_version=__version__, original_sklearn_version=made_by
            )
        )
    return state


def model_state(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a model for a pickle: stamped, with a learned guard in place of the training rows."""
    model.learn_guard()
    return stamped({**state, "_judged": None} if "_judged" in state else state)


def copied(model: T, memo: dict[int, Any] | None = None) -> T:
    """Return a copy of a model that has the training rows, which pickles lack; a deep one with the memo of deepcopy."""
    other = type(model).__new__(type(model))
    if memo is None:
        other.__dict__.update(model.__dict__)
        return other
    memo[id(model)] = other
    other.__dict__.update(deepcopy(model.__dict__, memo))
    return other


class Stamped:
    """A mix-in for what may be pickled: unpickling in another version of metaest warns."""

    def __getstate__(self) -> dict[str, Any]:
        return stamped(super().__getstate__())  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = check_stamp(self, state)
        if hasattr(super(), "__setstate__"):
            super().__setstate__(state)  # type: ignore[misc]
        else:
            self.__dict__.update(state)
