"""Labels of units within tasks, such as visits or batches, as numbers: 0, 1, 2, ... in their order."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metaest.exceptions import TaskError

__all__ = ["coded", "has_labels", "labels_of"]


def has_labels(column: pd.Series) -> bool:
    """Tell whether the cells of a column are labels; otherwise they are numbers."""
    return not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)


def labels_of(column: pd.Series, where: str) -> list[Hashable]:
    """Return the label of every row, or raise a TaskError that names the first row without one."""
    empty = np.flatnonzero(column.isna().to_numpy())
    if len(empty):
        raise TaskError(
            f"{where}: the level {column.name!r} is missing in row {column.index[empty[0]]}; every row belongs to one "
            "unit: give it a label, or drop the row."
        )
    return list(column.astype(object).tolist())


def coded(
    X: pd.DataFrame, levels: Sequence[Any], where: str, books: Mapping[Any, Sequence[Hashable]] | None = None
) -> tuple[pd.DataFrame, dict[Any, tuple[Hashable, ...]]]:
    """Return a frame whose columns of levels are numbers, and what these stand for.

    Parameters
    ----------
    X : DataFrame
    levels : sequence of column names
        A column of numbers stays as it is.
    where : str
        How error messages begin.
    books : dict of column name to labels, optional
        Labels that have numbers already; further ones follow, in the order in which they appear.

    Raises
    ------
    TaskError
        When a label is missing; the message names the row.
    """
    told: dict[Any, tuple[Hashable, ...]] = {}
    for level in levels:
        if not has_labels(X[level]):
            continue
        cells = labels_of(X[level], where)
        before = tuple((books or {}).get(level, ()))
        labels = list(before)
        further = [label for label in dict.fromkeys(cells) if label not in set(before)]
        labels += further if before else _in_order(further)
        numbers = {label: float(code) for code, label in enumerate(labels)}
        X = X.assign(**{level: [numbers[cell] for cell in cells]})
        told[level] = tuple(labels)
    return X, told


def _in_order(labels: list[Hashable]) -> list[Hashable]:
    """Return labels sorted, where they can be; otherwise as they came."""
    try:
        return sorted(labels)  # type: ignore[type-var]
    except TypeError:
        return labels
