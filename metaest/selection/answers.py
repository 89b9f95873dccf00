"""What candidates answer, checked: they may be estimators of the user's, with errors of the user's."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from metaest.tasks import TaskSet

__all__ = ["adapted", "adapted_many", "fitted", "in_shape", "naming", "of_queries", "of_rows", "of_tasks"]


@contextmanager
def naming(name: str, what: str = "candidate") -> Iterator[None]:
    """Add the name of a candidate, or of something else, to errors that it raises."""
    try:
        yield
    except Exception as error:
        error.add_note(f"It was raised by the {what} {name!r}.")
        raise


def fitted(name: str, candidate: Any, tasks: TaskSet) -> Any:
    """Return a clone of a candidate, fitted on tasks."""
    with naming(name):
        model = clone(candidate)
        model.fit(tasks)
    if getattr(model, "_output_column", None) is not None:
        raise ValueError(
            f"candidates: {name!r} has several outputs, whose errors are in several units; compare such models by "
            "few_shot_r2, the mean over outputs."
        )
    return model


def adapted(name: str, model: Any, X: NDArray[Any], y: NDArray[Any]) -> Any:
    """Return a predictor of one task, or raise a ValueError where it is the model itself."""
    with naming(name):
        predictor = model.adapt(X, y)
    if predictor is model:
        raise ValueError(
            f"candidates: adapt of {name!r} returned the estimator itself; a new predictor is wanted, so that no task "
            "changes the predictions of another."
        )
    return predictor


def adapted_many(name: str, model: Any, tasks: TaskSet) -> Any:
    """Return one predictor a task, in one call where the model has one."""
    if not hasattr(model, "adapt_many"):
        return [adapted(name, model, task.X, task.y) for task in tasks]
    with naming(name):
        return model.adapt_many(tasks)


def of_tasks(name: str, predictors: Any, tasks: TaskSet, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return predictions of each task's rows, one task after the other; `shape` is that of the targets of a row."""
    with naming(name):
        if hasattr(predictors, "predict"):
            return in_shape(name, predictors.predict(tasks), (len(tasks.X), *shape))
        parts = [one.predict(task.X) for one, task in zip(predictors, tasks, strict=True)]
    return np.concatenate([in_shape(name, part, (n, *shape)) for part, n in zip(parts, tasks.sizes, strict=True)])


def of_rows(name: str, predictors: Any, rows: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return predictions of the same rows by every predictor."""
    with naming(name):
        parts = predictors.predict(rows) if hasattr(predictors, "predict") else [p.predict(rows) for p in predictors]
    return np.stack([in_shape(name, part, (len(rows), *shape)) for part in parts])


def of_queries(name: str, model: Any, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
    """Adapt a fitted model to supports, and predict the queries, the rows of one task after the other."""
    return of_tasks(name, adapted_many(name, model, support), query, support.y.shape[1:]).astype(np.float64)


def in_shape(name: str, values: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return predictions as an array of a shape; one target may be a column or not.

    Raises
    ------
    ValueError
        When they have another number of rows or targets: numpy would broadcast them in silence.
    """
    array = np.asarray(values)
    if array.ndim == 0 or array.ndim > 2 or len(array) != shape[0] or array.size != prod(shape):
        raise ValueError(
            f"candidates: {name!r} predicts an array of shape {array.shape}, where {tuple(map(int, shape))} is wanted."
        )
    return array.reshape(shape)
