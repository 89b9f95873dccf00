"""Constants of a patient that follow covariates over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import TaskSet
from metaest.population import Effect
from metaest_domains.constants import as_mapping
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.time_varying import METHODS, value_between

__all__ = ["Changing", "Coefficient", "changing_of", "coefficient_names", "without_changing"]


@dataclass(frozen=True)
class Coefficient:
    r"""A learned coefficient: the factor :math:`e^{c (x - x_0) / s}` of a constant.

    Attributes
    ----------
    name : str
        Name of c among the constants.
    constant, covariate : str
    center, scale : float
        :math:`x_0` and s.
    """

    name: str
    constant: str
    covariate: str
    center: float
    scale: float


@dataclass(frozen=True)
class Changing:
    """Covariates that change over time, and the constants that follow them.

    Attributes
    ----------
    methods : tuple of (str, str)
        Covariates, and which of their values holds between two times; see :data:`METHODS`.
    weight : str or None
        The one of them that is the weight by which constants are scaled.
    effects : tuple of (str, tuple of Effect)
        Formulas of a population, by constant.
    coefficients : tuple of Coefficient
    """

    methods: tuple[tuple[str, str], ...] = ()
    weight: str | None = None
    effects: tuple[tuple[str, tuple[Effect, ...]], ...] = ()
    coefficients: tuple[Coefficient, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.methods)

    def times(self, X: NDArray[Any], doses: Doses) -> Tensor | None:
        """Return the times at which covariates change, of shape (n_rows, n); None where none does."""
        parts = []
        for name, _ in self.methods:
            time, value = doses.path(X, name)
            # values that come again change nothing
            changes = np.diff(value, axis=1, prepend=np.nan) != 0
            earlier = np.diff(value, axis=1, append=np.nan) != 0
            parts.append(np.where(changes | earlier, time, -np.inf))
        return torch.from_numpy(np.concatenate(parts, axis=1)) if parts else None

    def values(
        self, X: NDArray[Any], doses: Doses, start: NDArray[np.float64], end: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the values of covariates in intervals, of shape (n_rows, n_intervals)."""
        return {name: value_between(*doses.path(X, name), start, end, method) for name, method in self.methods}

    def factors(
        self, values: Mapping[str, NDArray[np.float64]], X: NDArray[Any], columns: tuple[str, ...],
        constants: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return the factors of constants in intervals, of shape (n_rows, n_intervals).

        Parameters
        ----------
        values : dict of str to ndarray
            See `values`.
        X : ndarray of shape (n_rows, n_columns)
        columns : tuple of str
            Names of its columns, for formulas that read columns which do not change as well.
        constants : dict of str to Tensor of shape (n_rows, 1)
            With the coefficients among them.
        """
        factors: dict[str, Tensor] = {}
        for constant, effects in self.effects:
            for effect in effects:
                shape = next(iter(values.values())).shape
                read = [
                    values[name] if name in values else np.broadcast_to(X[:, [columns.index(name)]], shape)
                    for name in effect.columns
                ]
                shift = effect.shift(*(np.ascontiguousarray(part).reshape(-1) for part in read))
                factor = torch.from_numpy(np.exp(shift).reshape(shape))
                factors[constant] = factors.get(constant, 1.0) * factor
        for coefficient in self.coefficients:
            away = torch.from_numpy((values[coefficient.covariate] - coefficient.center) / coefficient.scale)
            factor = torch.exp(constants[coefficient.name] * away)
            factors[coefficient.constant] = factors.get(coefficient.constant, 1.0) * factor
        return factors


def coefficient_names(covariates: Any, time_varying: Any) -> dict[str, tuple[str, str]]:
    """Return constant and covariate of each learned coefficient of a covariate that changes, by its name."""
    changing, names = as_mapping(time_varying, "time_varying"), dict[str, tuple[str, str]]()
    for constant, wanted in as_mapping(covariates, "covariates").items():
        for label in [wanted] if isinstance(wanted, (str, int)) else list(wanted):
            if label in changing:
                names[f"{constant}_by_{label}"] = constant, label
    return names


def without_changing(covariates: Any, time_varying: Any) -> dict[str, list[Any]]:
    """Return the covariates that belong to the task, by constant."""
    changing, rest = as_mapping(time_varying, "time_varying"), dict[str, list[Any]]()
    for constant, wanted in as_mapping(covariates, "covariates").items():
        labels = [wanted] if isinstance(wanted, (str, int)) else list(wanted)
        rest |= {constant: kept} if (kept := [label for label in labels if label not in changing]) else {}
    return rest


def changing_of(model: Any, doses: Doses, names: Sequence[str], tasks: TaskSet | None) -> Changing:
    """Return which constants of a model follow covariates over time, in columns with these names.

    Raises
    ------
    ValueError
        When a covariate changes and nothing says how, has no columns, or nothing follows it.
    """
    methods = as_mapping(model.time_varying, "time_varying")
    there = {name for name, _, _ in doses.paths}
    for name in there - set(methods):
        raise ValueError(
            f"the covariate {name!r} changes over time (columns {name}_1, {name}_time_1 ...): say which value holds "
            f"between two times, time_varying={{{name!r}: 'locf'}} or 'nocb'."
        )
    for name, method in methods.items():
        if method not in METHODS:
            raise ValueError(f"time_varying: {name!r} must be one of {', '.join(map(repr, METHODS))}, got {method!r}.")
        if name not in there:
            raise ValueError(
                f"time_varying names {name!r}, and X has no columns {name}_1, {name}_time_1; it has {list(names)}."
            )
    weight = model.allometric if isinstance(model.allometric, str) and model.allometric in methods else None
    effects = {} if model.prior is None else model.prior.covariates
    following = tuple(
        (constant, tuple(effect for effect in several if set(effect.columns) & set(methods)))
        for constant, several in effects.items()
        if any(set(effect.columns) & set(methods) for effect in several)
    )
    coefficients = []
    for name, (constant, covariate) in coefficient_names(model.covariates, methods).items():
        center, scale = _spread(doses, covariate, tasks)
        coefficients.append(Coefficient(name, constant, covariate, center, scale))
    changing = Changing(tuple(methods.items()), weight, following, tuple(coefficients))
    read = {weight, *(column for _, several in following for effect in several for column in effect.columns)}
    for name in methods:
        if name not in read and all(coefficient.covariate != name for coefficient in coefficients):
            raise ValueError(
                f"time_varying names {name!r}, and no constant follows it: name it in covariates= or allometric=, or "
                "take a population that reads it."
            )
    return changing


def _spread(doses: Doses, covariate: str, tasks: TaskSet | None) -> tuple[float, float]:
    """Return mean and standard deviation of a covariate over the values of all tasks, each value counted once."""
    if tasks is None:
        raise ValueError(f"a coefficient of {covariate!r} is learned from tasks, and there are none.")
    paths = [np.unique(np.concatenate(doses.path(task.X[:1], covariate)), axis=1) for task in tasks]
    values = np.concatenate([path[1] for path in paths]).astype(np.float64)
    if not np.ptp(values) > 0:
        raise ValueError(f"covariates: {covariate!r} is {values[0]:g} at all times of all tasks; it tells nothing.")
    return float(values.mean()), float(values.std())
