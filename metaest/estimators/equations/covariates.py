"""Columns of X that shift constants: constant within a task, where they start; from row to row, in the equation."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.exceptions import TaskError
from metaest.functional import RowFunction, Transforms
from metaest.functional.equations.hierarchical import Design
from metaest.population import Effect
from metaest.population.effects import total_shift
from metaest.population.numbers import as_mapping
from metaest.tasks import TaskSet
from metaest.tasks.arguments import is_whole

__all__ = ["ConstantFormulas", "Covariates", "TimeVaryingEquation", "column_of"]

# what metaest asks an equation beside its curve
ANSWERS = ("arrange", "check_values", "design_columns", "memory", "quantities", "time_column", "__name__")
# what torch says of a tensor that is taken for a number
OF_ONE_NUMBER = ("is ambiguous", "only one element tensors", "converted to Scalar")
# relative difference up to which a covariate counts as the same in all rows of a task
TOLERANCE = 1e-6
# what to do about one that does not
VARYING = "where the constant follows it from row to row, declare it by time_varying=[{!r}]"


@dataclass(frozen=True)
class ConstantFormulas:
    """Formulas of a population that shift one constant by covariates.

    Attributes
    ----------
    constant : int
    effects : tuple of Effect
    places : tuple of tuple of int
        For each effect, where the values it reads stand among those of the covariates of a task.
    """

    constant: int
    effects: tuple[Effect, ...]
    places: tuple[tuple[int, ...], ...]

    def shift(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the shift of the prior mean in tasks with covariates of shape (tasks, values)."""
        return total_shift(self.effects, [list(values[:, list(places)].T) for places in self.places])


@dataclass(frozen=True)
class Covariates:
    """The columns that shift constants: by learned coefficients, centred and scaled over the tasks, and by formulas.

    Attributes
    ----------
    constants : tuple of int
        The constant of each learned coefficient.
    columns : tuple of int
        The column of X of each learned coefficient, then those that formulas read.
    labels : tuple
        The user's names for these columns.
    mean, scale : ndarray of shape (coefficients,)
        Over the tasks, each counted once.
    formulas : tuple of ConstantFormulas
        Known, and not learned: each enters with the coefficient 1.
    """

    constants: tuple[int, ...]
    columns: tuple[int, ...]
    labels: tuple[Hashable, ...]
    mean: NDArray[Any]
    scale: NDArray[Any]
    formulas: tuple[ConstantFormulas, ...] = ()

    @classmethod
    def of_effects(cls, effects: Mapping[str, Any], names: list[str], columns: list[str]) -> "Covariates":
        """Return the formulas of a population for rows with these columns.

        Parameters
        ----------
        effects : dict of str to tuple of Effect
            By constants.
        names : list of str
            Constants of the equation.
        columns : list of str

        Raises
        ------
        ValueError
            When a column is missing.
        """
        labels = list(dict.fromkeys(c for several in effects.values() for effect in several for c in effect.columns))
        for label in labels:
            if label not in columns:
                raise ValueError(f"the population reads the covariate {label!r}, which X lacks; it has {columns}.")
        formulas = tuple(
            ConstantFormulas(
                names.index(name), tuple(several), tuple(tuple(map(labels.index, e.columns)) for e in several)
            )
            for name, several in effects.items()
        )
        places = tuple(columns.index(label) for label in labels)
        return cls((), places, tuple(labels), np.zeros(0), np.ones(0), formulas)

    @property
    def n_coefficients(self) -> int:
        """Number of coefficients beside those of the constants: learned ones, then one for each shift by formulas."""
        return len(self.constants) + len(self.formulas)

    @classmethod
    def learn(
        cls, covariates: Mapping[str, Any] | None, names: list[str], tasks: TaskSet, equation: Any = None
    ) -> "Covariates":
        """Read the user's mapping of constants to columns, and centre and scale over the tasks.

        Raises
        ------
        ValueError
            When a constant or a column is unknown.
        TaskError
            When a column varies within a task, or is the same in all tasks.
        """
        constants, columns, labels = [], [], []
        for name, wanted in (covariates or {}).items():
            if name not in names:
                raise ValueError(f"covariates: there is no constant {name!r}; the constants are {', '.join(names)}.")
            for label in [wanted] if isinstance(wanted, (str, int)) else list(wanted):
                constants.append(names.index(name))
                columns.append(column_of(label, tasks))
                labels.append(label)
        empty = cls(tuple(constants), tuple(columns), tuple(labels), np.zeros(len(columns)), np.ones(len(columns)))
        if not columns:
            return empty
        values = empty.of_tasks(tasks, equation)
        for j, label in enumerate(labels):
            if np.ptp(values[:, j]) == 0:
                raise TaskError(
                    f"covariates: column {label!r} is {values[0, j]:g} in every task; it cannot tell the tasks apart."
                )
        scaled = np.column_stack([np.ones(len(values)), values - values.mean(axis=0)])
        for k in set(constants):
            chosen = [0] + [j + 1 for j in range(len(columns)) if constants[j] == k]
            if np.linalg.matrix_rank(scaled[:, chosen] / np.abs(scaled[:, chosen]).max(axis=0)) < len(chosen):
                raise TaskError(
                    f"covariates of {names[k]!r}: the columns {[labels[j - 1] for j in chosen[1:]]} are linearly "
                    f"dependent over the {len(tasks)} tasks; leave one out."
                )
        return cls(empty.constants, empty.columns, empty.labels, values.mean(axis=0), values.std(axis=0))

    def of_tasks(self, tasks: TaskSet, equation: Any = None) -> NDArray[Any]:
        """Return the covariates of every task, of shape (tasks, coefficients), raw.

        Raises
        ------
        TaskError
            When one varies within a task; of an `equation` whose rows remember others the message says so.
        """
        first = tasks.X[tasks.offsets[:-1]][:, list(self.columns)].astype(np.float64)
        if self.columns:
            spread = np.abs(tasks.X[:, list(self.columns)] - np.repeat(first, tasks.sizes, axis=0))
            varies = np.argwhere(spread > TOLERANCE * np.abs(np.repeat(first, tasks.sizes, axis=0)))
            if len(varies):
                row, j = varies[0]
                i, _ = tasks.place_of(int(row))
                raise TaskError(
                    f"task {tasks.name_of(i)!r}: column {self.labels[j]!r} is a covariate and must be the same in "
                    f"all rows of a task, but it is {first[i, j]:g} and {tasks.X[row, self.columns[j]]:g}; "
                    f"{_remedy(equation, self.labels[j])}."
                )
        for i, values in enumerate(first if self.formulas else ()):
            self._check_formulas(values, f"task {tasks.name_of(i)!r}")
        return first

    def of_rows(
        self, X: NDArray[Any], where: str, like: NDArray[Any] | None = None, equation: Any = None
    ) -> NDArray[Any]:
        """Return the covariates of the rows of one task, of shape (coefficients,), raw.

        Raises
        ------
        TaskError
            When they vary, or differ from `like`; for an `equation` the message says what to do about it.
        """
        values = X[:, list(self.columns)].astype(np.float64)
        reference = values[0] if like is None else like
        wrong = np.argwhere(np.abs(values - reference) > TOLERANCE * np.abs(reference))
        if len(wrong):
            row, j = wrong[0]
            raise TaskError(
                f"{where}: column {self.labels[j]!r} is a covariate and belongs to the task; it is {values[row, j]:g} "
                f"in row {row}, but {reference[j]:g} {'in row 0' if like is None else 'in the rows adapted to'}"
                f"{'' if equation is None else '; ' + _remedy(equation, self.labels[j])}."
            )
        self._check_formulas(reference, where)
        return np.asarray(reference)

    def stated(self, given: Mapping[Any, float] | None, names: Any, n_columns: int) -> dict[int, float]:
        """Return the values stated for a task without rows, by the number of their column.

        Parameters
        ----------
        given : dict, optional
            Values by the names, or numbers, of columns of X.
        names : sequence of str or None
            Columns of the fit.
        n_columns : int

        Raises
        ------
        TaskError
            When a column is unknown, a value is no number, or a covariate of the fit is missing.
        """
        names = [] if names is None else list(names)
        values: dict[int, float] = {}
        for label, value in as_mapping(given, "adapt: covariates").items():
            column = names.index(label) if label in names else label
            if not is_whole(column) or not 0 <= column < n_columns:
                raise TaskError(
                    f"adapt: covariates has {label!r}, which is no column of the fit; they are "
                    f"{names or f'numbered 0 to {n_columns - 1}'}."
                )
            if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
                raise TaskError(f"adapt: the covariate {label!r} is {value!r}; a finite number is wanted.")
            values[int(column)] = float(value)
        for column, label in zip(self.columns, self.labels, strict=True):
            if column not in values:
                raise TaskError(
                    f"adapt: without rows the covariate {label!r} of this task is not known; pass "
                    f"covariates={{{label!r}: value}}."
                )
        return values

    def of_stated(self, stated: Mapping[int, float]) -> NDArray[Any]:
        """Return the covariates of a task without rows, of shape (coefficients,), raw."""
        values = np.array([stated[column] for column in self.columns], dtype=np.float64)
        self._check_formulas(values, "adapt")
        return values

    def design(self, values: NDArray[Any], n_constants: int) -> Design:
        """Return how coefficients enter the constants of tasks with covariates `values` (tasks, values)."""
        scaled = torch.from_numpy((values[:, : len(self.constants)] - self.mean) / self.scale)
        ones = torch.ones(n_constants, len(values), dtype=torch.float64)
        shifts = [torch.from_numpy(formulas.shift(values))[None] for formulas in self.formulas]
        return Design(self.design_constants(n_constants), torch.cat([ones, scaled.T, *shifts]))

    def design_constants(self, n_constants: int) -> torch.Tensor:
        """Return the constant that each coefficient belongs to."""
        return torch.tensor([*range(n_constants), *self.constants, *(f.constant for f in self.formulas)])

    def _check_formulas(self, values: NDArray[Any], where: str) -> None:
        """Raise a TaskError where a formula has no value at the covariates of one task."""
        try:
            for formulas in self.formulas:
                formulas.shift(values[None])
        except ValueError as error:
            raise TaskError(f"{where}: {error}") from error


@dataclass(frozen=True, eq=False)
class TimeVaryingEquation:
    r"""An equation some of whose constants differ between the rows of a task.

    In row i a constant is :math:`g\bigl(g^{-1}(\theta) + \sum_j \gamma_j (z_{ij} - m_j) / s_j\bigr)`. The coefficients
    :math:`\gamma` are further constants of the equation, without bounds and the same in all tasks, so that a search, an
    interval or a program of it need to know nothing of them. Formulas of a population shift in the same way, by what
    they give for the row.

    Attributes
    ----------
    function : callable
        The equation as it was given.
    names : tuple of str
        Its constants.
    transforms : Transforms
        Of these.
    covariates : Covariates
        The columns that they follow. Their coefficients are passed by the names in `slopes`.
    """

    function: Any
    names: tuple[str, ...]
    transforms: Transforms
    covariates: Covariates

    @property
    def slopes(self) -> tuple[str, ...]:
        """Names of the coefficients, such as "k:temperature"."""
        shifted, labels = self.covariates.constants, self.covariates.labels
        return tuple(f"{self.names[k]}:{label}" for k, label in zip(shifted, labels, strict=False))

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the curve, of shape (n_rows,); the constants that follow a column go into it with this shape."""
        covariates, shifts = self.covariates, dict[int, Any]()
        for j, (k, slope) in enumerate(zip(covariates.constants, self.slopes, strict=True)):
            scaled = (X[:, covariates.columns[j]] - float(covariates.mean[j])) / float(covariates.scale[j])
            shifts[k] = shifts.get(k, 0.0) + constants.pop(slope) * scaled
        for formulas in covariates.formulas:
            columns = [X[:, c] for c in covariates.columns]
            shift = _Shift(formulas)(torch.zeros_like(columns[0]), *columns)
            shifts[formulas.constant] = shifts.get(formulas.constant, 0.0) + shift
        moved = {self.names[k]: self._moved(k, constants[self.names[k]], shift) for k, shift in shifts.items()}
        try:
            value: Tensor = self.function(X, **{**constants, **moved})
        except (RuntimeError, ValueError) as error:
            if not any(part in str(error) for part in OF_ONE_NUMBER):
                raise
            raise ValueError(
                f"the equation takes {', '.join(moved)} for one number, but with time_varying there is one for each "
                "row of X: write torch.where in place of if, and torch functions in place of float and math."
            ) from error
        return value

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError where a formula has no value, or the equation that was given refuses the rows."""
        values = X[:, list(self.covariates.columns)].astype(np.float64)
        for formulas in self.covariates.formulas:
            for row in np.flatnonzero(np.isnan(_shift_or_nan(formulas, values)))[:1]:
                try:
                    formulas.shift(values[row : row + 1])
                except ValueError as error:
                    raise ValueError(f"row {row}: {error}") from error
        if hasattr(self.function, "check_rows"):
            self.function.check_rows(X, y)

    def __getattr__(self, name: str) -> Any:
        if name not in ANSWERS:
            raise AttributeError(name)
        return getattr(self.function, name)

    def _moved(self, k: int, value: Tensor, shift: Tensor) -> Tensor:
        """Return a constant that is shifted on the scale on which it is normal."""
        lower, upper, kind = self.transforms.lower[k], self.transforms.upper[k], self.transforms.kinds[k]
        if kind == "identity":
            return value + shift
        if kind == "log":
            return lower + (value - lower) * shift.exp()
        if kind == "upper":
            return upper - (upper - value) * (-shift).exp()
        above, below = (value - lower) * shift.sigmoid(), (upper - value) * (-shift).sigmoid()
        return lower + (upper - lower) * above / (above + below)


@dataclass(frozen=True)
class _Shift(RowFunction):
    """The shift by formulas at the columns that they read; of a number on which it does not depend."""

    formulas: ConstantFormulas

    def derivatives(self, number: Tensor, given: tuple[Tensor, ...], orders: Sequence[int]) -> list[Tensor]:
        """Return the shift, and zeros for its derivatives; NaN where a formula has no value."""
        values = torch.stack(given, dim=1).detach().numpy().astype(np.float64)
        shift = torch.from_numpy(_shift_or_nan(self.formulas, values)).to(number.dtype)
        return [torch.zeros_like(number) if order else shift for order in orders]


def _shift_or_nan(formulas: ConstantFormulas, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the shift by formulas at rows of values, NaN where it has none."""
    try:
        return np.asarray(formulas.shift(values), dtype=np.float64)
    except ValueError:
        if len(values) == 1:
            return np.full(1, np.nan)
        return np.concatenate([_shift_or_nan(formulas, values[i : i + 1]) for i in range(len(values))])


def _remedy(equation: Any, label: Any) -> str:
    """Return what to do about a covariate that varies within a task; of an equation with a memory, why nothing."""
    return getattr(equation, "memory", None) or VARYING.format(label)


def column_of(label: Any, tasks: TaskSet, where: str = "covariates") -> int:
    """Return the number of a column by the user's name for it.

    Raises
    ------
    ValueError
        When there is no such column; the message begins with `where`.
    """
    if isinstance(label, str):
        if tasks.feature_names is None or label not in tasks.feature_names:
            columns = (
                "the columns have no names" if tasks.feature_names is None else f"it has {list(tasks.feature_names)}"
            )
            raise ValueError(f"{where}: there is no column {label!r} in X; {columns}.")
        return tasks.feature_names.index(label)
    if not is_whole(label) or not 0 <= label < tasks.X.shape[1]:
        raise ValueError(f"{where}: {label!r} is no column of X, which has {tasks.X.shape[1]} columns.")
    return int(label)
