"""Concentrations of one patient as a function of X: the columns of doses, and constants scaled to the patient."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.physiology.dose_records import FURTHER
from metaest_domains.physiology.time_varying import path_columns, path_names

__all__ = ["Doses", "PatientEquation"]

# kg, to which constants refer when they scale with weight
STANDARD_WEIGHT = 70.0
# kg above which a weight must be in grams: the heaviest cattle weigh less
HEAVIEST = 2000.0
# powers of the relative weight in allometric scaling (Anderson and Holford, 2008)
EXPONENTS = {
    "clearance": 0.75,
    "exchange": 0.75,
    "capacity": 0.75,
    "elimination": -0.25,
    "volume": 1.0,
    "peripheral": 1.0,
}


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
        Number of columns of the fit. Columns beyond them hold further doses: amount, time and duration of each in turn.
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
            return cls(names.index("time"), (names.index("dose"),), (), (), len(names))

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

    def refuse_further(self, model: str) -> None:
        """Raise a ValueError where columns say more of doses or covariates than a model understands."""
        for field, _ in self.further:
            raise ValueError(
                f"X has the column 'dose_{field}_1' ({FURTHER[field]}), which {model} does not understand."
            )
        for name, _, _ in self.paths:
            raise ValueError(f"the covariate {name!r} changes over time, which {model} does not understand.")

    def unnamed(self) -> list[str]:
        """Return names for the columns of a fit that had none."""
        return ["time", "dose", *(f"x{j}" for j in range(2, self.width or 2))]

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
            further = [X[:, self.width + j :: 3] for j in range(3)]
            join = torch.cat if isinstance(X, Tensor) else np.concatenate
            amount, start, duration = (
                join([part, more], 1) for part, more in zip((amount, start, duration), further, strict=True)
            )
        return amount, start, duration

    def arrange(self, X: pd.DataFrame, names: list[str] | None) -> tuple[pd.DataFrame, NDArray[Any]] | None:
        """Return a frame with the columns of the fit, and the doses for which the fit has no columns.

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
        further : array of shape (n_rows, 3 * doses)
            Further doses, in the order of :class:`Doses`. None is returned in place of both if X has no such columns,
            or other columns that the fit did not have.
        """
        names = self.unnamed() if names is None else names
        pattern = re.compile(r"dose(_time|_duration)?_[0-9]+")
        more = [name for name in X.columns if name not in names]
        if not more or not all(isinstance(name, str) and pattern.fullmatch(name) for name in more):
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


@dataclass(frozen=True)
class PatientEquation(ABC):
    """Concentrations of one patient as a function of X; a subclass computes them from the doses and constants.

    Attributes
    ----------
    doses : Doses
    weight : int or None
        Column of the weight by which constants are scaled; None for no scaling.
    fixed : dict of str to float
        Constants that are held.
    oral : bool
        True for oral doses.
    columns : tuple of str
        Names of the columns of X, for error messages; empty if they have none.
    absorption : {"excess", "rate"}
        Which constant says how fast oral doses are absorbed.
    """

    doses: Doses
    weight: int | None
    fixed: dict[str, float]
    oral: bool
    columns: tuple[str, ...] = ()
    absorption: str = "excess"
    memory: ClassVar[str] = (
        "a concentration depends on what a constant was at all times before it; write a covariate that changes into "
        "the regimen, as a TimeVarying"
    )

    @property
    def by_rate_in(self) -> bool:
        """Whether the rate of absorption is a constant itself, and not its excess above that of elimination."""
        return self.absorption == "rate"

    @property
    def __name__(self) -> str:  # the name in a summary
        return type(self).__qualname__

    @property
    def time_column(self) -> int:
        """The column of times."""
        return self.doses.time

    @property
    def design_columns(self) -> tuple[int, ...]:
        """The columns of doses."""
        return (*self.doses.amount, *self.doses.since, *self.doses.duration)

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the concentrations, of shape (n_rows,)."""
        amount, since, duration = self.doses.read(X)
        return self.concentration(amount, since, duration, self.of_patient(X, constants))

    @abstractmethod
    def concentration(self, amount: Tensor, since: Tensor, duration: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the sum over doses, given the constants of each row's patient."""

    def of_patient(self, X: Tensor, constants: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the constants of each row's patient, of shape (n_rows, 1), scaled by weight if there is a column."""
        n = len(X)
        scaled = {}
        for name, value in {**constants, **self.fixed}.items():
            each = torch.as_tensor(value, dtype=X.dtype)
            scaled[name] = (each if each.ndim else each.expand(n))[:, None]
        if self.weight is not None:
            relative = X[:, [self.weight]] / STANDARD_WEIGHT
            scaled = {name: value * relative ** EXPONENTS.get(name, 0.0) for name, value in scaled.items()}
        if "elimination" in scaled:
            scaled["volume"] = scaled["clearance"] / scaled["elimination"]
        return scaled

    def constants_of(self, constants: Mapping[str, Any], row: NDArray[np.float64] | None = None) -> dict[str, Tensor]:
        """Return draws of constants, of shape (n_draws, 1), scaled to the patient of a row of X, or to 70 kg."""
        if row is None:
            row = np.full((1, 0 if self.weight is None else self.weight + 1), STANDARD_WEIGHT)
        drawn = {name: torch.from_numpy(np.atleast_1d(np.asarray(value, float))) for name, value in constants.items()}
        n = max((len(value) for value in drawn.values()), default=1)
        return self.of_patient(torch.from_numpy(np.tile(row, (n, 1))), drawn)

    def arrange(self, X: pd.DataFrame, names: list[str] | None) -> tuple[pd.DataFrame, NDArray[Any]] | None:
        """Return rows with additional doses as the columns of the fit and further ones; see :class:`Doses`."""
        return self.doses.arrange(X, names)

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError when rows cannot be those of a patient; y is None for rows to be predicted."""
        X = X.astype(np.float64)
        amount, start, duration = self.doses.of(X)
        for name, values in (("time", X[:, [self.doses.time]]), ("dose", amount), ("dose duration", duration)):
            if (values < 0).any():
                row = int((values < 0).any(axis=1).argmax())
                raise ValueError(f"{name} is {values[row].min():g} in row {row}; it cannot be negative.")
        if (start < 0).any():
            raise ValueError("the time of a dose cannot be negative.")
        if self.oral and ((duration > 0) & (amount > 0)).any():
            raise ValueError("a dose has a duration, but doses of route='oral' are not infusions.")
        if self.weight is not None:
            self._check_weights(X[:, self.weight], y is not None)
        if y is not None and len(X):
            self._check_doses(X[:, self.doses.time], amount, start)

    def _check_weights(self, weight: NDArray[np.float64], one_patient: bool) -> None:
        """Refuse weights that change within a patient's observations; rows to be predicted may vary the weight."""
        name = self._name(self.weight)
        if not (weight > 0).all():
            raise ValueError(f"weights must be above 0, in kg: column {name} is {weight[~(weight > 0)][0]:g}.")
        if (weight > HEAVIEST).any():
            raise ValueError(
                f"weights must be in kg: column {name} is {weight[weight > HEAVIEST][0]:g}, which looks like grams; "
                "divide it by 1000."
            )
        wrong = np.flatnonzero(np.abs(weight - weight[:1]) > 1e-6 * weight[:1])
        if one_patient and len(wrong):
            raise ValueError(
                f"column {name} (the weight of allometric=) is {weight[0]:g} in row 0 and {weight[wrong[0]]:g} in row "
                f"{wrong[0]}: a weight that changes within a patient is not implemented; correct it, or use one value "
                "in all rows of the patient."
            )

    def _check_doses(self, time: NDArray[np.float64], amount: NDArray[np.float64], start: NDArray[np.float64]) -> None:
        """Refuse rows of one patient that contradict each other about the doses."""
        if not (amount > 0).any():
            raise ValueError(
                "no row has a dose above 0; every row must hold the doses given before it (see read_patients)."
            )
        given = amount > 0
        first = np.where(given, start, np.inf).min(axis=0)
        missing = ~given & (time[:, None] > first)
        differs = np.zeros(len(first), dtype=bool)
        for values in (amount, start):  # among the rows that hold the dose
            differs |= np.where(given, values, -np.inf).max(axis=0) > np.where(given, values, np.inf).min(axis=0)
        differs[0] &= bool(self.doses.since)
        for i in np.flatnonzero(missing.any(axis=0) | differs):
            columns = self.doses.amount
            column = self._name(columns[i]) if i < len(columns) else repr(f"dose_{i + 1}")
            rows = np.flatnonzero(missing[:, i])
            if len(rows):
                raise ValueError(
                    f"column {column} is 0 in row {rows[0]}, and {amount[given[:, i], i][0]:g} in another "
                    f"row: every row after time {first[i]:g} must hold this dose (see read_patients)."
                )
            raise ValueError(
                f"the amount or time of the dose in column {column} differs between the rows of one "
                "patient; each row must hold all doses of the patient, in the same columns (see read_patients)."
            )

    def _name(self, column: int | None) -> str:
        return repr(self.columns[column]) if column is not None and self.columns else f"{column} of X"
