"""A patient under a regimen: the patient's constants and covariates, past doses and planned ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from metaest import (
    AdaptedEquation,
    AdaptedPopulationAverage,
    AveragedEquation,
    Derived,
    Drawn,
    EquationRegressor,
    PopulationAverage,
)
from metaest.exceptions import warn
from metaest.tasks.numbers import as_number
from metaest_domains.physiology.course import Course, Given
from metaest_domains.physiology.courses import Courses, LinearCourses, SaturableCourses
from metaest_domains.physiology.linear_model import LinearCompartments
from metaest_domains.physiology.patient_equation import PatientEquation
from metaest_domains.physiology.pharmacokinetics import Superposition
from metaest_domains.physiology.regimen import Regimen
from metaest_domains.physiology.time_varying import TimeVarying

__all__ = ["Treatment", "columns_of", "parts_of", "patient_equation", "require_linear", "target_time"]


@dataclass(frozen=True)
class Treatment:
    """A patient under a regimen.

    Attributes
    ----------
    patient : AdaptedEquation
        The adapted patient; for a fitted model, a patient without observations.
    equation : PatientEquation
    row : ndarray of shape (1, n_features)
        A row of X with the patient's covariates.
    regimen : Regimen or None
        Planned doses.
    given : Regimen or None
        Doses that were given before; they cannot be changed.
    covariates : dict of str to float
    """

    patient: AdaptedEquation
    equation: PatientEquation
    row: NDArray[np.float64]
    regimen: Regimen | None
    given: Regimen | None
    covariates: dict[str, float]

    @classmethod
    def of(
        cls,
        patient: Any,
        regimen: Regimen | None = None,
        given: Regimen | None = None,
        covariates: Mapping[str, float] | None = None,
    ) -> "Treatment":
        """Put a patient, or a fitted model, under a regimen.

        Raises
        ------
        TypeError
            When the patient does not come from a pharmacokinetic model, or a regimen is not a Regimen.
        ValueError
            When a covariate is missing or unknown, or `given` is missing for a regimen that begins later than 0.
        TaskError
            When a covariate differs from the value with which the constants were adapted.
        """
        equation = patient_equation(patient)
        _require_implemented(equation)
        for name, doses in (("regimen", regimen), ("given", given)):
            if doses is not None and not isinstance(doses, Regimen):
                raise TypeError(f"{name} must be a Regimen, got {doses!r}.")
            if doses is not None and not doses.plain:
                raise ValueError(
                    f"{name}: records at steady state, of another compartment, with a rate or a reset, and covariates "
                    "that change are not implemented for this quantity; predict the concentrations at "
                    "model.rows(regimen, times)."
                )
        if covariates is not None and not isinstance(covariates, Mapping):
            raise TypeError(f"covariates must be a dict such as {{'weight': 70.0}}, got {covariates!r}.")
        asked: dict[str, Any] = dict(covariates or {}) if regimen is None else dict(regimen.covariates)
        for name, value in ({} if given is None else given.covariates).items():
            if asked.setdefault(name, value) != value:
                raise ValueError(
                    f"given has the covariate {name!r} = {value:g} and the regimen {asked[name]:g}; a value that "
                    "changes between doses is not implemented: use the value that holds for the planned doses in both."
                )
        if regimen is not None and given is None:
            _require_given(equation, patient, regimen)
        if given is not None:
            _warn_of_further(equation, patient)
        names = columns_of(patient)
        if regimen is None:
            _require_covariates(patient, equation, names, asked)
        row, values = _row(patient, equation, names, asked)
        if isinstance(patient, EquationRegressor):
            stated = {names.index(name): value for name, value in values.items()}
            patient = patient.adapt([], [], guard=False, covariates=stated)
        patient.check_covariates(row, "the regimen")
        return cls(patient, equation, row, regimen, given, values)

    def constants(self, constants: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return draws of this patient's constants, of shape (n_draws, 1)."""
        return self.equation.constants_of(constants, self.row)

    def courses(self, constants: Mapping[str, Any]) -> Courses:
        """Return the concentrations after past and planned doses, for draws of the constants."""
        assert self.regimen is not None
        scaled = self.constants(constants)
        new = _as_given(self.regimen)
        old = Given(*(part[:0] for part in new)) if self.given is None else _as_given(self.given)
        if self.equation.oral and bool((torch.cat([old.duration, new.duration]) > 0).any()):
            raise ValueError("a dose has a duration, but doses of route='oral' are not infusions.")
        if not isinstance(self.equation, Superposition):
            return SaturableCourses(self.equation, scaled, old, new)
        exponentials = self.equation.parts(scaled)
        parts = [(a[:, 0], rate[:, 0]) for a, rate in exponentials]
        absorption = self.equation.rate_in(scaled, exponentials)[:, 0] if self.equation.oral else None
        lag = scaled["lag"][:, 0] if "lag" in scaled else None
        events = torch.cat([doses.time + part for doses in (old, new) for part in (0 * doses.duration, doses.duration)])
        before, unit = (Course.of(parts, absorption, lag, doses, events) for doses in (old, new))
        return LinearCourses(before, unit)

    @property
    def linear(self) -> bool:
        """Whether elimination does not saturate."""
        return isinstance(self.equation, Superposition)

    def under(self, regimen: Regimen) -> "Treatment":
        """Return the same patient under other planned doses."""
        return replace(self, regimen=regimen)

    def derive(self, function: Callable[["Treatment", dict[str, Any]], Any], level: float) -> Derived:
        """Return a function of this treatment and the constants with its interval, or raise where it is no number."""
        answer = self.patient.derive(_of_arrays(partial(function, self)), level)
        _require_numbers(answer.value)
        return answer

    def drawn(self, function: Callable[["Treatment", dict[str, Any]], Any]) -> Drawn:
        """Return a function of this treatment and the constants at draws, or raise where it is no number."""
        answer = self.patient.derive_draws(_of_arrays(partial(function, self)))
        _require_numbers(answer.value)
        return answer

    def rows(self, times: NDArray[np.float64]) -> Any:
        """Return the rows of X of this patient at some times."""
        assert self.regimen is not None
        doses = self.regimen if self.given is None else _joined(self.given, self.regimen)
        names = columns_of(self.patient)
        before = len(self.equation.doses.amount)
        X = pd.DataFrame(np.repeat(self.row, len(times), axis=0), columns=names)
        X[names[self.equation.doses.time]] = times
        # all doses are in columns beyond those of the fit
        for number, dose in enumerate(zip(doses.amount, doses.time, doses.duration, strict=True), before + 1):
            X[[f"dose_{number}", f"dose_time_{number}", f"dose_duration_{number}"]] = dose
        return X


def patient_equation(patient: Any) -> PatientEquation:
    """Return the equation of an adapted patient, or of a fitted model."""
    if isinstance(patient, EquationRegressor):
        check_is_fitted(patient)
    function = getattr(patient, "equation_", None)
    if not isinstance(function, PatientEquation) or not isinstance(
        patient, (AdaptedEquation, AveragedEquation, EquationRegressor)
    ):
        if isinstance(patient, (PopulationAverage, AdaptedPopulationAverage)):
            raise TypeError(
                "patient is an average of models, which have no constants in common; pass one of its parts, "
                f"{'models_' if isinstance(patient, PopulationAverage) else 'members_'}[name]."
            )
        raise TypeError(
            f"patient must be an adapted patient of a pharmacokinetic model, or a fitted model, got {patient!r}."
        )
    return function


def target_time(regimen: Regimen, time: float | None) -> float:
    """Return the time of a target: the one given, or one interval after the last dose."""
    if time is None:
        if len(regimen.time) < 2 or not regimen.time[-1] > regimen.time[-2]:
            raise ValueError("one dose has no interval: pass the time of the target (time=).")
        return float(2 * regimen.time[-1] - regimen.time[-2])
    at = as_number(time, "time")
    if not regimen.time[0] < at:
        raise ValueError(
            f"the time of the target, {at:g}, is not after the first dose of the regimen, at {regimen.time[0]:g}."
        )
    return at


def parts_of(patient: Any) -> dict[str, Any]:
    """Return the parts of an average of models by name; what is none is its one part."""
    if isinstance(patient, PopulationAverage):
        check_is_fitted(patient)
        return dict(patient.models_)
    return dict(patient.members_) if isinstance(patient, AdaptedPopulationAverage) else {"": patient}


def require_linear(patient: Any) -> None:
    """Raise if the elimination of a patient's model saturates."""
    for name, part in parts_of(patient).items():
        _require_implemented(patient_equation(part))
        if not isinstance(patient_equation(part), Superposition):
            which = f"the part {name!r}" if name else "this model"
            raise TypeError(f"the elimination of {which} saturates; this quantity is defined for linear models only.")


def _of_arrays(function: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """Return a function of named arrays, as ``derive`` takes it, of one of a dict that returns tensors."""

    def computed(**constants: Any) -> Any:
        value = torch.as_tensor(function(constants)).numpy()
        return value.reshape(*value.shape[:-1], *np.shape(next(iter(constants.values()))))

    return computed


def _require_numbers(value: Any) -> None:
    if np.isnan(value).any():
        raise ValueError(
            "the concentrations under this regimen cannot be integrated to the tolerance at the patient's "
            "constants; check the units of times and amounts."
        )


def _require_implemented(equation: PatientEquation) -> None:
    """Raise where concentrations of an equation are computed at rows of X alone."""
    if isinstance(equation, LinearCompartments):
        raise TypeError(
            "this quantity is not implemented for a LinearCompartmentRegressor; predict the concentrations at "
            "model.rows(regimen, times)."
        )
    if equation.changing is not None:
        raise ValueError(
            "the constants of this model follow covariates over time (time_varying=), for which this quantity is not "
            "implemented; predict the concentrations at model.rows(regimen, times)."
        )


def _require_given(equation: PatientEquation, patient: Any, regimen: Regimen) -> None:
    """Raise if a regimen begins later than 0 for a patient with samples, and `given` is missing."""
    if not regimen.time[0] > 0 or not len(getattr(patient, "X_support_", ())):
        return
    amount, start, _ = equation.doses.of(patient.X_support_)
    n = int((amount > 0).any(axis=0).sum())
    raise ValueError(
        f"the regimen begins at {regimen.time[0]:g}, and the patient's rows hold {n} dose{'s' * (n != 1)} up to "
        f"{start[amount > 0].max():g}: pass all previous doses as given=Regimen(...), or a regimen that begins at time "
        "0."
    )


def _warn_of_further(equation: PatientEquation, patient: Any) -> None:
    """Warn where the rows of a patient hold what the doses given before cannot say."""
    rows = getattr(patient, "X_support_", ())
    if not equation.doses.wide or not len(rows):
        return
    records = equation.doses.records(np.asarray(rows, dtype=np.float64))
    if (records.steady > 0).any() or (records.reset > 0).any() or (records.compartment > 1).any():
        warn(
            "the patient's rows hold doses at steady state, resets, or doses into other compartments; here the doses "
            "of given= are all that was given, and nothing of these counts. Predictions at model.rows(regimen, times) "
            "count them."
        )


def _require_covariates(patient: Any, equation: PatientEquation, names: list[str], asked: Mapping[str, float]) -> None:
    """Raise if a covariate of the fit is missing, or one is given that the fit did not have."""
    for name in asked:
        if name not in names:
            raise ValueError(f"covariates has {name!r}, which the model was not fitted on; its columns are {names}.")
    if len(getattr(patient, "X_support_", ())):
        return
    stated = getattr(patient, "stated_covariates_", {})
    for column in (*patient.covariate_columns_, *([] if equation.weight is None else [equation.weight])):
        if column not in stated and names[column] not in asked:
            raise ValueError(
                f"the model was fitted on the covariate {names[column]!r}: pass its value for this patient, "
                f"covariates={{{names[column]!r}: ...}}."
            )


def columns_of(patient: Any) -> list[str]:
    """Return the names of the columns of the fit, also where it had none."""
    names = getattr(patient, "feature_names_in_", None)
    return patient_equation(patient).doses.unnamed() if names is None else list(names)


def _row(
    patient: Any, equation: PatientEquation, names: list[str], asked: Mapping[str, float]
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Return a row of X with the covariates of a patient, and these by name; those of the regimen take precedence."""
    doses = equation.doses
    taken = {doses.time, *doses.design_columns}
    columns = [name for j, name in enumerate(names) if j not in taken]
    needed = {equation.weight, *patient.covariate_columns_}
    # columns that the model does not use need no value from the user
    values = {name: 0.0 for name in columns if names.index(name) not in needed}
    if isinstance(patient, (AdaptedEquation, AveragedEquation)):
        values |= {names[j]: value for j, value in patient.stated_covariates_.items()}
        if len(patient.X_support_):
            values |= {name: float(patient.X_support_[0, names.index(name)]) for name in columns}
    completed = Regimen(np.zeros(1), np.ones(1), covariates=dict(asked)).completed(columns, values).covariates
    values = {name: float(value) for name, value in completed.items() if not isinstance(value, TimeVarying)}
    row = np.zeros((1, len(names)))
    for name, value in values.items():
        row[0, names.index(name)] = value
    equation.check_rows(row, None)
    return row, values


def _as_given(regimen: Regimen) -> Given:
    return Given(*(torch.from_numpy(np.array(part)) for part in (regimen.time, regimen.amount, regimen.duration)))


def _joined(one: Regimen, other: Regimen) -> Regimen:
    """Return the union of the doses of two regimens."""
    return Regimen.sorted(
        np.concatenate([one.time, other.time]),
        np.concatenate([one.amount, other.amount]),
        np.concatenate([one.duration, other.duration]),
    )
