"""Pickles: stamped with the version that made them, without rows of training tasks."""

import contextlib
from copy import deepcopy
from typing import Any, Self

from sklearn.exceptions import InconsistentVersionWarning

from metaest.exceptions import warn
from metaest.version import __version__

__all__ = ["HoldsRows", "Stamped", "require_rows"]

_STAMP = "_metaest_version"


class Stamped:
    """A mix-in for what may be pickled: unpickling in another version of metaest warns."""

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**(state or {}), _STAMP: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        made_by = state.pop(_STAMP, "before 0.1")
        if hasattr(super(), "__setstate__"):
            super().__setstate__(state)  # type: ignore[misc]
        else:
            self.__dict__.update(state)
        if made_by != __version__:
            name = f"{type(self).__name__} (of metaest)"
            warn(
                InconsistentVersionWarning(
                    estimator_name=name, current_sklearn_version=__version__, original_sklearn_version=made_by
                )
            )


class HoldsRows(Stamped):
    """A mix-in for models that keep rows of training tasks in memory, for the guard to learn from.

    A pickle has none of them: the guard is learned before. A copy (`copy`, `deepcopy`) in the same process has them.
    """

    _judged: Any

    def _learn_guard(self, gap: int = 0) -> None:
        """Learn how adaptations are judged at the present settings, where the model's rows can tell."""
        if getattr(self, "_judged", None) is not None and self._can_judge():
            # settings that no longer fit to what was learned are an error of `adapt`, and no reason not to be kept
            with contextlib.suppress(ValueError, ArithmeticError):
                self._judge(gap)

    def _can_judge(self) -> bool:
        """Tell whether there is a guard for such a model."""
        return True

    def _judge(self, gap: int) -> Any:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        self._learn_guard()
        state = super().__getstate__()
        return {**state, "_judged": None} if "_judged" in state else state

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(deepcopy(self.__dict__, memo))
        return copied


def require_rows(judged: Any, learned: Any, settings: str) -> None:
    """Raise a ValueError where a guard is asked for that only the training rows could tell, which are gone."""
    if judged is None:
        at = ", ".join(sorted(learned)) or "none"
        raise ValueError(
            f"guard: a model from a file or a pickle has no training rows, and the guard was not learned at {settings} "
            f"(it was at {at}). Set the settings of then, save the fitted model by save(model, path, keep_rows=True), "
            "or adapt without guard (guard=False)."
        )
