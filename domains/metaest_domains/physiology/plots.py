"""Pictures of patients: all of them, one with a band, a predictive check, predictions, shrinkage."""

from typing import Any

import numpy as np
import pandas as pd

from metaest import AdaptedEquation, TaskSet

__all__ = [
    "axes_or_new",
    "plot_patient",
    "plot_population",
    "plot_predictions",
    "plot_predictive_check",
    "plot_shrinkage",
]

POPULATION, PERSONAL, INK = "#8a8f98", "#0b6e99", "#20262e"


def axes_or_new(ax: Any = None) -> Any:
    """Return axes to draw on, in the manner of this module."""
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(5.6, 4.0), layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    return ax


def plot_population(patients: TaskSet, model: Any = None, rows: Any = None, *, ax: Any = None) -> Any:
    """Draw the observations of all patients, a line each, and the population's curve with its 90 % band.

    Parameters
    ----------
    patients : TaskSet
        Time in the column ``time``, or the first.
    model : fitted equation, optional
    rows : data frame or array, optional
        Where the population's curve is drawn: rows of X of a typical patient, in order of time.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    ax = axes_or_new(ax)
    column = _time_column(patients.feature_names)
    for number, task in enumerate(patients):
        order = np.argsort(task.X[:, column])
        label = "a patient each" if number == 0 else None
        ax.plot(task.X[order, column], task.y[order], "o-", ms=3, lw=0.8, color=POPULATION, alpha=0.7, label=label)
    if model is not None and rows is not None:
        time = _times(rows, patients.feature_names)
        low, high = model.predict_interval(rows, level=0.9)
        ax.fill_between(time, low, high, color=PERSONAL, alpha=0.15, lw=0, label="90 % of new observations")
        ax.plot(time, model.predict(rows), color=PERSONAL, lw=2, label="median patient")
    ax.set(xlabel="time", ylabel=_target(patients))
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_patient(
    patient: AdaptedEquation, rows: Any, *, model: Any = None, X: Any = None, y: Any = None, level: float = 0.9,
    ax: Any = None,
) -> Any:  # fmt: skip
    """Draw a personalised curve with its band and the points used; where given, the population's and other points.

    Parameters
    ----------
    patient : AdaptedEquation
    rows : data frame or array
        Where curves are drawn, in order of time.
    model : fitted equation, optional
        For the population's curve.
    X, y : array-like, optional
        Observations that were not used.
    level : float, default=0.9
        Of the band, that of observations.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    ax = axes_or_new(ax)
    names = getattr(patient, "feature_names_in_", None)
    time = _times(rows, names)
    low, high = patient.predict_interval(rows, level=level)
    ax.fill_between(time, low, high, color=PERSONAL, alpha=0.15, lw=0, label=f"{100 * level:g} % of observations")
    if model is not None:
        ax.plot(time, model.predict(rows), "--", color=POPULATION, lw=1.4, label="population")
    ax.plot(time, patient.predict(rows), color=PERSONAL, lw=2, label="personalised")
    ax.plot(_times(patient.X_support_, names), patient.y_support_, "o", color=PERSONAL, ms=7, label="points used")
    if X is not None:
        ax.plot(_times(X, names), np.asarray(y), "o", mfc="white", mec=INK, ms=5, label="points not used")
    ax.set(xlabel="time", xlim=(float(np.min(time)), float(np.max(time))))
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_predictive_check(
    model: Any, patients: TaskSet, *, n: int = 200, n_bins: int = 8, random_state: Any = None, ax: Any = None
) -> Any:
    """Draw a visual predictive check: quantiles of the observations over those of simulated patients.

    Every simulation draws new patients with the rows and covariates of the given ones. Bands hold 90 % of the simulated
    10th, 50th and 90th percentiles in bins of time.

    Parameters
    ----------
    model : fitted equation
    patients : TaskSet
    n : int, default=200
        Simulations.
    n_bins : int, default=8
        With about as many observations each.
    random_state : int, RandomState instance or None, default=None
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    from sklearn.utils import check_random_state

    ax = axes_or_new(ax)
    rng = check_random_state(random_state)
    column = _time_column(patients.feature_names)
    time, y = patients.X[:, column].astype(np.float64), patients.y.reshape(-1).astype(np.float64)
    simulated = np.concatenate([model.simulate(task.X, n, random_state=rng) for task in patients], axis=1)
    edges = np.unique(np.quantile(time, np.linspace(0, 1, n_bins + 1)))
    which = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, max(0, len(edges) - 2))
    bins = [np.flatnonzero(which == b) for b in np.unique(which)]
    middle = np.array([np.median(time[own]) for own in bins])
    for q, color in ((0.1, POPULATION), (0.5, PERSONAL), (0.9, POPULATION)):
        drawn = np.array([np.quantile(simulated[:, own], q, axis=1) for own in bins])
        low, high = np.quantile(drawn, [0.05, 0.95], axis=1)
        ax.fill_between(middle, low, high, color=color, alpha=0.3, lw=0)
        seen = [np.quantile(y[own], q) for own in bins]
        ax.plot(middle, seen, "-" if q == 0.5 else "--", color=INK, lw=1.2, label=f"observed, {100 * q:g} %")
    ax.plot(time, y, ".", color=INK, ms=3, alpha=0.4)
    ax.set(xlabel="time", ylabel=_target(patients))
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_predictions(model: Any, patients: TaskSet, *, ax: Any = None) -> Any:
    """Draw observations against what is predicted for them by the population and by each patient's own constants.

    Parameters
    ----------
    model : fitted equation
    patients : TaskSet
        Adapted to on all their rows.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    ax = axes_or_new(ax)
    y = patients.y.reshape(-1)
    own = model.adapt_many(patients).predict(patients)
    population = model.predict(patients.X)
    ax.plot(population, y, "o", mfc="white", mec=POPULATION, ms=4, label="population")
    ax.plot(own, y, "o", color=PERSONAL, ms=4, label="individual")
    ends = [min(y.min(), own.min(), population.min()), max(y.max(), own.max(), population.max())]
    ax.plot(ends, ends, color=INK, lw=0.8)
    ax.set(xlabel="predicted", ylabel=f"observed {_target(patients)}", aspect="equal")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_shrinkage(model: Any, *, ax: Any = None) -> Any:
    """Draw for every training patient how much of the variance between patients its rows leave, by constant.

    Parameters
    ----------
    model : fitted equation
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Needs matplotlib (``pip install metaest[plots]``).
    """
    ax = axes_or_new(ax)
    table: pd.DataFrame = model.task_params_
    names = [name for name in model.population_.index if name in model.covariance_.index]
    for j, name in enumerate(names):
        values = np.sort(table[f"{name}_shrinkage"].to_numpy())
        ax.plot(j + np.linspace(-0.25, 0.25, len(values)), values, "o", color=PERSONAL, ms=4, alpha=0.8)
        ax.plot([j - 0.3, j + 0.3], [values.mean()] * 2, color=INK, lw=1.2)
    ax.set(xticks=range(len(names)), ylim=(-0.03, 1.03), ylabel="share of variance left")
    ax.set_xticklabels(names)
    return ax


def _time_column(names: Any) -> int:
    return list(names).index("time") if names is not None and "time" in list(names) else 0


def _times(X: Any, names: Any) -> Any:
    if hasattr(X, "columns") and "time" in X.columns:
        return X["time"].to_numpy()
    return np.asarray(X)[:, _time_column(names)]


def _target(patients: TaskSet) -> str:
    return patients.target_names[0] if patients.target_names else "y"
