"""The errors and warnings metaest raises beyond Python's and scikit-learn's own."""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = [
    "CorrelatedResidualsWarning",
    "CoverageWarning",
    "DivergenceError",
    "IdentifiabilityWarning",
    "ModelFileError",
    "OvershootWarning",
    "TaskError",
    "UngroupedWarning",
    "UnlikelyTaskWarning",
    "attributed",
    "filters_kept",
    "quiet",
    "warn",
]


class TaskError(ValueError):
    """A task cannot be used; the message names the task, the column and what was wanted."""


class DivergenceError(ArithmeticError):
    """A meta-loss, a meta-gradient or an adaptation became NaN or infinite; nothing fitted was changed."""


class ModelFileError(ValueError):
    """A model cannot be written to a file, or a file is not one that this model, this code or this version can read."""


class OvershootWarning(UserWarning):
    """The inner rate was too large for a task; it was lowered for this task until its support loss no longer rose."""


class UngroupedWarning(UserWarning):
    """Flat data came without ``groups``, so all its rows were taken as one single task."""


class IdentifiabilityWarning(UserWarning):
    """The rows of a task say less about a constant than the population does; its value is mostly the population's.

    Or tasks are too few for what a fit has to learn of how they differ.
    """


class UnlikelyTaskWarning(UserWarning):
    """The rows of a task are improbable under the population: unlike the tasks of the fit, or in other units."""


class CorrelatedResidualsWarning(UserWarning):
    """The residuals of a task follow one another: rows are not independent, or the equation has another shape."""


class CoverageWarning(UserWarning):
    """An interval cannot promise its level: too few calibration tasks, or adapted on other numbers of rows."""


# a warning points at the first line of code outside these packages, and outside the decorators of functions in them
_INTERNAL = ("metaest", "metaest_domains", "metaest_datasets", "sklearn", "contextlib")

_QUIET: ContextVar[tuple[type[Warning], ...]] = ContextVar("metaest_quiet", default=())
_SOURCE: ContextVar[str] = ContextVar("metaest_source", default="")
_FILTERS = threading.RLock()


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn, and point at the line of the user's code that called metaest; say nothing inside :func:`quiet`.

    Parameters
    ----------
    message : str or Warning
    category : type of Warning, default=UserWarning
    """
    if issubclass(category, _QUIET.get()):
        return
    if isinstance(message, str) and _SOURCE.get():
        message = f"{message} {_SOURCE.get()}"
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INTERNAL:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def quiet(*categories: type[Warning]) -> Iterator[None]:
    """Let metaest not warn of these categories in this thread.

    ``warnings.catch_warnings`` changes the filters of the whole process: of two threads inside it, the one that leaves
    last puts back the filters that the other had set.

    Parameters
    ----------
    *categories : type of Warning
    """
    token = _QUIET.set((*_QUIET.get(), *categories))
    try:
        yield
    finally:
        _QUIET.reset(token)


@contextmanager
def attributed(source: str) -> Iterator[None]:
    """Let warnings of metaest in this thread end with a sentence that says what they come from."""
    token = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(token)


@contextmanager
def filters_kept() -> Iterator[None]:
    """Keep other threads of metaest out while pandas or scikit-learn change the warning filters for a moment.

    Both enter ``warnings.catch_warnings`` when they look at a data frame, at labels or at sequences of numbers.
    """
    with _FILTERS:
        yield
