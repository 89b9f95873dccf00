"""Whatever holds the rows of a table, as numpy or pandas; what hides values, or is no table of rows, is refused."""

from collections.abc import Callable, Iterator, Mapping, Set
from decimal import Decimal
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.containers import hides, plain

__all__ = ["MaskedError", "as_floats", "column_names_of", "is_missing", "refuse_masked", "rows_of"]

_OF_PANDAS = (pd.DataFrame, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)
# the plain kinds of a numpy array: numbers, booleans, text, dates
_PLAIN = "fiubcUSmM"


class NoNumberError(TaskError, TypeError):
    """A cell holds an object of which no number can be made; scikit-learn expects a TypeError there."""


class MaskedError(TaskError):
    """A value is masked.

    Parameters
    ----------
    where, name : str
        As :func:`rows_of` takes them.
    row : int
    column : int or None
    """

    def __init__(self, where: str, name: str, row: int, column: int | None = None) -> None:
        place = "" if column is None else f" in column {column}"
        super().__init__(f"{where}: {name} is masked in row {row}{place}; drop the row, or fill the masked values.")
        self.name, self.row, self.column = name, row, column

    def __reduce__(self) -> Any:
        return TaskError, self.args

    def within(self, where: str, row: int) -> "MaskedError":
        """Return the same error for a row that is counted within its task."""
        return MaskedError(where, self.name, row, self.column)


def rows_of(values: Any, where: str, name: str) -> Any:
    """Return numpy arrays, lists and what belongs to pandas as they are, and everything else as one of these.

    Data frames and series of polars, pyarrow and other libraries are read through narwhals and become pandas ones;
    tensors become arrays. Lists and arrays of objects are searched for masked values.

    Parameters
    ----------
    values : object
    where : str
        How the error message begins, for instance ``"task 'patient 3'"``.
    name : str
        What the error message calls the values, for instance ``"X"``.

    Returns
    -------
    ndarray, list, tuple, DataFrame, Series, Index, or another object that numpy can read

    Raises
    ------
    TaskError
        When a value is masked, or the values are no table of rows: an iterator, a dictionary, a lazy frame, a tensor
        that holds no plain numbers.
    TypeError
        When they are a sparse matrix.
    """
    if type(values) is np.ndarray and values.dtype.kind in _PLAIN:
        return values
    if isinstance(values, np.ndarray):
        return _of_array(values, where, name)
    if isinstance(values, (list, tuple)):
        return _of_list(values, where, name)
    if isinstance(values, _OF_PANDAS):
        return values
    if isinstance(values, torch.Tensor):
        return plain(values, f"{where}: {name}")
    if isinstance(values, memoryview):
        return np.asarray(values)
    if hasattr(values, "toarray"):
        raise TypeError(f"{where}: {name} is a sparse matrix, metaest needs dense rows; use {name}.toarray().")
    _refuse_unordered(values, where, name)
    values = plain(values, f"{where}: {name}")
    if hasattr(values, "to_pandas") and getattr(values, "ndim", 2) <= 2:  # record batches of pyarrow, arrays of xarray
        return values.to_pandas()
    return values


def refuse_masked(values: Any, where: str, name: str) -> None:
    """Raise a TaskError at the first masked value of an array or a list; other values are let through.

    Parameters
    ----------
    values : object
    where, name : str
        As :func:`rows_of` takes them.
    """
    if isinstance(values, np.ma.MaskedArray):
        _refuse_masked(np.ma.getmaskarray(values), where, name)
    elif isinstance(values, (list, tuple)):
        _of_list(values, where, name)


def column_names_of(values: Any) -> tuple[Any, ...] | None:
    """Return the column names of a data frame of any library, and None for anything else."""
    if isinstance(values, pd.DataFrame):
        return tuple(values.columns)
    if isinstance(values, (np.ndarray, list, tuple, torch.Tensor)):
        return None
    frame = nw.from_native(values, pass_through=True)
    return tuple(frame.columns) if isinstance(frame, nw.DataFrame) else None


def is_missing(value: Any) -> bool:
    """Tell whether a single value stands for a missing one."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, (float, np.floating, np.datetime64, np.timedelta64, complex)) and bool(value != value)


def as_floats(objects: NDArray[Any], where: str, column: Callable[[int], str]) -> NDArray[np.float64]:
    """Return numbers that are held as objects, missing ones as NaN.

    Parameters
    ----------
    objects : ndarray of object
        Of shape (n_rows, ...): integers of any size, floats, booleans, Decimal, Fraction, None, pandas.NA.
    where : str
        How the error message begins.
    column : callable
        Number of a column -> what the message calls it.

    Raises
    ------
    TaskError
        At the first value that is no number, or too large for one; the message names column, row and value.
    """
    flat = objects.ravel().tolist()
    # numpy.timedelta64 is a subclass of its integers, yet no number
    numbers = {
        kind
        for kind in {type(value) for value in flat}
        if not issubclass(kind, np.timedelta64) and issubclass(kind, (Real, Decimal, np.bool_))
    }

    def place(i: int) -> str:
        row, *rest = (int(n) for n in np.unravel_index(i, objects.shape)) if objects.ndim else (0,)
        return f"{column(rest[0] if rest else 0)} holds {{}} in row {row}"

    floats = np.empty(len(flat))
    for i, value in enumerate(flat):
        if is_missing(value):
            floats[i] = np.nan
            continue
        if type(value) not in numbers:
            if isinstance(value, (str, bytes)):
                raise TaskError(f"{where}: {place(i).format(f'the text {value!r}')}; numbers are wanted.")
            raise NoNumberError(
                f"{where}: {place(i).format(f'a {type(value).__name__}')}; an argument must be neither a string nor "
                "another object there, but a number."
            )
        try:
            floats[i] = float(value)
        except OverflowError:
            size = "a whole number" if isinstance(value, int) else f"a {type(value).__name__}"
            raise TaskError(
                f"{where}: {place(i).format(size + ' beyond the range of floating numbers')} (1.8e308); divide the "
                "column by a power of ten."
            ) from None
    return floats.reshape(objects.shape)


def _of_array(values: NDArray[Any], where: str, name: str) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        _refuse_masked(np.ma.getmaskarray(values), where, name)
        values = np.ma.getdata(values)
    if values.dtype.kind == "V":
        fields = ", ".join(values.dtype.names or ())
        raise TaskError(
            f"{where}: {name} is a structured array (fields: {fields}), plain columns are wanted: "
            f"pandas.DataFrame({name}) makes a data frame of it."
        )
    if isinstance(values, np.matrix):
        raise TaskError(
            f"{where}: {name} is a numpy.matrix, which has two dimensions always; use numpy.asarray({name})."
        )
    if values.dtype.kind == "O":
        _refuse_masked(
            np.fromiter((value is np.ma.masked for value in values.ravel().tolist()), bool).reshape(values.shape),
            where,
            name,
        )
    return np.asarray(values)


def _of_list(values: Any, where: str, name: str) -> Any:
    """Return a list or tuple with its tensors and masked arrays, at any depth, as arrays."""
    if not hides(values):
        return values
    rows = []
    for row, value in enumerate(values):
        try:
            nested = isinstance(value, (np.ma.MaskedArray, torch.Tensor, list, tuple))
            rows.append(rows_of(value, f"{where}: row {row}", name) if nested else value)
        except MaskedError as error:
            raise MaskedError(where, name, row, None if getattr(value, "ndim", 1) == 0 else error.row) from None
    return rows


def _refuse_masked(mask: NDArray[np.bool_], where: str, name: str) -> None:
    if mask.dtype.names:
        fields: Any = mask
        mask = np.stack([fields[field] for field in mask.dtype.names], axis=-1)
    if mask.any():
        position = np.argwhere(mask)[0] if mask.ndim else [0]
        raise MaskedError(where, name, int(position[0]), int(position[1]) if len(position) > 1 else None)


def _refuse_unordered(values: Any, where: str, name: str) -> None:
    """Raise a TaskError where values are no sequence of rows."""
    begin = f"{where}: {name} is a {type(values).__name__}"
    if isinstance(values, Mapping):
        raise TaskError(f"{begin}; rows are wanted: pandas.DataFrame({name}) makes a data frame of columns by name.")
    if isinstance(values, Set):
        raise TaskError(f"{begin}, whose values have no order; a list or an array is wanted.")
    unindexed = hasattr(values, "__iter__") and not hasattr(values, "__getitem__") and not hasattr(values, "__array__")
    if isinstance(values, Iterator) or unindexed:
        raise TaskError(f"{begin}, whose values cannot be indexed; a list or an array is wanted: list({name}).")
    if isinstance(values, (str, bytes)):
        raise TaskError(f"{where}: {name} is the text {values!r}; rows of numbers are wanted.")
