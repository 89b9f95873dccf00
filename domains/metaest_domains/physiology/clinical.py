"""Clinical quantities of a patient or of the population: clearance, exposure, peaks, doses, the next sampling time."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from metaest import Derived
from metaest.exceptions import warn
from metaest.tasks.numbers import as_number, as_one_or_more
from metaest_domains.physiology.courses import Courses, LinearCourses
from metaest_domains.physiology.pharmacokinetics import Superposition
from metaest_domains.physiology.regimen import Regimen
from metaest_domains.physiology.treatment import Treatment, patient_equation

__all__ = [
    "absorption_rate",
    "auc",
    "clearance",
    "dose_for",
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
        samples, whose intervals cover the variation between patients.
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
    """Return the volume of distribution, that of the central compartment if there are two; see `clearance`."""
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
    _linear(patient)
    treatment = _treatment(patient, dose, given, covariates)
    first = float(dose.time[0]) if start is None else as_number(start, "auc: start")
    endless = end is None or (isinstance(end, (float, np.floating)) and end == np.inf)
    last = np.inf if endless else as_number(end, "auc: end")
    if not 0 <= first < last:
        raise ValueError(f"auc: end must be after start, which is at least 0; got {first:g} to {last:g}.")
    return treatment.derive(lambda constants: _total(treatment.courses(constants)).area(first, last), level)


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
    treatment = _treatment(patient, regimen, given)
    first = float(regimen.time[0])
    if until is None and not isinstance(treatment.equation, Superposition):
        raise ValueError("until is required for a model with saturable elimination.")
    end = np.inf if until is None else as_number(until, "peak: until")
    if not end > first:
        raise ValueError(f"until must be after the first dose of the regimen, at {first:g}; got {until!r}.")
    answer = treatment.derive(lambda constants: torch.stack(treatment.courses(constants).peak(first, end)), level)
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
    treatment = _treatment(patient, regimen, given)
    at = _time(regimen, time)
    return treatment.derive(lambda constants: treatment.courses(constants).before(at), level)


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
    _linear(patient)
    treatment = _treatment(patient, regimen, given)
    first = float(regimen.time[0]) if start is None else as_number(start, "time_above: start")
    last = as_number(until, "time_above: until")
    if not 0 <= first < last < np.inf:
        raise ValueError(f"time_above: until must be after the start, {first:g}; got {until!r}.")
    threshold = as_number(concentration, "time_above: concentration", least=0, wanted="a number of at least 0")
    return treatment.derive(
        lambda constants: _total(treatment.courses(constants)).time_above(threshold, first, last), level
    )


def dose_for(
    patient: Any,
    regimen: Regimen,
    *,
    target_trough: float | None = None,
    target_peak: float | None = None,
    target_auc: float | None = None,
    start: float | None = None,
    time: float | None = None,
    given: Regimen | None = None,
    level: float = 0.9,
) -> Derived:
    """Return the dose with which a regimen reaches a target concentration, or a target area under concentrations.

    All doses of the regimen are multiplied by one factor; the result is the first dose above 0 after that. Doses that
    were given before stay as they are. The interval is that of the dose.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        A fitted model stands for a patient without samples, whose covariates are those of the regimen: a first dose.
    regimen : Regimen
        Planned doses whose amounts are to be computed; only their proportions and times count.
    target_trough : float, optional
        Concentration one interval after the last dose, just before the next one would be due, or just before `time`.
    target_peak : float, optional
        Greatest concentration from the first dose of the regimen to one interval after the last one, or to `time`.
    target_auc : float, optional
        Area under the concentrations from `start` to one interval after the last dose, or to `time`; models whose
        elimination does not saturate.
    start : float, optional
        Where the area begins, at least 0; with `target_auc`, which requires it, alone.
    time : float, optional
        Time of the target; None is one interval after the last dose of a regimen with at least two doses.
    given : Regimen, optional
        All doses given before, on the same clock as the regimen. None: the regimen is the patient's first. It is
        required for a patient with samples if the regimen begins after time 0.
    level : float, default=0.9

    Returns
    -------
    Derived

    Raises
    ------
    ValueError
        When not exactly one target above 0 is given, the time is missing for a regimen of one dose, a covariate of the
        fit is missing or one is unknown, `given` is missing, or no dose reaches the target.

    Warns
    -----
    UserWarning
        When the previous doses suffice without any further dose; the result is then 0.
    """
    given_targets = {"target_trough": target_trough, "target_peak": target_peak, "target_auc": target_auc}
    targets = {name: value for name, value in given_targets.items() if value is not None}
    if len(targets) != 1:
        raise ValueError("dose_for requires one of target_trough, target_peak and target_auc, above 0.")
    kind, value = targets.popitem()
    wanted = "an area above 0" if kind == "target_auc" else "a concentration above 0"
    target = as_number(value, f"dose_for: {kind}", above=0, wanted=wanted)
    if (start is None) == (kind == "target_auc"):
        raise ValueError(f"dose_for: start= is where the area of target_auc begins, and of it alone; got {kind}.")
    treatment = _treatment(patient, regimen, given)
    at = _time(regimen, time)
    first = float(regimen.time[0])
    begin = first if start is None else as_number(start, "dose_for: start", least=0, wanted="a time of at least 0")
    if kind == "target_auc":
        _linear(patient)
        if not begin < at:
            raise ValueError(f"dose_for: the area has to end after its start; got {begin:g} to {at:g}.")

    def dose(constants: dict[str, Any]) -> Any:
        courses = treatment.courses(constants)
        if kind == "target_auc":
            assert isinstance(courses, LinearCourses)
            factor = courses.factor_of_area(target, begin, at)
        elif kind == "target_peak":
            factor = courses.factor_of_peak(target, first, at)
        else:
            factor = courses.factor_before(target, at)
        return float(regimen.amount[regimen.amount > 0][0]) * factor

    answer = treatment.derive(dose, level)
    if not np.isfinite(answer.value):
        raise ValueError(f"no dose of this regimen reaches {target:g}: none of it is in the blood by {at:g}.")
    if answer.value == 0:
        warn(
            f"previous doses keep the patient at or above {target:g} {'at' if kind == 'target_trough' else 'up to'} "
            f"{at:g} without a further dose: the dose for this target is 0."
        )
    return answer


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
    treatment = _treatment(patient, regimen, given)
    return np.asarray(at[treatment.patient.suggest(treatment.rows(at), n, target)])


def _treatment(
    patient: Any, regimen: Regimen, given: Regimen | None, covariates: Mapping[str, float] | None = None
) -> Treatment:
    if covariates is not None and not isinstance(covariates, Mapping):
        raise TypeError(f"covariates must be a dict by name, got {covariates!r}.")
    if covariates:
        raise ValueError("write the covariates into the regimen: Regimen(..., covariates=...).")
    if not isinstance(regimen, Regimen):
        raise TypeError(f"regimen must be a Regimen, got {regimen!r}.")
    return Treatment.of(patient, regimen, given)


def _time(regimen: Regimen, time: float | None) -> float:
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


def _linear(patient: Any) -> None:
    if not isinstance(patient_equation(patient), Superposition):
        raise TypeError("the elimination of this model saturates; this quantity is defined for linear models only.")


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
    _linear(patient)
    treatment = Treatment.of(patient, covariates=covariates)
    return treatment.derive(lambda constants: function(treatment.constants(constants), treatment.equation)[:, 0], level)
