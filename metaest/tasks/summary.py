"""Describe a TaskSet: in one line, and in a table with one row a task."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from metaest.tasks.task import describe_rows

if TYPE_CHECKING:
    import pandas as pd

    from metaest.tasks.task_set import TaskSet

__all__ = ["describe", "summarise"]


def _target_labels(tasks: TaskSet) -> list[str]:
    if tasks.target_names:
        return list(tasks.target_names)
    return ["y"] if tasks.y.ndim == 1 else [f"y{j}" for j in range(tasks.y.shape[1])]


def _feature_labels(tasks: TaskSet) -> list[str]:
    return list(tasks.feature_names) if tasks.feature_names else [f"x{j}" for j in range(tasks.X.shape[1])]


def summarise(tasks: TaskSet) -> pd.DataFrame:
    """Return the table :meth:`metaest.TaskSet.summary` documents."""
    import pandas as pd

    starts, sizes = tasks.offsets[:-1], tasks.sizes
    support = np.full(len(tasks), -1) if tasks._support is None else tasks._support.sizes
    columns: dict[str, Any] = {"n_rows": sizes, "n_support": pd.array(support, dtype="Int64")}
    columns["n_support"][support < 0] = pd.NA
    if tasks.y.dtype.kind == "U":
        columns |= _classes(tasks)
    numbers = tasks.y.dtype.kind != "U"
    y = tasks.y.reshape(len(tasks.y), -1).astype(np.float64) if numbers else np.empty((0, 0))
    for j, name in enumerate(_target_labels(tasks) if numbers else []):
        mean = np.add.reduceat(y[:, j], starts) / sizes
        deviation = y[:, j] - np.repeat(mean, sizes)
        columns[f"{name}_mean"] = mean
        columns[f"{name}_std"] = np.sqrt(np.add.reduceat(deviation**2, starts) / sizes)
        columns[f"{name}_min"] = np.minimum.reduceat(y[:, j], starts)
        columns[f"{name}_max"] = np.maximum.reduceat(y[:, j], starts)
    X = tasks.X.reshape(*tasks.X.shape[:2], -1)
    for j, name in enumerate(_feature_labels(tasks)):
        columns[f"{name}_min"] = np.minimum.reduceat(X[:, j].min(axis=1), starts)
        columns[f"{name}_max"] = np.maximum.reduceat(X[:, j].max(axis=1), starts)
    return pd.DataFrame(columns, index=pd.Index(tasks.names, name="task", tupleize_cols=False))


def _classes(tasks: TaskSet) -> dict[str, Any]:
    counts = [np.unique(tasks.y[a:b], return_counts=True)[1] for a, b in pairwise(tasks.offsets)]
    return {"n_classes": [len(own) for own in counts], "rarest": [own.min() for own in counts]}


def describe(tasks: TaskSet) -> str:
    """Return the line a TaskSet shows itself by."""
    low, high = tasks.sizes.min(), tasks.sizes.max()
    spread = f"{low}" if low == high else f"{low} to {high}"
    features = describe_rows(tasks.X)
    if tasks.feature_names is not None:
        features = _columns("feature", tasks.feature_names, tasks.X.shape[1])
    targets = _columns("target", tasks.target_names, len(_target_labels(tasks)))
    if tasks.y.dtype.kind == "U":
        targets = f"{len(np.unique(tasks.y))} labels"
    return (
        f"TaskSet({_count(len(tasks), 'task')}, {_count(len(tasks.X), 'row')} ({spread} a task), {features}, {targets})"
    )


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _columns(noun: str, names: tuple[str, ...] | None, n: int) -> str:
    return f"{noun}{'s' * (n != 1)}: {', '.join(names)}" if names and n <= 8 else _count(n, noun)
