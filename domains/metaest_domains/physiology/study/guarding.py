"""Give a model a fixed choice of guard, for studies that call only `adapt(X, y)`."""

from dataclasses import dataclass
from typing import Any

from sklearn.base import clone

from metaest import TaskSet

__all__ = ["Guarded", "guarded"]


@dataclass(frozen=True)
class Guarded:
    """A fitted model that always adapts with a guard, or always without.

    Attributes
    ----------
    model : fitted estimator
    guard : bool
    """

    model: Any
    guard: bool = True

    def adapt(self, X: Any, y: Any) -> Any:
        """Adapt to one task."""
        return self.model.adapt(X, y, guard=self.guard)

    def predict(self, X: Any) -> Any:
        """Predict without adapting."""
        return self.model.predict(X)


def guarded(model: Any, tasks: TaskSet, guard: bool = True) -> Guarded:
    """Return a copy of a model, fitted to tasks, that always adapts with a guard, or always without."""
    return Guarded(clone(model).fit(tasks), guard)
