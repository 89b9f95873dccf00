"""Read doses and observations of patients from tidy data frames into tasks whose rows hold all doses."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import TaskError, TaskSet
from metaest.exceptions import warn
from metaest.tasks.columns import refuse_units
from metaest.tasks.containers import plain
from metaest.tasks.level_labels import coded
from metaest_domains.physiology.dose_records import LIMIT_COLUMNS, columns_for
from metaest_domains.physiology.record_columns import KEPT, Names, find_names
from metaest_domains.physiology.record_limits import filled
from metaest_domains.physiology.record_times import record_times
from metaest_domains.physiology.records import (
    Records,
    read_records,
    require_one_kind,
    require_usual_compartment,
    warn_of_rest,
)
from metaest_domains.physiology.regimen import Regimen

__all__ = ["read_patients"]


def read_patients(
    frame: pd.DataFrame,
    *,
    patient: str | None = None,
    time: str | None = None,
    dose: str | None = None,
    target: str | None = None,
    duration: str | None = None,
    covariates: Sequence[str] = (),
    time_varying: Sequence[str] | Mapping[str, str] = (),
    occasion: str | None = None,
    output: str | None = None,
    columns: Mapping[str, str] | None = None,
    repeated_id: str | None = None,
    n_doses: int | None = None,
    time_unit: str = "h",
) -> TaskSet:
    """Read patients from one tidy frame of dose records and observations.

    A dose record has a dose and no concentration, an observation a concentration and no dose. Records of a patient may
    come in any order; of records at the same time, the upper one is the earlier, so that a sample above a dose was
    taken before it. Doses are inputs of every observation, and never count as observations.

    Columns of NONMEM, nlmixr2, Monolix, mrgsolve and CDISC (ADPC, ADPPK) are read by their names in any spelling:

    - EVID and MDV distinguish doses from observations (the value of the other kind is then ignored). EVID 2 brings
      covariates alone; 3 and 4 set all amounts to zero. Where a patient has resets, rows must be in order of time
      between them, and times that start anew at a reset go on from the last one before it.
    - ADDL and II define further doses (one due at the time of a sample is given after it), RATE, DUR and TINF
      infusions, SS and II doses at steady state, CMT the compartments of doses.
    - CENS and LIMIT, BLQ and LLOQ, or text such as "<0.5", say which observations are known by a limit only. X then
      has ``lloq``, ``lloq_from`` and ``uloq`` for `limit`, `limit_from` and `upper_limit` of the model.
    - DATE (or DAT1, DAT2, DAT3) with TIME as a time of day.
    - DOSEA, AVAL, PARAMCD, AFRLT and others of CDISC.

    A column with such a name that cannot be obeyed is an error, and any other column that was not read is named in a
    warning. A dot or an empty cell is a missing value. :doc:`/domains/records` has the table of all names.

    Parameters
    ----------
    frame : DataFrame
    patient, time, dose, target : str, optional
        Columns of the patient, the time, the amount of a dose, and the measurement (missing in dose records). None
        looks for a usual name: patient, ID, USUBJID ...; time, AFRLT; dose, AMT, DOSEA; concentration, DV, Y, AVAL.
        Times are numbers in any unit, time differences of any resolution, or dates, which count from the first record
        of each patient.
    duration : str, optional
        Column with the duration of infusions; missing or 0 for a bolus or an oral dose.
    covariates : sequence of str, default=()
        Columns with properties of the patient; they follow the doses in X.
    time_varying : sequence of str, or dict of str to str, default=()
        Columns of covariates that may change within a patient, for `time_varying` of the model: X has all values and
        their times, ``crcl_1`` ... and ``crcl_time_1`` .... As a dict, it says which of two values at one time holds:
        with "nocb" the first, with "locf" the last.
    occasion : str, optional
        Column of occasions, such as OCC, which X keeps as ``occasion`` (words as numbers; `TaskSet.level_labels` has
        them). Without it, a patient with records of several occasions is an error.
    output : str, optional
        Column of the kinds of observations, such as DVID, which X keeps as ``dvid`` likewise. Without it, observations
        of several kinds are an error.
    columns : dict of str to str, optional
        Columns by their standard names, such as ``{"DV": "conc", "LLOQ": "loq"}``.
    repeated_id : {"new", "same"}, optional
        What records are whose patient came before, above records of others: of a new patient, as in NONMEM, or of the
        same. None takes them for the same, and raises an error if times start anew among doses and observations.
    n_doses : int, optional
        Number of doses for which X has columns; None for the largest number of any patient.
    time_unit : {"ms", "s", "min", "h", "D"}, default="h"
        Unit into which time differences and dates are converted.

    Returns
    -------
    TaskSet
        One task for each patient, with the columns ``time``, ``dose_1`` ..., ``dose_time_1`` ..., ``dose_duration_1``
        ..., those of :class:`Regimen` that some record needs (``dose_steady_1`` ...), the covariates, and those of
        outputs, occasions and limits.

    Raises
    ------
    TaskError
        When a record is contradictory, or not supported by these models; the message names patient, column
        and row.

    Warns
    -----
    UserWarning
        When patients without an observation are left out, columns were not read, records have neither a dose nor an
        observation, or MDV leaves out observations below the limit of quantification.

    Examples
    --------
    >>> import pandas as pd
    >>> from metaest_domains.physiology import read_patients
    >>> records = pd.DataFrame({
    ...     "patient": ["A", "A", "A", "A"],
    ...     "time": [0.0, 2.0, 12.0, 14.0],
    ...     "dose": [320.0, None, 320.0, None],
    ...     "concentration": [None, 7.1, None, 9.8],
    ... })
    >>> read_patients(records).feature_names
    ('time', 'dose_1', 'dose_2', 'dose_time_1', 'dose_time_2', 'dose_duration_1', 'dose_duration_2')

    The same records as a NONMEM export:

    >>> export = pd.DataFrame({
    ...     "ID": [1, 1, 1], "TIME": [0, 2, 14], "AMT": [320, 0, 0], "ADDL": [1, 0, 0], "II": [12, 0, 0],
    ...     "EVID": [1, 0, 0], "DV": [0.0, 7.1, 9.8],
    ... })
    >>> read_patients(export).X[1, 1:5]
    array([320., 320.,   0.,  12.])
    """
    frame = plain(frame, "read_patients")
    if repeated_id not in (None, "new", "same"):
        raise TaskError(f"repeated_id must be 'new', 'same' or None, got {repeated_id!r:.60}.")
    arguments: dict[str, Any] = {"patient": patient, "time": time, "dose": dose, "target": target}
    arguments |= {"duration": duration, "covariates": covariates, "time_varying": time_varying}
    arguments |= {"occasion": occasion, "output": output}
    names = find_names(frame, arguments, columns, time_unit, many=True)
    refuse_units(frame, names.numeric)
    groups = _groups(frame, names, repeated_id)
    records = {name: read_records(rows, names, f"task {name!r}") for name, rows in groups.items()}
    require_one_kind({name: read.marks for name, read in records.items()}, names)
    require_usual_compartment(records, names)
    warn_of_rest(frame, set(names.read), records, names)
    kept = _with_observations(records, names.target)
    return _tasks(records, kept, names, n_doses)


def _groups(frame: pd.DataFrame, names: Names, repeated_id: str | None) -> dict[Any, pd.DataFrame]:
    """Return the records of each patient, by name."""
    labels = frame[names.patient]
    if labels.isna().any():
        raise TaskError(f"column {names.patient!r} is missing in row {frame.index[labels.isna()][0]}.")
    codes = pd.factorize(labels)[0]
    block = np.concatenate([[0], np.cumsum(codes[1:] != codes[:-1])])  # runs of rows of one patient
    several = pd.Series(block).groupby(codes).nunique().max() > 1
    if repeated_id == "new" and several:
        first = pd.Series(block).groupby(codes).transform("min").to_numpy()
        again = pd.Series(block).groupby(codes).transform(lambda runs: pd.factorize(runs)[0]).to_numpy()
        words = [str(label) if run == start else f"{label} ({count + 1})" for label, run, start, count in
                 zip(labels, block, first, again, strict=True)]  # fmt: skip
        labels = pd.Series(words, index=frame.index)
    groups = dict(iter(frame.groupby(labels, sort=False, observed=True)))
    if repeated_id is None and several:
        for name, rows in groups.items():
            _refuse_start_anew(rows, block[(labels == name).to_numpy()], names, name)
    return groups


def _refuse_start_anew(rows: pd.DataFrame, block: NDArray[np.int64], names: Names, name: Any) -> None:
    """Raise if the records of a patient come in blocks of which a later one goes back in time to doses of its own."""
    if len(np.unique(block)) == 1:
        return
    at = record_times(rows, names, f"task {name!r}")
    amount, seen = (pd.to_numeric(rows[column], errors="coerce") for column in (names.dose, names.target))
    whole = [run for run in np.unique(block) if (amount[block == run] > 0).any() and seen[block == run].notna().any()]
    for before, after in pairwise(whole):
        here = block == after
        if at[here].min() < at[block == before].max():
            raise TaskError(
                f"task {name!r}: records of this patient come again in row {rows.index[here][0]}, after those of "
                f"another one, and go back to time {at[here].min():g} with doses of their own; pass repeated_id='new' "
                "if they are those of a new patient, repeated_id='same' if they are not."
            )


def _tasks(records: Mapping[Any, Records], kept: Mapping[Any, Records], names: Names, n_doses: int | None) -> TaskSet:
    """Return the observations of the patients, each with all doses, as tasks."""
    by_compartment = any(read.by_compartment for read in records.values())
    regimens = {name: Regimen._of_records(read, by_compartment=by_compartment) for name, read in records.items()}
    for regimen in regimens.values():
        regimen._columns_of_rows(n_doses)
    columns = columns_for(regimens.values(), n_doses)
    rows = [regimens[name]._records_frame(read.seen_time, read.counted(), columns) for name, read in kept.items()]
    X = pd.concat(rows, ignore_index=True)
    y = np.concatenate([read.seen for read in kept.values()])
    limits: dict[Any, NDArray[np.float64]] = {}
    for column in dict.fromkeys(column for read in kept.values() for column in read.kept):
        parts = [read.kept.get(column, np.full(len(read.seen), np.nan)) for read in kept.values()]
        if column in LIMIT_COLUMNS:
            limits[column] = np.concatenate(parts)
        else:
            X[column] = pd.Series(np.concatenate([part.astype(object) for part in parts])).infer_objects()
    named = [column for column in KEPT.values() if column in X]
    X, level_labels = coded(X.assign(**filled(limits, y)), named, "read_patients")
    labels = np.repeat(np.array(list(kept), dtype=object), [len(read.seen) for read in kept.values()])
    owner = pd.Series(labels).infer_objects()
    tasks = TaskSet.from_arrays(X, y, owner.to_numpy(), target_names=[names.target])
    return tasks.with_level_labels(level_labels) if level_labels else tasks


def _with_observations(records: Mapping[Any, Records], target: str) -> dict[Any, Records]:
    empty = [name for name, patient in records.items() if not len(patient.seen)]
    if empty:
        warn(
            f"{len(empty)} patient{'s have' if len(empty) > 1 else ' has'} doses but no {target} and "
            f"{'are' if len(empty) > 1 else 'is'} left out: {', '.join(map(repr, empty[:5]))}."
        )
    if len(empty) == len(records):
        raise TaskError(f"column {target!r}: no patient has a value in it.")
    return {name: patient for name, patient in records.items() if len(patient.seen)}
