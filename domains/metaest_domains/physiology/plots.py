"""Plot patients: a population, one patient with a band, a predictive check, predictions, shrinkage.

Every function takes the model or the patient first, and draws in the current axes of pyplot if `ax` is None.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest import (
    AdaptedEquation,
    AveragedEquation,
    CoverageWarning,
    EquationRegressor,
    IdentifiabilityWarning,
    OvershootWarning,
    TaskSet,
    UnlikelyTaskWarning,
)
from metaest.exceptions import quiet
from metaest.tasks.arguments import as_whole
from metaest.tasks.numbers import as_rows, as_vector
from metaest_domains.axes import current_axes
from metaest_domains.physiology.dose_records import FURTHER
from metaest_domains.physiology.regimen import Regimen
from metaest_domains.physiology.treatment import Treatment, patient_equation

__all__ = [
    "plot_patient",
    "plot_population",
    "plot_predictions",
    "plot_predictive_check",
    "plot_shrinkage",
]

# colours of the population, of one patient, and of lines and marks
POPULATION = "#8a8f98"
PERSONAL = "#0b6e99"
INK = "#20262e"
# points of a curve, beside those at doses
N_POINTS = 400


def plot_population(
    model: Any,
    patients: TaskSet | None = None,
    regimen: Any = None,
    *,
    times: Any = None,
    level: float = 0.9,
    time_unit: str = "h",
    unit: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw the observations of patients as lines, and the population's curve with the band of new observations.

    Parameters
    ----------
    model : fitted EquationRegressor
    patients : TaskSet, optional
        Patients whose observations are drawn; those below the model's `limit` appear at the limit, as triangles.
    regimen : Regimen, or data frame or array of rows of X, optional
        Doses and covariates of the patient whose curve is drawn; rows are in order of time. None draws no curve.
    times : array-like, optional
        Times of the curve under a Regimen; by default from 0 to the last observation, or one interval after the last
        dose.
    level : float, default=0.9
        Share of new observations in the band.
    time_unit : str, default="h"
        Unit of time, for the label.
    unit : str, optional
        Unit of the observations, for the label.
    ax : matplotlib.axes.Axes, optional
        The current axes of pyplot by default.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    TypeError
        When the first argument is not a fitted model.
    ValueError
        When there is nothing to draw, or the end of the curve cannot be determined.
    """
    _require("plot_population(model, patients, regimen)", model, patients)
    if patients is None and regimen is None:
        raise ValueError("plot_population: there is nothing to draw; give patients, a regimen, or both.")
    ax = current_axes(ax)
    last = 0.0
    if patients is not None:
        column = _time_column(patients.feature_names)
        last = float(patients.X[:, column].max())
        limit = getattr(model, "limit", None)
        for number, task in enumerate(patients):
            order = np.argsort(task.X[:, column], kind="stable")
            label = "patients" if number == 0 else None
            _draw_observations(
                ax, task.X[order, column], task.y[order], limit, "o-", ms=3, lw=0.8, color=POPULATION, alpha=0.7,
                label=label,
            )  # fmt: skip
    if regimen is not None:
        rows, time = _curve_rows(model, regimen, times, last, "plot_population")
        with _quiet():
            low, high = model.predict_interval(rows, level=level)
            curve = model.predict(rows)
        ax.fill_between(time, low, high, color=PERSONAL, alpha=0.15, lw=0, label=_percent(level))
        ax.plot(time, curve, color=PERSONAL, lw=2, label="median patient")
        _mark_doses(ax, regimen)
    _finish(ax, time_unit, _target(patients), unit)
    return ax


def plot_patient(
    patient: AdaptedEquation,
    regimen: Any = None,
    *,
    given: Regimen | None = None,
    model: Any = None,
    X: Any = None,
    y: Any = None,
    times: Any = None,
    level: float = 0.9,
    time_unit: str = "h",
    unit: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw the curve of an adapted patient with the band of new observations, and the observations that were used.

    Parameters
    ----------
    patient : AdaptedEquation
    regimen : Regimen, or data frame or array of rows of X, optional
        Doses under which the curve is drawn; rows are in order of time. None takes the doses in the rows of the
        patient's observations.
    given : Regimen, optional
        All doses before those of the regimen.
    model : fitted EquationRegressor, optional
        The fitted model, whose curve of the population is drawn as well.
    X, y : array-like, optional
        Observations that were not used.
    times, level, time_unit, unit, ax
        As in :func:`plot_population`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    Raises
    ------
    TypeError
        When the first argument is not an adapted patient.
    ValueError
        When the patient's doses or the end of the curve cannot be determined.
    """
    if not isinstance(patient, (AdaptedEquation, AveragedEquation)):
        raise TypeError(f"plot_patient(patient, regimen): patient must be an adapted patient, got {patient!r}.")
    if (X is None) != (y is None):
        raise ValueError("plot_patient: X and y must be passed together; one of them is missing.")
    names = getattr(patient, "feature_names_in_", None)
    used = _times(patient.X_support_, names)
    others = np.empty(0) if X is None else _times(X, names)
    last = float(np.concatenate([used, others, [0.0]]).max())
    if regimen is None:
        treatment = replace(Treatment.of(patient), regimen=_doses_of(patient))
        regimen = treatment.regimen
        time = _curve_times(treatment.regimen, None, times, last, "plot_patient")
        rows = treatment.rows(time)
    else:
        rows, time = _curve_rows(patient, regimen, times, last, "plot_patient", given)
    ax = current_axes(ax)
    with _quiet():
        low, high = patient.predict_interval(rows, level=level)
        curve = patient.predict(rows)
        before = None if model is None else model.predict(rows)
    ax.fill_between(time, low, high, color=PERSONAL, alpha=0.15, lw=0, label=_percent(level))
    if before is not None:
        ax.plot(time, before, "--", color=POPULATION, lw=1.4, label="population")
    ax.plot(time, curve, color=PERSONAL, lw=2, label="personalised")
    limit = patient.limit_ if isinstance(patient.limit_, float) else None
    if len(used):
        _draw_observations(ax, used, patient.y_support_, limit, "o", color=PERSONAL, ms=7, label="points used")
    if X is not None:
        _draw_observations(ax, others, y, limit, "o", mfc="white", mec=INK, ms=5, label="points not used")
    _mark_doses(ax, given)
    _mark_doses(ax, regimen)
    ax.set_xlim(float(np.min(time)), float(np.max(time)))
    _finish(ax, time_unit, "concentration", unit)
    return ax


def plot_predictive_check(
    model: Any,
    patients: TaskSet,
    *,
    n: int = 200,
    n_bins: int = 8,
    random_state: Any = None,
    time_unit: str = "h",
    unit: str | None = None,
    ax: Any = None,
) -> Any:
    """Draw a visual predictive check: quantiles of the observations over those of simulated patients.

    Every simulation draws new patients with the rows and covariates of the given ones. Bands cover 90 % of the
    simulated 10th, 50th and 90th percentiles in bins of time, from the first observation to the last. Observed and
    simulated values below the model's `limit` appear at the limit.

    Parameters
    ----------
    model : fitted EquationRegressor
    patients : TaskSet
    n : int, default=200
        Number of simulations.
    n_bins : int, default=8
        Number of bins of time, with about the same number of observations in each.
    random_state : int, RandomState instance or None, default=None
    time_unit, unit, ax
        As in :func:`plot_population`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).

    References
    ----------
    M. Bergstrand, A. C. Hooker, J. E. Wallin, M. O. Karlsson (2011). Prediction-corrected visual predictive checks for
    diagnosing nonlinear mixed-effects models. :doi:`10.1208/s12248-011-9255-z`
    """
    from sklearn.utils import check_random_state

    _require("plot_predictive_check(model, patients)", model, patients)
    if patients is None:
        raise TypeError("plot_predictive_check: patients must be a TaskSet, got None.")
    ax = current_axes(ax)
    n = as_whole(n, "n", most=100_000)
    n_bins = as_whole(n_bins, "n_bins", most=10_000)
    rng = check_random_state(random_state)
    limit = getattr(model, "limit", None)
    time = patients.X[:, _time_column(patients.feature_names)].astype(np.float64)
    y = _above(patients.y.reshape(-1).astype(np.float64), limit)
    with _quiet():
        simulated = np.concatenate([model.simulate(task.X, n, random_state=rng) for task in patients], axis=1)
    simulated = _above(simulated, limit)
    edges = np.unique(np.quantile(time, np.linspace(0, 1, n_bins + 1)))
    which = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = [np.flatnonzero(which == b) for b in np.unique(which)]
    # a bin is drawn at its median time; the first and the last extend to the ends of the data
    middle = np.array([time.min(), *(np.median(time[rows]) for rows in bins), time.max()])
    for q, color in ((0.1, POPULATION), (0.5, PERSONAL), (0.9, POPULATION)):
        drawn = np.array([np.quantile(simulated[:, rows], q, axis=1) for rows in bins])
        low, high = (_to_ends(part) for part in np.quantile(drawn, [0.05, 0.95], axis=1))
        ax.fill_between(middle, low, high, color=color, alpha=0.3, lw=0)
        seen = _to_ends(np.array([np.quantile(y[rows], q) for rows in bins]))
        ax.plot(middle, seen, "-" if q == 0.5 else "--", color=INK, lw=1.2, label=f"observed, {100 * q:g} %")
    ax.plot(time, y, ".", color=INK, ms=3, alpha=0.4)
    _finish(ax, time_unit, _target(patients), unit)
    return ax


def plot_predictions(model: Any, patients: TaskSet, *, unit: str | None = None, ax: Any = None) -> Any:
    """Draw observations against predictions by the population and by the constants of each patient.

    Parameters
    ----------
    model : fitted EquationRegressor
    patients : TaskSet
        The model is adapted to all rows of each patient. Observations below the model's `limit` appear at the limit.
    unit, ax
        As in :func:`plot_population`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    _require("plot_predictions(model, patients)", model, patients)
    if patients is None:
        raise TypeError("plot_predictions: patients must be a TaskSet, got None.")
    ax = current_axes(ax)
    y = _above(patients.y.reshape(-1), getattr(model, "limit", None))
    with _quiet():
        individual = np.concatenate(
            [
                model.adapt(task.X, task.y, sample_weight=task.sample_weight, guard=False).predict(task.X)
                for task in patients
            ]
        )
        population = model.predict(patients.X)
    ax.plot(population, y, "o", mfc="white", mec=POPULATION, ms=4, label="population")
    ax.plot(individual, y, "o", color=PERSONAL, ms=4, label="individual")
    ends = [min(y.min(), individual.min(), population.min()), max(y.max(), individual.max(), population.max())]
    ax.plot(ends, ends, color=INK, lw=0.8)
    target = _with_unit(_target(patients), unit)
    ax.set(xlabel=f"predicted {target}", ylabel=f"observed {target}", aspect="equal")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_shrinkage(model: Any, *, ax: Any = None) -> Any:
    """Draw shrinkage: the share of the between-patient variance of each constant that a patient's rows leave open.

    Parameters
    ----------
    model : fitted EquationRegressor
    ax
        As in :func:`plot_population`.

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    _require("plot_shrinkage(model)", model)
    ax = current_axes(ax)
    table: pd.DataFrame = model.task_params_
    names = [name for name in model.population_.index if name in model.covariance_.index]
    for j, name in enumerate(names):
        values = np.sort(table[f"{name}_shrinkage"].to_numpy())
        ax.plot(j + np.linspace(-0.25, 0.25, len(values)), values, "o", color=PERSONAL, ms=4, alpha=0.8)
        ax.plot([j - 0.3, j + 0.3], [values.mean()] * 2, color=INK, lw=1.2)
    ax.set(xticks=range(len(names)), ylim=(-0.03, 1.03), ylabel="shrinkage (share of variance left)")
    ax.set_xticklabels(names)
    return ax


def _require(call: str, model: Any, patients: Any = None) -> None:
    """Raise a TypeError unless the model is a fitted one, and patients a TaskSet or None."""
    if not isinstance(model, EquationRegressor):
        raise TypeError(f"{call}: model must be a fitted model, got {model!r}.")
    check_is_fitted(model)
    if not (patients is None or isinstance(patients, TaskSet)):
        raise TypeError(f"{call}: patients must be a TaskSet, as read_patients returns, got {type(patients).__name__}.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about fits and adaptations, which were already issued by them."""
    with quiet(CoverageWarning, IdentifiabilityWarning, OvershootWarning, UnlikelyTaskWarning):
        yield


def _curve_rows(
    model: Any, regimen: Any, times: Any, last: float, where: str, given: Regimen | None = None
) -> tuple[Any, NDArray[np.float64]]:
    """Return the rows of X of a curve of a fitted model or an adapted patient, and their times."""
    if not isinstance(regimen, Regimen):
        if times is not None or given is not None:
            raise ValueError(f"{where}: rows of X contain times and doses; times= and given= require a Regimen.")
        if np.ndim(regimen) != 2:
            raise TypeError(f"{where}: regimen must be a Regimen or rows of X, got {regimen!r}.")
        return regimen, _times(regimen, getattr(model, "feature_names_in_", None))
    time = _curve_times(regimen, given, times, last, where)
    return Treatment.of(model, regimen, given).rows(time), time


def _curve_times(regimen: Any, given: Regimen | None, times: Any, last: float, where: str) -> NDArray[np.float64]:
    if given is not None and not isinstance(given, Regimen):
        raise TypeError(f"{where}: given must be a Regimen, got {given!r}.")
    if times is not None:
        return np.sort(as_vector(times, f"{where}: times"))
    doses = regimen.time if given is None else np.concatenate([given.time, regimen.time])
    interval = float(regimen.time[-1] - regimen.time[-2]) if len(regimen.time) > 1 else 0.0
    end = max(last, float(doses.max()) + interval)
    if not end > 0:
        raise ValueError(f"{where}: a single dose at time 0 does not determine the end of the curve; pass times=.")
    # a dose counts from its time on, so the last moment before it is the trough
    before = np.nextafter(doses[doses > 0], 0.0)
    time = np.unique(np.concatenate([np.linspace(0.0, end, N_POINTS), doses, before]))
    return time[time <= end]


def _doses_of(patient: AdaptedEquation) -> Regimen:
    """Return the doses in the rows of a patient's observations."""
    doses = patient_equation(patient).doses
    if not len(patient.X_support_):
        raise ValueError("plot_patient: the patient has no observations that contain doses; pass a regimen.")
    records = doses.records(patient.X_support_)
    if any(getattr(records, name).any() for name in FURTHER):
        raise ValueError("plot_patient: the patient's records say more than time, amount and duration; pass rows of X.")
    amount, start, duration = (part.max(axis=0) for part in doses.of(patient.X_support_))
    there = amount > 0
    return Regimen.sorted(start[there], amount[there], duration[there])


def _draw_observations(ax: Any, time: Any, y: Any, limit: float | None, style: str, **settings: Any) -> None:
    """Draw observations; those below a limit appear at the limit, as triangles that point down."""
    time = as_vector(time, "times of observations")
    y = as_vector(np.reshape(y, -1) if isinstance(y, np.ndarray) else y, "y")
    ax.plot(time, _above(y, limit), style, **settings)
    below = np.zeros(len(y), dtype=bool) if limit is None else y < limit
    if below.any():
        ax.plot(time[below], np.full(below.sum(), limit), "v", color=settings.get("color", INK), ms=6)


def _mark_doses(ax: Any, regimen: Any) -> None:
    """Mark the times of doses on the lower edge of the axes."""
    if isinstance(regimen, Regimen):
        labelled = "doses" not in ax.get_legend_handles_labels()[1]
        at = ax.get_xaxis_transform()
        ax.plot(
            regimen.time, np.zeros(len(regimen.time)), "^", color=INK, ms=6, clip_on=False, transform=at, zorder=5,
            label="doses" if labelled else None,
        )  # fmt: skip


def _finish(ax: Any, time_unit: str, target: str, unit: str | None) -> None:
    ax.set(xlabel=_with_unit("time", time_unit), ylabel=_with_unit(target, unit))
    ax.legend(frameon=False, fontsize=8)


def _with_unit(name: str, unit: str | None) -> str:
    return f"{name} ({unit})" if unit else name


def _percent(level: float) -> str:
    return f"{100 * float(level):g} % of new observations"


def _above(y: Any, limit: float | None) -> Any:
    return y if limit is None else np.maximum(y, limit)


def _to_ends(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([values[:1], values, values[-1:]])


def _time_column(names: Any) -> int:
    return list(names).index("time") if names is not None and "time" in list(names) else 0


def _times(X: Any, names: Any) -> NDArray[np.float64]:
    if hasattr(X, "columns") and "time" in X.columns:
        return as_vector(X["time"], "rows of X: time")
    return as_rows(X, None, "rows of X")[:, _time_column(names)]


def _target(patients: TaskSet | None) -> str:
    return patients.target_names[0] if patients is not None and patients.target_names else "concentration"
