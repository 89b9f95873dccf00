"""Turn what a user passes as X and y into finite arrays, or say which task and column stands in the way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError, filters_kept
from metaest.tasks.columns import first_text
from metaest.tasks.labels import as_labels, label_column
from metaest.tasks.object_rows import ObjectRows
from metaest.tasks.reading import as_floats, rows_of
from metaest.tasks.times import time_kind

__all__ = ["as_features", "as_target", "require_finite", "require_numbers"]

_KINDS = {"O": "strings or mixed objects", "U": "strings", "S": "bytes"}
_REMEDY = (
    "encode it as numbers first (OneHotEncoder or pandas.get_dummies for categories, elapsed hours or days for dates "
    "and time differences)"
)
_COMPLEX = "complex numbers, real ones are wanted. Complex data not supported"


@filters_kept()
def _from_frame(X: pd.DataFrame, where: str, *, dense: bool = False) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return the columns of a data frame as one array, and their names; `dense` refuses sparse ones."""
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise TaskError(f"{where}: column {twice!r} occurs twice in X; column names must be unique.")
    labels = X.columns.tolist()
    words = [isinstance(name, str) for name in labels]
    if any(words) and not all(words):
        raise TaskError(f"{where}: column names must be all strings or none, got {labels}.")
    names = tuple(labels) if any(words) else None
    kinds = set(X.dtypes)
    if all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in kinds):
        return X.to_numpy(dtype=np.float32 if kinds == {np.dtype(np.float32)} else np.float64), names
    if dense and all(isinstance(dtype, pd.SparseDtype) for dtype in kinds):
        raise TypeError(f"{where}: X has sparse columns, metaest needs dense ones; use X.sparse.to_dense().")
    columns = [_column_of(X.iloc[:, j], where) for j in range(X.shape[1])]
    return np.column_stack(columns), names


def _column_of(column: pd.Series, where: str) -> NDArray[np.float64]:
    """Return a column of a data frame as floats, missing values as NaN."""
    dtype = column.dtype
    kind = "categories" if isinstance(dtype, pd.CategoricalDtype) else time_kind(column)
    if kind is None and dtype.kind == "c":
        raise TaskError(f"{where}: column {column.name!r} holds {_COMPLEX}.")
    if kind is None and dtype.kind in "fiub":
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    if kind is None and dtype.kind == "O" and isinstance(dtype, np.dtype):
        objects = rows_of(column.to_numpy(), f"{where}: column {column.name!r}", "X")
        if not any(isinstance(value, (str, bytes)) for value in objects.tolist()):
            return as_floats(objects, where, lambda j: f"column {column.name!r}")
    if kind is None and isinstance(dtype, pd.ArrowDtype) and "decimal" in str(dtype):
        return as_floats(column.to_numpy(dtype=object), where, lambda j: f"column {column.name!r}")
    text = first_text(column) if dtype.kind == "O" and not time_kind(column) else None
    example = f" ({text[0]!r} in row {text[1]})" if text else ""
    kind = kind or _KINDS.get(dtype.kind, str(dtype))
    raise TaskError(f"{where}: column {column.name!r} holds {kind}{example}, numbers are wanted; {_REMEDY}.")


_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


def _numeric(values: Any, where: str, name: str) -> NDArray[Any]:
    """Return numbers in an array of float64 or float32, of the shape they came in."""
    if type(values) is np.ndarray and values.dtype in _FLOATS:
        return values.copy() if any(stride < 0 for stride in values.strides) else values  # torch reads forwards only
    kind = time_kind(values)
    if kind:
        raise TaskError(f"{where}: {name} holds {kind}, numbers are wanted; {_REMEDY}.")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise TaskError(
            f"{where}: {name} is not a rectangular array (row {_odd_row(values)} has another length than row 0)."
        ) from error
    except RuntimeError as error:
        raise TaskError(
            f"{where}: {name} holds torch tensors that require gradients, numbers are wanted; use detach()."
        ) from error
    if array.dtype.kind in "US" and not hasattr(values, "dtype"):
        array = np.asarray(values, dtype=object)  # numpy makes words of the numbers among them
    if array.dtype.kind == "c":
        raise TaskError(f"{where}: {name} holds {_COMPLEX}.")
    if array.dtype.kind == "O":
        array = _of_objects(rows_of(array, where, name), where, name)
    elif array.dtype.kind not in "fiub":
        raise TaskError(
            f"{where}: {name} holds {_KINDS.get(array.dtype.kind, array.dtype)}, numbers are wanted; {_REMEDY}."
        )
    return array if array.dtype in _FLOATS and array.dtype.isnative else array.astype(np.float64)


def _of_objects(array: NDArray[Any], where: str, name: str) -> NDArray[np.float64]:
    for i, value in enumerate(array.ravel().tolist()):
        if isinstance(value, (str, bytes)):
            row, *rest = np.unravel_index(i, array.shape) if array.ndim else (0,)
            held = f"{'strings' if isinstance(value, str) else 'bytes'} ({value!r} in row {row})"
            column = rest[0] if rest else 0
            raise TaskError(f"{where}: column {column} of {name} holds {held}, numbers are wanted; {_REMEDY}.")
    if array.ndim == 0:
        raise TaskError(f"{where}: {name} is a {type(array.item()).__name__}, rows of numbers are wanted.")
    return as_floats(array, where, lambda j: f"column {j} of {name}")


def _odd_row(values: Any) -> int:
    """Return the first row of a ragged list that is shaped unlike the first."""
    shapes = [np.shape(row) if not _is_ragged(row) else None for row in values]
    return next((i for i, shape in enumerate(shapes) if shape is None or shape != shapes[0]), 0)


def _is_ragged(row: Any) -> bool:
    try:
        np.shape(row)
    except ValueError:
        return True
    return False


def _require_rows(array: NDArray[Any], where: str) -> None:
    """Raise a TaskError unless X has rows of columns, or images."""
    if array.ndim in (2, 3, 4):
        return
    if array.ndim == 1:
        raise TaskError(
            f"{where}: Expected 2D array, got 1D array instead: X has shape {array.shape}. Reshape your data: "
            "X.reshape(-1, 1) where it is one column, X.reshape(1, -1) where it is one row."
        )
    raise TaskError(
        f"{where}: X has shape {array.shape}; rows of columns are wanted, of shape (n_rows, n_features), or images, of "
        "shape (n_rows, channels, height, width)."
    )


def as_features(X: Any, where: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return X as a float array of shape (n_rows, n_features, ...), and its column names when it has them.

    Rows that are objects are returned as they are, of shape (n_rows,).

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_features); images of shape (n_rows, channels, height, width); \
ObjectRows
    where : str
        How the error message begins, for instance ``"task 'patient 3'"``.

    Returns
    -------
    ndarray of float32, float64 or object, and tuple of str or None

    Raises
    ------
    TaskError
        When a column holds strings, categories or dates, or X has one dimension.
    TypeError
        When X is sparse.
    """
    if X is None:
        raise TaskError(f"{where}: X is missing.")
    if isinstance(X, ObjectRows):
        return X.array, None
    X = rows_of(X, where, "X")
    if isinstance(X, pd.DataFrame):
        array, names = _from_frame(X, where, dense=True)
    else:
        array, names = _numeric(X, where, "X"), None
        _require_rows(array, where)
    if 0 in array.shape[1:]:
        raise TaskError(f"{where}: X has 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    return array, names


def as_target(y: Any, n_rows: int, where: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return y of shape (n_rows,) or (n_rows, n_targets), and its names when it has them.

    Numbers are floats, but for whole ones, which stay what they are: they may be labels, as words may.

    Parameters
    ----------
    y : array-like, series or data frame
    n_rows : int
        The number of rows of X.
    where : str
        How the error message begins.

    Returns
    -------
    ndarray of float, int, bool or str, and tuple of str or None

    Raises
    ------
    TaskError
        When y is missing, of another length, of three or more dimensions, holds dates, or labels of several types.
    """
    if y is None:
        raise TaskError(f"{where}: y is missing (it requires y to be passed, but the target y is None).")
    names: tuple[str, ...] | None
    y = rows_of(y, where, "y")
    if isinstance(y, pd.DataFrame):
        labels = label_column(y, where)
        array, names = _from_frame(y, f"{where}, y") if labels is None else (labels, _name_of(y.columns[0]))
    else:
        labels = as_labels(y, where)
        array = _numeric(y, where, "y") if labels is None else labels
        names = _name_of(getattr(y, "name", None))
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] == 0):
        raise TaskError(f"{where}: y has shape {array.shape}; (n_rows,) or (n_rows, n_targets) is wanted.")
    if len(array) != n_rows:
        raise TaskError(f"{where}: X has {n_rows} rows and y has {len(array)}; they must have the same number.")
    return array, names


def _name_of(column: Any) -> tuple[str, ...] | None:
    return (column,) if isinstance(column, str) else None


def require_numbers(y: NDArray[Any], where: str) -> NDArray[Any]:
    """Return targets as floats, or raise a TaskError where they are words."""
    if y.dtype.kind in "fiub":
        return y if y.dtype.kind == "f" else y.astype(np.float64)
    text = first_text(pd.Series(y.ravel()))
    example = f" ({text[0]!r} among them)" if text else ""
    raise TaskError(f"{where}: column 0 of y holds strings{example}, numbers are wanted; MAMLClassifier takes labels.")


def require_finite(
    values: NDArray[Any], name: str, columns: tuple[str, ...] | None, locate: Callable[[int], tuple[str, int]]
) -> None:
    """Raise when an array holds NaN or infinity, naming the task, the column and the row.

    Parameters
    ----------
    values : ndarray of shape (n_rows,) or (n_rows, n_columns)
    name : str
        "X" or "y".
    columns : tuple of str or None
    locate : callable
        Row number of `values` -> (how the message begins, row number within the task).

    Raises
    ------
    TaskError
        At the first value that is not finite.
    """
    if values.dtype.kind not in "fc":  # labels
        return
    finite = np.isfinite(values)
    if finite.all():
        return
    position = np.argwhere(~finite)[0]
    row, column = int(position[0]), int(position[1]) if len(position) > 1 else 0
    kind = "NaN" if np.isnan(values[tuple(position)]) else "infinity"
    where, row_in_task = locate(row)
    label = repr(columns[column]) if columns else column
    raise TaskError(
        f"{where}: column {label} of {name} holds {kind} in row {row_in_task} (Input {name} contains {kind}); "
        "drop the row, or impute it before fitting."
    )
