"""Rows of a user's own type, such as graphs or sets of vectors, which only the user's code turns into numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.reading import is_missing

__all__ = ["ObjectRows", "holds_objects"]


class ObjectRows:
    """Marks the X of a task as rows that are objects; any other X is read as numbers, or refused.

    Parameters
    ----------
    X : list, tuple or ndarray
        One object a row. They are not copied, so do not change them afterwards.
    where : str, default="X"
        How the error message begins.

    Attributes
    ----------
    array : ndarray of object, shape (n_rows,)

    Raises
    ------
    TaskError
        When X is no sequence, or a row is missing.

    Examples
    --------
    >>> from metaest import Task
    >>> from metaest.tasks import ObjectRows
    >>> Task("molecule", ObjectRows([{"C", "O"}, {"N"}]), [1.0, 2.0])
    Task('molecule', 2 rows, rows of type set)
    """

    def __init__(self, X: Any, where: str = "X") -> None:
        if not isinstance(X, (Sequence, np.ndarray)) or isinstance(X, (str, bytes)) or getattr(X, "ndim", 1) == 0:
            raise TaskError(f"{where}: a list of rows is wanted, got {type(X).__name__}.")
        self.array: NDArray[Any] = np.empty(len(X), dtype=object)
        for row, value in enumerate(X):  # one by one, since numpy would stack rows of equal length
            if is_missing(value):
                raise TaskError(f"{where}: row {row} of X is missing ({value}); drop the row.")
            self.array[row] = value


def holds_objects(X: NDArray[Any]) -> bool:
    """Tell whether the X of a task holds rows of a user's own type, not numbers."""
    return X.dtype == object
