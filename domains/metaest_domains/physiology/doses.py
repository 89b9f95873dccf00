"""The columns of X that hold dose records and covariates that change, by their names; further ones of new patients."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.physiology.dose_records import FURTHER
from metaest_domains.physiology.events import DoseRecords
from metaest_domains.physiology.time_varying import path_columns, path_names

__all__ = ["Doses"]

_FURTHER = re.compile(rf"dose_({'|'.join(FURTHER)})_[0-9]+")


@dataclass(frozen=True)
class Doses:
    """Columns of X that hold the doses and their times.

    Attributes
    ----------
    time : int
        Column of the time of the row.
    amount, since, duration : tuple of int
        Columns of the amounts, times and durations of doses; without `since` there is one dose, at time 0.
    width : int, optional
        Number of columns of the fit. Columns beyond them hold further doses; see `_slots`.
    further : tuple of (str, tuple of int)
        Further fields of the records that X has columns of, such as "steady", and these columns.
    paths : tuple of (str, tuple of int, tuple of int)
        Covariates that change over time, with the columns of their values and of the times of these.
    """

    time: int
    amount: tuple[int, ...]
    since: tuple[int, ...]
    duration: tuple[int, ...]
    width: int | None = None
    further: tuple[tuple[str, tuple[int, ...]], ...] = ()
    paths: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    @classmethod
    def find(cls, columns: Sequence[str] | None, n_columns: int) -> "Doses":
        """Find the columns by name; without names, the first two columns are the time and one dose."""
        names = list(columns or [])
        if not names:
            if n_columns < 2:
                raise ValueError("X has one column; it must have columns for time and dose.")
            return cls(0, (1,), (), (), n_columns)
        if "time" not in names:
            raise ValueError(f"X has no column 'time'; it has {names}. See read_patients.")
        numbers = sorted(int(name[5:]) for name in names if name.startswith("dose_") and name[5:].isdigit())
        n = len(numbers)
        if n and "dose" in names:
            raise ValueError("X has a column 'dose' and columns 'dose_1' ...; keep one of the two (see read_patients).")
        if n == 0:
            stray = [name for name in names if name.startswith(("dose_time", "dose_duration"))]
            if stray:
                raise ValueError(f"X has the column {stray[0]!r} but no 'dose_1'; see read_patients.")
            if "dose" not in names:
                raise ValueError(f"X has no column 'dose' and no 'dose_1'; it has {names}. See read_patients.")
            return cls(names.index("time"), (names.index("dose"),), (), (), len(names), (), _paths(names))

        def numbered(what: str) -> tuple[int, ...]:
            missing = [f"{what}_{i}" for i in range(1, n + 1) if f"{what}_{i}" not in names]
            if missing:
                raise ValueError(f"X has {n} columns of doses, but no {missing[0]!r}; see read_patients.")
            return tuple(names.index(f"{what}_{i}") for i in range(1, n + 1))

        duration = numbered("dose_duration") if any(name.startswith("dose_duration_") for name in names) else ()
        further = tuple(
            (field, numbered(f"dose_{field}"))
            for field in FURTHER
            if any(name.startswith(f"dose_{field}_") for name in names)
        )
        return cls(
            names.index("time"), numbered("dose"), numbered("dose_time"), duration, len(names), further, _paths(names)
        )

    def unnamed(self) -> list[str]:
        """Return names for the columns of a fit that had none."""
        return ["time", "dose", *(f"x{j}" for j in range(2, self.width or 2))]

    @property
    def wide(self) -> bool:
        """Whether X holds more of a record than time, amount and duration, or covariates that change."""
        return bool(self.further or self.paths)

    @property
    def design_columns(self) -> tuple[int, ...]:
        """The columns of doses and of covariates that change."""
        more = [places for _, places in self.further] + [part for _, *both in self.paths for part in both]
        return (*self.amount, *self.since, *self.duration, *(column for part in more for column in part))

    def read(self, X: Any) -> tuple[Any, Any, Any]:
        """Return amounts, times since each dose and durations, of shape (n_rows, n_doses)."""
        amount, start, duration = self.of(X)
        return amount, X[:, self.time : self.time + 1] - start, duration

    def of(self, X: Any) -> tuple[Any, Any, Any]:
        """Return amounts, times and durations of doses, of shape (n_rows, n_doses)."""
        amount = _columns(X, self.amount)
        start = _columns(X, self.since) if self.since else 0 * amount
        duration = _columns(X, self.duration) if self.duration else 0 * amount
        if self.width is not None and X.shape[1] > self.width:
            join = torch.cat if isinstance(X, Tensor) else np.concatenate
            amount, start, duration = (
                join([part, more], 1) for part, more in zip((amount, start, duration), self._slots(X)[:3], strict=True)
            )
        return amount, start, duration

    def records(self, X: Any) -> DoseRecords:
        """Return all fields of the records, of shape (n_rows, n_records), from a tensor or an array."""
        amount, start, duration = self.of(X)
        of_fit = {name: _columns(X, places) for name, places in self.further}
        slots, n = self._slots(X), amount.shape[1] - len(self.amount)
        join = torch.cat if isinstance(X, Tensor) else np.concatenate
        parts: list[Any] = []
        for k, name in enumerate(FURTHER):
            base = of_fit.get(name, 0 * amount[:, : len(self.amount)])
            more = slots[3 + k] if n and self.wide else 0 * amount[:, len(self.amount) :]
            parts.append(join([base, more], 1))
        return DoseRecords(start, amount, duration, *parts)

    def path(self, X: NDArray[Any], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times and values of a covariate that changes, of shape (n_rows, n_values), in order of time."""
        place = next(k for k, (label, _, _) in enumerate(self.paths) if label == name)
        _, values, times = self.paths[place]
        value, time = X[:, list(values)], X[:, list(times)]
        if self.width is not None and X.shape[1] > self.width:
            there, more, at = self._slots(X)[3 + len(FURTHER) + 3 * place :][:3]
            value, time = np.concatenate([value, more], 1), np.concatenate([time, np.where(there > 0, at, np.inf)], 1)
        order = np.argsort(time, axis=1, kind="stable")
        last = np.isfinite(time).sum(axis=1, keepdims=True) - 1
        order = np.take_along_axis(order, np.minimum(np.arange(time.shape[1]), last), 1)
        return np.take_along_axis(time, order, 1), np.take_along_axis(value, order, 1)

    def _slots(self, X: Any) -> list[Any]:
        """Return columns beyond those of the fit, one part for each thing that a further record says.

        They are amount, time and duration; of `wide` ones also the fields of FURTHER, and for each covariate that
        changes whether there is a further value, this, and its time.
        """
        assert self.width is not None
        size = 3 + len(FURTHER) + 3 * len(self.paths) if self.wide else 3
        return [X[:, self.width + j :: size] for j in range(size)]

    def number(self, place: int) -> int:
        """Return the number by which a frame calls a dose; further `wide` rows leave the places of the fit free."""
        return place + 1 - (len(self.amount) if self.wide and place >= len(self.amount) else 0)

    def arrange(self, X: pd.DataFrame, names: list[str] | None) -> tuple[pd.DataFrame, NDArray[Any]] | None:
        """Return a frame with the columns of the fit, and what the fit has no columns for.

        Parameters
        ----------
        X : DataFrame
            Columns of the fit, and more columns of doses: ``dose_4``, ``dose_time_4`` and, for infusions,
            ``dose_duration_4``.
        names : list of str, optional
            Columns of the fit; those of `unnamed` if the fit had no names.

        Returns
        -------
        X : DataFrame
        further : array of shape (n_rows, n)
            Further doses and values, in the order of `_slots`. None is returned in place of both if X has no such
            columns, or other columns that the fit did not have.
        """
        names = self.unnamed() if names is None else names
        given = [name for name in X.columns if isinstance(name, str)]
        if len(given) < len(X.columns):
            return None
        if self.wide:
            return None if set(given) == set(names) else self._arrange_wide(X, names)
        records = [name for name in given if name not in names and _FURTHER.fullmatch(name)]
        if records:
            if X[records].to_numpy(dtype=np.float64).any():
                raise ValueError(
                    f"there is a column {records[0]!r}, and the model was fitted to doses that say no more than time, "
                    "amount and duration; fit it to rows that have such columns, or pass records=True to "
                    "from_population."
                )
            X = X.drop(columns=records)
            if list(X.columns) == names:
                return X, np.zeros((len(X), 0))
        return self._arrange_plain(X, names)

    def _arrange_plain(self, X: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, NDArray[Any]] | None:
        """Arrange doses of which there are times, amounts and durations."""
        pattern = re.compile(r"dose(_time|_duration)?_[0-9]+")
        more = [name for name in X.columns if name not in names]
        if not more or not all(pattern.fullmatch(name) for name in more):
            return None
        numbers = sorted({int(name.rsplit("_", 1)[1]) for name in more})
        for i in numbers:
            for name in (f"dose_{i}", f"dose_time_{i}"):
                if name not in X.columns:
                    raise ValueError(f"there is a column {more[0]!r} but no {name!r}; see read_patients.")
        missing = [name for name in names if name not in X.columns]
        if missing and (self.since or missing != ["dose"]):
            return None
        base = X.assign(dose=0.0) if missing else X.copy()
        columns = []
        for i in numbers:
            lasting = X[f"dose_duration_{i}"] if f"dose_duration_{i}" in X.columns else 0.0 * X[f"dose_{i}"]
            columns += [X[f"dose_{i}"], X[f"dose_time_{i}"], lasting]
            if f"dose_{i}" in names:  # a dose in the columns of the fit, with a duration for which the fit has none
                base[f"dose_{i}"] = 0.0
        return base[names], pd.concat(columns, axis=1).to_numpy()

    def _arrange_wide(self, X: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, NDArray[Any]] | None:
        """Arrange records and covariates that change: all records stand beyond the columns of the fit."""
        numbers = [name.rsplit("_", 1)[1] for name in X.columns if re.fullmatch(r"dose_[0-9]+", name)]
        fields = {match[1] for name in X.columns if (match := _FURTHER.fullmatch(name))}
        # doses without these fields, beside others that have them, say no more than the usual
        lacking = {f"dose_{field}_{i}" for field in fields for i in numbers} - set(X.columns)
        X = X.assign(**dict.fromkeys(sorted(lacking), 0.0))
        there = Doses.find(list(X.columns), X.shape[1])
        changing = {label for label, _, _ in self.paths}
        taken = {names[j] for j in (self.time, *self.design_columns)}
        kept = [name for name in names if name not in taken]
        of_doses = {X.columns[j] for j in (there.time, *there.design_columns)}
        if not set(kept) <= set(X.columns) - of_doses or set(X.columns) - of_doses - set(kept) - changing:
            return None
        rows = X.to_numpy(dtype=np.float64)
        base = pd.DataFrame(0.0, X.index, names)
        base[names[self.time]] = rows[:, there.time]
        base[kept] = X[kept]
        records = there.records(rows)
        parts = [records.amount, records.time, records.duration, *(getattr(records, name) for name in FURTHER)]
        for label, values, times in self.paths:
            if label in X.columns:
                at, value = np.zeros((len(X), 1)), X[[label]].to_numpy(dtype=np.float64)
            elif label in {path[0] for path in there.paths}:
                at, value = there.path(rows, label)
            else:
                raise ValueError(
                    f"X lacks the covariate {label!r}, which changes over time: columns {label}_1, {label}_time_1 and "
                    f"so on, or one column {label!r} where it does not change."
                )
            n = len(values)
            chosen = np.minimum(np.arange(n), at.shape[1] - 1)
            base[[names[j] for j in (*values, *times)]] = np.concatenate([value[:, chosen], at[:, chosen]], axis=1)
            parts += [np.ones_like(value[:, n:]), value[:, n:], at[:, n:]]
        width = max(part.shape[1] for part in parts)
        padded = [np.pad(part, [(0, 0), (0, width - part.shape[1])]) for part in parts]
        return base, np.stack(padded, axis=2).reshape(len(X), -1)


def _paths(names: list[str]) -> tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]:
    """Return the covariates that change over time, and the columns that hold them."""
    paths = []
    for name, n in path_names(names).items():
        places = [names.index(column) for column in path_columns(name, n)]
        paths.append((name, tuple(places[:n]), tuple(places[n:])))
    return tuple(paths)


def _columns(X: Any, chosen: tuple[int, ...]) -> Any:
    """Return some columns; tensors are sliced, since indexing with a list cannot be compiled."""
    if not isinstance(X, Tensor):
        return X[:, list(chosen)]
    first, step = chosen[0], chosen[1] - chosen[0] if len(chosen) > 1 else 1
    # read_patients writes the doses of a patient one after the other: one slice takes the amounts of all
    if step > 0 and chosen == tuple(range(first, chosen[-1] + 1, step)):
        return X[:, first : chosen[-1] + 1 : step]
    return torch.cat([X[:, j : j + 1] for j in chosen], 1)
