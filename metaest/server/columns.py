"""The columns of a model, and rows of a request as an array with these columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.server.errors import Refused

__all__ = ["Column", "Columns", "read_numbers"]

_NUMBERS = frozenset((int, float))
_KINDS = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", dict: "an object"}


@dataclass(frozen=True)
class Column:
    """A column of X, or the target.

    Attributes
    ----------
    name : str
    unit, description : str
        Empty where nobody stated them.
    minimum, maximum : float or None
        Values beyond them are refused.
    training : tuple of float or None
        Smallest and largest value in the training tasks; values beyond them are warned of.
    """

    name: str
    unit: str = ""
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    training: tuple[float, float] | None = None

    @classmethod
    def of(cls, name: str, stated: Mapping[str, Any], training: tuple[float, float] | None = None) -> "Column":
        """Make a column of what the operator states of it, and of what the model knows."""
        allowed = ("unit", "description", "minimum", "maximum")
        for key, value in stated.items():
            if key not in allowed:
                raise ValueError(f"columns: {name!r} has {key!r}; it may have {', '.join(allowed)}.")
            right = str if key in allowed[:2] else (int, float)
            if not isinstance(value, right) or isinstance(value, bool):
                raise TypeError(f"columns: {key} of {name!r} must be a {'string' if right is str else 'number'}.")
        return cls(name, **stated, training=training)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value."""
        parts = [self.description] if self.description else []
        parts += [f"Unit: {self.unit}"] if self.unit else []
        if self.training is not None:
            parts.append("In the training tasks between {:g} and {:g}".format(*self.training))
        words = ". ".join(parts)
        schema: dict[str, Any] = {"type": "number"}
        for key, value in (("minimum", self.minimum), ("maximum", self.maximum), ("description", words or None)):
            if value is not None:
                schema[key] = value
        return schema

    def describe(self) -> dict[str, Any]:
        """Return a description of the column."""
        training = None if self.training is None else list(self.training)
        bounds = {"minimum": self.minimum, "maximum": self.maximum, "training": training}
        return {"name": self.name, "unit": self.unit, **bounds}

    def require(self, values: NDArray[np.float64], field: str, column: str | int | None) -> None:
        """Raise where a value, of shape (n_rows,), is out of bounds."""
        low = -np.inf if self.minimum is None else self.minimum
        high = np.inf if self.maximum is None else self.maximum
        outside = np.flatnonzero((values < low) | (values > high))
        if len(outside):
            row, unit = int(outside[0]), f" {self.unit}" if self.unit else ""
            bounds = f"it must lie between {low:g} and {high:g}"
            raise Refused(
                "invalid",
                f"{field}: {self.name} is {values[row]:g}{unit} in row {row}; {bounds}.",
                field=field,
                row=row,
                column=column,
            )


@dataclass(frozen=True)
class Columns:
    """The columns of X.

    Attributes
    ----------
    columns : sequence of Column
    named : bool
        Whether the model was fitted on named columns: rows may then be objects.
    further : bool
        Whether the model takes columns beyond those of the fit, such as further doses.
    max_rows : int
    """

    columns: Sequence[Column]
    named: bool
    further: bool
    max_rows: int

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    def key(self, j: int) -> str | int:
        """Return what an error calls a column."""
        return self.columns[j].name if self.named else j

    def read(self, rows: Any, field: str) -> NDArray[np.float64] | pd.DataFrame:
        """Return rows as an array of shape (n_rows, n_columns), or as a frame where there are further columns.

        Raises
        ------
        Refused
            When they are not rows with the columns of the model and numbers inside their bounds.
        """
        if type(rows) is not list:
            raise Refused("invalid", f"{field} must be an array of rows.", field=field)
        if len(rows) > self.max_rows:
            raise Refused("too_many", f"{field} has {len(rows)} rows; at most {self.max_rows} are taken.", field=field)
        if not rows:
            return np.empty((0, len(self.columns)))
        names: list[str] | None = None
        if type(rows[0]) is dict:
            names = self._names_of(rows, field)
            rows = [[row[name] for name in names] for row in rows]
        else:
            self._require_arrays(rows, field)
        keys = self.names if names is None and self.named else names
        array = read_numbers(rows, field, keys)
        for j, column in enumerate(self.columns):
            if column.minimum is not None or column.maximum is not None:
                column.require(array[:, j], field, self.key(j))
        if names is not None and len(names) > len(self.columns):
            return pd.DataFrame(array, columns=names)
        return array

    def beyond(self, rows: Any, field: str) -> list[str]:
        """Return what is to be said of values beyond those of the training tasks, a sentence for each column."""
        array = rows.iloc[:, : len(self.columns)].to_numpy() if isinstance(rows, pd.DataFrame) else rows
        if not len(array) or not self.is_beyond(array):
            return []
        said = []
        for j, column in enumerate(self.columns):
            low, high = column.training or (-np.inf, np.inf)
            rows_beyond = np.flatnonzero((array[:, j] < low) | (array[:, j] > high))
            if len(rows_beyond):
                row = int(rows_beyond[0])
                said.append(
                    f"{field}: {column.name} is {array[row, j]:g} in row {row}; in the training tasks it lies between "
                    f"{low:g} and {high:g}."
                )
        return said

    def is_beyond(self, array: NDArray[Any]) -> bool:
        """Tell whether a value is beyond those of the training tasks."""
        ends = self._ends
        return ends is not None and bool(((array < ends[0]) | (array > ends[1])).any())

    @cached_property
    def _ends(self) -> NDArray[np.float64] | None:
        ranges = [column.training for column in self.columns]
        return None if None in ranges else np.array(ranges).T

    def _names_of(self, rows: list[Any], field: str) -> list[str]:
        """Return the columns of rows that are objects, those of the model first."""
        if not self.named:
            raise Refused(
                "invalid",
                f"{field}: the model was fitted on columns without names; rows are arrays of numbers in the order of "
                "the fit.",
                field=field,
                row=0,
            )
        names = self.names
        wanted = frozenset(names)
        keys = wanted | rows[0].keys() if self.further else wanted
        for i, row in enumerate(rows):
            if type(row) is not dict:
                raise Refused("invalid", f"{field}: row 0 is an object; row {i} is not.", field=field, row=i)
            if row.keys() == keys:
                continue
            for name in (*names, *keys):
                if name not in row:
                    raise Refused("invalid", f"{field}: row {i} has no {name!r}.", field=field, row=i, column=name)
            more = next(name for name in row if name not in keys)
            others = "row 0" if self.further else "the model"
            raise Refused(
                "invalid",
                f"{field}: row {i} has {_short(more)}, which is no column of {others}.",
                field=field,
                row=i,
                column=more[:100],
            )
        return [*names, *(name for name in rows[0] if name not in wanted)]

    def _require_arrays(self, rows: list[Any], field: str) -> None:
        d = len(self.columns)
        for i, row in enumerate(rows):
            if type(row) is not list or len(row) != d:
                got = f"{len(row)} numbers" if type(row) is list else _kind(row)
                objects = " or an object by column" if self.named and i == 0 else ""
                raise Refused(
                    "invalid",
                    f"{field}: row {i} must be an array of {d} numbers{objects}, got {got}.",
                    field=field,
                    row=i,
                )


def read_numbers(rows: list[Any], field: str, keys: Sequence[str] | None) -> NDArray[np.float64]:
    """Return lists of one length as an array of finite numbers; `keys` are what errors call the columns."""
    for i, row in enumerate(rows):
        if not _NUMBERS.issuperset(map(type, row)):
            j = next(j for j, value in enumerate(row) if type(value) not in _NUMBERS)
            raise _at(field, i, j, keys, f"is {_kind(row[j])}; a number is wanted")
    try:
        array = np.array(rows, dtype=np.float64)
    except OverflowError:
        array = np.array([[_as_float(value) for value in row] for row in rows])
    if not np.isfinite(array).all():
        i, j = (int(place) for place in np.argwhere(~np.isfinite(array))[0])
        raise _at(field, i, j, keys, "is too large a number")
    return array


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _at(field: str, row: int, j: int, keys: Sequence[str] | None, what: str) -> Refused:
    key: str | int | None = j if keys is None else keys[j] if keys else None
    name = "" if key is None else f", column {key!r}"
    return Refused("invalid", f"{field}: row {row}{name} {what}.", field=field, row=row, column=key)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


def _short(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "...")
