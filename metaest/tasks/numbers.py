"""Checked numbers: one row of them, or one alone, from whatever container a user passes."""

from collections.abc import Iterator, Mapping, Set
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.containers import plain, spelled_out
from metaest.tasks.times import TIME_REMEDY, time_kind

__all__ = ["as_number", "as_one_or_more", "as_rows", "as_vector"]

_KINDS = {"b": "True and False", "c": "complex numbers", "U": "text", "S": "bytes", "T": "text", "V": "records"}
# containers whose order or length is not that of rows
_NO_ROWS = (str, bytes, bytearray, Mapping, Set, Iterator)


def as_vector(values: Any, where: str, *, missing: bool = False, infinite: bool = False) -> NDArray[np.float64]:
    """Return numbers as a new array of one dimension, whatever container they come in.

    Parameters
    ----------
    values : array-like, Series or frame of one column, of shape (n,)
        Of Python, numpy, pandas, polars, pyarrow or torch.
    where : str
        How the error message begins, for instance ``"sharpe: returns"``.
    missing : bool, default=False
        Whether numbers may be missing: NaN, None, null, NA, or masked. They become NaN.
    infinite : bool, default=False
        Whether numbers may be infinite.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    TaskError
        When values are no numbers (text, dates, time differences, true and false, complex numbers), are masked or
        missing where this is not allowed, do not fit into float64, or have another number of dimensions.
    """
    given = plain(values, where)
    if given is None or isinstance(given, _NO_ROWS) or hasattr(given, "toarray"):
        what = "a sparse array" if hasattr(given, "toarray") else "None" if given is None else type(given).__name__
        raise TaskError(f"{where}: a list or an array of numbers is wanted, got {what}.")
    if isinstance(given, pd.DataFrame):
        if given.shape[1] != 1:
            raise TaskError(f"{where}: one column of numbers is wanted, got a frame of {given.shape[1]} columns.")
        given = given.iloc[:, 0]
    array = _floats(given, where)
    if array.ndim != 1:
        raise TaskError(f"{where}: one row of numbers is wanted, got an array of shape {array.shape}.")
    absent = np.flatnonzero(np.isnan(array))
    if len(absent) and not missing:
        masked = np.ma.getmaskarray(given)[absent[0]] if isinstance(given, np.ma.MaskedArray) else False
        raise TaskError(f"{where}: value {absent[0]} is {'masked' if masked else 'missing (nan)'}; a number is wanted.")
    beyond = np.flatnonzero(np.isinf(array))
    if len(beyond) and not infinite:
        raise TaskError(f"{where}: value {beyond[0]} is {array[beyond[0]]}; a finite number is wanted.")
    return array


def as_one_or_more(values: Any, where: str) -> NDArray[np.float64]:
    """Return a vector of one number, or of several, as :func:`as_vector` reads them."""
    single = isinstance(values, (Real, np.generic)) or (isinstance(values, np.ndarray) and values.ndim == 0)
    return as_vector([values] if single else values, where)


def as_rows(values: Any, n_columns: int | None, where: str) -> NDArray[np.float64]:
    """Return finite numbers as a new array of two dimensions, whatever container they come in.

    Parameters
    ----------
    values : array-like or frame of shape (n_rows, n_columns)
    n_columns : int or None
        Number of columns that is wanted; None for any.
    where : str
        How the error message begins.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_columns)

    Raises
    ------
    TaskError
        As :func:`as_vector`, and when there is another number of columns.
    """
    given = plain(values, where)
    if given is None or isinstance(given, _NO_ROWS) or hasattr(given, "toarray"):
        raise TaskError(f"{where}: an array of numbers with rows and columns is wanted, got {type(given).__name__}.")
    if isinstance(given, pd.DataFrame):
        if not given.columns.is_unique:
            raise TaskError(f"{where}: column {given.columns[given.columns.duplicated()][0]!r} occurs twice.")
        columns = [as_vector(given.iloc[:, j], f"{where}: column {name!r}") for j, name in enumerate(given.columns)]
        array = np.column_stack(columns) if columns else np.empty((len(given), 0))
    else:
        array = _floats(given, where)
    if array.ndim != 2 or n_columns not in (None, array.shape[1]):
        wanted = "rows and columns" if n_columns is None else f"rows of {n_columns} columns"
        raise TaskError(f"{where}: {wanted} are wanted, got shape {array.shape}.")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        row, column = (int(place) for place in wrong[0])
        raise TaskError(f"{where}: column {column} is {array[row, column]} in row {row}; a finite number is wanted.")
    return array


def _floats(given: Any, where: str) -> NDArray[np.float64]:
    """Return an array of float64 of any shape, NaN where a value is missing or masked."""
    if isinstance(given, (list, tuple)):
        given = spelled_out(given, where)
    kind = time_kind(given)
    if kind:
        raise TaskError(f"{where}: {kind} were passed, and numbers are wanted; {TIME_REMEDY[kind]}.")
    if isinstance(given, (pd.Series, pd.Index)):
        if isinstance(given.dtype, pd.CategoricalDtype):
            raise TaskError(f"{where}: categories were passed, and numbers are wanted.")
        if pd.api.types.is_numeric_dtype(given.dtype) and not pd.api.types.is_bool_dtype(given.dtype):
            if pd.api.types.is_complex_dtype(given.dtype):
                raise TaskError(f"{where}: {_KINDS['c']} were passed, and numbers are wanted.")
            return np.array(given.to_numpy(dtype=np.float64, na_value=np.nan))
        given = given.astype(object).to_numpy()
    if isinstance(given, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(given)
        values = _floats(np.where(hidden, 0, given.data), where)
        values[hidden] = np.nan
        return values
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TaskError(f"{where}: values do not form an array of numbers; rows may have several lengths.") from error
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.dtype.kind != "O" and not (array.dtype.kind == "U" and not isinstance(given, np.ndarray)):
        what = _KINDS.get(array.dtype.kind, str(array.dtype))
        raise TaskError(f"{where}: {what} were passed, and numbers are wanted.")
    cells = np.empty(array.shape, dtype=object)
    cells[...] = np.asarray(given, dtype=object)
    return np.array([_cell(cell, i, where) for i, cell in enumerate(cells.ravel().tolist())], dtype=np.float64).reshape(
        array.shape
    )


def _cell(cell: Any, i: int, where: str) -> float:
    if cell is None or cell is pd.NA or cell is np.ma.masked:
        return np.nan
    if isinstance(cell, (bool, np.bool_, np.timedelta64)) or not isinstance(cell, (Real, Decimal)):
        shown = (
            repr(cell) if isinstance(cell, (str, bytes, bool, np.bool_, complex)) else f"of type {type(cell).__name__}"
        )
        raise TaskError(f"{where}: value {i} is {shown}; a number is wanted.")
    try:
        return float(cell)
    except (OverflowError, ValueError) as error:
        raise TaskError(f"{where}: value {i} is beyond what a floating-point number can hold.") from error


def as_number(
    value: Any,
    where: str,
    *,
    above: float = -np.inf,
    below: float = np.inf,
    least: float = -np.inf,
    most: float = np.inf,
    wanted: str = "a finite number",
) -> float:
    """Return one finite number in a range.

    Parameters
    ----------
    value : float or int
        Of Python or numpy; an array of one number without dimensions counts as one.
    where : str
        How the error message begins, for instance ``"peak: until"``.
    above, below : float
        Ends of the range that do not belong to it.
    least, most : float
        Ends of the range that belong to it.
    wanted : str
        What the message says is wanted, for instance ``"a number above 0"``.

    Returns
    -------
    float

    Raises
    ------
    TaskError
        When the value is no number, is not finite, or lies outside the range.
    """
    kind = time_kind(value)
    if kind:
        raise TaskError(f"{where}: {kind} were passed, and {wanted} is wanted; {TIME_REMEDY[kind]}.")
    scalar = value.item() if isinstance(value, (np.ndarray, np.generic)) and np.ndim(value) == 0 else value
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise TaskError(f"{where}: {wanted} is wanted, got a masked value.")
    if isinstance(scalar, bool) or not isinstance(scalar, Real):
        raise TaskError(f"{where}: {wanted} is wanted, got {value!r}.")
    try:
        number = float(scalar)
    except OverflowError as error:
        raise TaskError(f"{where}: {wanted} is wanted, got a number beyond 1e308.") from error
    if not np.isfinite(number) or not (above < number < below and least <= number <= most):
        raise TaskError(f"{where}: {wanted} is wanted, got {number:g}.")
    return number
