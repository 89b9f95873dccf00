"""Read the records of one patient, in the form that NONMEM, nlmixr2, Monolix and CDISC share.

Columns that change the meaning of a record (EVID, MDV, ADDL, II, RATE, SS and others) are read wherever they are in a
frame; what cannot be obeyed is refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import TaskError
from metaest.exceptions import warn
from metaest_domains.physiology.dose_records import is_given, written_out
from metaest_domains.physiology.record_columns import (
    ALIKE,
    KEPT,
    NO_VALUE,
    OCCASIONS,
    PATIENT_COLUMNS,
    Names,
    names_a_patient,
)
from metaest_domains.physiology.record_limits import limits_of
from metaest_domains.physiology.record_sheet import Sheet, is_empty

__all__ = ["Records", "one_patient", "read_records", "require_one_kind", "require_usual_compartment", "warn_of_rest"]

Array = NDArray[np.float64]
# words for the central compartment
_CENTRAL = ("central", "cent", "centre", "plasma", "blood")


@dataclass(frozen=True)
class Records:
    """Doses and observations of one patient, each in order of time.

    Attributes
    ----------
    time : ndarray of shape (n_doses,)
        Times of doses and resets, further doses included.
    fields : dict of str to ndarray of shape (n_doses,)
        What else is known of each: amount, duration, interval, steady, compartment, rate and reset, as a regimen has
        them; compartments as they are written.
    written_rate : ndarray of shape (n_doses,)
        Rates of infusions as they are written, from which durations follow; 0 where none is.
    place : ndarray of shape (n_doses,)
        Position among the records sorted by time; infinite for further doses, which have no record.
    seen_time, seen, seen_place : ndarray of shape (n_observations,)
        Times, values and positions of observations.
    kept : dict of str to ndarray of shape (n_observations,)
        Further columns of observations: output, occasion, limits.
    covariates : dict of str to float, or (times, values)
    marks : dict
        Values of each column that must be the same in all doses, or in all observations of one output.
    empty : list
        Index labels of records with neither a dose nor an observation.
    anew : label of a row or None
        Where times start anew with a dose, without a reset.
    left_out : list
        Index labels of observations below the limit of quantification that MDV leaves out.
    """

    time: Array
    fields: dict[str, Array]
    written_rate: Array
    place: Array
    seen_time: Array
    seen: Array
    seen_place: Array
    kept: dict[Any, NDArray[Any]]
    covariates: dict[Any, Any]
    marks: dict[tuple[str, str, Any], set[Any]]
    empty: list[Any]
    left_out: list[Any]
    anew: Any

    @property
    def twice(self) -> tuple[float, float] | None:
        """Amount and time of a dose that occurs twice, or None."""
        place = self.fields["compartment"]
        given = np.flatnonzero(self.fields["amount"] > 0)
        order = given[np.lexsort((self.fields["amount"][given], place[given], self.time[given]))]
        alike = [np.diff(part[order]) == 0 for part in (self.fields["amount"], place)]
        same = np.flatnonzero((np.diff(self.time[order]) <= 1e-9 * self.time[-1]) & alike[0] & alike[1])
        return (float(self.fields["amount"][order[same[0]]]), float(self.time[order[same[0]]])) if len(same) else None

    @property
    def by_compartment(self) -> bool:
        """Whether a dose enters another compartment than the first."""
        return bool((self.fields["compartment"] > 1).any())

    def counted(self) -> NDArray[np.bool_]:
        """Return which doses were given before each observation, of shape (n_observations, n_doses)."""
        # records at the same time are in order of their rows: a sample above a dose was taken before it
        before = self.time < self.seen_time[:, None]
        above = self.place < self.seen_place[:, None]
        return np.asarray(before | ((self.time == self.seen_time[:, None]) & above))


def one_patient(frame: pd.DataFrame, patient: Any, read: Iterable[Any]) -> list[Any]:
    """Return the columns that identify the patient; raise if the records belong to several patients.

    Parameters
    ----------
    frame : DataFrame
    patient : str or None
        The column; None looks for usual names (patient, ID, subject, USUBJID ...).
    read : iterable
        Columns with another meaning.
    """
    usual: list[Any] = [patient]
    levels: list[Any] = []
    if patient is None:
        taken = list(read)
        usual = [column for column in frame.columns if names_a_patient(column) and column not in taken]
        levels = [level for level in frame.index.names if names_a_patient(level)]
    for column in [*usual, *levels]:
        labels = frame[column] if column in usual else frame.index.get_level_values(column)
        values = pd.Series(labels).drop_duplicates().tolist()
        if len(values) > 1:
            raise TaskError(
                f"the frame holds records of {len(values)} patients (column {column!r}: "
                f"{', '.join(map(repr, values[:3]))}{' ...' * (len(values) > 3)}); pass those of one patient, for "
                f"instance frame[frame[{column!r}] == {values[0]!r}], or read all with read_patients."
            )
    return usual


def read_records(frame: pd.DataFrame, names: Names, where: str) -> Records:
    """Read the records of one patient.

    Raises
    ------
    TaskError
        When a record is contradictory, or not supported by these models; the message names patient, column and row.
    """
    sheet = Sheet.of(frame, names, where)
    at, amount, seen = sheet.at, sheet.amount(), sheet.column(names.target)
    _refuse_impossible(sheet, amount, seen)
    _refuse_unread(sheet)
    rate, durations = _infusions(sheet, amount)
    steady = _steady(sheet, amount, rate)
    plateau = np.isin(sheet.event, (1, 4)) & (amount == 0) & is_given(amount, steady, rate)
    given = (amount > 0) | plateau
    limits = limits_of(sheet, ~given & ~np.isin(sheet.event, (1, 2, 3, 4)) & ~(sheet.reserved("mdv") == 1))
    observed = _observed(sheet, given, seen, limits.known)
    reset = np.isin(sheet.event, (3, 4))
    number, interval = _further(sheet, given, steady)
    rows = np.flatnonzero(given | reset)
    if not given.any():
        raise TaskError(f"{where}: column {names.dose!r} has no dose above 0.")
    restart = (reset | (steady == 1))[rows]
    times, record, count = written_out(at[rows], interval[rows], 1 + number[rows], restart)
    first = count == 0
    fields = {"amount": np.nan_to_num(amount), "duration": durations, "rate": np.where(plateau, rate, 0.0)}
    fields |= {"steady": steady, "interval": interval, "reset": reset.astype(np.float64)}
    fields = {name: values[rows][record] for name, values in fields.items()}
    fields |= {name: np.where(first, fields[name], 0.0) for name in ("steady", "reset")}
    fields["interval"] = np.where(fields["steady"] > 0, fields["interval"], 0.0)
    fields["compartment"] = _compartments(sheet, given)[rows][record]
    nothing = np.isnan(amount) & np.isnan(seen) & ~observed & ~(sheet.reserved("mdv") == 1)
    return Records(
        time=times,
        fields=fields,
        written_rate=rate[rows][record],
        place=np.where(first, rows[record], np.inf).astype(np.float64),
        seen_time=at[observed],
        seen=np.where(limits.known, limits.value, seen)[observed],
        seen_place=np.flatnonzero(observed).astype(np.float64),
        kept={**_kept(sheet, observed), **limits.columns(observed)},
        covariates=_covariates(sheet),
        marks=_marks(sheet, given, observed),
        empty=sheet.index[nothing & ~np.isin(sheet.event, (2, 3))].tolist(),
        left_out=sheet.index[limits.flagged & (sheet.reserved("mdv") == 1) & ~given].tolist(),
        anew=sheet.anew,
    )


def _refuse_impossible(sheet: Sheet, amount: Array, seen: Array) -> None:
    """Refuse negative and infinite numbers, and doses in rows that are none."""
    names, lasting = sheet.names, sheet.lasting
    sheet.refuse(sheet.at < 0, names.time, "it cannot be negative; count times from the first record", sheet.at)
    for column, values in ((names.dose, amount), (sheet.duration_column, lasting)):
        sheet.refuse(values < 0, column, "it cannot be negative", values)
    for column, values in ((names.dose, amount), (names.target, seen), (sheet.duration_column, lasting)):
        sheet.refuse(np.isinf(values), column, "it must be finite", values)
    event, given = sheet.event, amount > 0
    sheet.refuse(~given & (lasting > 0), sheet.duration_column, "a duration requires a dose, but the row has none")
    evid = sheet.event_column
    words = {0: "an observation", 2: "another event", 3: "a reset without a dose"}
    for value, what in words.items():
        sheet.refuse((event == value) & given, evid, f"{what}, but the row has a dose in column {names.dose!r}", event)
    is_dose = np.isin(event, (1, 4))
    sheet.refuse(is_dose & np.isnan(amount), evid, f"a dose, but column {names.dose!r} is empty", event)
    missing, mdv = sheet.reserved("mdv"), names.reserved.get("mdv")
    sheet.refuse(~np.isnan(missing) & (missing != 0) & (missing != 1), mdv, "it must be 0 or 1")
    wrong = (missing == 0) & (given | is_dose)
    sheet.refuse(wrong, mdv, "an observation, but the row is a dose, which has MDV 1")
    cmt = names.reserved.get("cmt")
    if cmt is not None:
        numbers = pd.to_numeric(sheet.cells("cmt"), errors="coerce").to_numpy(dtype=np.float64)
        sheet.refuse(numbers < 0, cmt, "a compartment that is turned off, which is not implemented", numbers)


def _refuse_unread(sheet: Sheet) -> None:
    """Refuse columns of which nothing is made, unless they are empty or 0, and occasions that nobody asked for."""
    names = sheet.names
    for name, remedy in NO_VALUE.items():
        if name not in names.reserved:
            continue
        cells = sheet.cells(name)
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        zero_is_none = name not in ("l1", "l2", "dtype", "c")
        wrong = np.flatnonzero(~is_empty(cells) & ~(zero_is_none & (numbers == 0)))
        if len(wrong):
            raise TaskError(
                f"{sheet.where}: column {names.reserved[name]!r} is {cells.iloc[wrong[0]]} in row "
                f"{sheet.index[wrong[0]]}: {PATIENT_COLUMNS.reserved[name]}, which is not read; {remedy}."
            )
    groups = np.zeros(len(sheet.at)) if names.occasion is None else pd.factorize(sheet.frame[names.occasion])[0]
    for name in OCCASIONS:
        if name not in names.reserved:
            continue
        cells, column = sheet.cells(name), names.reserved[name]
        present = ~is_empty(cells)
        for group in np.unique(groups):
            values = pd.unique(cells[present & (groups == group)])
            if len(values) > 1:
                raise TaskError(
                    f"{sheet.where}: column {column!r} ({PATIENT_COLUMNS.reserved[name]}) is {values[0]} and "
                    f"{values[1]}; pass occasion={column!r}, which keeps it as the column 'occasion' of X, so that "
                    "constants may differ between occasions, or drop it if they do not."
                )


def _infusions(sheet: Sheet, amount: Array) -> tuple[Array, Array]:
    """Return rates as they are written, and the durations of doses that follow from these or are written."""
    column = sheet.names.reserved.get("rate")
    rate = np.nan_to_num(sheet.column(column))
    lasting = sheet.lasting
    durations = np.nan_to_num(lasting)
    for value, what in ((-1, "a rate"), (-2, "a duration")):
        remedy = f"{what} that is estimated is not implemented; write the rate"
        sheet.refuse(rate == value, column, f"{remedy}, or 0 and a column of durations", rate)
    sheet.refuse(rate < 0, column, "it cannot be negative", rate)
    ended = (rate > 0) & ~(amount > 0) & ~(np.nan_to_num(sheet.reserved("ss")) > 0)
    sheet.refuse(ended, column, "a rate requires a dose, but the row has none", rate)
    by_rate = np.divide(amount, rate, out=durations.copy(), where=(rate > 0) & (amount > 0))
    differs = (rate > 0) & ~np.isnan(lasting) & ~np.isclose(by_rate, durations)
    why = f"not the dose divided by the duration in column {sheet.duration_column!r}; keep one"
    sheet.refuse(differs, column, why, rate)
    return rate, by_rate


def _steady(sheet: Sheet, amount: Array, rate: Array) -> Array:
    """Return 1 or 2 for doses at steady state."""
    column, values = sheet.names.reserved.get("ss"), sheet.reserved("ss")
    steady = np.nan_to_num(values)
    sheet.refuse(~np.isin(steady, (0, 1, 2)), column, "it must be 0, 1 (steady state) or 2 (added to what is there)")
    is_dose = (amount > 0) | (np.isin(sheet.event, (1, 4)) & (rate > 0))
    sheet.refuse((steady > 0) & ~is_dose, column, "a steady state requires a dose, but the row has none")
    interval = np.nan_to_num(sheet.reserved("ii"))
    endless = (amount == 0) & (rate > 0)
    why = "a steady state needs the time between doses, above 0, in a column II"
    sheet.refuse((steady > 0) & ~(interval > 0) & ~endless, column, why)
    return steady


def _observed(sheet: Sheet, given: NDArray[np.bool_], seen: Array, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of the records that are observations, by EVID and MDV if there are such columns."""
    target = sheet.names.target
    is_observation = ~np.isin(sheet.event, (1, 2, 3, 4)) & (sheet.reserved("mdv") != 1)
    observed: NDArray[np.bool_] = is_observation & (~np.isnan(seen) | known)
    if "evid" not in sheet.names.reserved and "mdv" not in sheet.names.reserved:
        placeholder = given & observed & (seen == 0)  # as NM-TRAN takes it: a dose has no observation
        observed = observed & ~placeholder if not (given & observed & ~placeholder).any() else observed
    both = np.flatnonzero(given & observed)
    if len(both):
        zero = f"; if the 0 stands for no value, leave {target} empty or add a column MDV" if not seen[both[0]] else ""
        raise TaskError(
            f"{sheet.where}: row {sheet.index[both[0]]} has a dose and a {target} ({seen[both[0]]:g}); write "
            f"two rows, the {target} first if it was taken before the dose{zero}."
        )
    return observed


def _further(sheet: Sheet, given: NDArray[np.bool_], steady: Array) -> tuple[Array, Array]:
    """Return the number of further doses of each record, and the time between them."""
    addl = sheet.names.reserved.get("addl")
    ii = sheet.names.reserved.get("ii")
    number = np.nan_to_num(sheet.column(addl))
    gap = np.nan_to_num(sheet.column(ii))
    whole = (number >= 0) & (number == np.round(number)) & np.isfinite(number)
    sheet.refuse(~whole, addl, "it must be a whole number of further doses, at least 0")
    sheet.refuse((number > 0) & ~given, addl, "further doses require a dose, but the row has none")
    sheet.refuse((number > 0) & ~(gap > 0), addl, "further doses need the time between them, above 0, in a column II")
    alone = (gap != 0) & ~(number > 0) & ~(steady > 0)
    why = "the time between further doses, but their number, ADDL, is 0 or missing, and SS says of no steady state"
    sheet.refuse(alone, ii, why)
    return number, gap


def _compartments(sheet: Sheet, given: NDArray[np.bool_]) -> Array:
    """Return the compartments of doses; 0 where none is written, or where it has a name."""
    if "cmt" not in sheet.names.reserved:
        return np.zeros(len(sheet.at))
    cells = sheet.cells("cmt")
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    column, words = sheet.names.reserved["cmt"], given & np.isnan(numbers) & ~is_empty(cells)
    several = pd.unique(cells[words].map(str.strip)) if words.any() else []
    if len(several) > 1 or (len(several) and (numbers[given] > 0).any()):
        other = several[1] if len(several) > 1 else f"{numbers[given & (numbers > 0)][0]:g}"
        raise TaskError(
            f"{sheet.where}: column {column!r} is {several[0]!r} and {other!r} for doses; write the numbers of these "
            "compartments, 1 for the depot of oral doses and 2 for the central one."
        )
    wrong = given & (numbers != np.round(numbers)) & ~np.isnan(numbers)
    sheet.refuse(wrong, column, "it must be the number of a compartment", numbers)
    return np.asarray(np.nan_to_num(numbers))


def _kept(sheet: Sheet, observed: NDArray[np.bool_]) -> dict[Any, NDArray[Any]]:
    """Return the outputs and occasions of observations, by their columns of X."""
    kept = {}
    for argument, name in KEPT.items():
        column = getattr(sheet.names, argument)
        if column is None:
            continue
        cells = sheet.frame[column]
        missing = np.flatnonzero(observed & is_empty(cells))
        if len(missing):
            raise TaskError(
                f"{sheet.where}: column {column!r} is missing in row {sheet.index[missing[0]]}: every observation "
                f"needs its {argument}."
            )
        values = cells[observed]
        numbers = pd.to_numeric(values, errors="coerce")
        kept[name] = (numbers if numbers.notna().all() else values.astype(object)).to_numpy()
    return kept


def _marks(sheet: Sheet, given: NDArray[np.bool_], observed: NDArray[np.bool_]) -> dict[tuple[str, str, Any], set[Any]]:
    """Return the values of columns of ALIKE, in doses, and in observations of each output; 0 counts as missing."""
    marks: dict[tuple[str, str, Any], set[Any]] = {}
    output = sheet.names.output
    outputs = np.full(len(given), None) if output is None else sheet.frame[output].astype(object).to_numpy()
    for name, kind in ALIKE.items():
        if name not in sheet.names.reserved:
            continue
        cells = sheet.cells(name)
        numbers = pd.to_numeric(cells, errors="coerce").astype(object)
        values = numbers.where(numbers.notna(), cells.astype(object)).to_numpy()
        rows = {"doses": given, "observations": observed, "records": given | observed}[kind]
        for row in np.flatnonzero(rows & ~is_empty(cells)):
            value = values[row]
            if value != 0:
                key = name, kind, outputs[row] if kind == "observations" else None
                marks.setdefault(key, set()).add(value.strip() if isinstance(value, str) else float(value))
    return marks


def require_usual_compartment(records: Mapping[Any, Records], names: Names) -> None:
    """Raise if all doses enter one compartment, which has another number than 1.

    Programs number compartments as each model has them: 2 is the central one beside a depot, and a peripheral one
    without. Where all doses enter one compartment, it is the usual one of the model's route.
    """
    numbers = {float(number) for read in records.values() for number in read.fields["compartment"]}
    if len(numbers) == 1 and (number := numbers.pop()) > 1:
        column = names.reserved["cmt"]
        raise TaskError(
            f"task {next(iter(records))!r}: all doses enter compartment {number:g} (column {column!r}), which is the "
            "central one in some models and a peripheral one in others; drop the column, and choose the route of the "
            "model: doses of route='iv' enter the central compartment."
        )


def require_one_kind(marks: Mapping[Any, Mapping[tuple[str, str, Any], set[Any]]], names: Names) -> None:
    """Raise if doses, or observations of one output, are of several kinds, within a patient or between patients.

    Parameters
    ----------
    marks : dict of patients to `Records.marks`
    names : Names
    """
    first: dict[tuple[str, str, Any], tuple[Any, Any]] = {}
    for patient, marks_of_patient in marks.items():
        for key, values in marks_of_patient.items():
            for value in sorted(values, key=str):
                before, usual = first.setdefault(key, (patient, value))
                if value != usual:
                    raise TaskError(_several_kinds(names, key, (patient, value), (before, usual)))


def _several_kinds(names: Names, key: tuple[str, str, Any], now: tuple[Any, Any], before: tuple[Any, Any]) -> str:
    name, kind, output = key
    column = names.reserved[name]
    shown, usually = (f"{mark:g}" if isinstance(mark, float) else repr(mark) for mark in (now[1], before[1]))
    meaning = PATIENT_COLUMNS.reserved[name].split(";")[0]
    if kind == "doses":
        remedy = f"number their compartments in a column CMT (columns={{'CMT': {column!r}}} where these are they)"
        remedy = "convert them to one unit" if name == "doseu" else remedy
    elif name in ("avalu", "frltu"):
        remedy = "convert them to one unit"
    else:
        remedy = f"pass output={column!r}, which keeps it as the column 'dvid' of X, for a model of several outputs"
    of_output = f" of output {output!r}" if output is not None else ""
    return (
        f"task {now[0]!r}: column {column!r} ({meaning}) is {shown} for {kind}{of_output}, and {usually} for those of "
        f"patient {before[0]!r}; {remedy}, or keep the records of one kind."
    )


def _covariates(sheet: Sheet) -> dict[Any, Any]:
    """Return the value of each covariate; of those that may change, the times and values."""
    covariates: dict[Any, Any] = {}
    for name in sheet.names.covariates:
        present = pd.unique(sheet.column(name)[~np.isnan(sheet.column(name))])
        if len(present) != 1:
            what = "is missing" if len(present) == 0 else f"changes ({present[0]:g}, {present[1]:g})"
            remedy = "write the same value into all records of the patient"
            remedy += f", or list it in time_varying= instead of covariates= if it {what}" if len(present) else ""
            raise TaskError(f"{sheet.where}: column {name!r} is a property of the patient but {what}; {remedy}.")
        covariates[name] = float(present[0])
    for name, method in sheet.names.time_varying.items():
        covariates[name] = _path(sheet, name, method)
    return covariates


def _path(sheet: Sheet, name: Any, method: str | None) -> tuple[Array, Array]:
    """Return the times and values of a covariate that may change, one value at a time."""
    rows = np.flatnonzero(~np.isnan(sheet.column(name)))
    if not len(rows):
        raise TaskError(f"{sheet.where}: column {name!r} is missing in all records of the patient.")
    at, values = sheet.at[rows], sheet.column(name)[rows]
    same = np.diff(at) == 0
    two = np.flatnonzero(same & (np.diff(values) != 0))
    if len(two) and method is None:
        before, after = values[two[0]], values[two[0] + 1]
        row = sheet.index[rows[two[0]]]
        raise TaskError(
            f"{sheet.where}: column {name!r} is {before:g} and {after:g} at one time, in row {row} and the next; say "
            f"which one holds by time_varying={{{name!r}: 'nocb'}} (the first) or 'locf' (the last)."
        )
    kept = np.append(True, ~same) if method == "nocb" else np.append(~same, True)
    return at[kept], values[kept]


def _warn_of_central(frame: pd.DataFrame, names: Names) -> None:
    """Warn of doses whose compartment is a word for the central one, which is the usual one of one route alone."""
    column = names.reserved.get("cmt")
    if column is None:
        return
    given = (pd.to_numeric(frame[names.dose], errors="coerce") > 0).to_numpy(dtype=bool)
    cells = frame[column][given]
    words = cells[
        cells.map(lambda cell: isinstance(cell, str) and cell.strip().lower() in _CENTRAL).to_numpy(dtype=bool)
    ]
    if len(words):
        warn(
            f"column {column!r} is {words.iloc[0]!r} for doses such as in row {words.index[0]}, and a word is read as "
            "the usual compartment of the model's route: the central one of route='iv', the one where doses are "
            "absorbed from otherwise; write 2 for doses into the central compartment of an oral model."
        )


def warn_of_rest(frame: pd.DataFrame, read: set[Any], records: Mapping[Any, Records], names: Names) -> None:
    """Warn of columns that were not read, of doses that are there twice, and of records that say nothing."""
    PATIENT_COLUMNS.warn_of_others(
        frame, read, "list properties of the patient in covariates=, and drop columns that are not needed."
    )
    twice = [(name, *patient.twice) for name, patient in records.items() if patient.twice is not None]
    if twice:
        name, amount, time = twice[0]
        warn(
            f"task {name!r}: two doses of {amount:g} at time {time:g} are both used; drop one if the record is a "
            f"duplicate{f' ({len(twice)} patients)' if len(twice) > 1 else ''}."
        )
    _warn_of_central(frame, names)
    empty = [(name, row) for name, patient in records.items() for row in patient.empty]
    if empty:
        warn(
            f"{len(empty)} record{'s have' if len(empty) > 1 else ' has'} neither a {names.dose} nor a {names.target}, "
            f"and {'were' if len(empty) > 1 else 'was'} not read: row {empty[0][1]} of task {empty[0][0]!r}"
            f"{' and others' if len(empty) > 1 else ''}."
        )
    anew = [(name, patient.anew) for name, patient in records.items() if patient.anew is not None]
    if anew:
        warn(
            f"task {anew[0][0]!r}: times start anew with a dose in row {anew[0][1]}, and all records were put in order "
            f"of time ({len(anew)} patient{'s' * (len(anew) > 1)}); write EVID 4 there if nothing is left of earlier "
            "doses."
        )
    left_out = [(name, row) for name, patient in records.items() for row in patient.left_out]
    if left_out:
        what = "observations" if len(left_out) > 1 else "observation"
        row = f"row {left_out[0][1]} of task {left_out[0][0]!r}"
        warn(
            f"{len(left_out)} {what} below the limit of quantification left out, since MDV is 1, such as {row}; with "
            "MDV 0 they count as known to lie below the limit."
        )
