"""A decorator for `fit`: the estimator changes completely, or not at all."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

__all__ = ["atomic"]

F = TypeVar("F", bound=Callable[..., Any])


def atomic(fit: F) -> F:
    """Let a method that fits an estimator, and returns it, work on a draft of its attributes.

    The method sets attributes as usual, but of the draft. They reach the estimator by one assignment at the end, which
    no interrupt divides: after a KeyboardInterrupt, an exception in a callback or bad data the estimator is as it was.
    What others set meanwhile, such as a callback that holds the estimator, stays.

    Parameters
    ----------
    fit : callable
        The method.

    Returns
    -------
    callable
        The method with the same signature.

    Examples
    --------
    >>> from metaest.estimators.atomic import atomic
    >>> class Model:
    ...     @atomic
    ...     def fit(self, y):
    ...         self.mean_ = sum(y) / len(y)
    ...         self.inverse_ = 1 / self.mean_
    ...         return self
    >>> model = Model().fit([1.0, 3.0])
    >>> model.fit([0.0])
    Traceback (most recent call last):
    ZeroDivisionError: float division by zero
    >>> model.mean_, model.inverse_
    (2.0, 0.5)
    """

    @wraps(fit)
    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        draft = object.__new__(type(self))
        before = dict(self.__dict__)
        draft.__dict__.update(before)
        fit(draft, *args, **kwargs)
        after = draft.__dict__
        gone = before.keys() - after.keys()
        kept = {name: value for name, value in self.__dict__.items() if name not in gone}
        learned = {name: value for name, value in after.items() if name not in before or before[name] is not value}
        self.__dict__ = kept | learned
        return self

    return cast(F, whole)
