"""Describe the rows of tasks: the columns of a table with one row a task, and a few words for one line."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.tasks.object_rows import holds_objects
from metaest.tasks.task import describe_rows

__all__ = ["counted", "describe_features", "describe_targets", "feature_columns", "target_columns"]

# columns up to which their names are listed
MOST_NAMES = 8


def target_columns(y: NDArray[Any], offsets: NDArray[np.intp], names: tuple[str, ...] | None) -> dict[str, Any]:
    """Return mean and spread of every target for each task; of words, number of classes and rows of the rarest."""
    if y.dtype.kind == "U":
        counts = [np.unique(y[start:end], return_counts=True)[1] for start, end in pairwise(offsets)]
        return {"n_classes": [len(count) for count in counts], "rarest": [count.min() for count in counts]}
    columns: dict[str, Any] = {}
    starts, sizes = offsets[:-1], np.diff(offsets)
    numbers = y.reshape(len(y), -1).astype(np.float64)
    for j, name in enumerate(_target_names(y, names)):
        mean = np.add.reduceat(numbers[:, j], starts) / sizes
        deviation = numbers[:, j] - np.repeat(mean, sizes)
        columns[f"{name}_mean"] = mean
        columns[f"{name}_std"] = np.sqrt(np.add.reduceat(deviation**2, starts) / sizes)
        columns[f"{name}_min"] = np.minimum.reduceat(numbers[:, j], starts)
        columns[f"{name}_max"] = np.maximum.reduceat(numbers[:, j], starts)
    return columns


def feature_columns(X: NDArray[Any], offsets: NDArray[np.intp], names: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the range of each feature, or channel, for each task; none for rows that are objects."""
    if holds_objects(X):
        return {}
    columns, starts = {}, offsets[:-1]
    numbers = X.reshape(*X.shape[:2], -1)
    for j, name in enumerate(names or [f"x{j}" for j in range(X.shape[1])]):
        columns[f"{name}_min"] = np.minimum.reduceat(numbers[:, j].min(axis=1), starts)
        columns[f"{name}_max"] = np.maximum.reduceat(numbers[:, j].max(axis=1), starts)
    return columns


def describe_features(X: NDArray[Any], names: tuple[str, ...] | None) -> str:
    """Return the kind of rows, or the names of their columns."""
    return describe_rows(X) if names is None else _listed("feature", names, X.shape[1])


def describe_targets(y: NDArray[Any], names: tuple[str, ...] | None) -> str:
    """Return the number of labels, or of targets, or the names of these."""
    if y.dtype.kind == "U":
        return f"{len(np.unique(y))} labels"
    return _listed("target", names, len(_target_names(y, names)))


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 task", "2 tasks"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def _target_names(y: NDArray[Any], names: tuple[str, ...] | None) -> list[str]:
    if names:
        return list(names)
    return ["y"] if y.ndim == 1 else [f"y{j}" for j in range(y.shape[1])]


def _listed(noun: str, names: tuple[str, ...] | None, n: int) -> str:
    return f"{noun}{'s' * (n != 1)}: {', '.join(names)}" if names and n <= MOST_NAMES else counted(n, noun)
