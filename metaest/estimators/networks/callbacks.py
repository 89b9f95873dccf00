"""What a fit calls after each meta-step: a callback that listens to Ctrl-C, and callbacks that cannot be pickled.

The fit warns of the latter, and a pickle of the fitted model leaves them out.
"""

import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

from metaest.estimators.pickles import can_be_pickled
from metaest.exceptions import warn
from metaest.functional import StepInfo

__all__ = ["EndOnInterrupt", "check_callbacks", "without_callbacks"]


class EndOnInterrupt:
    """A callback with which Ctrl-C ends a fit early and keeps its weights so far.

    In a ``with`` statement, Ctrl-C ends the fit after the meta-step at work, as a callback that returns True does: with
    the weights of that step, or the best so far with ``early_stopping=True``. A second Ctrl-C interrupts the fit, which
    then leaves the estimator as it was. Works in the main thread only, as signals do.

    Attributes
    ----------
    pressed : bool
        Whether Ctrl-C was pressed.

    Examples
    --------
    >>> from metaest import EndOnInterrupt, MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> with EndOnInterrupt() as ends:
    ...     model = MAMLRegressor(max_iter=3, callbacks=[ends]).fit(make_sinusoids(20, random_state=0))
    >>> ends.pressed
    False
    """

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = None

    def __call__(self, info: StepInfo) -> bool:
        """Tell whether the fit is to end."""
        return self.pressed

    def __enter__(self) -> Self:
        self.pressed, self._before = False, signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        self._before = None

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Warn where a pickle of the fitted model would lack a callback; refuse what cannot be called."""
    for callback in callbacks:
        if not callable(callback):
            raise TypeError(f"callbacks must be functions of a StepInfo, got {callback!r}.")
    if names := _unpicklable(callbacks):
        warn(
            f"callbacks that cannot be pickled ({', '.join(names.values())}) will be left out when the fitted "
            "model is pickled; define them at the top level of a module to keep them."
        )


def without_callbacks(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a fitted model without the callbacks that cannot be pickled, and warn of them.

    Before the fit a model is pickled as it is: joblib's processes receive functions that `pickle` refuses.
    """
    callbacks = state["callbacks"]
    names = _unpicklable(callbacks)
    if not names:
        return state
    warn(
        f"callbacks that cannot be pickled ({', '.join(names.values())}) are left out of the pickle; pass "
        "them again by set_params(callbacks=...) before another fit of the loaded model."
    )
    kept = [callback for place, callback in enumerate(callbacks) if place not in names]
    return {**state, "callbacks": type(callbacks)(kept)}


def _unpicklable(callbacks: Sequence[Any]) -> dict[int, str]:
    """Return the places and names of callbacks that cannot be pickled."""
    return {
        place: getattr(callback, "__qualname__", repr(callback))
        for place, callback in enumerate(callbacks)
        if not can_be_pickled(callback)
    }
