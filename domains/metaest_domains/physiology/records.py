"""Read the records of one patient, in the form that NONMEM, nlmixr2 and Monolix share, as doses and observations.

Columns that change the meaning of a record (EVID, MDV, ADDL, II, RATE and others) are read wherever they are in a
frame. They are obeyed if a sum over doses can express them; anything else is refused.
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
        "patient": "name or number of the patient",
        "time": "time of the dose or observation",
        "dose": "amount of the dose; missing or 0 in observations",
        "target": "the measured value; missing in doses, and ignored if EVID or MDV say that the row is a dose",
        "duration": "duration of an infusion; missing or 0 for other doses, and in observations",
        "covariates": "property of the patient: the same in all records, or missing",
    },
    reserved={
        "evid": "kind of event: 0 is an observation, 1 a dose",
        "mdv": "1 if the row holds no observation, whatever the column of observations says",
        "addl": "number of further doses, each II after the previous one",
        "ii": "time between the further doses of ADDL",
        "rate": "rate of an infusion, whose duration is the dose divided by the rate; 0 for other doses",
        "ss": "1 for a dose given at steady state",
        "cmt": "compartment of the dose or observation",
        "adm": "kind of administration; ignored in observations",
        "dvid": "kind of observation; ignored in doses",
        "ytype": "kind of observation; ignored in doses",
        "cens": "1 if the observation is below the limit of quantification, -1 if above an upper limit",
        "blq": "1 if the observation is below the limit of quantification",
        "bql": "1 if the observation is below the limit of quantification",
        "bloq": "1 if the observation is below the limit of quantification",
        "dur": "duration of an infusion",
        "duration": "duration of an infusion",
        "tinf": "duration of an infusion",
    },
)

# values of EVID that are refused
_EVENTS = {2: "another event", 3: "a reset of the system", 4: "a reset and a dose"}
_CENSORED = (
    "write any number below the limit of quantification as the observation, pass the limit as limit= to the estimator, "
    "and drop the column"
)
# reserved columns that must be 0 or missing, and the remedy if they are not
_ZERO = {
    "ss": "write the previous doses as records, as many as are needed to reach the steady state",
    "cens": _CENSORED,
    "blq": _CENSORED,
    "bql": _CENSORED,
    "bloq": _CENSORED,
    "dur": "pass the name of the column as duration=",
    "duration": "pass the name of the column as duration=",
    "tinf": "pass the name of the column as duration=",
}
# columns that must have the same value in all doses, or in all observations
ALIKE = {"cmt": ("doses", "observations"), "adm": ("doses",), "dvid": ("observations",), "ytype": ("observations",)}
# usual names of the column of patients, without underscores, in lower case
_PATIENT_NAMES = {"patient", "patientid", "id", "subject", "subjectid", "subjid", "usubjid", "pid"}


@dataclass(frozen=True)
class Names:
    """Columns of a frame by their meaning.

    Attributes
    ----------
    time, dose, target : str
    duration : str or None
    covariates : sequence of str
    reserved : dict of str to str
        Columns with reserved names, by the reserved name in lower case.
    time_unit : str
        Unit into which dates and time differences are converted.
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
        """Columns that contain numbers or times."""
        return [self.time, self.dose, self.target, *([self.duration] if self.duration else []), *self.covariates]

    @property
    def read(self) -> list[Any]:
        """All columns that are read, except that of the patient."""
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
        Times, values and positions of observations.
    covariates : dict of str to float
    marks : dict
        Values of each column that must be the same in all doses, or in all observations.
    empty : list
        Index labels of records with neither a dose nor an observation.
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
        usual = [column for column in frame.columns if _names_a_patient(column) and column not in taken]
        levels = [level for level in frame.index.names if _names_a_patient(level)]
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


def _names_a_patient(column: Any) -> bool:
    return str(column).lower().replace("_", "").replace(" ", "") in _PATIENT_NAMES


def read_records(frame: pd.DataFrame, names: Names, where: str) -> Records:
    """Read the records of one patient.

    Raises
    ------
    TaskError
        When a record is contradictory, or not supported by these models; the message names patient, column and row.
    """
    sheet = _Sheet(_sorted(frame, names, where), names, where)
    at, amount, seen, lasting = map(sheet.column, (names.time, names.dose, names.target, names.duration))
    for column, values in ((names.time, at), (names.dose, amount), (names.duration, lasting)):
        sheet.refuse(values < 0, column, "it cannot be negative")
    for column, values in ((names.dose, amount), (names.target, seen), (names.duration, lasting)):
        sheet.refuse(np.isinf(values), column, "it must be finite")
    given = amount > 0
    sheet.refuse(~given & (lasting > 0), names.duration, "a duration requires a dose, but the row has none")
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
    """Raise if doses, or observations, are of several kinds, within a patient or between patients.

    Parameters
    ----------
    marks : dict of patients to `Records.marks`
    reserved : dict of str to str
        Columns by their reserved names.
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
                beside = beside or ", but doses are expected to enter compartment 1"
                meaning = PATIENT_COLUMNS.reserved[name].split(";")[0]
                raise TaskError(
                    f"task {patient!r}: column {reserved[name]!r} ({meaning}) is {shown} for {kind}{beside}; the "
                    "models support doses of one route and observations of one kind. Keep the records of one kind, and "
                    "drop the column if all doses have the same route."
                )


@dataclass(frozen=True)
class _Sheet:
    """The records of one patient as numbers, in order of time."""

    records: pd.DataFrame
    names: Names
    where: str

    def column(self, name: Any) -> NDArray[np.float64]:
        """Return a column, or missing values if the frame has no such column."""
        if name is None or name not in self.records:
            return np.full(len(self.records), np.nan)
        return np.asarray(self.records[name], dtype=np.float64)

    def reserved(self, name: str) -> NDArray[np.float64]:
        """Return the column with a reserved name, or missing values if the frame has no such column."""
        return self.column(self.names.reserved.get(name))

    def refuse(self, wrong: NDArray[np.bool_], column: Any, why: str) -> None:
        """Raise an error for the first of the rows that are wrong."""
        rows = np.flatnonzero(wrong)
        if len(rows):
            value = self.column(column)[rows[0]]
            row = self.records.index[rows[0]]
            raise TaskError(f"{self.where}: column {column!r} is {value:g} in row {row}: {why}.")


def _observed(
    sheet: _Sheet, given: NDArray[np.bool_], amount: NDArray[np.float64], seen: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return a mask of the records that are observations, by EVID and MDV if there are such columns."""
    evid = sheet.names.reserved.get("evid")
    mdv = sheet.names.reserved.get("mdv")
    dose = sheet.names.dose
    target = sheet.names.target
    event = sheet.column(evid)
    missing = sheet.column(mdv)
    for value in np.unique(event[~np.isnan(event)]):
        if value not in (0, 1):
            what = _EVENTS.get(value, "an unknown event")
            remedy = "drop the row, and treat the records after a reset as another patient"
            sheet.refuse(
                event == value, evid, f"{what}, but only 0 (an observation) and 1 (a dose) are supported; {remedy}"
            )
    sheet.refuse((event == 0) & given, evid, f"an observation, but the row has a dose in column {dose!r}")
    sheet.refuse((event == 1) & np.isnan(amount), evid, f"a dose, but column {dose!r} is empty")
    sheet.refuse(~np.isnan(missing) & (missing != 0) & (missing != 1), mdv, "it must be 0 or 1")
    sheet.refuse((missing == 0) & (given | (event == 1)), mdv, "an observation, but the row is a dose, which has MDV 1")
    observed: NDArray[np.bool_] = ~np.isnan(seen) & (event != 1) & (missing != 1)
    both = np.flatnonzero(given & observed)
    if len(both):
        zero = f"; if the 0 stands for no value, leave {target} empty or add a column MDV" if not seen[both[0]] else ""
        raise TaskError(
            f"{sheet.where}: row {sheet.records.index[both[0]]} has a dose and a {target} ({seen[both[0]]:g}); write "
            f"two rows, the {target} first if it was taken before the dose{zero}."
        )
    return observed


def _durations(
    sheet: _Sheet, given: NDArray[np.bool_], amount: NDArray[np.float64], lasting: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return durations of doses, from RATE if there is such a column."""
    column = sheet.names.reserved.get("rate")
    rate = np.nan_to_num(sheet.column(column))
    durations = np.nan_to_num(lasting)
    sheet.refuse(rate < 0, column, "estimation of the rate or duration is not implemented; write the rate")
    sheet.refuse((rate > 0) & ~given, column, "a rate requires a dose, but the row has none")
    by_rate = np.divide(amount, rate, out=durations.copy(), where=rate > 0)
    differs = (rate > 0) & ~np.isnan(lasting) & ~np.isclose(by_rate, durations)
    sheet.refuse(differs, column, f"not the dose divided by the duration in column {sheet.names.duration!r}; keep one")
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
    sheet.refuse(~whole, addl, "it must be a whole number of further doses, at least 0")
    sheet.refuse((number > 0) & ~given, addl, "further doses require a dose, but the row has none")
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
    """Return the values of each column of ALIKE, for doses and for observations; 0 counts as missing."""
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
    """Return the records in order of time, columns as numbers, with the position of each in the frame."""
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
                f"{where}: column {name!r} is a property of the patient but {what}; write the same value into all "
                "records of the patient."
            )
        values[name] = float(present[0])
    return values
