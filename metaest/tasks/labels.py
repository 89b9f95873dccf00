"""Targets that may be labels: words, whole numbers, true and false, kept as the user writes them."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.reading import is_missing

__all__ = ["as_labels", "label_column"]

_TEXT_OF_MISSING = ["", "nan", "<NA>", "NaT"]


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
    if y is pd.NA:
        return None
    try:
        array = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
    except (TypeError, ValueError):  # ragged: the numeric check says where
        return None
    if array.dtype.kind in "iub":
        return array
    if array.dtype.kind == "f" and getattr(getattr(y, "dtype", None), "kind", "f") != "f" and np.isnan(array).any():
        # nullable whole numbers, true and false, and categories of them
        raise _missing(where, False, int(np.argwhere(np.isnan(array))[0][0]))
    if array.dtype.kind == "U" and not hasattr(y, "dtype"):
        array = np.asarray(y, dtype=object)  # numpy makes words of the numbers among them
    if array.dtype.kind != "O":
        return _without_blanks(array, where) if array.dtype.kind == "U" else None
    values = array.ravel().tolist()
    missing = [is_missing(value) for value in values]
    present = [value for value, absent in zip(values, missing, strict=True) if not absent]
    words = any(isinstance(value, str) for value in present)
    whole = bool(present) and all(
        isinstance(value, (int, np.integer)) and not isinstance(value, np.timedelta64) for value in present
    )
    # numpy reads None among other numbers as NaN, which the numeric check reports; it cannot read pd.NA
    if any(missing) and (words or whole or any(value is pd.NA for value in values)):
        raise _missing(where, words, missing.index(True) // (array.size // len(array)))
    if whole:
        numbers = np.array(values)
        # numpy has no whole numbers beyond 64 bits; as targets they are floats
        return numbers.reshape(array.shape) if numbers.dtype.kind in "iub" else None
    if not words:
        return None
    kinds = {type(value).__name__ for value in values}
    if len(kinds) > 1:
        raise TaskError(
            f"{where}: labels of mixed types ({', '.join(sorted(kinds))}); write all as words, or all as numbers."
        )
    cut = [value.endswith("\0") for value in values]
    if any(cut):
        row = cut.index(True) // (array.size // len(array))
        raise TaskError(f"{where}: the label of row {row} ends with a NUL character, which numpy drops; remove it.")
    return _without_blanks(np.array(values, dtype=str).reshape(array.shape), where)


def _without_blanks(labels: NDArray[Any], where: str) -> NDArray[Any]:
    """Return labels, or raise where one is blank or what numpy and pandas make of a missing value among words."""
    rows = np.argwhere(np.isin(np.char.strip(labels), _TEXT_OF_MISSING))
    if len(rows):
        raise TaskError(
            f"{where}: the label of row {rows[0][0]} is the text {str(labels[tuple(rows[0])])!r}, as a missing one is "
            "written; drop the row, or give the class another name."
        )
    return labels


def label_column(frame: Any, where: str) -> NDArray[Any] | None:
    """Return the labels of a data frame of one column, and None where the frame holds other numbers.

    Parameters
    ----------
    frame : DataFrame
    where : str
        How the error message begins.

    Returns
    -------
    ndarray of str, shape (n_rows,); of int or bool, shape (n_rows, 1); or None

    Raises
    ------
    TaskError
        When a label is missing, or a column of several holds words.
    """
    alone = frame.shape[1] == 1
    for j, name in enumerate(frame.columns):
        column = frame.iloc[:, j]
        labels = as_labels(column, where) if alone or _may_hold_words(column) else None
        if labels is None:
            continue
        words = labels.dtype.kind == "U"
        if alone:
            return labels if words else labels.reshape(-1, 1)
        if words:
            raise TaskError(
                f"{where}: y has {frame.shape[1]} columns, and column {name!r} holds words; labels are one column: "
                f"give {name!r} alone, or numbers in every column."
            )
    return None


def _may_hold_words(column: Any) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype) or getattr(column.dtype, "kind", "O") in "OU"


def _missing(where: str, words: bool, row: int) -> TaskError:
    what = "label of" if words else "value of y in"
    return TaskError(f"{where}: the {what} row {row} is missing; drop the row.")
