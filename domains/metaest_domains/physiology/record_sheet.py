"""The records of one patient as columns of numbers, in order of time, and of resets where there are any."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import TaskError
from metaest.tasks.columns import as_numbers, refuse_booleans
from metaest.tasks.times import elapsed, time_kind
from metaest_domains.physiology.record_columns import ALIKE, DAYS, NO_VALUE, OCCASIONS, Names
from metaest_domains.physiology.record_times import record_times

__all__ = ["Sheet", "is_empty"]

# columns whose cells may be text
_TEXT = {*ALIKE, *NO_VALUE, *OCCASIONS, *DAYS, "blqfl"}
# text of an empty cell in exports of NONMEM, R, SAS and spreadsheets
_NOTHING = {"", ".", "na", "nan", "n/a", "null", "none", "<na>"}
# text in place of an observation that says that it lies below or above a limit
_BEYOND = re.compile(r"\s*([<>])\s*=?\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*")
_WORDS = {"blq": 1.0, "bql": 1.0, "bloq": 1.0, "<lloq": 1.0, "<loq": 1.0, "aloq": -1.0, ">uloq": -1.0}


def is_empty(cells: pd.Series) -> NDArray[np.bool_]:
    """Return which cells hold nothing, or the code of a missing value."""
    empty = cells.isna() | cells.map(lambda cell: isinstance(cell, str) and cell.strip().lower() in _NOTHING)
    return empty.to_numpy(dtype=bool)


@dataclass(frozen=True)
class Sheet:
    """The records of one patient, in order.

    Attributes
    ----------
    frame : DataFrame
        The records as they were written.
    numbers : dict of str to ndarray of shape (n_records,)
        Columns that hold numbers.
    at : ndarray of shape (n_records,)
        Times of the records; they go on after a reset at which the clock of the file starts anew.
    written : ndarray of shape (n_records,)
        1 where the observation is text such as "<0.5" or BLQ, -1 where it is text such as ">80", 0 elsewhere.
    event : ndarray of shape (n_records,)
        EVID, or what PARAMCD says of it; missing where neither does.
    names : Names
    where : str
        How error messages begin.
    anew : label of a row or None
        Where the times of the file start anew, and a dose begins each such run of rows, without a reset.
    """

    frame: pd.DataFrame
    numbers: dict[Any, NDArray[np.float64]]
    at: NDArray[np.float64]
    written: NDArray[np.float64]
    event: NDArray[np.float64]
    names: Names
    where: str
    anew: Any = None

    @classmethod
    def of(cls, frame: pd.DataFrame, names: Names, where: str) -> "Sheet":
        """Read the columns of the records of one patient."""
        lengths = {names.duration, *(names.reserved.get(name) for name in ("ii", "dur", "duration", "tinf", "dosedur"))}
        for name in (names.time, names.dose, names.target, names.duration):
            if name is not None:
                refuse_booleans(frame[name], where)
        numeric = [name for name in names.numeric if name != names.time]
        numeric += [column for name, column in names.reserved.items() if name not in _TEXT]
        numbers = {}
        written = np.zeros(len(frame))
        for name in numeric:
            if name == names.target:
                numbers[name], written = _read_observations(frame[name], where)
            elif name in lengths and time_kind(frame[name]) == "time differences":
                numbers[name] = elapsed(frame[name], names.time_unit, f"{where}: column {name!r}")
            else:
                numbers[name] = as_numbers(frame[name], where)
        at = record_times(frame, names, where)
        event = _events(frame, numbers, names, where)
        given = (numbers[names.dose] > 0) & ~np.isin(event, (0, 2, 3))
        anew = _starts_anew(at, given, ~given & ~np.isnan(numbers[names.target]), frame.index)
        anew = None if np.isin(event, (3, 4)).any() else anew
        order, at = _in_order(at, event, frame.index, names, where)
        sorted_numbers = {name: values[order] for name, values in numbers.items()}
        return cls(frame.iloc[order], sorted_numbers, at, written[order], event[order], names, where, anew)

    @property
    def index(self) -> pd.Index:
        """Labels of the rows."""
        return self.frame.index

    @property
    def event_column(self) -> Any:
        """The column that tells doses from observations."""
        return self.names.reserved.get("evid", self.names.reserved.get("paramcd"))

    @property
    def duration_column(self) -> Any:
        """The column of durations, by its argument or by its name; None if there is none."""
        named = self.names.duration
        by_name = self.names.group("duration")
        return named if named is not None or by_name is None else self.names.reserved[by_name]

    @property
    def lasting(self) -> NDArray[np.float64]:
        """Durations as they are written."""
        return self.column(self.duration_column)

    def amount(self) -> NDArray[np.float64]:
        """Return the amounts of doses; missing in observations that only say to which dose they belong."""
        amount = self.column(self.names.dose)
        return np.where(np.isin(self.event, (1, 4)), amount, np.nan) if self.names.associated else amount

    def column(self, name: Any) -> NDArray[np.float64]:
        """Return a column of numbers, or missing values if the frame has no such column."""
        return self.numbers.get(name, np.full(len(self.at), np.nan))

    def reserved(self, name: str) -> NDArray[np.float64]:
        """Return the column with a reserved name, or missing values if the frame has no such column."""
        return self.column(self.names.reserved.get(name))

    def cells(self, name: str) -> pd.Series:
        """Return the cells of a column with a reserved name as they were written."""
        cells: pd.Series = self.frame[self.names.reserved[name]]
        return cells

    def refuse(
        self, wrong: NDArray[np.bool_], column: Any, why: str, values: NDArray[np.float64] | None = None
    ) -> None:
        """Raise an error for the first of the rows that are wrong."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            value = (self.column(column) if values is None else values)[rows[0]]
            raise TaskError(f"{self.where}: column {column!r} is {value:g} in row {self.index[rows[0]]}: {why}.")


def _read_observations(column: pd.Series, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return observations as numbers, and which of them are text that says that they lie beyond it, or a limit."""
    written = np.zeros(len(column))
    if pd.api.types.is_numeric_dtype(column.dtype):
        return as_numbers(column, where), written
    plain = column.astype(object).copy()
    for place, cell in enumerate(column):
        match = _BEYOND.fullmatch(cell) if isinstance(cell, str) else None
        word = cell.strip().lower().replace(" ", "") if isinstance(cell, str) else ""
        if match is not None:
            written[place] = 1.0 if match.group(1) == "<" else -1.0
            plain.iloc[place] = match.group(2)
        elif word in _WORDS:
            written[place] = _WORDS[word]
            plain.iloc[place] = None
    return as_numbers(plain, where), written


def _events(
    frame: pd.DataFrame, numbers: dict[Any, NDArray[np.float64]], names: Names, where: str
) -> NDArray[np.float64]:
    """Return the kind of event of each record, missing where nothing says it."""
    evid, kinds = names.reserved.get("evid"), names.reserved.get("paramcd")
    event = np.full(len(frame), np.nan)
    if evid is not None:
        event = numbers[evid]
        unknown = np.flatnonzero(~np.isnan(event) & ~np.isin(event, (0, 1, 2, 3, 4)))
        if len(unknown):
            raise TaskError(
                f"{where}: column {evid!r} is {event[unknown[0]]:g} in row {frame.index[unknown[0]]}: it must be 0 (an "
                "observation), 1 (a dose), 2 (another event), 3 (a reset) or 4 (a reset and a dose)."
            )
    elif kinds is not None:
        words = frame[kinds].map(lambda cell: isinstance(cell, str) and cell.strip().upper() == "DOSE")
        event = words.to_numpy(dtype=bool).astype(np.float64)
    if names.associated and np.isnan(event).any():
        raise TaskError(
            f"{where}: column {names.dose!r} stands in doses and in observations, and nothing tells them apart in row "
            f"{frame.index[np.isnan(event)][0]}; add a column EVID, or PARAMCD with DOSE in doses."
        )
    return event


def _starts_anew(
    at: NDArray[np.float64], given: NDArray[np.bool_], observed: NDArray[np.bool_], index: pd.Index
) -> Any:
    """Return the first row at which times fall, if all runs of rising times begin with a dose and have observations."""
    falls = np.flatnonzero(np.diff(at) < 0) + 1
    runs = np.split(np.arange(len(at)), falls)
    whole = len(falls) > 0 and all(given[run[0]] and observed[run].any() for run in runs)
    return index[falls[0]] if whole else None


def _in_order(
    at: NDArray[np.float64], event: NDArray[np.float64], index: pd.Index, names: Names, where: str
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order of the records, and their times in this order.

    Without resets that is the order of times; of records at one time the upper one comes first. A reset parts the rows
    above it from those below it. Where the times of the lower ones start anew, they go on from the last one above.
    """
    starts = np.flatnonzero(np.isin(event, (3, 4)))
    order: list[NDArray[np.intp]] = []
    times: list[NDArray[np.float64]] = []
    last = -np.inf
    for rows in np.split(np.arange(len(at)), starts):
        if not len(rows):
            continue
        piece = rows[np.argsort(at[rows], kind="stable")]
        if rows[0] in starts and at[rows[0]] > at[piece[0]]:
            raise TaskError(
                f"{where}: row {index[piece[0]]} is earlier ({at[piece[0]]:g}) than the reset above it, in row "
                f"{index[rows[0]]} ({at[rows[0]]:g} in column {names.time!r}); write rows in order of time where a "
                "patient has resets."
            )
        # the reset comes first among the records of its time
        piece = np.concatenate([rows[:1], piece[piece != rows[0]]]) if rows[0] in starts else piece
        shift = max(0.0, last - at[piece[0]]) if order else 0.0
        order.append(piece)
        times.append(at[piece] + shift)
        last = times[-1][-1]
    return np.concatenate(order), np.concatenate(times)
