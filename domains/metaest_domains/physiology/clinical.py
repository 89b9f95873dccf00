"""What a clinician asks of an adapted patient: clearance, half-life, exposure, peaks, doses, when to sample next."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from metaest import AdaptedEquation, Derived
from metaest_domains.physiology.patient_equation import PatientEquation
from metaest_domains.physiology.pharmacokinetics import Superposition
from metaest_domains.physiology.regimen import Regimen

__all__ = ["auc", "clearance", "dose_for", "half_life", "next_sample", "peak", "volume"]


def clearance(patient: AdaptedEquation, *, level: float = 0.9) -> Derived:
    """Return the patient's own clearance (CL/F of oral doses).

    Where constants are scaled by weight, it is that at the patient's weight.

    Parameters
    ----------
    patient : AdaptedEquation
        From an estimator with one or two compartments.
    level : float, default=0.9

    Returns
    -------
    Derived
        ``value``, ``lower``, ``upper``.

    Raises
    ------
    TypeError
        When the model has no clearance.
    """
    return patient.derive(_of_patient(patient, "clearance"), level)


def volume(patient: AdaptedEquation, *, level: float = 0.9) -> Derived:
    """Return the patient's volume of distribution, central where there are two compartments; see `clearance`."""
    return patient.derive(_of_patient(patient, "volume"), level)


def half_life(patient: AdaptedEquation, *, level: float = 0.9) -> Derived:
    """Return the half-life of terminal elimination; see `clearance`."""
    equation = _linear(patient)

    def half(**constants: Any) -> Any:
        own = _constants(equation, patient, constants)
        return np.log(2) / equation.parts(own)[-1][1][:, 0].numpy().reshape(np.shape(next(iter(constants.values()))))

    return patient.derive(half, level)


def auc(patient: AdaptedEquation, dose: float, *, level: float = 0.9) -> Derived:
    """Return the area under the curve from a dose to infinity, the dose over the clearance; see `clearance`."""
    if not dose > 0:
        raise ValueError(f"dose must be above 0, got {dose!r}.")
    own = _of_patient(patient, "clearance")
    return patient.derive(lambda **constants: dose / own(**constants), level)


def peak(patient: AdaptedEquation, regimen: Regimen, *, until: float, level: float = 0.9) -> pd.DataFrame:
    """Return the greatest concentration under a regimen up to a time, and when it is reached.

    Parameters
    ----------
    patient : AdaptedEquation
    regimen : Regimen
    until : float
        Looked for on 400 times up to this one, and at the ends of doses.
    level : float, default=0.9

    Returns
    -------
    DataFrame
        Rows ``concentration`` and ``time``, columns ``value``, ``lower`` and ``upper``.
    """
    if not until > 0:
        raise ValueError(f"until must be above 0, got {until!r}.")
    events = np.concatenate([regimen.time, regimen.time + regimen.duration])
    times = np.unique(np.concatenate([np.linspace(0, until, 400), events[events <= until]]))
    curves = _curves(patient, regimen, times)

    def highest(**constants: Any) -> Any:
        own = curves(**constants)
        return np.stack([own.max(axis=0), times[own.argmax(axis=0)]])

    found = patient.derive(highest, level)
    index = pd.Index(["concentration", "time"], name="peak")
    return pd.DataFrame({"value": found.value, "lower": found.lower, "upper": found.upper}, index=index)


def dose_for(
    patient: AdaptedEquation,
    regimen: Regimen,
    *,
    target_trough: float | None = None,
    target_peak: float | None = None,
    time: float | None = None,
    level: float = 0.9,
) -> Derived:
    """Return the dose with which a regimen reaches a concentration.

    All doses of the regimen are changed by one factor; the answer is its first dose. Concentrations are in proportion
    to the dose, so that nothing is searched for, and the interval is that of the answer itself.

    Parameters
    ----------
    patient : AdaptedEquation
    regimen : Regimen
        Of doses whose amounts are to be found; only their proportions and times count.
    target_trough : float, optional
        Concentration just before the next dose of the regimen would be due, or at `time`.
    target_peak : float, optional
        Greatest concentration, up to one interval after the last dose, or up to `time`.
    time : float, optional
        None: one interval after the last dose, which takes two doses to know.
    level : float, default=0.9

    Returns
    -------
    Derived

    Raises
    ------
    ValueError
        Unless just one target above 0 is given, or when the time cannot be told.
    TypeError
        When concentrations are not in proportion to the dose.
    """
    _linear(patient)
    targets = [own for own in (target_trough, target_peak) if own is not None]
    if len(targets) != 1 or not targets[0] > 0:
        raise ValueError("dose_for needs either target_trough or target_peak, above 0.")
    if time is None:
        if len(regimen.time) < 2:
            raise ValueError("one dose has no interval: say at what time the target is meant (time=).")
        time = float(2 * regimen.time[-1] - regimen.time[-2])
    if not time > regimen.time[0]:
        raise ValueError(f"the target is meant at {time:g}, which is not after the first dose.")
    times = np.array([time]) if target_peak is None else np.unique([*np.linspace(0, time, 400), *regimen.time])
    curves, first = _curves(patient, regimen, times), float(regimen.amount[0])
    return patient.derive(lambda **constants: first * targets[0] / curves(**constants).max(axis=0), level)


def next_sample(
    patient: Any, regimen: Regimen, times: ArrayLike, *, n: int = 1, target: str | None = None
) -> NDArray[np.float64]:
    """Return the times at which samples would teach most about the patient.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
    regimen : Regimen
    times : array-like
        Possible times.
    n : int, default=1
    target : str, optional
        The constant to learn; None for all.

    Returns
    -------
    ndarray of shape (n,)
        In the order of choice.
    """
    at = np.asarray(times, dtype=np.float64)
    n_doses = len(_equation(patient).doses.amount)
    chosen = patient.suggest(_as_fitted(patient, regimen.rows(at, n_doses)), n, target)
    return np.asarray(at[chosen])


def _equation(patient: Any) -> PatientEquation:
    equation = getattr(getattr(patient, "_calibrated", None), "model", None)
    function = getattr(getattr(equation, "equation", None), "function", None)
    if not isinstance(function, PatientEquation):
        raise TypeError(f"a patient of a pharmacokinetic model is wanted, got {patient!r}.")
    return function


def _linear(patient: Any) -> Superposition:
    equation = _equation(patient)
    if not isinstance(equation, Superposition):
        raise TypeError("this model's elimination saturates: it has no one clearance, half-life or dose in proportion.")
    return equation


def _constants(equation: PatientEquation, patient: AdaptedEquation, constants: dict[str, Any]) -> dict[str, Any]:
    """Return the constants of draws, of shape (n_draws, 1), at the weight of the patient."""
    drawn = {name: torch.from_numpy(np.atleast_1d(np.asarray(value, float))) for name, value in constants.items()}
    n = max(len(value) for value in drawn.values())
    X = torch.from_numpy(np.tile(np.asarray(patient.X_support_[:1], dtype=np.float64), (n, 1)))
    return equation.of_patient(X, drawn)


def _of_patient(patient: AdaptedEquation, name: str) -> Callable[..., Any]:
    equation = _linear(patient)

    def value(**constants: Any) -> Any:
        shape = np.shape(next(iter(constants.values())))
        return _constants(equation, patient, constants)[name][:, 0].numpy().reshape(shape)

    return value


def _curves(patient: AdaptedEquation, regimen: Regimen, times: NDArray[np.float64]) -> Callable[..., Any]:
    """Return what gives concentrations of shape (n_times, ...) for draws of the constants."""
    equation = _equation(patient)
    amount, start, duration = (torch.from_numpy(np.array(own)) for own in (
        regimen.amount, regimen.time, regimen.duration))  # fmt: skip

    def curves(**constants: Any) -> Any:
        shape = np.shape(next(iter(constants.values())))
        own = _constants(equation, patient, constants)
        n = len(next(iter(own.values())))
        since = torch.from_numpy(times)[:, None] - start  # (times, doses)
        found = [
            equation.concentration(amount.expand(n, -1), row.expand(n, -1), duration.expand(n, -1), own)
            for row in since
        ]
        return torch.stack(found).numpy().reshape(len(times), *shape)

    return curves


def _as_fitted(patient: Any, rows: pd.DataFrame) -> Any:
    """Return rows with the covariates of a patient where the regimen does not bring them."""
    if "dose" not in rows.columns and "dose_1" in rows.columns:
        rows["dose"] = rows["dose_1"]  # a model of one dose at time 0
    if not hasattr(patient, "feature_names_in_"):
        return rows[["time", "dose"]].to_numpy()
    names = list(patient.feature_names_in_)
    support = getattr(patient, "X_support_", None)
    for j, name in enumerate(names):
        if name not in rows.columns and support is not None:
            rows[name] = float(support[0, j])
    return rows[names]
