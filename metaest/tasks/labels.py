"""Targets that may be labels: words, whole numbers, true and false, kept as the user writes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError

__all__ = ["as_labels"]


def as_labels(y: Any, where: str) -> NDArray[Any] | None:
    """Return y as it is where it may hold labels, and None where it holds anything else.

    Parameters
    ----------
    y : array-like or series
    where : str
        How the error message begins.

    Returns
    -------
    ndarray of int, bool or str, or None

    Raises
    ------
    TaskError
        When one label is missing, or some are words and some are not.
    """
    if hasattr(y, "toarray") or type(y).__name__ == "NAType":
        return None
    try:
        array = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
    except (TypeError, ValueError):  # ragged: the numeric check says where
        return None
    if array.dtype.kind in "iub":
        return array
    if array.dtype.kind == "U" and not hasattr(y, "dtype"):
        array = np.asarray(y, dtype=object)  # numpy makes words of the numbers among them
    if array.dtype.kind == "U":
        return array
    values = array.ravel().tolist()
    if array.dtype.kind != "O" or not any(isinstance(value, str) for value in values):
        whole = array.dtype.kind == "O" and values and all(isinstance(value, (int, np.integer)) for value in values)
        return np.array(values).reshape(array.shape) if whole else None
    for row, value in enumerate(values):
        if value is None or value != value or type(value).__name__ == "NAType":
            raise TaskError(f"{where}: the label of row {row // (array.size // len(array))} is missing; drop the row.")
    kinds = {type(value).__name__ for value in values}
    if len(kinds) > 1:
        raise TaskError(
            f"{where}: labels of mixed types ({', '.join(sorted(kinds))}); write all as words, or all as numbers."
        )
    return np.array(values, dtype=str).reshape(array.shape)
