"""Sort flat rows by the task they belong to."""

from collections.abc import Hashable
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.collect import as_names
from metaest.tasks.reading import is_missing, rows_of

__all__ = ["place_in_group", "sort_by_group"]

# labels of these types name a task whatever they hold
_NEVER_MISSING = {str, int, bytes}


def sort_by_group(groups: Any, n_rows: int) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Return the group names, the row order that puts each group together, and the offsets of the groups.

    Rows belong to one group where their labels are equal in Python's sense, so that 2 and 2.0 are one label, while 2,
    "2" and b"2" are three.

    Parameters
    ----------
    groups : array-like of shape (n_rows,)
        Labels that can be hashed: text, numbers, dates, tuples, frozensets.
    n_rows : int

    Returns
    -------
    names : ndarray of shape (n_groups,)
        In the order in which they first appear.
    order : ndarray of shape (n_rows,)
        A stable order: rows keep their order within a group.
    offsets : ndarray of shape (n_groups + 1,)

    Raises
    ------
    TaskError
        When `groups` is missing, of another length, not one-dimensional, holds missing labels, labels that cannot be
        hashed, or True and False among numbers.
    """
    if groups is None:
        raise TaskError("groups is missing: it names the task of every row.")
    labels = _labels(rows_of(groups, "X, y, groups", "groups"), n_rows)
    if len(labels) != n_rows:
        raise TaskError(f"groups has {len(labels)} labels for {n_rows} rows; one label a row is wanted.")
    if isinstance(labels, np.ndarray):
        names, code = _coded_numbers(labels)
    else:
        names, code = _coded(labels)
    order = np.argsort(code, kind="stable")
    counts = np.bincount(code, minlength=len(names))
    return names, order, np.concatenate([[0], np.cumsum(counts)])


def place_in_group(groups: Any, row: int, n_rows: int) -> tuple[str, int]:
    """Return how an error message names the task of a flat row, and the number of the row within the task."""
    names, order, offsets = sort_by_group(groups, n_rows)
    position = int(np.flatnonzero(order == row)[0])
    task = int(np.searchsorted(offsets, position, side="right")) - 1
    return f"task {names.tolist()[task]!r}", position - int(offsets[task])


def _labels(groups: Any, n_rows: int) -> NDArray[Any] | list[Any]:
    """Return labels as an array of numbers, or else as a list of objects."""
    if isinstance(groups, (list, tuple)) and not any(isinstance(label, (list, np.ndarray)) for label in groups):
        labels = list(groups)
        return np.array(labels) if {type(label) for label in labels} in ({float}, {bool}) else labels
    if getattr(groups, "ndim", 1) == 2 and groups.shape[1] == 1:
        groups = groups.iloc[:, 0] if isinstance(groups, pd.DataFrame) else groups[:, 0]
    if getattr(getattr(groups, "dtype", None), "kind", "") in ("m", "M"):
        groups = pd.Series(groups).astype(object)  # numpy would turn dates of nanoseconds into numbers
    array: NDArray[Any]
    try:
        array = groups.to_numpy() if hasattr(groups, "to_numpy") else np.asarray(groups)
    except ValueError as error:
        raise TaskError(f"groups is not one label a row ({error}).") from error
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise TaskError(
            f"groups has shape {array.shape}; one label a row, of shape ({n_rows},), is wanted. Labels of several "
            "columns may be tuples in a list: list(zip(site, patient))."
        )
    if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8:
        return array
    return list(array.tolist())


def _coded_numbers(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise TaskError(f"groups: the label of row {int(np.flatnonzero(np.isnan(labels))[0])} is missing.")
    values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(values))
    return values[by_appearance], rank[inverse]


def _coded(labels: list[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return distinct labels in order of appearance, and the number of each row's among them."""
    numbers: dict[Hashable, int] = {}
    if set(map(type, labels)) <= _NEVER_MISSING:
        code = np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)
        return as_names(list(numbers)), code
    code = np.empty(len(labels), dtype=np.intp)
    for row, label in enumerate(labels):
        if is_missing(label) or (isinstance(label, (tuple, frozenset)) and any(map(is_missing, label))):
            raise TaskError(f"groups: the label of row {row} is missing.")
        try:
            code[row] = numbers.setdefault(label, len(numbers))
        except TypeError as error:
            raise TaskError(
                f"groups: the label of row {row} is a {type(label).__name__}, which cannot name a task; text, numbers, "
                "dates and tuples can."
            ) from error
    kinds = {isinstance(label, (bool, np.bool_)) for label in labels if isinstance(label, (Number, np.bool_))}
    if len(kinds) > 1:
        raise TaskError(
            "groups holds True or False among numbers, and Python takes True for 1; write all labels as words, or all "
            "as whole numbers."
        )
    return as_names(list(numbers)), code
