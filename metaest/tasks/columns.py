"""Columns of a user's data frame: which of them a function reads, and their cells as numbers."""

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.exceptions import TaskError, filters_kept, warn
from metaest.tasks.times import TIME_REMEDY, time_kind

__all__ = [
    "Columns",
    "as_numbers",
    "first_text",
    "name_list",
    "refuse_booleans",
    "refuse_codes",
    "refuse_units",
    "require_frame",
]

# text that stands for a missing value in exports of NONMEM, R, SAS and spreadsheets
_MISSING = {"", ".", "na", "nan", "n/a", "null", "none", "<na>"}
_BELOW_LIMIT = re.compile(r"\s*(<.*|blq|bql|lloq|blod|nd|below.*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Columns that a function which reads data frames uses.

    Attributes
    ----------
    reader : str
        Name of the function.
    arguments : dict of str to str
        Arguments that name columns, and the meaning of these.
    reserved : dict of str to str
        Names in lower case, and their meaning. Such a column is read in any spelling, whether or not an argument names
        it.
    """

    reader: str
    arguments: Mapping[str, str]
    reserved: Mapping[str, str] = field(default_factory=dict)

    def find_reserved(self, frame: pd.DataFrame, named: Collection[Any]) -> dict[str, Any]:
        """Return the columns with reserved names, other than those that arguments name, by name in lower case."""
        by_name: dict[str, Any] = {}
        for column in frame.columns:
            name = str(column).strip().lower()
            if name not in self.reserved or column in named:
                continue
            if name in by_name:
                raise TaskError(
                    f"columns {by_name[name]!r} and {column!r} mean the same ({self.reserved[name]}); drop one."
                )
            by_name[name] = column
        return by_name

    def refuse_flags(self, frame: pd.DataFrame, named: Collection[Any]) -> None:
        """Raise a TaskError where a column with a reserved name, that no argument names, is not 0 or missing."""
        present = self.find_reserved(frame, named)
        for name, column in ((name, present[name]) for name in self.reserved if name in present):
            values, wrong = _converted(frame[column])
            rows = np.flatnonzero(wrong | (np.nan_to_num(values) != 0))
            if len(rows):
                raise TaskError(
                    f"column {column!r} is {frame[column].iloc[rows[0]]} in row {frame.index[rows[0]]}: "
                    f"{self.reserved[name]}."
                )

    def warn_of_others(self, frame: pd.DataFrame, read: Collection[Any], remedy: str) -> None:
        """Warn of the columns that were not read, all in one warning."""
        others = [column for column in frame.columns if column not in read]
        if others:
            several = len(others) > 1
            warn(
                f"{self.reader}: column{'s' * several} {', '.join(map(repr, others))} "
                f"{'were' if several else 'was'} not read; {remedy}"
            )


def name_list(names: Any, argument: str) -> list[Any]:
    """Return the column names that an argument lists, or raise a TaskError where it is no list of names."""
    if isinstance(names, str):
        raise TaskError(f"{argument} must be a list of column names, got the string {names!r}; write [{names!r}].")
    if not isinstance(names, (Sequence, np.ndarray, pd.Index)) or isinstance(names, bytes) or np.ndim(names) != 1:
        raise TaskError(f"{argument} must be a list of column names, got {names!r}.")
    return list(names)


@filters_kept()
def require_frame(frame: Any, columns: Mapping[str, Any], where: str = "") -> None:
    """Raise a TaskError unless a frame has rows, and each of these columns once.

    Parameters
    ----------
    frame : DataFrame
    columns : dict of str to str, or list of str
        Columns by the argument that names them; None where the argument is not given.
    where : str
        How the error message begins.
    """
    begin = f"{where}: " if where else ""
    if not isinstance(frame, pd.DataFrame):
        raise TaskError(f"{begin}a data frame is wanted, got {type(frame).__name__}.")
    given = {argument: value for argument, value in columns.items() if value is not None}
    named = {argument: value if isinstance(value, list) else [value] for argument, value in given.items()}
    for argument, name in ((argument, name) for argument, names in named.items() for name in names):
        if not isinstance(name, Hashable):
            raise TaskError(f"{begin}{argument} must name a column, got {name!r}.")
        if name in frame.columns:
            continue
        if name is not None and name in frame.index.names:
            raise TaskError(f"{begin}there is no column {name!r}: it is in the index; pass frame.reset_index().")
        alike = [other for other in frame.columns if str(other).strip().lower() == str(name).strip().lower()]
        example = f", such as {argument}={alike[0]!r}" if alike else ""
        raise TaskError(
            f"{begin}there is no column {name!r}; the frame has {list(frame.columns)}. Say which one it is by "
            f"{argument}={example}."
        )
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise TaskError(f"{begin}column {twice!r} occurs twice in the frame; column names must be unique.")
    if len(frame) == 0:
        raise TaskError(f"{begin}the frame has no records.")


def as_numbers(column: pd.Series, where: str = "") -> NDArray[np.float64]:
    """Return a column as floats, with NaN for empty cells and for codes of missing values such as a dot.

    Parameters
    ----------
    column : Series
        Numbers, or text that holds numbers.
    where : str
        How the error message begins, for instance ``"task 'A'"``.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TaskError
        When a cell holds anything else; the message names column, row and cell.
    """
    begin = f"{where}: " if where else ""
    kind = time_kind(column)
    if kind:
        raise TaskError(f"{begin}column {column.name!r} holds {kind}, numbers are wanted; {TIME_REMEDY[kind]}.")
    if pd.api.types.is_complex_dtype(column.dtype):
        raise TaskError(f"{begin}column {column.name!r} holds complex numbers; real numbers are wanted.")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    values, _ = _converted(column)
    text = first_text(column)
    if text:
        cell, row = text
        raise TaskError(
            f"{begin}column {column.name!r} holds {cell!r} in row {row}, which is not a number{_remedy(cell, column)}."
        )
    return values


def refuse_booleans(column: pd.Series, where: str) -> None:
    """Raise a TaskError where a column that holds amounts or times has true or false among its cells."""
    of_objects = column.dtype == object and any(isinstance(cell, (bool, np.bool_)) for cell in column)
    if of_objects or pd.api.types.is_bool_dtype(column.dtype):
        raise TaskError(f"{where}: column {column.name!r} holds True or False; numbers are wanted.")


def refuse_units(frame: pd.DataFrame, columns: Sequence[Any]) -> None:
    """Raise a TaskError where the first row holds text in columns whose other rows are numbers: units, most likely."""
    units = []
    for name in columns:
        column = frame[name]
        if len(column) < 2 or pd.api.types.is_numeric_dtype(column.dtype) or time_kind(column):
            continue
        _, wrong = _converted(column.iloc[:20])
        if not wrong[0] or wrong[1:].any():
            continue  # most columns of text, long ones among them, end here
        values, wrong = _converted(column)
        alone = wrong[0] and not wrong[1:].any() and np.isfinite(values[1:]).any()
        if alone and not _remedy(column.iloc[0], column):
            units.append((name, column.iloc[0]))
    if units:
        raise TaskError(
            f"the first row (index {frame.index[0]}) looks like a row of units: column {units[0][0]!r} holds "
            f"{units[0][1]!r} there and numbers below; drop it, for instance by pd.read_csv(..., skiprows=[1])."
        )


def refuse_codes(frame: pd.DataFrame, columns: Sequence[Any]) -> None:
    """Raise a TaskError where text among numbers is a code such as "<0.5", a decimal comma or a date."""
    for name in columns:
        column = frame[name]
        if column.dtype == object and any(isinstance(cell, (int, float)) for cell in column):
            text = first_text(column)
            if text and _remedy(text[0], column):
                as_numbers(column)


def first_text(column: pd.Series) -> tuple[Any, Any] | None:
    """Return the first cell of a column that is not a number, and the label of its row; None where all are numbers."""
    _, wrong = _converted(column)
    if not wrong.any():
        return None
    row = int(np.flatnonzero(wrong)[0])
    return column.iloc[row], column.index[row]


def _converted(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the numbers of a column of objects or text, and a mask of the cells that are neither numbers nor empty."""
    cells = column.astype(object)
    empty = cells.isna() | cells.map(lambda cell: isinstance(cell, str) and cell.strip().lower() in _MISSING)
    readable = cells.map(_may_be_number)
    plain = cells.where(~empty & readable, np.nan)
    values = pd.to_numeric(plain, errors="coerce")
    wrong = values.isna() & ~empty
    return values.to_numpy(dtype=np.float64, na_value=np.nan), wrong.to_numpy(dtype=bool)


def _may_be_number(cell: Any) -> bool:
    """Tell whether pandas can try a cell: it fails on whole numbers beyond floating-point ones."""
    if isinstance(cell, int):
        return abs(cell) < 2**1023
    return isinstance(cell, (str, bytes, Real, Decimal, np.generic))


def _remedy(cell: Any, column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "; encode categories as numbers first, for instance by pandas.get_dummies"
    if isinstance(cell, str) and _BELOW_LIMIT.fullmatch(cell):
        return ": write any number below the limit of quantification, and pass the limit as limit= to the estimator"
    if isinstance(cell, str) and re.fullmatch(r"\s*-?\d+,\d+\s*", cell):
        return "; the option decimal=',' of pd.read_csv reads decimal commas"
    if isinstance(cell, str) and re.search(r"\d[:/-]\d", cell):
        return "; pd.to_datetime makes dates of text, pd.to_timedelta differences of times"
    return ""
