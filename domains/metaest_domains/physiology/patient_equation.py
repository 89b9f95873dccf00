"""Concentrations of one patient as a function of X: the columns of doses, and constants scaled to the patient."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.physiology.changing import Changing
from metaest_domains.physiology.dose_records import FURTHER, is_given, refuse_impossible
from metaest_domains.physiology.doses import Doses

__all__ = ["PatientEquation"]

# kg, to which constants refer when they scale with weight
STANDARD_WEIGHT = 70.0
# kg above which a weight must be in grams: the heaviest cattle weigh less
HEAVIEST = 2000.0
# powers of the relative weight in allometric scaling (Anderson and Holford, 2008)
EXPONENTS = {
    "clearance": 0.75,
    "exchange": 0.75,
    "exchange_2": 0.75,
    "metabolite_clearance": 0.75,
    "capacity": 0.75,
    "elimination": -0.25,
    "volume": 1.0,
    "peripheral": 1.0,
    "peripheral_2": 1.0,
    "metabolite_volume": 1.0,
}


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
    changing : Changing or None
        Covariates over time, and the constants that follow them.
    """

    doses: Doses
    weight: int | None
    fixed: dict[str, float]
    oral: bool
    columns: tuple[str, ...] = ()
    absorption: str = "excess"
    changing: Changing | None = None
    memory: ClassVar[str] = (
        "a concentration depends on what a constant was at all times before it; write a covariate that changes into "
        "the regimen, as a TimeVarying"
    )

    @property
    def effects_of_rows(self) -> dict[str, tuple[Any, ...]]:
        """Formulas of a population that the equation itself applies, by constant."""
        return dict(self.followed.effects)

    @property
    def followed(self) -> Changing:
        """Covariates over time, none where none changes."""
        return self.changing or Changing()

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
        return self.doses.design_columns

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the concentrations, of shape (n_rows,)."""
        amount, since, duration = self.doses.read(X)
        return self.concentration(amount, since, duration, self.of_patient(X, constants))

    @abstractmethod
    def concentration(self, amount: Tensor, since: Tensor, duration: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the sum over doses, given the constants of each row's patient."""

    def of_patient(self, X: Tensor, constants: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the constants of each row's patient, of shape (n_rows, 1), scaled by weight if there is a column."""
        scaled = self._of_rows(len(X), X.dtype, constants)
        weight = None if self.weight is None else X[:, [self.weight]]
        return self._scaled({name: value for name, value in scaled.items() if name not in self._coefficients}, weight)

    def of_intervals(
        self, X: Tensor, rows: NDArray[Any], constants: Mapping[str, Any], start: NDArray[Any], end: NDArray[Any]
    ) -> dict[str, Tensor]:
        """Return the constants of each row's patient in intervals of time, of shape (n_rows, n_intervals).

        Parameters
        ----------
        X : Tensor of shape (n_rows, n_columns)
        rows : ndarray of shape (n_rows, n_columns)
            The same numbers.
        constants : dict of str to Tensor
        start, end : ndarray of shape (n_rows, n_intervals)
            Within which no covariate changes.
        """
        each = self._of_rows(len(X), X.dtype, constants)
        values = self.followed.values(rows, self.doses, start, end)
        factors = self.followed.factors(values, rows, self.columns, each)
        scaled = {
            name: value * factors.get(name, 1.0) for name, value in each.items() if name not in self._coefficients
        }
        weight = None if self.weight is None else X[:, [self.weight]]
        if self.followed.weight is not None:
            weight = torch.from_numpy(values[self.followed.weight])
        return self._scaled(scaled, weight)

    @property
    def _coefficients(self) -> set[str]:
        return {coefficient.name for coefficient in self.followed.coefficients}

    def _of_rows(self, n: int, dtype: torch.dtype, constants: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return constants of each row, of shape (n_rows, 1)."""
        rows = {}
        for name, value in {**constants, **self.fixed}.items():
            each = torch.as_tensor(value, dtype=dtype)
            rows[name] = (each if each.ndim else each.expand(n))[:, None]
        return rows

    def _scaled(self, constants: dict[str, Tensor], weight: Tensor | None) -> dict[str, Tensor]:
        """Return constants scaled by weight, and the volume where a rate stands for it."""
        scaled = constants
        if weight is not None:
            relative = weight / STANDARD_WEIGHT
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
        records = self.doses.records(X)
        if self.doses.wide:
            refuse_impossible(records)
        self._check_durations(records)
        if self.weight is not None:
            self._check_weights(X[:, self.weight], self.name_of_column(self.weight), y is not None)
        if self.followed.weight is not None:
            path = self.doses.path(X, self.followed.weight)[1]
            self._check_weights(path.reshape(-1), repr(self.followed.weight), False)
        if y is not None and len(X):
            self._check_paths(X)
            self._check_doses(X[:, self.doses.time], records)

    def _check_durations(self, records: Any) -> None:
        """Refuse infusions of doses that are absorbed."""
        absorbed = np.isin(records.compartment, (0, 1)) & (records.amount > 0) & self.oral
        if (absorbed & ((records.duration > 0) | (records.rate > 0))).any():
            raise ValueError(
                "a dose has a duration, but doses of route='oral' are not infusions"
                f"{'; those into the central compartment are of compartment 2' * self.doses.wide}."
            )

    def _check_paths(self, X: NDArray[np.float64]) -> None:
        """Refuse rows of one patient that contradict each other about covariates over time."""
        for name, _ in self.followed.methods:
            both = np.stack(self.doses.path(X, name))
            differs = np.flatnonzero((both != both[:, :1]).any(axis=(0, 2)))
            if len(differs):
                raise ValueError(
                    f"the values of {name!r} or their times (columns {name}_1, {name}_time_1 ...) are others in row "
                    f"{differs[0]} than in row 0; each row must hold all of them, in the same columns. Where new "
                    "values came after the rows adapted to, adapt to all rows anew."
                )

    def _check_weights(self, weight: NDArray[np.float64], name: str, one_patient: bool) -> None:
        """Refuse weights that change within a patient's observations; rows to be predicted may vary the weight."""
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
                f"{wrong[0]}: correct it, or, where the weight changes over time, give its values and their times "
                "(TimeVarying) and say which one holds (time_varying=)."
            )

    def _check_doses(self, time: NDArray[np.float64], records: Any) -> None:
        """Refuse rows of one patient that contradict each other about the doses."""
        amount, start = records.amount, records.time
        given = is_given(amount, records.steady, records.rate)
        if not given.any():
            raise ValueError(
                "no row has a dose above 0; every row must hold the doses given before it (see read_patients)."
            )
        first = np.where(given, start, np.inf).min(axis=0)
        missing = ~given & (time[:, None] > first)
        differs = np.zeros(len(first), dtype=bool)
        for name in ("amount", "time", "duration", *FURTHER):  # among the rows that hold the dose
            values = getattr(records, name)
            differs |= np.where(given, values, -np.inf).max(axis=0) > np.where(given, values, np.inf).min(axis=0)
        differs[0] &= bool(self.doses.since)
        for i in np.flatnonzero(missing.any(axis=0) | differs):
            columns = self.doses.amount
            column = self.name_of_column(columns[i]) if i < len(columns) else repr(f"dose_{self.doses.number(int(i))}")
            rows = np.flatnonzero(missing[:, i])
            if len(rows):
                raise ValueError(
                    f"column {column} is 0 in row {rows[0]}, and {amount[given[:, i], i][0]:g} in another "
                    f"row: every row after time {first[i]:g} must hold this dose (see read_patients)."
                )
            raise ValueError(
                f"the amount, time or another field of the dose in column {column} differs between the rows of one "
                "patient; each row must hold all doses of the patient, in the same columns (see read_patients)."
            )

    def name_of_column(self, column: int | None) -> str:
        """Return how messages call a column of X."""
        return repr(self.columns[column]) if column is not None and self.columns else f"{column} of X"
