"""Records of one patient, in the form that NONMEM, nlmixr2 and Monolix share: which are doses, which observations.

Columns that change the meaning of a record (EVID, MDV, ADDL, II, RATE and others) are read wherever they stand in a
frame. They are followed where a sum over doses can express them; anything else is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import TaskError
from metaest.tasks.columns import Columns, as_numbers, refuse_booleans
from metaest.tasks.times import elapsed, time_kind

__all__ = ["ALIKE", "PATIENT_COLUMNS", "Names", "Records", "one_patient", "read_records", "require_one_kind"]

PATIENT_COLUMNS = Columns(
    "read_patients",
    arguments={
        "patient": "whose record it is",
        "time": "when",
        "dose": "how much was given; missing or 0 in observations",
        "target": "what was measured; missing in doses, and not read where EVID or MDV say that the row is none",
        "duration": "of an infusion; missing or 0 for a dose given at once, and in observations",
        "covariates": "what belongs to the patient: the same in all records, or missing",
    },
    reserved={
        "evid": "kind of event: 0 is an observation, 1 a dose",
        "mdv": "1 where the row holds no observation, whatever the column of observations says",
        "addl": "number of further doses, each II after the last",
        "ii": "time between the further doses of ADDL",
        "rate": "rate of an infusion, which lasts for the dose over the rate; 0 for a dose given at once",
        "ss": "1 for a dose given at steady state",
        "cmt": "compartment of the dose or observation",
        "adm": "kind of administration; not read in observations",
        "dvid": "kind of observation; not read in doses",
        "ytype": "kind of observation; not read in doses",
        "cens": "1 where the observation lies below the limit of quantification, -1 above one",
        "blq": "1 where the observation lies below the limit of quantification",
        "bql": "1 where the observation lies below the limit of quantification",
        "bloq": "1 where the observation lies below the limit of quantification",
        "dur": "duration of an infusion",
        "duration": "duration of an infusion",
        "tinf": "duration of an infusion",
    },
)

_EVENTS = {2: "another event", 3: "a reset of the system", 4: "a reset and a dose"}
_CENSORED = (
    "write any number below the limit of quantification as the observation, pass the limit as limit= to the estimator, "
    "and drop the column"
)
# reserved columns that must be 0 or missing, and what to do where they are not
_ZERO = {
    "ss": "write the doses before it as records, as many as it takes to be steady",
    "cens": _CENSORED,
    "blq": _CENSORED,
    "bql": _CENSORED,
    "bloq": _CENSORED,
    "dur": "pass the name of the column as duration=",
    "duration": "pass the name of the column as duration=",
    "tinf": "pass the name of the column as duration=",
}
# columns that must be alike in all doses, or in all observations
ALIKE = {"cmt": ("doses", "observations"), "adm": ("doses",), "dvid": ("observations",), "ytype": ("observations",)}
# names of a column that says whose record it is, without underscores, in lower case
_PATIENT_NAMES = {"patient", "patientid", "id", "subject", "subjectid", "subjid", "usubjid", "pid"}


@dataclass(frozen=True)
class Names:
    """Columns of a frame by what they hold.

    Attributes
    ----------
    time, dose, target : str
    duration : str or None
    covariates : sequence of str
    reserved : dict of str to str
        Columns with reserved names, by these in lower case.
    time_unit : str
        Unit that dates and time differences are turned into.
    """

    time: str
    dose: str
    target: str
    duration: str | None
    covariates: Sequence[str]
    reserved: Mapping[str, Any]
    time_unit: str = "h"

    @property
    def numeric(self) -> list[str]:
        """Columns that hold numbers, or times."""
        return [self.time, self.dose, self.target, *([self.duration] if self.duration else []), *self.covariates]

    @property
    def read(self) -> list[Any]:
        """All columns that are read, other than that of the patient."""
        return [*self.numeric, *self.reserved.values()]


@dataclass(frozen=True)
class Records:
    """Doses and observations of one patient, each in order of time.

    Attributes
    ----------
    time, amount, duration : ndarray of shape (n_doses,)
    place : ndarray of shape (n_doses,)
        Position among the records sorted by time; infinite for further doses, which have no record.
    seen_time, seen, seen_place : ndarray of shape (n_observations,)
    covariates : dict of str to float
    marks : dict
        For each column that must be alike in all doses, or all observations: its values.
    empty : list
        Index of records with neither a dose nor an observation.
    """

    time: NDArray[np.float64]
    amount: NDArray[np.float64]
    duration: NDArray[np.float64]
    place: NDArray[np.float64]
    seen_time: NDArray[np.float64]
    seen: NDArray[np.float64]
    seen_place: NDArray[np.float64]
    covariates: dict[str, float]
    marks: dict[tuple[str, str], set[Any]]
    empty: list[Any]

    @property
    def twice(self) -> tuple[float, float] | None:
        """Amount and time of a dose that occurs twice, or None."""
        order = np.lexsort((self.amount, self.time))
        time = self.time[order]
        amount = self.amount[order]
        same = np.flatnonzero((np.diff(time) <= 1e-9 * time[-1]) & (np.diff(amount) == 0))
        return (float(amount[same[0]]), float(time[same[0]])) if len(same) else None


def one_patient(frame: pd.DataFrame, patient: str | None, read: Iterable[Any]) -> list[Any]:
    """Return the columns that say whose records these are; raise where they are those of several patients.

    Parameters
    ----------
    frame : DataFrame
    patient : str or None
        The column; None looks for usual names (patient, ID, subject, USUBJID ...).
    read : iterable
        Columns that hold something else.
    """
    usual: list[Any] = [patient]
    levels: list[Any] = []
    if patient is None:
        taken = list(read)
        usual = [column for column in frame.columns if _names_a_patient(column) and column not in taken]
        levels = [level for level in frame.index.names if _names_a_patient(level)]
    for column in [*usual, *levels]:
        labels = frame[column] if column in usual else frame.index.get_level_values(column)
        values = pd.Series(labels).drop_duplicates().tolist()
        if len(values) > 1:
            raise TaskError(
                f"the frame holds records of {len(values)} patients (column {column!r}: "
                f"{', '.join(map(repr, values[:3]))}{' ...' * (len(values) > 3)}); read one of them, for instance "
                f"frame[frame[{column!r}] == {values[0]!r}], or all with read_patients."
            )
    return usual


def _names_a_patient(column: Any) -> bool:
    return str(column).lower().replace("_", "").replace(" ", "") in _PATIENT_NAMES


def read_records(frame: pd.DataFrame, names: Names, where: str) -> Records:
    """Read the records of one patient.

    Raises
    ------
    TaskError
        When a record is contradictory, or asks for something these models cannot do; the message names patient, column
        and row.
    """
    sheet = _Sheet(_sorted(frame, names, where), names, where)
    at, amount, seen, lasting = map(sheet.column, (names.time, names.dose, names.target, names.duration))
    for column, values in ((names.time, at), (names.dose, amount), (names.duration, lasting)):
        sheet.refuse(values < 0, column, "it cannot be negative")
    for column, values in ((names.dose, amount), (names.target, seen), (names.duration, lasting)):
        sheet.refuse(np.isinf(values), column, "it must be finite")
    given = amount > 0
    sheet.refuse(~given & (lasting > 0), names.duration, "a duration belongs to a dose, and the row has none")
    observed = _observed(sheet, given, amount, seen)
    durations = _durations(sheet, given, amount, lasting)
    for name, remedy in _ZERO.items():
        values = np.nan_to_num(sheet.reserved(name))
        sheet.refuse(values != 0, names.reserved.get(name), f"{PATIENT_COLUMNS.reserved[name]}; {remedy}")
    if not given.any():
        raise TaskError(f"{where}: column {names.dose!r} has no dose above 0.")
    times, index = _all_doses(sheet, given, at)
    order = np.argsort(times, kind="stable")
    nothing = np.isnan(amount) & np.isnan(seen) & ~(sheet.reserved("mdv") == 1)
    return Records(
        time=times[order],
        amount=amount[index][order],
        duration=durations[index][order],
        place=np.where(times > at[index], np.inf, index)[order],
        seen_time=at[observed],
        seen=seen[observed],
        seen_place=np.flatnonzero(observed).astype(np.float64),
        covariates=_constant(sheet.records, names.covariates, where),
        marks=_marks(frame, sheet, {"doses": given, "observations": observed}),
        empty=sheet.records.index[nothing].tolist(),
    )


def require_one_kind(marks: Mapping[Any, Mapping[tuple[str, str], set[Any]]], reserved: Mapping[str, Any]) -> None:
    """Raise where doses, or observations, are of several kinds, within a patient or between patients.

    Parameters
    ----------
    marks : dict of patients to `Records.marks`
    reserved : dict of str to str
        Columns by reserved name.
    """
    first: dict[tuple[str, str], tuple[Any, Any]] = {}
    for patient, marks_of_patient in marks.items():
        for (name, kind), values in marks_of_patient.items():
            for value in sorted(values, key=str):
                before, usual = first.setdefault((name, kind), (patient, value))
                depot = name != "cmt" or kind != "doses" or value == 1.0 or isinstance(value, str)
                if value == usual and depot:
                    continue
                shown, usually = (f"{mark:g}" if isinstance(mark, float) else repr(mark) for mark in (value, usual))
                beside = f", and {usually} for those of patient {before!r}" if value != usual else ""
                beside = beside or ", but doses are taken to enter compartment 1"
                meaning = PATIENT_COLUMNS.reserved[name].split(";")[0]
                raise TaskError(
                    f"task {patient!r}: column {reserved[name]!r} ({meaning}) is {shown} for {kind}{beside}; the "
                    "models take doses of one route and observations of one kind. Keep the records of one kind, and "
                    "drop the column where all go the same way."
                )


@dataclass(frozen=True)
class _Sheet:
    """The records of one patient as numbers, in order of time."""

    records: pd.DataFrame
    names: Names
    where: str

    def column(self, name: Any) -> NDArray[np.float64]:
        """Return a column, or missing values where there is none."""
        if name is None or name not in self.records:
            return np.full(len(self.records), np.nan)
        return np.asarray(self.records[name], dtype=np.float64)

    def reserved(self, name: str) -> NDArray[np.float64]:
        """Return the column with a reserved name, or missing values where there is none."""
        return self.column(self.names.reserved.get(name))

    def refuse(self, wrong: NDArray[np.bool_], column: Any, why: str) -> None:
        """Raise for the first of the rows that are wrong."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            value = self.column(column)[rows[0]]
            row = self.records.index[rows[0]]
            raise TaskError(f"{self.where}: column {column!r} is {value:g} in row {row}: {why}.")


def _observed(
    sheet: _Sheet, given: NDArray[np.bool_], amount: NDArray[np.float64], seen: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which records are observations, by EVID and MDV where there are such columns."""
    evid = sheet.names.reserved.get("evid")
    mdv = sheet.names.reserved.get("mdv")
    dose = sheet.names.dose
    target = sheet.names.target
    event = sheet.column(evid)
    missing = sheet.column(mdv)
    for value in np.unique(event[~np.isnan(event)]):
        if value not in (0, 1):
            what = _EVENTS.get(value, "an unknown event")
            sheet.refuse(event == value, evid, f"{what}, and only 0 (an observation) and 1 (a dose) can be read; drop "
                         "the row, and read what came after a reset as another patient")  # fmt: skip
    sheet.refuse((event == 0) & given, evid, f"that is an observation, but the row has a dose in column {dose!r}")
    sheet.refuse((event == 1) & np.isnan(amount), evid, f"that is a dose, but column {dose!r} is empty")
    sheet.refuse(~np.isnan(missing) & (missing != 0) & (missing != 1), mdv, "0 or 1 is wanted")
    sheet.refuse((missing == 0) & (given | (event == 1)), mdv, "that is an observation, but the row is a dose, for "
                 "which MDV is 1")  # fmt: skip
    observed: NDArray[np.bool_] = ~np.isnan(seen) & (event != 1) & (missing != 1)
    both = np.flatnonzero(given & observed)
    if len(both):
        zero = (
            f"; where the 0 stands for no value, leave {target} empty or add a column MDV" if not seen[both[0]] else ""
        )
        raise TaskError(
            f"{sheet.where}: row {sheet.records.index[both[0]]} has a dose and a {target} ({seen[both[0]]:g}); write "
            f"two rows, the {target} first where it was taken before the dose{zero}."
        )
    return observed


def _durations(
    sheet: _Sheet, given: NDArray[np.bool_], amount: NDArray[np.float64], lasting: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return durations of doses, from RATE where there is such a column."""
    column = sheet.names.reserved.get("rate")
    rate = np.nan_to_num(sheet.column(column))
    durations = np.nan_to_num(lasting)
    sheet.refuse(rate < 0, column, "estimation of the rate or duration is not implemented; write the rate")
    sheet.refuse((rate > 0) & ~given, column, "a rate belongs to a dose, and the row has none")
    by_rate = np.divide(amount, rate, out=durations.copy(), where=rate > 0)
    differs = (rate > 0) & ~np.isnan(lasting) & ~np.isclose(by_rate, durations)
    sheet.refuse(
        differs, column, f"that is not the dose over the duration in column {sheet.names.duration!r}; keep one"
    )
    return by_rate


def _all_doses(
    sheet: _Sheet, given: NDArray[np.bool_], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the times of all doses, those of ADDL included, and the record of each."""
    addl = sheet.names.reserved.get("addl")
    ii = sheet.names.reserved.get("ii")
    number = np.nan_to_num(sheet.column(addl))
    gap = np.nan_to_num(sheet.column(ii))
    whole = (number >= 0) & (number == np.round(number)) & np.isfinite(number)
    sheet.refuse(~whole, addl, "a whole number of further doses from 0 on is wanted")
    sheet.refuse((number > 0) & ~given, addl, "further doses belong to a dose, and the row has none")
    sheet.refuse((number > 0) & ~(gap > 0), addl, "further doses need the time between them, above 0, in a column II")
    sheet.refuse(
        (gap != 0) & ~(number > 0), ii, "the time between further doses, but their number, ADDL, is 0 or missing"
    )
    rows = np.flatnonzero(given)
    repeats = 1 + number[rows].astype(np.intp)
    count = np.concatenate([np.arange(n) for n in repeats])
    index = np.repeat(rows, repeats)
    return at[index] + count * gap[index], index


def _marks(
    frame: pd.DataFrame, sheet: _Sheet, rows: Mapping[str, NDArray[np.bool_]]
) -> dict[tuple[str, str], set[Any]]:
    """Return the values of each column that must be alike in all doses, or all observations; 0 counts as missing."""
    marks = {}
    for name, kinds in ALIKE.items():
        if name not in sheet.names.reserved:
            continue
        cells = frame[sheet.names.reserved[name]].iloc[sheet.records["_row"]]
        numbers = pd.to_numeric(cells, errors="coerce").astype(object)
        values = numbers.where(numbers.notna(), cells.astype(object)).to_numpy()
        for kind in kinds:
            some = [value for value in values[rows[kind]] if not pd.isna(value) and value != "." and value != 0]
            marks[name, kind] = {value.strip() if isinstance(value, str) else float(value) for value in some}
    return marks


def _sorted(frame: pd.DataFrame, names: Names, where: str) -> pd.DataFrame:
    """Return the records in order of time, columns as numbers, with their position in the frame."""
    columns: dict[Any, Any] = {"_row": np.arange(len(frame))}
    alike = {names.reserved[name] for name in ALIKE if name in names.reserved}
    lengths = {names.duration, *(names.reserved.get(name) for name in ("ii", "dur", "duration", "tinf"))}
    for name in (names.time, names.dose, names.target, names.duration):
        if name is not None:
            refuse_booleans(frame[name], where)
    for name in [*names.numeric, *(column for column in names.reserved.values() if column not in alike)]:
        kind = time_kind(frame[name])
        if kind and (name == names.time or (name in lengths and kind != "dates")):
            columns[name] = elapsed(frame[name], names.time_unit, f"{where}: column {name!r}")
        else:
            columns[name] = as_numbers(frame[name], where)
    records = pd.DataFrame(columns, index=frame.index)
    at = records[names.time]
    if not np.isfinite(at).all():
        raise TaskError(f"{where}: column {names.time!r} is missing in row {at.index[~np.isfinite(at)][0]}.")
    ordered: pd.DataFrame = records.sort_values(names.time, kind="stable")
    return ordered


def _constant(records: pd.DataFrame, covariates: Sequence[str], where: str) -> dict[str, float]:
    values = {}
    for name in covariates:
        present = records[name].dropna().unique()
        if len(present) != 1:
            what = "is missing" if len(present) == 0 else f"changes ({present[0]:g}, {present[1]:g})"
            raise TaskError(
                f"{where}: column {name!r} belongs to the patient and {what}; write the one value that holds for these "
                "records into all of them."
            )
        values[name] = float(present[0])
    return values
