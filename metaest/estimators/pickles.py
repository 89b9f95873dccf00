"""Pickles: stamped with the version that made them, without rows of training tasks."""

import pickle
from copy import deepcopy
from io import BytesIO
from typing import Any, Protocol, TypeVar

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from metaest.exceptions import warn
from metaest.version import __version__

__all__ = ["Stamped", "can_be_pickled", "check_stamp", "copied", "model_state", "stamped"]

_STAMP = "_metaest_version"

T = TypeVar("T")


class LearnsGuard(Protocol):
    """A model that learns its guard from its training rows, which its pickle leaves out."""

    def learn_guard(self) -> None:
        """Learn the guard now."""


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


def model_state(model: LearnsGuard, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a model for a pickle: stamped, with a learned guard in place of the training rows."""
    model.learn_guard()
    return stamped({**state, "_judged": None} if "_judged" in state else state)


def copied(model: T, memo: dict[int, Any] | None = None) -> T:
    """Return a copy of a model that has the training rows, which pickles lack; a deep one with the memo of deepcopy.

    Estimators take it as their ``__copy__`` and ``__deepcopy__``.
    """
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


class _Trial(pickle.Pickler):
    """A pickler that does not pickle models."""

    def persistent_id(self, thing: Any) -> str | None:
        """Return a name in place of a model."""
        # a callback may hold the model that holds it
        return "model" if isinstance(thing, BaseEstimator) and hasattr(thing, "callbacks") else None


def can_be_pickled(thing: Any) -> bool:
    """Tell whether something of the user's can be pickled; functions need a place at the top level of a module."""
    try:
        _Trial(BytesIO()).dump(thing)
    except Exception:  # pickle raises what it meets: PicklingError, AttributeError, TypeError, RecursionError
        return False
    return True
