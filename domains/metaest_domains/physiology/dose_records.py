"""What a dose record says beside time, amount and duration, written out and as columns of X.

The columns of a record are there only where some record of a set of patients needs them; a model refuses those that it
does not understand.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest_domains.physiology.time_varying import TimeVarying, path_columns, path_names

__all__ = [
    "FURTHER",
    "LIMIT_COLUMNS",
    "MOST_DOSES",
    "columns_for",
    "covariate_columns",
    "doses_of_records",
    "is_given",
    "refuse_impossible",
    "written_out",
]

# greatest number of doses of one patient; every row of X holds all of them
MOST_DOSES = 100_000

# fields of a record beside time, amount and duration: what each is, for messages
FURTHER = {
    "interval": "time between the doses of a steady state",
    "steady": "1 or 2 for a dose given at steady state",
    "compartment": "compartment that a dose enters",
    "rate": "rate of an infusion whose duration depends on the bioavailability",
    "reset": "1 where all amounts become zero before the dose",
}
# what a field of a record may be beside a number of at least 0
_ALLOWED = {"steady": (0, 1, 2), "reset": (0, 1)}
# limits of quantification of rows, which are no property of the patient
LIMIT_COLUMNS = ("lloq", "lloq_from", "uloq")
_DOSE = re.compile(
    rf"{'|'.join(LIMIT_COLUMNS)}|(dose|dose_time|dose_duration)(_[0-9]+)?|dose_({'|'.join(FURTHER)})_[0-9]+|time"
)


def covariate_columns(names: Sequence[str]) -> list[str]:
    """Return the covariates that columns of X hold: no times, doses or limits; once each one that changes."""
    paths = path_names(list(names))
    parts = {column: name for name, n in paths.items() for column in path_columns(name, n)}
    return list(dict.fromkeys(parts.get(name, name) for name in names if not _DOSE.fullmatch(name)))


def is_given(amount: NDArray[Any], steady: Any, rate: Any) -> NDArray[np.bool_]:
    """Return which records bring an amount: a dose, or the plateau of an endless infusion that stops there."""
    return np.asarray((amount > 0) | ((steady > 0) & (rate > 0)))


def written_out(
    time: NDArray[np.float64], interval: NDArray[np.float64], number: NDArray[np.float64],
    restart: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:  # fmt: skip
    """Return all doses that records stand for, in order of time.

    A further dose comes after the records of the same time. Those due at or after a later record that restarts the
    patient are not given.

    Parameters
    ----------
    time, interval, number : ndarray of shape (n_records,)
        Times in order, the time between the doses of a record, and how many doses it stands for.
    restart : ndarray of bool of shape (n_records,)
        Resets, and doses at steady state that replace what was there.

    Returns
    -------
    time : ndarray of shape (n_doses,)
    record : ndarray of int of shape (n_doses,)
        The record of each dose.
    count : ndarray of int of shape (n_doses,)
        0 for the dose of the record itself.
    """
    repeats = number.astype(np.intp)
    record = np.repeat(np.arange(len(time)), repeats)
    count = np.concatenate([np.arange(n) for n in repeats])
    at = time[record] + count * interval[record]
    end = np.full(len(time), np.inf)
    for i in np.flatnonzero(restart)[::-1]:
        end[:i] = time[i]
    kept = np.flatnonzero((count == 0) | (at < end[record]))
    order = kept[np.lexsort((record[kept], count[kept] > 0, at[kept]))]
    return at[order], record[order], count[order]


def doses_of_records(parts: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Check the fields of records, and return them with the doses of each record written out."""
    time, amount, interval, steady, rate = (parts[name] for name in ("time", "amount", "interval", "steady", "rate"))
    for name, allowed in _ALLOWED.items():
        _refuse(~np.isin(parts[name], allowed), name, parts[name], f"it must be one of {', '.join(map(str, allowed))}")
    for name, least in (("number", 1), ("compartment", 0)):
        whole = (parts[name] == np.round(parts[name])) & (parts[name] >= least)
        _refuse(~whole, name, parts[name], f"it must be a whole number of at least {least}")
    plateau = (amount == 0) & (rate > 0) & (steady > 0)
    _refuse(
        (parts["number"] > 1) & ~(interval > 0), "number", parts["number"], "several doses need an interval above 0"
    )
    _refuse(
        (steady > 0) & ~(interval > 0) & ~plateau, "steady", steady, "a steady state needs the interval between doses"
    )
    _refuse((steady > 0) & (amount == 0) & ~plateau, "steady", steady, "a steady state needs an amount above 0")
    _refuse((rate > 0) & (parts["duration"] > 0), "rate", rate, "the record has a duration as well; keep one of them")
    _refuse((rate > 0) & (amount == 0) & ~plateau, "rate", rate, "a rate needs an amount above 0")
    _refuse(plateau & (parts["number"] > 1), "number", parts["number"], "an endless infusion has no further doses")
    if not len(time) or not is_given(amount, steady, rate).any():
        raise ValueError("a regimen needs at least one dose above 0.")
    total = float(parts["number"].sum())
    if total > MOST_DOSES:
        raise ValueError(f"a regimen has at most {MOST_DOSES:,} doses, got {total:,.0f}.")
    if not ((steady > 0) | (parts["number"] > 1)).any():
        _refuse(
            interval > 0, "interval", interval, "no dose comes again; say how many do (number) or that it is steady"
        )
    restart = (parts["reset"] > 0) | (steady == 1)
    at, record, count = written_out(time, interval, parts["number"], restart)
    doses = {name: values[record] for name, values in parts.items()}
    first = count == 0
    doses |= {"time": at, "number": np.ones(len(at))}
    doses |= {name: np.where(first, doses[name], 0.0) for name in ("steady", "reset")}
    doses["interval"] = np.where(doses["steady"] > 0, doses["interval"], 0.0)
    return doses


def refuse_impossible(records: Any) -> None:
    """Raise a ValueError where fields of the records of rows are not among what they may be, or contradict each other.

    Parameters
    ----------
    records : object
        With the fields of a record as attributes, each an ndarray of shape (n_rows, n_records).
    """
    steady, interval, rate, compartment = records.steady, records.interval, records.rate, records.compartment
    endless = (records.amount == 0) & (rate > 0)
    checks = [
        ("interval", interval < 0, "it cannot be negative"),
        ("interval", (steady > 0) & (interval == 0) & ~endless, "a steady state needs the interval between doses"),
        ("compartment", (compartment < 0) | (compartment != np.round(compartment)), "it must be a whole number"),
        ("rate", rate < 0, "it cannot be negative"),
        ("rate", (rate > 0) & (records.duration > 0), "the dose has a duration as well; keep one of them"),
    ]
    for name, may in _ALLOWED.items():
        checks.append((name, ~np.isin(getattr(records, name), may), f"it must be one of {', '.join(map(str, may))}"))
    for name, wrong, why in checks:
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            value, time = (part[row, place] for part in (getattr(records, name), records.time))
            raise ValueError(f"dose_{name} of the dose at {time:g} is {value:g} in row {row}: {why}.")


def _refuse(wrong: NDArray[np.bool_], name: str, values: NDArray[np.float64], why: str) -> None:
    """Raise an error for the first record that is wrong."""
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"a regimen: {name} is {values[place]:g} in record {place + 1}: {why}.")


def columns_for(regimens: Iterable[Any], n_doses: int | None = None) -> list[str]:
    """Return the columns of X that hold the records and covariates of all of these regimens.

    Parameters
    ----------
    regimens : iterable of Regimen
    n_doses : int, optional
        Number of doses for which there are columns; None for the most of any regimen.
    """
    several = list(regimens)
    width = max(len(regimen.time) for regimen in several) if n_doses is None else n_doses
    columns = ["time", *(f"{what}_{i}" for what in ("dose", "dose_time", "dose_duration") for i in range(1, width + 1))]
    for name in FURTHER:
        if any(getattr(regimen, name).any() for regimen in several):
            columns += [f"dose_{name}_{i}" for i in range(1, width + 1)]
    lengths: dict[str, int] = {}
    for regimen in several:
        for name, value in regimen.covariates.items():
            length = len(value.time) if isinstance(value, TimeVarying) else 0
            lengths[name] = max(lengths.get(name, 0), length)
    for name, length in lengths.items():
        columns += path_columns(name, length) if length else [name]
    return columns
