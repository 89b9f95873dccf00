"""Doses and observations of patients, from one tidy frame to rows that know their doses.

Every row of X carries all doses of its patient, as ``dose_1``, ``dose_time_1``, ``dose_duration_1`` and so on: they are
known inputs of what is observed and of what is to be predicted, and no observation is needed to know them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metaest import TaskError, TaskSet
from metaest.exceptions import warn
from metaest.tasks.times import numbers_only

__all__ = ["Regimen", "covariate_columns", "dose_columns", "read_patients"]


def dose_columns(n: int) -> list[str]:
    """Return the names of the columns that hold n doses."""
    return [f"{what}_{i}" for what in ("dose", "dose_time", "dose_duration") for i in range(1, n + 1)]


def covariate_columns(names: Sequence[str]) -> list[str]:
    """Return the columns of X that hold neither the time nor doses."""
    pattern = re.compile(r"time|(dose|dose_time|dose_duration)(_[0-9]+)?")
    return [name for name in names if not pattern.fullmatch(name)]


@dataclass(frozen=True)
class Regimen:
    """The doses of one patient, in order of time.

    Parameters
    ----------
    time : array-like of shape (n_doses,)
        When each dose is given, or its infusion begins; at least 0, in the unit of time of the fit. Doses that come in
        another order are sorted by time, together with their amounts and durations.
    amount : array-like of shape (n_doses,), or float
        One number stands for all doses.
    duration : array-like of shape (n_doses,), or float, default=0
        Duration of an infusion; 0 for a dose given at once.
    covariates : dict of str to float
        Properties of the patient, such as weight and age, under the names of the columns of the fit. Where the
        regimen is used with an adapted patient, they take precedence over that patient's.

    Raises
    ------
    ValueError
        When a number is missing, infinite or negative, lengths differ, or no dose is above 0.

    Examples
    --------
    >>> from metaest_domains.physiology import Regimen
    >>> Regimen([0.0, 12.0, 24.0], 320.0).rows([6.0, 30.0]).shape
    (2, 10)
    >>> Regimen.repeated(320.0, interval=12.0, n=3).time
    array([ 0., 12., 24.])
    """

    time: NDArray[np.float64]
    amount: NDArray[np.float64]
    duration: NDArray[np.float64] = 0.0  # type: ignore[assignment]  # an array from __post_init__ on
    covariates: dict[str, float] = field(default_factory=dict)

    @classmethod
    def repeated(
        cls, amount: float, interval: float = 0.0, n: int = 1, duration: float = 0.0, **covariates: float
    ) -> "Regimen":
        """Return n equal doses, the first at time 0."""
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"n must be a whole number of doses, at least 1, got {n!r}.")
        gap, one, lasting = (
            _numbers(value, name, "repeated doses")
            for name, value in (("interval", interval), ("amount", amount), ("duration", duration))
        )
        if any(len(own) != 1 for own in (gap, one, lasting)):
            raise ValueError("repeated doses have one amount, one interval and one duration; for others use Regimen.")
        if n > 1 and not gap[0] > 0:
            raise ValueError(f"repeated doses need an interval above 0, got {interval!r}.")
        return cls(np.arange(n) * gap[0], np.repeat(one, n), np.repeat(lasting, n), dict(covariates))

    def __post_init__(self) -> None:
        time = _numbers(self.time, "time", "a regimen")
        order = np.argsort(time, kind="stable")
        for name in ("time", "amount", "duration"):
            values = _numbers(getattr(self, name), name, "a regimen")
            if np.ndim(getattr(self, name)) == 0 and name != "time":
                values = np.repeat(values, len(time))
            if len(values) != len(time):
                raise ValueError(f"a regimen has {len(time)} times of doses, but {len(values)} in {name}.")
            object.__setattr__(self, name, values[order])
        if not len(self.time) or not (self.amount > 0).any():
            raise ValueError("a regimen needs a dose above 0.")
        object.__setattr__(self, "covariates", _covariates(self.covariates))

    def scaled(self, factor: float) -> "Regimen":
        """Return the same regimen with all doses multiplied."""
        return replace(self, amount=self.amount * factor)

    def completed(self, columns: Sequence[str], patient: Mapping[str, float] | None = None) -> "Regimen":
        """Return the regimen with just the covariates of a model.

        Parameters
        ----------
        columns : sequence of str
            Covariates of the model; see :func:`covariate_columns`.
        patient : dict of str to float, optional
            Covariates of an adapted patient, which stand where the regimen has none. Where it has, the regimen's
            count: they describe the patient at the doses that are asked about.

        Raises
        ------
        ValueError
            When the regimen has a covariate that the model does not know, or lacks one.
        """
        unknown = [name for name in self.covariates if name not in columns]
        if unknown:
            there = f"it has {', '.join(map(repr, columns))}" if len(columns) else "it has none"
            raise ValueError(
                f"the regimen has the covariate {unknown[0]!r}, which the model was not fitted on; {there}."
            )
        values = {**(patient or {}), **self.covariates}
        missing = [name for name in columns if name not in values]
        if missing:
            raise ValueError(
                f"the model was fitted on the covariate {missing[0]!r}, and the regimen has none: give it one, such as "
                f"Regimen.repeated(..., {missing[0]}=70.0)."
            )
        return replace(self, covariates={name: float(values[name]) for name in columns})

    def rows(self, times: ArrayLike, n_doses: int | None = None) -> pd.DataFrame:
        """Return rows of X for observations or predictions at given times.

        Parameters
        ----------
        times : array-like of shape (n_rows,)
            A dose counts from its own time on.
        n_doses : int, optional
            Columns to provide for; None for as many as there are doses.

        Raises
        ------
        ValueError
            When times are negative or there are more doses than columns.
        """
        at = _numbers(times, "times", "a regimen")
        return self._frame(at, np.broadcast_to(self.amount, (len(at), len(self.amount))), n_doses)

    def _frame(self, at: NDArray[np.float64], amount: NDArray[np.float64], n_doses: int | None) -> pd.DataFrame:
        n = len(self.time)
        wanted = n if n_doses is None else n_doses
        if n > wanted:
            raise ValueError(
                f"the regimen has {n} doses, the columns hold {wanted}: read the patients of the fit with "
                f"n_doses={n} or more."
            )
        padded = [np.zeros((len(at), wanted)) for _ in range(3)]
        for part, own in zip(padded, (amount, self.time, self.duration), strict=True):
            part[:, :n] = own
        frame = pd.DataFrame(np.column_stack([at, *padded]), columns=["time", *dose_columns(wanted)])
        for name, value in self.covariates.items():
            frame[name] = float(value)
        return frame

    @classmethod
    def read(
        cls,
        frame: pd.DataFrame,
        *,
        time: str = "time",
        dose: str = "dose",
        target: str = "concentration",
        duration: str | None = None,
        covariates: Sequence[str] = (),
        n_doses: int | None = None,
        name: Any = "patient",
    ) -> tuple["Regimen", pd.DataFrame, NDArray[np.float64]]:
        """Read the records of one patient; see :func:`read_patients`.

        Returns
        -------
        regimen : Regimen
        X : DataFrame
            One row an observation; no row where there is none.
        y : ndarray of shape (n_observations,)

        Raises
        ------
        TaskError
            When a record makes no sense; the message names patient, column and row.
        """
        where = f"task {name!r}"
        records = _sorted(frame, [time, dose, target, *([duration] if duration else []), *covariates], time, where)
        amounts = records[dose].fillna(0.0).to_numpy(np.float64)
        seen = records[target].to_numpy(np.float64)
        lasting = records[duration].fillna(0.0).to_numpy(np.float64) if duration else np.zeros(len(records))
        at = records[time].to_numpy(np.float64)
        given, observed = amounts > 0, ~np.isnan(seen)
        for column, values in ((time, at), (dose, amounts), (duration, lasting)):
            _refuse_negative(values, column, records.index, where)
        both = np.flatnonzero(given & observed)
        if len(both):
            raise TaskError(
                f"{where}: row {records.index[both[0]]} has a dose and a {target}; write two rows, the {target} first "
                "where it was taken before the dose."
            )
        if not given.any():
            raise TaskError(f"{where}: column {dose!r} has no dose above 0.")
        regimen = cls(at[given], amounts[given], lasting[given], _constant(records, covariates, where))
        # of records at one time, those above come first: a sample above a dose was taken before it
        place = np.arange(len(records))
        counted = (at[given] < at[observed, None]) | (place[given] < place[observed, None])
        X = regimen._frame(at[observed], np.where(counted, amounts[given], 0.0), n_doses)
        return regimen, X, seen[observed]


def read_patients(
    frame: pd.DataFrame,
    *,
    patient: str = "patient",
    time: str = "time",
    dose: str = "dose",
    target: str = "concentration",
    duration: str | None = None,
    covariates: Sequence[str] = (),
    n_doses: int | None = None,
) -> TaskSet:
    """Read patients from one tidy frame of dose records and observations.

    A dose record has a dose and no concentration, an observation a concentration and no dose. Records of a patient may
    come in any order; of records at one time, the upper one came first, so that a sample above a dose was taken before
    it. Doses are known inputs of every observation, and are never counted as observations.

    Parameters
    ----------
    frame : DataFrame
    patient, time, dose, target : str
        Columns: whose record it is, when, how much was given, and what was measured (missing in dose records).
    duration : str, optional
        Column with the duration of infusions; missing or 0 for a dose given at once.
    covariates : sequence of str, default=()
        Columns that belong to the patient; they follow the doses in X.
    n_doses : int, optional
        Doses that X has columns for; None for the most of any patient. A patient with more doses cannot be read for a
        model fitted on fewer, so provide for those to come.

    Returns
    -------
    TaskSet
        One task a patient, with the columns ``time``, ``dose_1`` ..., ``dose_time_1`` ..., ``dose_duration_1`` ..., and
        the covariates.

    Raises
    ------
    TaskError
        When a record makes no sense; the message names patient, column and row.

    Warns
    -----
    UserWarning
        When patients without an observation are left out.

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
    """
    if patient not in frame.columns:
        raise TaskError(f"there is no column {patient!r}; the frame has {list(frame.columns)}.")
    if frame[patient].isna().any():
        raise TaskError(f"column {patient!r} is missing in row {frame.index[frame[patient].isna()][0]}.")
    settings: dict[str, Any] = {
        "time": time, "dose": dose, "target": target, "duration": duration, "covariates": covariates
    }  # fmt: skip
    if len(frame) == 0:
        raise TaskError("the frame has no records.")
    groups = dict(iter(frame.groupby(patient, sort=False)))
    read = {name: Regimen.read(own, name=name, **settings) for name, own in groups.items()}
    most = max(len(regimen.time) for regimen, _, _ in read.values()) if n_doses is None else n_doses
    empty = [name for name, (_, _, y) in read.items() if len(y) == 0]
    if empty:
        warn(
            f"{len(empty)} patient{'s have' if len(empty) > 1 else ' has'} doses but no {target} and "
            f"{'are' if len(empty) > 1 else 'is'} left out: {', '.join(map(repr, empty[:5]))}."
        )
    if len(empty) == len(read):
        raise TaskError(f"no patient has a value of {target!r}.")
    kept = [name for name in read if name not in empty]
    parts = [Regimen.read(groups[name], name=name, n_doses=most, **settings) for name in kept]
    X = pd.concat([rows for _, rows, _ in parts], ignore_index=True)
    y = np.concatenate([seen for _, _, seen in parts])
    owner = pd.Series(np.repeat(np.array(kept, dtype=object), [len(seen) for _, _, seen in parts])).infer_objects()
    return TaskSet.from_arrays(X, y, owner.to_numpy(), target_names=[target])


def _numbers(values: Any, name: str, where: str) -> NDArray[np.float64]:
    """Return numbers of at least 0 as an array of shape (n,)."""
    numbers_only(values, f"{where}: {name}")
    given = np.asarray(values)
    if given.dtype.kind == "b" or given.dtype.kind not in "iufO" or given.ndim > 1:
        raise ValueError(f"{where}: {name} must be a number of at least 0, or a list of them, got {values!r}.")
    try:
        array = np.atleast_1d(given.astype(np.float64))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {name} must be numbers, got {values!r}.") from error
    wrong = array[~(np.isfinite(array) & (array >= 0))]
    if len(wrong):
        raise ValueError(f"{where}: {name} must be at least 0, got {wrong[0]:g}.")
    return array


def _covariates(given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise ValueError(f"covariates must be a dict such as {{'weight': 70.0}}, got {given!r}.")
    values = {}
    for name, value in given.items():
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not isinstance(name, str) or not number or not np.isfinite(value):
            raise ValueError(f"covariates of a regimen must be finite numbers by name, got {name!r}: {value!r}.")
        values[name] = float(value)
    return values


def _sorted(frame: pd.DataFrame, columns: list[str], time: str, where: str) -> pd.DataFrame:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise TaskError(f"{where}: there is no column {missing[0]!r}; the frame has {list(frame.columns)}.")
    dates = [name for name in columns if pd.api.types.is_datetime64_any_dtype(frame[name])]
    if dates:
        raise TaskError(
            f"{where}: column {dates[0]!r} holds dates; numbers are wanted, such as hours since the first dose."
        )
    try:
        records = frame[columns].apply(pd.to_numeric)
    except (ValueError, TypeError) as error:
        raise TaskError(f"{where}: numbers are wanted in the columns {columns}: {error}.") from error
    if not np.isfinite(records[time]).all():
        raise TaskError(f"{where}: column {time!r} is missing in row {records.index[~np.isfinite(records[time])][0]}.")
    ordered: pd.DataFrame = records.sort_values(time, kind="stable")
    return ordered


def _refuse_negative(values: NDArray[np.float64], column: str | None, index: Any, where: str) -> None:
    wrong = np.flatnonzero((values < 0) | np.isinf(values))
    if len(wrong):
        raise TaskError(f"{where}: column {column!r} is {values[wrong[0]]:g} in row {index[wrong[0]]}; it cannot be.")


def _constant(records: pd.DataFrame, covariates: Sequence[str], where: str) -> dict[str, float]:
    found = {}
    for name in covariates:
        values = records[name].dropna().unique()
        if len(values) != 1:
            what = "is missing" if len(values) == 0 else f"changes ({values[0]:g}, {values[1]:g})"
            raise TaskError(f"{where}: column {name!r} belongs to the patient and {what}.")
        found[name] = float(values[0])
    return found
