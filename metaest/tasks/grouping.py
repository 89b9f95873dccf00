"""Sort flat rows by the task they belong to."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError

__all__ = ["sort_by_group"]


def sort_by_group(groups: Any, n_rows: int) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Return the group names, the row order that puts each group together, and the offsets of the groups.

    Parameters
    ----------
    groups : array-like of shape (n_rows,)
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
        When `groups` is missing, of another length, not one-dimensional, or holds missing labels.
    """
    if groups is None:
        raise TaskError("groups is missing: it names the task of every row.")
    labels = groups.to_numpy() if hasattr(groups, "to_numpy") else _as_array(groups)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise TaskError(f"groups has shape {labels.shape}; one label a row, of shape ({n_rows},), is wanted.")
    if len(labels) != n_rows:
        raise TaskError(f"groups has {len(labels)} labels for {n_rows} rows; one label a row is wanted.")
    missing = np.array([label is None or label is pd.NA or label != label for label in labels.tolist()])
    if missing.any():
        raise TaskError(f"groups: the label of row {int(np.flatnonzero(missing)[0])} is missing.")
    try:
        if len({isinstance(label, str) for label in labels.tolist()}) > 1:
            raise TypeError("words and numbers have no order")
        values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    except TypeError:  # labels of several types have no order: go by their text and type
        keys = np.array([f"{type(label).__name__} {label}" for label in labels.tolist()])
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        values = labels[first]
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(values))
    position = rank[inverse]
    order = np.argsort(position, kind="stable")
    counts = np.bincount(position, minlength=len(values))
    return values[by_appearance], order, np.concatenate([[0], np.cumsum(counts)])


def _as_array(groups: Any) -> NDArray[Any]:
    """Return labels as numpy would, unless it would make words of numbers: 1 and "1", or NaN and "nan", differ."""
    array = np.asarray(groups)
    if (
        array.dtype.kind in "US"
        and not hasattr(groups, "dtype")
        and not all(isinstance(g, (str, bytes)) for g in groups)
    ):
        return np.asarray(groups, dtype=object)
    return array
