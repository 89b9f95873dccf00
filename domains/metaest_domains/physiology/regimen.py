"""The doses of one patient, and rows of X that contain all of them.

Every row of X holds all doses of its patient, as ``dose_1``, ``dose_time_1``, ``dose_duration_1`` and so on: doses are
inputs of observations and of predictions.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metaest import TaskError
from metaest.tasks.arguments import is_whole
from metaest.tasks.containers import plain
from metaest.tasks.numbers import as_number, as_vector
from metaest.tasks.record import Record, set_fields
from metaest_domains.physiology.dose_records import (
    FURTHER,
    MOST_DOSES,
    columns_for,
    covariate_columns,
    doses_of_records,
)
from metaest_domains.physiology.record_columns import find_names
from metaest_domains.physiology.record_limits import filled
from metaest_domains.physiology.records import Records, one_patient, read_records, require_one_kind, warn_of_rest
from metaest_domains.physiology.time_varying import TimeVarying, path_columns

__all__ = ["Regimen", "covariate_columns", "dose_columns"]


def dose_columns(n: int) -> list[str]:
    """Return the names of the columns that hold n doses; n is at least 1."""
    if not is_whole(n) or not 1 <= n <= MOST_DOSES:
        raise ValueError(f"n must be a whole number of doses, from 1 to {MOST_DOSES:,}, got {n!r}.")
    return [f"{what}_{i}" for what in ("dose", "dose_time", "dose_duration") for i in range(1, n + 1)]


@dataclass(frozen=True, eq=False)
class Regimen(Record):
    """The doses of one patient, in order of time.

    A regimen stores read-only copies of its arguments. Regimens with the same doses and covariates are equal, and have
    the same hash.

    Parameters
    ----------
    time : array-like of shape (n_doses,)
        Time of each dose, or the start of its infusion; at least 0, in the unit of time of the fit, and in rising
        order. Several doses may be given at the same time.
    amount : array-like of shape (n_doses,), or float
        Amount of each dose; one number applies to all doses.
    duration : array-like of shape (n_doses,), or float, default=0
        Duration of an infusion; 0 for a dose given at once.
    covariates : dict of str to float or TimeVarying
        Properties of the patient, such as weight and age, by the names of the columns of the fit. They take precedence
        over those of an adapted patient.
    interval : array-like of shape (n_doses,), or float, default=0
        Time between the doses that a record stands for (II); above 0 with `number` above 1, and at steady state.
    number : array-like of shape (n_doses,), or int, default=1
        Doses that the record stands for (ADDL + 1), each `interval` after the one before. They are written out: a
        regimen of records has the same doses, and equals, that of its doses one by one. Doses due at or after a later
        reset, or dose at steady state with 1, are not given.
    steady : array-like of shape (n_doses,), or int, default=0
        1 for a dose at steady state (SS): the last of endlessly many, `interval` apart, and nothing else is left of
        earlier doses; 2 where the steady state adds to what is there. With a lag it is the steady state of the lagged
        doses, and those on their way arrive. An amount of 0 with a `rate` is an endless infusion that stops there.
    compartment : array-like of shape (n_doses,), or int, default=0
        Compartment that a dose enters (CMT); 0 for the usual one of the model's route.
    rate : array-like of shape (n_doses,), or float, default=0
        Rate of an infusion (amount per time) whose duration follows: bioavailability times amount divided by rate.
        Without a constant of bioavailability that is ``duration = amount / rate``.
    reset : array-like of shape (n_doses,), or int, default=0
        1 where all amounts become zero at the time of the record (EVID 4; EVID 3 with an amount of 0).

    Raises
    ------
    ValueError
        When a number is missing, infinite, negative or outside its range, times are not in order, lengths differ, no
        dose is above 0, or fields contradict each other.

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
    covariates: Mapping[str, float | TimeVarying] = field(default_factory=dict)
    interval: NDArray[np.float64] = 0.0  # type: ignore[assignment]
    number: NDArray[np.float64] = 1.0  # type: ignore[assignment]
    steady: NDArray[np.float64] = 0.0  # type: ignore[assignment]
    compartment: NDArray[np.float64] = 0.0  # type: ignore[assignment]
    rate: NDArray[np.float64] = 0.0  # type: ignore[assignment]
    reset: NDArray[np.float64] = 0.0  # type: ignore[assignment]

    @classmethod
    def repeated(
        cls, amount: float, interval: float = 0.0, n: int = 1, duration: float = 0.0, **covariates: float
    ) -> "Regimen":
        """Return n equal doses, the first at time 0."""
        fields = [name for name in covariates if name in ("time", "covariates", "number", *FURTHER)]
        if fields:
            raise TypeError(f"Regimen.repeated has no {fields[0]!r}; Regimen(...) has, and it is no covariate.")
        if not is_whole(n) or n < 1:
            raise ValueError(f"n must be a whole number of doses, at least 1, got {n!r}.")
        gap, one, lasting = (
            np.array([as_number(value, f"repeated doses: {name}", least=0, wanted="a number of at least 0")])
            for name, value in (("interval", interval), ("amount", amount), ("duration", duration))
        )
        if n > MOST_DOSES:
            raise ValueError(f"a regimen has at most {MOST_DOSES:,} doses, got n={n:,}.")
        if n > 1 and not gap[0] > 0:
            raise ValueError(f"repeated doses need an interval above 0, got {interval!r}.")
        return cls(np.arange(n) * gap[0], np.repeat(one, n), np.repeat(lasting, n), dict(covariates))

    def __post_init__(self) -> None:
        further = {name: getattr(self, name) for name in ("number", *FURTHER)}
        parts = _parts(self.time, self.amount, self.duration, further)
        falls = np.flatnonzero(np.diff(parts[0]) < 0)
        if len(falls):
            before = parts[0][falls[0]]
            after = parts[0][falls[0] + 1]
            raise ValueError(
                f"a regimen: times must be in order, but dose {falls[0] + 1} at {after:g} comes after one at "
                f"{before:g}; Regimen.sorted(...) accepts doses in any order."
            )
        set_fields(self, **doses_of_records(dict(zip(("time", "amount", "duration", *further), parts, strict=True))))
        set_fields(self, covariates=_covariates(self.covariates))
        super().__post_init__()

    @classmethod
    def sorted(
        cls,
        time: ArrayLike,
        amount: ArrayLike,
        duration: ArrayLike = 0.0,
        covariates: Mapping[str, float | TimeVarying] | None = None,
        **further: ArrayLike,
    ) -> "Regimen":
        """Return the regimen of doses given in any order; doses at the same time keep their order.

        Further fields of the records (``steady=`` and so on) are those of the class.
        """
        for name in further:
            if name not in ("number", *FURTHER):
                raise TypeError(f"Regimen.sorted: there is no {name!r}; there are number, {', '.join(FURTHER)}.")
        parts = _parts(time, amount, duration, further)
        order = np.argsort(parts[0], kind="stable")
        at, amounts, durations, *rest = (values[order] for values in parts)
        given = {} if covariates is None else covariates
        return cls(at, amounts, durations, given, **dict(zip(further, rest, strict=True)))

    @property
    def plain(self) -> bool:
        """Whether records say no more than times, amounts and durations, and covariates do not change."""
        changing = any(isinstance(value, TimeVarying) for value in self.covariates.values())
        return not changing and not any(getattr(self, name).any() for name in FURTHER)

    def scaled(self, factor: float) -> "Regimen":
        """Return the same regimen with all doses multiplied by a factor."""
        number = as_number(factor, "factor of the doses", above=0, wanted="a number above 0")
        with np.errstate(over="ignore", under="ignore"):
            return replace(self, amount=self.amount * number, rate=self.rate * number)

    def completed(self, columns: Sequence[str], patient: Mapping[str, float] | None = None) -> "Regimen":
        """Return the regimen with exactly the covariates of a model.

        Parameters
        ----------
        columns : sequence of str
            Covariates of the model; see :func:`covariate_columns`.
        patient : dict of str to float, optional
            Covariates of an adapted patient, used if the regimen lacks them. Those of the regimen take precedence: they
            describe the patient at the time of these doses.

        Raises
        ------
        ValueError
            When the regimen has a covariate that the model was not fitted on, or lacks one.
        """
        columns = _columns(columns, "columns")
        if patient is not None and not isinstance(patient, Mapping):
            raise TaskError(f"patient must be a dict of covariates by name, got {patient!r}.")
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
                f"the model was fitted on the covariate {missing[0]!r}, and no value is given: write it into the "
                f"regimen, such as Regimen.repeated(..., {missing[0]}=70.0), or pass covariates={{{missing[0]!r}: "
                "70.0} to a function that takes no regimen."
            )
        return replace(self, covariates={name: values[name] for name in columns})

    def rows(self, times: ArrayLike, n_doses: int | None = None) -> pd.DataFrame:
        """Return rows of X for observations or predictions at given times.

        Parameters
        ----------
        times : array-like of shape (n_rows,)
            Times of the rows; a dose counts from its time on.
        n_doses : int, optional
            Number of doses for which the rows have columns; None for the number of doses in the regimen.

        Raises
        ------
        ValueError
            When times are negative or there are more doses than columns.
        """
        at = _numbers(times, "times", "a regimen")
        counted = np.ones((len(at), len(self.time)), dtype=bool)
        return self._records_frame(at, counted, self._columns_of_rows(n_doses))

    def _columns_of_rows(self, n_doses: int | None) -> list[str]:
        """Return the columns of rows of this regimen."""
        n = len(self.time)
        width = n if n_doses is None else n_doses
        if not is_whole(width) or not 1 <= width <= MOST_DOSES:
            raise ValueError(f"n_doses must be a whole number from 1 to {MOST_DOSES:,}, got {n_doses!r:.60}.")
        if n > width:
            raise ValueError(
                f"the regimen has {n} dose{'s' * (n > 1)}, the columns hold {width}: read the patients of the "
                f"fit with n_doses={n} or more."
            )
        return columns_for([self], width)

    def _records_frame(self, at: NDArray[np.float64], counted: NDArray[np.bool_], columns: list[str]) -> pd.DataFrame:
        """Return rows at some times with the given columns (`columns_for`); of records, those that count in each row.

        Parameters
        ----------
        at : ndarray of shape (n_rows,)
        counted : ndarray of bool of shape (n_rows, n_doses)
        columns : list of str
        """
        n, place = len(self.time), {name: j for j, name in enumerate(columns)}
        values = np.zeros((len(at), len(columns)))
        values[:, place["time"]] = at
        fields = {"dose": "amount", "dose_time": "time", "dose_duration": "duration"}
        fields |= {f"dose_{name}": name for name in FURTHER}
        for column, name in fields.items():
            if f"{column}_1" not in place:
                continue
            chosen = [place[f"{column}_{i}"] for i in range(1, n + 1)]
            always = name in ("time", "duration")
            values[:, chosen] = getattr(self, name) if always else np.where(counted, getattr(self, name), 0.0)
        for name, value in self.covariates.items():
            if name in place:
                if isinstance(value, TimeVarying):
                    raise ValueError(f"covariate {name!r} changes over time, and X has one column of it.")
                values[:, place[name]] = float(value)
                continue
            length = sum(f"{name}_time_{i}" in place for i in range(1, len(columns) + 1))
            path = value if isinstance(value, TimeVarying) else TimeVarying(np.zeros(1), np.array([float(value)]))
            values[:, [place[column] for column in path_columns(name, length)]] = np.concatenate(path.padded(length))
        return pd.DataFrame(values, columns=columns)

    @classmethod
    def read(
        cls,
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
        n_doses: int | None = None,
        time_unit: str = "h",
        name: Any = "patient",
    ) -> tuple["Regimen", pd.DataFrame, NDArray[np.float64]]:
        """Read the records of one patient; see :func:`read_patients`.

        Parameters
        ----------
        frame : DataFrame
        patient : str, optional
            Column that identifies the patient; None looks for one with a usual name (patient, ID, subject ...). Records
            of more than one patient are an error.
        time, dose, target, duration, covariates, time_varying, occasion, output, columns, n_doses, time_unit
            As in :func:`read_patients`.
        name : str, default="patient"
            Name of the patient in error messages.

        Returns
        -------
        regimen : Regimen
            All doses, those of ADDL included.
        X : DataFrame
            One row for each observation; possibly none. Words of an occasion or output stay words.
        y : ndarray of shape (n_observations,)

        Raises
        ------
        TaskError
            When a record is contradictory, or not supported by these models; the message names patient,
            column and row.

        Warns
        -----
        UserWarning
            When columns were not read, or records have neither a dose nor an observation.
        """
        where = f"task {name!r}"
        frame = plain(frame, where)
        arguments: dict[str, Any] = {"patient": patient, "time": time, "dose": dose, "target": target}
        arguments |= {"duration": duration, "covariates": covariates, "time_varying": time_varying}
        arguments |= {"occasion": occasion, "output": output}
        names = find_names(frame, arguments, columns, time_unit, many=False)
        owners = one_patient(frame, patient, names.read)
        records = read_records(frame, names, where)
        require_one_kind({name: records.marks}, names)
        warn_of_rest(frame, {*names.read, *owners}, {name: records}, names)
        regimen = cls._of_records(records, by_compartment=records.by_compartment)
        X = regimen._records_frame(records.seen_time, records.counted(), regimen._columns_of_rows(n_doses))
        return regimen, X.assign(**filled(records.kept, records.seen)), records.seen

    @classmethod
    def _of_records(cls, records: Records, *, by_compartment: bool) -> "Regimen":
        """Return the doses of a patient's records.

        Parameters
        ----------
        records : Records
        by_compartment : bool
            Whether compartments are told apart; otherwise each dose enters the usual one.
        """
        covariates = {
            name: TimeVarying(*value) if isinstance(value, tuple) else value
            for name, value in records.covariates.items()
        }
        fields = dict(records.fields)
        if by_compartment:  # where a bioavailability is known of, an infusion of a rate lasts accordingly
            by_rate = (records.written_rate > 0) & (fields["compartment"] <= 1)
            fields["rate"] = np.where(by_rate, records.written_rate, fields["rate"])
            fields["duration"] = np.where(by_rate, 0.0, fields["duration"])
        else:
            del fields["compartment"]
        return cls(records.time, covariates=covariates, **fields)


def _columns(names: Any, argument: str) -> list[Any]:
    if isinstance(names, (str, bytes)) or not isinstance(names, (Sequence, pd.Index)):
        raise TaskError(f"{argument} must be a list of columns, got {names!r:.60}; write [{names!r:.60}].")
    if any(name is None or not isinstance(name, Hashable) for name in names):
        raise TaskError(f"{argument} must be a list of names of columns, got {list(names)!r:.60}.")
    return list(names)


def _parts(
    time: Any, amount: Any, duration: Any, further: Mapping[str, Any] | None = None
) -> list[NDArray[np.float64]]:
    """Return times, amounts, durations and further fields of records, all of the same length."""
    at = _numbers(time, "time", "a regimen")
    if len(at) > MOST_DOSES:
        raise ValueError(f"a regimen has at most {MOST_DOSES:,} doses, got {len(at):,}.")
    parts = [at]
    for name, given in {"amount": amount, "duration": duration, **(further or {})}.items():
        values = _numbers(given, name, "a regimen")
        if _is_number(given):
            values = np.repeat(values, len(at))
        if len(values) != len(at):
            raise ValueError(f"a regimen has {len(at)} times of doses, but {len(values)} in {name}.")
        parts.append(values)
    with np.errstate(over="ignore"):
        if not np.isfinite(parts[1].sum()) or not np.isfinite(at + parts[2]).all():
            raise ValueError("a regimen: doses add up to more than a floating-point number can hold; check the units.")
    return parts


def _numbers(values: Any, name: str, where: str) -> NDArray[np.float64]:
    """Return numbers of at least 0 as an array of shape (n,); a single number becomes an array of one."""
    label = f"{where}: {name}"
    if _is_number(values):
        return np.array([as_number(values, label, least=0, wanted="a number of at least 0, or a list of them,")])
    array = as_vector(values, label)
    negative = np.flatnonzero(array < 0)
    if len(negative):
        raise TaskError(f"{label} must be at least 0, got {array[negative[0]]:g} at {negative[0]}.")
    return array


def _is_number(values: Any) -> bool:
    """Return whether a value is a single number rather than a list of them."""
    return isinstance(values, Real) or (isinstance(values, (np.ndarray, np.generic)) and np.ndim(values) == 0)


def _covariates(given: Any) -> dict[str, float | TimeVarying]:
    if not isinstance(given, Mapping):
        raise ValueError(f"covariates must be a dict such as {{'weight': 70.0}}, got {given!r}.")
    values: dict[str, float | TimeVarying] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise ValueError(f"covariates of a regimen must be finite numbers by name, got {name!r}: {value!r}.")
        if isinstance(value, TimeVarying):
            values[name] = value
            continue
        # yes and no of a record, such as of dialysis, come as True and False
        wanted = "0 or 1" if isinstance(value, (bool, np.bool_)) else "a finite number"
        where = f"covariates of a regimen must be finite numbers by name, {name!r}"
        values[name] = as_number(value, where, wanted=wanted)
    return values
