"""Turn what a user passes as X and y into finite arrays, or say which task and column stands in the way."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_array

from metaest.exceptions import TaskError, filters_kept
from metaest.tasks.columns import first_text
from metaest.tasks.labels import as_labels, label_column
from metaest.tasks.times import time_kind

__all__ = ["as_features", "as_target", "require_finite", "require_numbers"]

_KINDS = {"O": "strings or mixed objects", "U": "strings", "S": "bytes"}
_REMEDY = (
    "encode it as numbers first (OneHotEncoder or pandas.get_dummies for categories, elapsed hours or days for dates "
    "and time differences)"
)


def _column_is_numeric(column: Any) -> bool:
    """Whether a data frame column holds numbers or booleans, pandas' nullable types included."""
    dtype = column.dtype
    kind = getattr(dtype, "kind", "O")
    if isinstance(dtype, np.dtype) and kind == "O":
        return _converts(column.to_numpy())
    return type(dtype).__name__ != "CategoricalDtype" and kind in "biuf"


def _converts(values: NDArray[Any]) -> bool:
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return not any(isinstance(value, str) for value in values.ravel())


@filters_kept()
def _from_frame(X: Any, where: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise TaskError(f"{where}: column {twice!r} occurs twice in X; column names must be unique.")
    for name in X.columns:
        if not _column_is_numeric(X[name]):
            dtype = X[name].dtype
            kind = "categories" if type(dtype).__name__ == "CategoricalDtype" else _KINDS.get(dtype.kind, str(dtype))
            kind = time_kind(X[name]) or kind
            text = first_text(X[name]) if dtype.kind == "O" and not time_kind(X[name]) else None
            example = f" ({text[0]!r} in row {text[1]})" if text else ""
            raise TaskError(f"{where}: column {name!r} holds {kind}{example}, numbers are wanted; {_REMEDY}.")
    words = [isinstance(name, str) for name in X.columns]
    if any(words) and not all(words):
        raise TaskError(f"{where}: column names must be all strings or none, got {list(X.columns)}.")
    names = tuple(X.columns) if any(words) else None
    floats = {np.dtype(np.float32)}
    dtype = np.float32 if set(X.dtypes) == floats else np.float64
    return X.to_numpy(dtype=dtype, na_value=np.nan), names


def _explain(X: Any, where: str, name: str, error: Exception) -> TaskError:
    """Name the column numpy could not convert."""
    if "inhomogeneous" in str(error):
        return TaskError(f"{where}: {name} is not a rectangular array ({error}).")
    columns = np.asarray(X, dtype=object)
    if columns.ndim == 2:
        for j in range(columns.shape[1]):
            if not _converts(columns[:, j]):
                return TaskError(f"{where}: column {j} of {name} holds strings, numbers are wanted; {_REMEDY}.")
    return TaskError(f"{where}: {name} cannot be read as numbers ({error}); {_REMEDY}.")


_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


def _numeric(values: Any, where: str, name: str, *, allow_1d: bool) -> NDArray[Any]:
    if type(values) is np.ndarray and values.dtype in _FLOATS and values.ndim in ((1, 2) if allow_1d else (2, 3, 4)):
        return values  # nothing to convert; scikit-learn would take 0.1 ms to find that out
    if hasattr(values, "toarray"):
        raise TypeError(f"{where}: {name} is a sparse matrix, metaest needs dense rows; use {name}.toarray().")
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        row = int(np.argwhere(np.ma.getmaskarray(values))[0][0])
        raise TaskError(f"{where}: {name} is masked in row {row}; drop the row, or fill the masked values.")
    kind = time_kind(values) or _KINDS.get(getattr(getattr(values, "dtype", None), "kind", ""))
    if kind and kind != _KINDS["O"]:
        raise TaskError(f"{where}: {name} holds {kind}, numbers are wanted; {_REMEDY}.")
    try:
        with filters_kept():
            array = check_array(
                values,
                dtype=[np.float64, np.float32],
                ensure_all_finite=False,
                ensure_2d=not allow_1d,
                allow_nd=not allow_1d,
                ensure_min_samples=0,
                ensure_min_features=0,
                input_name=name,
            )
    except ValueError as error:
        if "could not convert" in str(error) or "inhomogeneous" in str(error):
            raise _explain(values, where, name, error) from error
        raise TaskError(f"{where}: {error}") from error
    return np.asarray(array)


def as_features(X: Any, where: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return X as a float array of shape (n_rows, n_features, ...), and its column names when it has them.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_features); or images of shape (n_rows, channels, height, width)
    where : str
        How the error message begins, for instance ``"task 'patient 3'"``.

    Returns
    -------
    ndarray of float32 or float64, and tuple of str or None

    Raises
    ------
    TaskError
        When a column holds strings, categories or dates, or X has one dimension.
    TypeError
        When X is sparse.
    """
    if X is None:
        raise TaskError(f"{where}: X is missing.")
    if hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "to_numpy") and hasattr(X, "iloc"):
        if hasattr(X, "sparse"):
            raise TypeError(f"{where}: X has sparse columns, metaest needs dense ones; use X.sparse.to_dense().")
        array, names = _from_frame(X, where)
    else:
        array, names = _numeric(X, where, "X", allow_1d=False), None
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
    if hasattr(y, "columns") and hasattr(y, "dtypes"):
        labels = label_column(y, where)
        array, names = _from_frame(y, f"{where}, y") if labels is None else (labels, _name_of(y.columns[0]))
    else:
        labels = as_labels(y, where)
        array = _numeric(y, where, "y", allow_1d=True) if labels is None else labels
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
