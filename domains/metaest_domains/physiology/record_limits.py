"""Observations that are known to lie below a limit of quantification, above one, or between two numbers.

Three conventions are read. Text such as "<0.5" or ">80" in place of the number. Monolix and nlmixr2: CENS is 1 where
the observation lies below the number in its place, and above LIMIT if there is one; -1 where it lies above the number,
and below LIMIT. CDISC and others: a mark (BLQ and the like) beside a column of the limits (LLOQ, ALLOQ); the number in
place of the observation is then a code.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest import TaskError
from metaest.tasks.with_limits import NO_END
from metaest_domains.physiology.dose_records import LIMIT_COLUMNS
from metaest_domains.physiology.record_sheet import Sheet, is_empty

__all__ = ["Limits", "filled", "limits_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """What is known of the observations of one patient.

    Attributes
    ----------
    lower, lower_from, upper : ndarray of shape (n_records,)
        An observation below `lower` lies below it, and not below `lower_from`; one above `upper` above it. Missing
        where there is none.
    value : ndarray of shape (n_records,)
        A number on the right side of the limit.
    known, flagged : ndarray of bool of shape (n_records,)
        Records known by a limit only; those that are marked so, whether or not they are observations.
    there : tuple of str
        Those of LIMIT_COLUMNS that the frame gives.
    """

    lower: Array
    lower_from: Array
    upper: Array
    value: Array
    known: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    there: tuple[str, ...]

    def columns(self, observed: NDArray[np.bool_]) -> dict[Any, NDArray[Any]]:
        """Return columns of X for observations; missing where an observation has no limit."""
        parts = dict(zip(LIMIT_COLUMNS, (self.lower, self.lower_from, self.upper), strict=True))
        return {name: parts[name][observed] for name in self.there}


def limits_of(sheet: Sheet, possible: NDArray[np.bool_]) -> Limits:
    """Return what limits say of the records of one patient.

    Parameters
    ----------
    sheet : Sheet
    possible : ndarray of bool of shape (n_records,)
        Records that may be observations.

    Raises
    ------
    TaskError
        When a mark and a limit contradict each other, or a limit is missing.
    """
    names, n = sheet.names, len(sheet.at)
    mark, low, high = (names.group(meaning) for meaning in ("below the limit", "lower limit", "upper limit"))
    _refuse_disagreement(sheet, possible)
    seen = sheet.column(names.target)
    lower, upper = (np.full(n, np.nan) if name is None else sheet.reserved(name) for name in (low, high))
    lower_from = np.full(n, np.nan)
    flag = np.zeros(n) if mark is None else _flags(sheet, mark)
    flag = np.where(sheet.written != 0, sheet.written, flag)
    below, above = possible & (flag == 1), possible & (flag == -1)
    if mark is None:
        below, above = (
            below | (possible & (flag == 0) & (seen < lower)),
            above | (possible & (flag == 0) & (seen > upper)),
        )
    by_number = (sheet.written != 0) | (mark == "cens")  # the number is the limit, unless a column gives it
    lower = np.where(below & np.isnan(lower) & by_number, seen, lower)
    upper = np.where(above & np.isnan(upper) & by_number, seen, upper)
    if mark == "cens":
        other = sheet.reserved("limit")
        lower_from = np.where(below, other, np.nan)
        ended = np.flatnonzero(above & ~np.isnan(other))
        if len(ended):  # between the number and LIMIT: below LIMIT, and not below the number
            lower = np.where(above & ~np.isnan(other), other, lower)
            lower_from = np.where(above & ~np.isnan(other), upper, lower_from)
            upper = np.where(above & ~np.isnan(other), np.nan, upper)
            below, above = below | (above & ~np.isnan(other)), above & np.isnan(other)
        sheet.refuse(below & (lower_from >= lower), names.reserved.get("limit"), "it leaves no interval")
    _refuse_contradictions(sheet, mark, (lower, upper), (below, above), possible & (flag == 0))
    value = np.where(below, np.nextafter(lower, -np.inf), np.where(above, np.nextafter(upper, np.inf), seen))
    there = (
        low is not None or bool((flag == 1).any()) or bool(below.any()),
        bool((below & ~np.isnan(lower_from)).any()),
        high is not None or bool(above.any()),
    )
    columns = tuple(name for name, is_there in zip(LIMIT_COLUMNS, there, strict=True) if is_there)
    return Limits(lower, lower_from, upper, value, below | above, flag != 0, columns)


def _refuse_disagreement(sheet: Sheet, possible: NDArray[np.bool_]) -> None:
    """Raise if two marks, or two limits, of one observation differ."""
    for meaning in ("below the limit", "lower limit", "upper limit"):
        present = sheet.names.all_of(meaning)
        for other in present[1:]:
            first = present[0]
            if meaning == "below the limit":
                apart = (_flags(sheet, first) == 1) != (_flags(sheet, other) == 1)
            else:
                apart = np.abs(sheet.reserved(first) - sheet.reserved(other)) > 0
            rows = np.flatnonzero(possible & apart)
            if len(rows):
                raise TaskError(
                    f"{sheet.where}: columns {sheet.names.reserved[first]!r} and {sheet.names.reserved[other]!r} "
                    f"({meaning}) contradict each other in row {sheet.index[rows[0]]}; drop one."
                )


def _flags(sheet: Sheet, mark: str) -> Array:
    """Return 1 where a record is marked as below the limit, -1 as above, 0 elsewhere."""
    column = sheet.names.reserved[mark]
    if mark == "blqfl":
        cells = sheet.cells(mark)
        words = cells.map(lambda cell: cell.strip().upper() if isinstance(cell, str) else cell)
        wrong = np.flatnonzero(~is_empty(cells) & ~words.isin(["Y", "N"]).to_numpy(dtype=bool))
        if len(wrong):
            raise TaskError(
                f"{sheet.where}: column {column!r} is {cells.iloc[wrong[0]]!r} in row {sheet.index[wrong[0]]}: it must "
                "be Y or N."
            )
        return np.asarray((words == "Y").to_numpy(dtype=np.float64))
    flag = np.nan_to_num(sheet.column(column))
    allowed = (0, 1, -1) if mark == "cens" else (0, 1)
    sheet.refuse(~np.isin(flag, allowed), column, f"it must be one of {', '.join(map(str, allowed))}")
    return flag


def _refuse_contradictions(
    sheet: Sheet,
    mark: str | None,
    limits: tuple[Array, Array],
    beyond: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    unmarked: NDArray[np.bool_],
) -> None:
    names, seen = sheet.names, sheet.column(sheet.names.target)
    (lower, upper), (below, above) = limits, beyond
    column = names.target if mark is None else names.reserved[mark]
    for rows, limit, argument in ((below, lower, "LLOQ"), (above, upper, "ULOQ")):
        missing = np.flatnonzero(rows & ~np.isfinite(limit))
        if len(missing):
            row = missing[0]
            raise TaskError(
                f"{sheet.where}: column {column!r} marks row {sheet.index[row]} as known by a limit only, but nothing "
                f"gives the limit; add it in a column {argument}, or by columns={{'{argument}': ...}}."
            )
    if mark is not None:
        for group, wrong, words in (
            ("lower limit", unmarked & (seen < lower), "below"),
            ("upper limit", unmarked & (seen > upper), "above"),
        ):
            name = names.group(group)
            limit = lower if words == "below" else upper
            places = np.flatnonzero(wrong)
            if name is not None and len(places):
                raise TaskError(
                    f"{sheet.where}: {names.target} is {seen[places[0]]:g} in row {sheet.index[places[0]]}, {words} "
                    f"its limit of {limit[places[0]]:g} in column {names.reserved[name]!r}, but column {column!r} does "
                    "not mark it."
                )


def filled(columns: dict[Any, Array], y: Array, names: tuple[str, ...] = LIMIT_COLUMNS) -> dict[Any, Array]:
    """Return columns of limits with a number in every row: where none is known, one that the observation is not beyond.

    Parameters
    ----------
    columns : dict of str to ndarray of shape (n_rows,)
        Missing where an observation has no limit.
    y : ndarray of shape (n_rows,)
    names : tuple of str
        The columns to fill.
    """
    complete = dict(columns)
    for name in names:
        if name not in columns:
            continue
        values, upper = columns[name], name == "uloq"
        missing = np.isnan(values)
        if name == "lloq_from":  # no lower end
            complete[name] = np.where(missing, NO_END, values)
            continue
        beside = np.nextafter(y, np.inf if upper else -np.inf)
        if not missing.all():
            usual = np.nanmax(values) if upper else np.nanmin(values)
            beside = np.maximum(usual, beside) if upper else np.minimum(usual, beside)
        complete[name] = np.where(missing, beside, values)
    return complete
