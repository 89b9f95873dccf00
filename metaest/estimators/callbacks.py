"""Callbacks that cannot be pickled: the fit warns of them, and a pickle of the fitted model leaves them out."""

import pickle
from io import BytesIO
from typing import Any

from metaest.estimators.stamped import HoldsRows
from metaest.exceptions import warn

__all__ = ["HoldsCallbacks"]


class HoldsCallbacks(HoldsRows):
    """A mix-in for estimators with `callbacks`, which are used by `fit` alone.

    Before the fit a model is pickled as it is: joblib's processes receive functions that `pickle` refuses.
    """

    callbacks: Any

    def _warn_of_callbacks(self) -> None:
        """Warn where a pickle of the fitted model would lack a callback."""
        if names := self._unpicklable():
            warn(
                f"callbacks that cannot be pickled ({', '.join(names.values())}) will be left out when the fitted "
                "model is pickled; define them at the top level of a module to keep them."
            )

    def _unpicklable(self) -> dict[int, str]:
        """Return the places and names of callbacks that cannot be pickled."""
        return {
            place: getattr(callback, "__qualname__", repr(callback))
            for place, callback in enumerate(self.callbacks)
            if not _can_be_pickled(callback)
        }

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if not hasattr(self, "n_iter_") or not (names := self._unpicklable()):
            return state
        warn(
            f"callbacks that cannot be pickled ({', '.join(names.values())}) are left out of the pickle; pass "
            "them again by set_params(callbacks=...) before another fit of the loaded model."
        )
        kept = [callback for place, callback in enumerate(self.callbacks) if place not in names]
        return {**state, "callbacks": type(self.callbacks)(kept)}


class _Trial(pickle.Pickler):
    def persistent_id(self, thing: Any) -> str | None:
        # a callback may hold the model that holds it
        return "model" if isinstance(thing, HoldsCallbacks) else None


def _can_be_pickled(callback: Any) -> bool:
    try:
        _Trial(BytesIO()).dump(callback)
    except Exception:  # pickle raises what it meets: PicklingError, AttributeError, TypeError, RecursionError
        return False
    return True
