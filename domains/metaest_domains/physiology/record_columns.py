"""Columns of records by the names that NONMEM, nlmixr2, Monolix, mrgsolve and CDISC (ADPC, ADPPK) give them.

One table says what each name means. A column with such a name is read, wherever it stands in a frame, or refused.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from metaest import TaskError
from metaest.tasks.columns import Columns, require_frame
from metaest.tasks.times import check_time_unit
from metaest_domains.physiology.time_varying import METHODS

__all__ = [
    "ALIKE",
    "DAYS",
    "FLAGS",
    "KEPT",
    "NO_VALUE",
    "OCCASIONS",
    "PATIENT_COLUMNS",
    "Names",
    "find_names",
    "names_a_patient",
]

_DURATION = "duration of an infusion"
_BELOW = "1 if the observation is below the limit of quantification; ignored in doses"
_OCCASION = "occasion of the record, such as a visit"
_KIND = "kind of observation; ignored in doses"

PATIENT_COLUMNS = Columns(
    "read_patients",
    arguments={
        "patient": "name or number of the patient",
        "time": "time of the dose or observation",
        "dose": "amount of the dose; missing or 0 in observations",
        "target": "the measured value; missing in doses, and ignored if EVID or MDV say that the row is a dose",
        "duration": "duration of an infusion; missing or 0 for other doses, and in observations",
        "covariates": "property of the patient",
    },
    reserved={
        "evid": "kind of event: 0 is an observation, 1 a dose, 2 another event, 3 a reset, 4 a reset and a dose",
        "mdv": "1 if the row holds no observation, whatever the column of observations says",
        "addl": "number of further doses, each II after the previous one",
        "ii": "time between the further doses of ADDL, or between those before a dose at steady state",
        "rate": "rate of an infusion, whose duration is the dose divided by the rate; 0 for other doses",
        "ss": "1 for a dose given at steady state, 2 for one that adds a steady state to what is there",
        "cmt": "compartment of the dose or observation",
        "adm": "kind of administration; ignored in observations",
        "route": "route of the dose; ignored in observations",
        "doseu": "unit of the dose; ignored in observations",
        "dvid": _KIND,
        "ytype": _KIND,
        "obsid": _KIND,
        "paramcd": "DOSE in doses, elsewhere the kind of observation",
        "pcspec": "specimen of the observation, such as plasma; ignored in doses",
        "avalu": "unit of the observation; ignored in doses",
        "frltu": "unit of the time",
        "cens": "1 if the observation is below the limit of quantification, -1 if above an upper one; ignored in doses",
        "blq": _BELOW,
        "bql": _BELOW,
        "bloq": _BELOW,
        "blqfn": _BELOW,
        "blqfl": "Y if the observation is below the limit of quantification; ignored in doses",
        "limit": "other end of the interval of an observation with CENS; ignored elsewhere",
        "lloq": "lower limit of quantification; ignored in doses",
        "loq": "lower limit of quantification; ignored in doses",
        "alloq": "lower limit of quantification; ignored in doses",
        "pclloq": "lower limit of quantification; ignored in doses",
        "uloq": "upper limit of quantification; ignored in doses",
        "auloq": "upper limit of quantification; ignored in doses",
        "dur": _DURATION,
        "duration": _DURATION,
        "tinf": _DURATION,
        "dosedur": _DURATION,
        "date": "day of the record (month/day/year where it is text), whose time of day is TIME",
        "dat1": "day of the record (day/month/year where it is text), whose time of day is TIME",
        "dat2": "day of the record (year/month/day where it is text), whose time of day is TIME",
        "dat3": "day of the record (year/day/month where it is text), whose time of day is TIME",
        "occ": _OCCASION,
        "occasion": _OCCASION,
        "iov": _OCCASION,
        "visit": _OCCASION,
        "avisit": _OCCASION,
        "avisitn": _OCCASION,
        "pcmt": "compartment whose amount NONMEM would print",
        "call": "call of NONMEM's subroutines",
        "cont": "1 if the record goes on in the next row",
        "l1": "patient, in files without ID",
        "l2": "group of observations whose errors are correlated",
        "raw_": "NONMEM's repeated data records",
        "mrg_": "NONMEM's marginal likelihood records",
        "rpt_": "NONMEM's repeated data records",
        "reset": "1 for a reset of the system",
        "reg": "regressor of Monolix",
        "regressor": "regressor of Monolix",
        "dtype": "how the record was derived or copied from another one",
        "c": "mark of a comment, with which NONMEM skips the row",
    },
)  # fmt: skip

# columns that must have the same value in all doses, or in all observations of one output
ALIKE = {
    "adm": "doses", "route": "doses", "doseu": "doses", "cmt": "observations", "dvid": "observations",
    "ytype": "observations", "obsid": "observations", "paramcd": "observations", "pcspec": "observations",
    "avalu": "observations", "frltu": "records",
}  # fmt: skip
# columns that must have the same value in all records of one occasion of a patient
OCCASIONS = ("occ", "occasion", "iov", "visit", "avisit", "avisitn")
# columns of X that hold what an argument names
KEPT = {"occasion": "occasion", "output": "dvid"}
# columns that must be 0 or empty, and what to do where they are not
NO_VALUE = {
    "pcmt": "drop the column, which changes no fit",
    "call": "drop the column: no subroutine is called",
    "cont": "write what the record holds into one row",
    "l1": "pass the column as patient=",
    "l2": "drop the column if errors of observations are independent",
    "raw_": "read the frame without these rows",
    "mrg_": "read the frame without these rows",
    "rpt_": "read the frame without these rows",
    "reset": "write EVID 3, or 4 for a reset and a dose",
    "reg": "give the column its name and list it in covariates=",
    "regressor": "give the column its name and list it in covariates=",
    "dtype": "keep the records that were measured, by frame[frame[...].isna()]",
    "c": "drop these rows, and the column",
}
# marks of observations below the limit of quantification
FLAGS = ("cens", "blq", "bql", "bloq", "blqfn", "blqfl")
# days of records, and the order of their parts where they are text
DAYS = {"date": "mdy", "dat1": "dmy", "dat2": "ymd", "dat3": "ydm"}
# names of one meaning
_GROUPS = {
    "below the limit": FLAGS,
    "lower limit": ("lloq", "loq", "alloq", "pclloq"),
    "upper limit": ("uloq", "auloq"),
    "duration": ("dur", "duration", "tinf", "dosedur"),
    "day": tuple(DAYS),
}
# usual names of the columns that arguments name, without underscores, in lower case; earlier ones are preferred
_USUAL = {
    "patient": ("patient", "patientid", "id", "subject", "subjectid", "subjid", "usubjid", "pid"),
    "time": ("time", "afrlt"),
    "dose": ("dose", "amt", "amount"),
    "target": ("concentration", "conc", "dv", "aval", "y"),
}
# ... and of those that are taken where no other is there: nominal times, doses that observations have as well
_INSTEAD = {"time": "nfrlt", "dose": "dosea"}
# names that have no other meaning in such files: a second column of the same meaning must hold the same
_RESERVED = {"id": "patient", "time": "time", "amt": "dose", "dv": "target", "y": "target"}


@dataclass(frozen=True)
class Names:
    """Columns of a frame by their meaning.

    Attributes
    ----------
    time, dose, target : str
    patient, duration, occasion, output : str or None
    covariates : tuple of str
        Properties of the patient that are constant.
    time_varying : dict of str to str or None
        Properties that may change, and which of two values at one time holds: "nocb" the first, "locf" the last.
    reserved : dict of str to str
        Columns with reserved names, by the reserved name in lower case.
    same : tuple of str
        Columns that repeat another one.
    associated : bool
        Whether the column of doses also stands in observations, as the dose to which each of them belongs (DOSEA).
    time_unit : str
        Unit into which dates and time differences are converted.
    """

    time: Any
    dose: Any
    target: Any
    patient: Any = None
    duration: Any = None
    occasion: Any = None
    output: Any = None
    covariates: tuple[Any, ...] = ()
    time_varying: Mapping[Any, str | None] = field(default_factory=dict)
    reserved: Mapping[str, Any] = field(default_factory=dict)
    same: tuple[Any, ...] = ()
    associated: bool = False
    time_unit: str = "h"

    @property
    def numeric(self) -> list[Any]:
        """Columns that contain numbers or times."""
        named = [self.time, self.dose, self.target, *([] if self.duration is None else [self.duration])]
        return list(dict.fromkeys([*named, *self.covariates, *self.time_varying]))

    @property
    def read(self) -> list[Any]:
        """All columns that are read."""
        others = [name for name in (self.patient, self.occasion, self.output) if name is not None]
        return [*self.numeric, *others, *self.reserved.values(), *self.same]

    def group(self, meaning: str) -> str | None:
        """Return the reserved name of a meaning that the frame has, such as "lower limit"; None for none."""
        return next(iter(self.all_of(meaning)), None)

    def all_of(self, meaning: str) -> list[str]:
        """Return all reserved names of a meaning that the frame has."""
        return [name for name in _GROUPS[meaning] if name in self.reserved]


def names_a_patient(column: Any) -> bool:
    """Tell whether a column has a usual name of that of patients."""
    return _plain(column) in _USUAL["patient"]


def find_names(
    frame: Any,
    arguments: Mapping[str, Any],
    columns: Mapping[str, Any] | None,
    time_unit: str,
    *,
    many: bool,
) -> Names:
    """Return the columns of a frame by meaning.

    Parameters
    ----------
    frame : DataFrame
    arguments : dict
        The arguments patient, time, dose, target, duration, occasion, output, covariates and time_varying.
    columns : dict of str to str, optional
        Columns by their standard names.
    time_unit : str
    many : bool
        Whether the frame holds the records of many patients, so that it needs a column that tells them apart.

    Raises
    ------
    TaskError
        When a column is missing, named twice, or ambiguous.
    """
    check_time_unit(time_unit)
    methods = _methods(arguments["time_varying"])
    lists = {"covariates": _columns(arguments["covariates"], "covariates"), "time_varying": list(methods)}
    named = {name: column for name, column in arguments.items() if name not in lists}
    for argument, name in named.items():
        if name is not None and not isinstance(name, Hashable):
            raise TaskError(f"{argument} must be the name of a column, got {name!r:.60}.")
    by_standard, associated = _mapped(columns, named)
    require_frame(frame, {**named, **lists, "columns": list(by_standard.values())})
    listed = [*lists["covariates"], *lists["time_varying"], *by_standard.values()]
    taken = [*(name for role, name in named.items() if name is not None and role != "output"), *listed]
    for role in _USUAL:
        if named[role] is None and (many or role != "patient"):
            named[role] = _usual(frame, role, taken)
            associated |= role == "dose" and _plain(named[role]) == "dosea"
    if named["dose"] is None:  # ADPC: the amounts of rows whose PARAMCD is DOSE
        named["dose"] = named["target"]
        associated = True
    roles = [name for role, name in named.items() if name is not None and role != "output"]
    used = [*(dict.fromkeys(roles) if associated else roles), *listed]
    twice = [name for name in used if used.count(name) > 1]
    if twice:
        raise TaskError(f"column {twice[0]!r} is named by two arguments; each needs a different column.")
    names = Names(
        **named,
        covariates=tuple(lists["covariates"]),
        time_varying=methods,
        reserved={**PATIENT_COLUMNS.find_reserved(frame, used), **by_standard},
        same=_repeated(frame, named, used),
        associated=associated,
        time_unit=time_unit,
    )
    _refuse_synonyms(names)
    return names


def _columns(names: Any, argument: str) -> list[Any]:
    if isinstance(names, (str, bytes)) or not isinstance(names, (Sequence, pd.Index)):
        raise TaskError(f"{argument} must be a list of columns, got {names!r:.60}; write [{names!r:.60}].")
    if any(name is None or not isinstance(name, Hashable) for name in names):
        raise TaskError(f"{argument} must be a list of names of columns, got {list(names)!r:.60}.")
    return list(names)


def _methods(time_varying: Any) -> dict[Any, str | None]:
    """Return covariates that may change, and which value holds between the records, where that is said."""
    if not isinstance(time_varying, Mapping):
        return dict.fromkeys(_columns(time_varying, "time_varying"))
    for name, method in time_varying.items():
        if method not in METHODS:
            possible = ", ".join(map(repr, METHODS))
            raise TaskError(f"time_varying: {name!r} must be one of {possible}, got {method!r:.60}.")
    return dict(time_varying)


def _mapped(columns: Any, named: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Put the columns of the mapping `columns` among the named ones; return those of other meanings."""
    if columns is None:
        return {}, False
    if not isinstance(columns, Mapping):
        raise TaskError(f"columns must be a dict of standard names to columns, got {columns!r:.60}.")
    by_standard: dict[str, Any] = {}
    associated = False
    for standard, column in columns.items():
        name = str(standard).strip().lower()
        if column is None or not isinstance(column, Hashable):
            raise TaskError(f"columns[{standard!r}] must be the name of a column, got {column!r:.60}.")
        role = next((role for role, usual in _USUAL.items() if _plain(standard) in usual), None)
        role = next((instead for instead, usual in _INSTEAD.items() if name == usual), role)
        if role is not None:
            if named[role] is not None:
                raise TaskError(f"columns[{standard!r}] and {role}= name the same; leave one of them out.")
            named[role] = column
            associated |= name == "dosea"
        elif name in PATIENT_COLUMNS.reserved:
            if name in by_standard:
                raise TaskError(f"columns: {standard!r} is there in two spellings; leave one of them out.")
            by_standard[name] = column
        else:
            raise TaskError(
                f"columns: {standard!r} is no standard name of a column of records; they are "
                f"{', '.join(sorted({name.upper() for name in [*PATIENT_COLUMNS.reserved, *_RESERVED]}))}."
            )
    return by_standard, associated


def _usual(frame: pd.DataFrame, role: str, taken: Sequence[Any]) -> Any:
    """Return the column with a usual name of a role; None for doses whose rows PARAMCD marks."""
    candidates = [column for column in frame.columns if _plain(column) in _USUAL[role] and column not in taken]
    candidates.sort(key=lambda column: _USUAL[role].index(_plain(column)))
    if not candidates and role in _INSTEAD:
        candidates = [column for column in frame.columns if _plain(column) == _INSTEAD[role] and column not in taken]
    if not candidates:
        if role == "dose" and any(_plain(column) == "paramcd" for column in frame.columns):
            return None
        usual = _USUAL[role][0]
        others = " or ".join(name.upper() for name in _USUAL[role][1:])
        if usual in frame.columns:
            raise TaskError(f"column {usual!r} is named by two arguments; each needs a different column.")
        require_frame(frame, {role: usual}, f"no {usual} or {others}" if usual not in frame.index.names else "")
    different = [column for column in candidates[1:] if not _same(frame, candidates[0], column, role)]
    if different:
        raise TaskError(
            f"columns {candidates[0]!r} and {different[0]!r} may both be the {role}, and differ; say which one it is "
            f"by {role}=."
        )
    return candidates[0]


def _same(frame: pd.DataFrame, first: Any, second: Any, role: str) -> bool:
    """Tell whether two columns hold the same, or, as patients, tell the same rows apart."""
    if role == "patient":
        pairs = frame[[first, second]].drop_duplicates()
        return bool(len(pairs) == frame[first].nunique(dropna=False) == frame[second].nunique(dropna=False))
    return bool(frame[first].astype(object).equals(frame[second].astype(object)))


def _repeated(frame: pd.DataFrame, named: Mapping[str, Any], used: Sequence[Any]) -> tuple[Any, ...]:
    """Return columns with the name of another column's meaning that hold the same; raise if they do not."""
    same = []
    for column in frame.columns:
        role = next((role for role in _USUAL if _plain(column) in _USUAL[role] and column not in used), None)
        if role is None or named[role] is None:
            continue
        if _same(frame, named[role], column, role):
            same.append(column)
        elif str(column).strip().lower() in _RESERVED:
            raise TaskError(
                f"column {column!r} has the name of the {role}, and differs from column {named[role]!r}, which is "
                f"read as such; drop or rename one of them."
            )
    return tuple(same)


def _refuse_synonyms(names: Names) -> None:
    """Raise if a frame has two columns of days, or of durations."""
    for meaning in ("day", "duration"):
        present = [names.reserved[name] for name in names.all_of(meaning)]
        if meaning == "duration" and names.duration is not None and present:
            raise TaskError(
                f"columns {names.duration!r} and {present[0]!r} both are the duration of an infusion; drop one."
            )
        if len(present) > 1:
            raise TaskError(f"columns {present[0]!r} and {present[1]!r} mean the same ({meaning}); drop one.")


def _plain(column: Any) -> str:
    return str(column).strip().lower().replace("_", "").replace(" ", "")
