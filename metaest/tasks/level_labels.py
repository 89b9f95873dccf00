"""Labels of units within tasks, such as visits or batches, as numbers: 0, 1, 2, ... in their order."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from metaest.exceptions import TaskError

__all__ = ["coded", "described", "has_labels", "labels_of", "unlike"]


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
        Labels that have numbers already; further ones follow, in the order in which they appear. A column whose
        book is empty held numbers.

    Raises
    ------
    TaskError
        When a label is missing, or is of another kind than those of the books, as a word among numbers; the message
        names the row.
    """
    told: dict[Any, tuple[Hashable, ...]] = {}
    X = X.copy(deep=False)
    for level in levels:
        if books is not None:
            X[level] = _of_one_kind(X[level], books.get(level, ()), where)
        if not has_labels(X[level]):
            continue
        cells = labels_of(X[level], where)
        before = tuple((books or {}).get(level, ()))
        labels = list(before)
        further = [label for label in dict.fromkeys(cells) if label not in set(before)]
        labels += further if before else _in_order(further)
        numbers = {label: float(code) for code, label in enumerate(labels)}
        X[level] = [numbers[cell] for cell in cells]
        told[level] = tuple(labels)
    return X, told


def kind_of(label: Any) -> str:
    """Return what a label is: a number, whatever its type, a str, a datetime, and so on."""
    if isinstance(label, (bool, np.bool_)):
        return "bool"
    if isinstance(label, Real):
        return "number"
    return "datetime" if isinstance(label, datetime) else type(label).__name__


def unlike(labels: Iterable[Hashable], book: Iterable[Hashable]) -> tuple[int, str] | None:
    """Return the place of the first label of a kind that a book does not have, and words for it; None of alike ones.

    A word for a number, or a text for a date, would be another unit in silence.
    """
    kinds = {kind_of(label) for label in book} or {"number"}
    for place, label in enumerate(labels):
        if kind_of(label) not in kinds:
            return place, f"{label!r} (a {kind_of(label)})"
    return None


def _of_one_kind(column: pd.Series, book: Sequence[Hashable], where: str) -> pd.Series:
    """Return a column as numbers where its book is empty, else as labels; another kind than the fit's is refused."""
    cells = labels_of(column, where)
    other = unlike(cells, book)
    if other is not None:
        place, said = other
        raise TaskError(
            f"{where}: the level {column.name!r} holds {said} in row {column.index[place]}, and had "
            f"{described(book)} at the fit; write it as those are."
        )
    if not book:
        return column.astype(np.float64) if has_labels(column) else column
    return column.astype(object)


def described(book: Sequence[Hashable]) -> str:
    """Say what the labels of a fit were."""
    return f"labels such as {book[0]!r} (a {kind_of(book[0])})" if book else "numbers"


def _in_order(labels: list[Hashable]) -> list[Hashable]:
    """Return labels sorted, where they can be; otherwise as they came."""
    try:
        return sorted(labels)  # type: ignore[type-var]
    except TypeError:
        return labels
