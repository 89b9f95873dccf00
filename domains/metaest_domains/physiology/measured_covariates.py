"""The covariates that a model reads, computed of what is measured of a patient: age, weight, creatinine and others."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from metaest import EquationRegressor, PopulationAverage
from metaest.exceptions import quiet
from metaest.tasks.numbers import as_number
from metaest_domains.physiology.body import (
    AGES,
    WEIGHTS,
    body_mass_index,
    body_surface_area,
    creatinine_clearance,
    fat_free_mass,
)
from metaest_domains.physiology.regimen import covariate_columns

__all__ = ["patient_covariates"]


class _Computed(NamedTuple):
    """A covariate by the name of its column: its unit, and how it is computed of which measurements."""

    unit: str
    measured: tuple[str, ...]
    compute: Callable[..., float]


def _lean_clearance(age: float, weight: float, height: float, creatinine: float, sex: str, unit: str) -> float:
    """Return the creatinine clearance with the fat-free mass in place of the weight."""
    return creatinine_clearance(age, fat_free_mass(weight, height, sex), creatinine, sex, unit=unit)


def _clearance(age: float, weight: float, creatinine: float, sex: str, unit: str) -> float:
    return creatinine_clearance(age, weight, creatinine, sex, unit=unit)


def _in_range(value: Any, name: str, ends: tuple[float, float], wanted: str) -> float:
    return as_number(value, f"patient_covariates: {name}", least=ends[0], most=ends[1], wanted=wanted)


COMPUTED = {
    "crcl": _Computed("mL/min", ("age", "weight", "creatinine", "sex"), _clearance),
    "crcl_ffm": _Computed("mL/min", ("age", "weight", "height", "creatinine", "sex"), _lean_clearance),
    "ffm": _Computed("kg", ("weight", "height", "sex"), fat_free_mass),
    "bsa": _Computed("m2", ("weight", "height"), body_surface_area),
    "bmi": _Computed("kg/m2", ("weight", "height"), body_mass_index),
    "weight": _Computed("kg", ("weight",), lambda weight: _in_range(weight, "weight", WEIGHTS, "kg, 0.2 to 700,")),
    "age": _Computed("years", ("age",), lambda age: _in_range(age, "age", AGES, "years, 0 to 130,")),
}


def patient_covariates(
    model: Any,
    *,
    age: float | None = None,
    weight: float | None = None,
    height: float | None = None,
    creatinine: float | None = None,
    sex: str | None = None,
    unit: str = "mg/dL",
    **others: float,
) -> dict[str, float]:
    """Return the covariates that a model reads, for a :class:`Regimen`.

    A published model reads numbers that are computed of others: ``crcl`` by `creatinine_clearance`, ``crcl_ffm`` by the
    same with the fat-free mass in place of the weight, ``ffm``, ``bsa`` and ``bmi`` by `fat_free_mass`,
    `body_surface_area` and `body_mass_index`.

    Parameters
    ----------
    model : EquationRegressor or PopulationAverage
        Fitted; an average reads what its parts do.
    age : float, optional
        Years.
    weight : float, optional
        kg.
    height : float, optional
        cm.
    creatinine : float, optional
        In serum, in `unit`.
    sex : {"male", "female"}, optional
    unit : {"mg/dL", "umol/L"}, default="mg/dL"
        Of `creatinine`.
    **others : float
        Further covariates, by the names of their columns, with 1 and 0 for yes and no, such as ``dialysis=0``; they
        take precedence over computed ones.

    Returns
    -------
    dict of str to float

    Raises
    ------
    ValueError
        When the model reads a covariate that is neither given nor computed of what is given, in another unit than it is
        computed in, or does not read one of `others`.
    TaskError
        When a number is outside its range, or is none.

    Warns
    -----
    UserWarning
        Once, when a creatinine clearance is computed below 18 years; see `creatinine_clearance`.

    Examples
    --------
    >>> from metaest_domains.physiology import patient_covariates, published_model
    >>> model = published_model("vancomycin", "hughes-2024")
    >>> patient = patient_covariates(model, age=55, weight=130, height=172, creatinine=0.9, sex="female")
    >>> {name: round(value, 1) for name, value in patient.items()}
    {'crcl_ffm': 68.9, 'ffm': 61.8}
    """
    if not isinstance(model, (EquationRegressor, PopulationAverage)):
        raise TypeError(f"patient_covariates: model must be a fitted model or an average of some, got {model!r}.")
    check_is_fitted(model)
    read = covariate_columns(list(getattr(model, "feature_names_in_", [])))
    for name in others:
        if name not in read:
            raise ValueError(
                f"patient_covariates: the model does not read {name!r}; it reads {', '.join(read) or 'none'}."
            )
    given = {"age": age, "weight": weight, "height": height, "creatinine": creatinine, "sex": sex}
    units = _units(model)
    values: dict[str, float] = {}
    told: tuple[type[Warning], ...] = ()
    for name in read:
        if name in others:
            values[name] = _given(name, others[name])
            continue
        with quiet(*told):
            values[name] = _computed(name, units.get(name, ""), given, unit)
        if "creatinine" in COMPUTED[name].measured:  # one warning of a child is enough
            told = (UserWarning,)
    return values


def _given(name: str, value: Any) -> float:
    """Return a covariate that is passed as it is."""
    # yes and no of a record, such as of dialysis, come as True and False
    wanted = "0 or 1" if isinstance(value, (bool, np.bool_)) else "a finite number"
    return as_number(value, f"patient_covariates: {name}", wanted=wanted)


def _computed(name: str, stated: str, given: dict[str, Any], unit: str) -> float:
    """Return a covariate that is computed of measurements of a patient, or raise a ValueError that says what lacks."""
    covariate = COMPUTED.get(name)
    if covariate is None:
        raise ValueError(f"patient_covariates: the model reads {name!r}, which is not computed; pass {name}=.")
    if stated and stated != covariate.unit:
        raise ValueError(
            f"patient_covariates: the model reads {name!r} in {stated}, and it is computed in {covariate.unit}; pass "
            f"{name}=."
        )
    lacking = [measured for measured in covariate.measured if given[measured] is None]
    if lacking:
        raise ValueError(
            f"patient_covariates: the model reads {name!r}, which is computed of {', '.join(covariate.measured)}: pass "
            f"{lacking[0]}=."
        )
    of_unit = {"unit": unit} if "creatinine" in covariate.measured else {}
    return covariate.compute(**{measured: given[measured] for measured in covariate.measured}, **of_unit)


def _units(model: Any) -> dict[str, str]:
    """Return the units of columns that the populations of a model, or of the parts of an average, state."""
    parts: Sequence[Any] = list(model.models_.values()) if isinstance(model, PopulationAverage) else [model]
    stated: dict[str, str] = {}
    for part in parts:
        stated |= {name: unit for name, unit in (part.prior.columns if part.prior else {}).items() if unit}
    return stated
