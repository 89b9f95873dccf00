"""Clinical quantities of a patient or of the population: clearance, exposure, peaks, the next sampling time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from metaest import Derived
from metaest.tasks.numbers import as_number, as_one_or_more
from metaest_domains.physiology.averaged_treatment import planned_treatment, treatment_of
from metaest_domains.physiology.courses import Courses, LinearCourses
from metaest_domains.physiology.regimen import Regimen
from metaest_domains.physiology.treatment import (
    Treatment,
    patient_equation,
    require_linear,
    target_time,
)

__all__ = [
    "absorption_rate",
    "auc",
    "clearance",
    "half_life",
    "next_sample",
    "peak",
    "time_above",
    "trough",
    "volume",
]


def clearance(patient: Any, *, covariates: Mapping[str, float] | None = None, level: float = 0.9) -> Derived:
    """Return the clearance of a patient (CL/F of oral doses), at the patient's weight if constants scale with it.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        A patient adapted by an estimator with one or two compartments. A fitted model stands for a patient without
        samples, whose intervals cover the variation between patients. Of a `PopulationAverage`, adapted or not, the
        value is the mean of those of the parts by their weights, and the interval that of the mixture.
    covariates : dict of str to float, optional
        Covariates of the patient; by default those in the rows of an adapted patient.
    level : float, default=0.9

    Returns
    -------
    Derived
        ``value``, ``lower``, ``upper``.

    Raises
    ------
    TypeError
        When the model has no clearance.
    ValueError
        When a covariate of the fit is missing, or one is unknown.
    """
    return _constant(patient, covariates, level, lambda constants, equation: constants["clearance"])


def volume(patient: Any, *, covariates: Mapping[str, float] | None = None, level: float = 0.9) -> Derived:
    """Return the volume of distribution, that of the central compartment if there are two; see `clearance`.

    Models of one and of two compartments mean different volumes: of an average of models, ask a part.
    """
    patient_equation(patient)
    return _constant(patient, covariates, level, lambda constants, equation: constants["volume"])


def half_life(patient: Any, *, covariates: Mapping[str, float] | None = None, level: float = 0.9) -> Derived:
    """Return the half-life of terminal elimination; see `clearance`."""
    return _constant(
        patient, covariates, level, lambda constants, equation: np.log(2) / equation.parts(constants)[-1][1]
    )


def absorption_rate(patient: Any, *, covariates: Mapping[str, float] | None = None, level: float = 0.9) -> Derived:
    """Return k_a, the rate of absorption of oral doses; see `clearance`.

    The constant ``absorption`` of a fit is the excess of k_a over the rate of (terminal) elimination, the constant
    ``absorption_rate`` k_a itself.
    """
    if not patient_equation(patient).oral:
        raise TypeError("a model of route='iv' has no absorption.")
    return _constant(
        patient,
        covariates,
        level,
        lambda constants, equation: equation.rate_in(constants, equation.parts(constants)),
    )


def auc(
    patient: Any,
    dose: float | Regimen,
    *,
    start: float | None = None,
    end: float | None = None,
    given: Regimen | None = None,
    covariates: Mapping[str, float] | None = None,
    level: float = 0.9,
) -> Derived:
    """Return the area under the concentrations.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        See `clearance`.
    dose : float or Regimen
        One dose, for the area from it to infinity, which is the dose divided by the clearance; or a regimen, for the
        area from `start` to `end`.
    start, end : float, optional
        Limits of the area under a regimen; its first dose and infinity by default.
    given : Regimen, optional
        Doses that were given before; see `dose_for`.
    covariates : dict of str to float, optional
        Covariates of the patient for one dose; a regimen holds its covariates itself.
    level : float, default=0.9

    Returns
    -------
    Derived

    Raises
    ------
    ValueError
        When the dose is not above 0, or the end not after the start.
    TypeError
        When elimination saturates.
    """
    if not isinstance(dose, Regimen):
        if start is not None or end is not None or given is not None:
            raise ValueError("auc: start, end and given require a Regimen; the area of one dose extends to infinity.")
        amount = as_number(dose, "auc: dose", above=0, wanted="a number above 0 or a Regimen")
        return _constant(patient, covariates, level, lambda constants, equation: amount / constants["clearance"])
    require_linear(patient)
    treatment = planned_treatment(patient, dose, given, covariates)
    first = float(dose.time[0]) if start is None else as_number(start, "auc: start")
    endless = end is None or (isinstance(end, (float, np.floating)) and end == np.inf)
    last = np.inf if endless else as_number(end, "auc: end")
    if not 0 <= first < last:
        raise ValueError(f"auc: end must be after start, which is at least 0; got {first:g} to {last:g}.")
    return treatment.derive(lambda one, constants: _total(one.courses(constants)).area(first, last), level)


def peak(
    patient: Any, regimen: Regimen, *, until: float | None = None, given: Regimen | None = None, level: float = 0.9
) -> pd.DataFrame:
    """Return the greatest concentration under a regimen up to a time, and the time at which it is reached.

    The peak is computed between one event and the next, so that it does not depend on `until` or on a grid of times.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        See `clearance`.
    regimen : Regimen
    until : float, optional
        End of the stretch of time, which begins with the first dose of the regimen; a dose given at its end counts.
        None is no end, for models whose elimination does not saturate.
    given : Regimen, optional
        Doses that were given before; see `dose_for`.
    level : float, default=0.9

    Returns
    -------
    DataFrame
        Rows ``concentration`` and ``time``, columns ``value``, ``lower`` and ``upper``.

    Raises
    ------
    ValueError
        When the end is not after the first dose, or as in `dose_for`.
    """
    treatment = planned_treatment(patient, regimen, given)
    first = float(regimen.time[0])
    if until is None and not treatment.linear:
        raise ValueError("until is required for a model with saturable elimination.")
    end = np.inf if until is None else as_number(until, "peak: until")
    if not end > first:
        raise ValueError(f"until must be after the first dose of the regimen, at {first:g}; got {until!r}.")
    answer = treatment.derive(lambda one, constants: torch.stack(one.courses(constants).peak(first, end)), level)
    index = pd.Index(["concentration", "time"], name="peak")
    return pd.DataFrame({"value": answer.value, "lower": answer.lower, "upper": answer.upper}, index=index)


def trough(
    patient: Any, regimen: Regimen, *, time: float | None = None, given: Regimen | None = None, level: float = 0.9
) -> Derived:
    """Return the concentration just before a time; a dose given at that time does not count.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        See `clearance`.
    regimen : Regimen
    time : float, optional
        Time of the trough; None is one interval after the last dose of a regimen with at least two doses.
    given : Regimen, optional
        Doses that were given before; see `dose_for`.
    level : float, default=0.9

    Returns
    -------
    Derived

    Raises
    ------
    ValueError
        When the time is not after the first dose, or missing for a regimen of one dose, or as in `dose_for`.
    """
    treatment = planned_treatment(patient, regimen, given)
    at = target_time(regimen, time)
    return treatment.derive(lambda one, constants: one.courses(constants).before(at), level)


def time_above(
    patient: Any,
    regimen: Regimen,
    concentration: float,
    *,
    until: float,
    start: float | None = None,
    given: Regimen | None = None,
    level: float = 0.9,
) -> Derived:
    """Return the time for which the concentration is above a threshold.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        See `clearance`.
    regimen : Regimen
    concentration : float
        The threshold, such as a minimal inhibitory concentration; at least 0.
    until : float
        End of the stretch of time.
    start : float, optional
        Start of the stretch of time; None is the first dose of the regimen.
    given : Regimen, optional
        Doses that were given before; see `dose_for`.
    level : float, default=0.9
        Probability of the interval.

    Returns
    -------
    Derived
        Time above the threshold, in the unit of time of the fit.

    Raises
    ------
    ValueError
        When the end is not after the start, or as in `dose_for`.
    TypeError
        When elimination saturates.
    """
    require_linear(patient)
    treatment = planned_treatment(patient, regimen, given)
    first = float(regimen.time[0]) if start is None else as_number(start, "time_above: start")
    last = as_number(until, "time_above: until")
    if not 0 <= first < last < np.inf:
        raise ValueError(f"time_above: until must be after the start, {first:g}; got {until!r}.")
    threshold = as_number(concentration, "time_above: concentration", least=0, wanted="a number of at least 0")
    return treatment.derive(
        lambda one, constants: _total(one.courses(constants)).time_above(threshold, first, last), level
    )


def next_sample(
    patient: Any,
    regimen: Regimen,
    times: ArrayLike,
    *,
    n: int = 1,
    target: str | None = None,
    given: Regimen | None = None,
) -> NDArray[np.float64]:
    """Return the times at which samples would be most informative about the patient.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        See `clearance`.
    regimen : Regimen
    times : array-like
        Possible times of samples; a sample at the time of a dose is taken after it.
    n : int, default=1
    target : str, optional
        Constant to determine; None for all.
    given : Regimen, optional
        Doses that were given before; see `dose_for`.

    Returns
    -------
    ndarray of shape (n,)
        Times in the order in which they were chosen.
    """
    if target is not None and not isinstance(target, str):
        raise TypeError(f"next_sample: target must be the name of a constant or None, got {target!r}.")
    at = as_one_or_more(times, "next_sample: times")
    if not len(at):
        raise ValueError("next_sample: times must contain at least one possible time of a sample.")
    if (at < 0).any():
        raise ValueError(f"next_sample: times must be at least 0, got {at[at < 0][0]:g}.")
    patient_equation(patient)
    treatment = planned_treatment(patient, regimen, given)
    assert isinstance(treatment, Treatment)
    return np.asarray(at[treatment.patient.suggest(treatment.rows(at), n, target)])


def _total(courses: Courses) -> Any:
    assert isinstance(courses, LinearCourses)
    return courses.total


def _constant(
    patient: Any,
    covariates: Mapping[str, float] | None,
    level: float,
    function: Callable[[dict[str, torch.Tensor], Any], torch.Tensor],
) -> Derived:
    """Return a function of the patient's constants, which have shape (n_draws, 1)."""
    require_linear(patient)
    treatment = treatment_of(patient, covariates=covariates)
    return treatment.derive(lambda one, constants: function(one.constants(constants), one.equation)[:, 0], level)
