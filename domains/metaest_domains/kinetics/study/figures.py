"""Draw the figures of the study."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import AdaptedEquation, IdentifiabilityWarning, TaskSet, UnlikelyTaskWarning
from metaest_datasets import fetch_steel_tempering
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.plots import plot_constants, plot_curve, plot_errors
from metaest_domains.kinetics.study.evaluation import draw_supports, table_of
from metaest_domains.kinetics.study.polymer import FORMS, ORDERS, load_curves
from metaest_domains.kinetics.study.steel import steel_model
from metaest_domains.kinetics.tempering import HollomonJaffeRegressor

__all__ = ["draw_constants", "draw_curves", "draw_errors", "draw_steel_constants", "draw_steels"]

EXAMPLES = ("47.5 C, 0.1 %", "46 C, 1 %", "43 C, 5 %")
SHOWN_FILLERS = (0.1, 1.0, 5.0)
STEELS = ("AISI-SAE 1040", "AISI-SAE 6150", "AISI-SAE E52100")
INK = "#222222"
Rows = NDArray[Any]


def draw_curves() -> Any:
    """Draw three left-out curves, their predictions from three points, and the suggested next measurement."""
    tasks = load_curves()
    figure, axes = _panels(len(EXAMPLES))
    for axis, name in zip(axes, EXAMPLES, strict=True):
        model, X, y, rows = _left_out(tasks, name, _curve_model())
        plot_curve(_adapt(model, X, y, rows), X, model=model, candidates=X, against="time", ax=axis)
        axis.plot(X[:, 0], y, color=INK, lw=1.2, label="measured")
        axis.set(title=name, xlabel="time since the cut (s)", ylabel="")
        axis.get_legend().remove()
    axes[0].set_ylabel("relative crystallinity")
    axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def draw_steels() -> Any:
    """Draw three left-out steels after one hour at each temperature, predicted from three measurements at any time."""
    tasks = fetch_steel_tempering()
    figure, axes = _panels(len(STEELS))
    for axis, name in zip(axes, STEELS, strict=True):
        model, X, y, rows = _left_out(tasks, name, steel_model())
        adapted = _adapt(model, X, y, rows)
        line = np.repeat(X[:1], 50, axis=0)
        line[:, 0] = 1.0
        line[:, 1] = np.linspace(X[:, 1].min(), X[:, 1].max(), 50)
        hour = X[:, 0] == 1.0
        plot_curve(adapted, line, model=model, X=X[hour], y=y[hour], candidates=X, against="temperature", ax=axis)
        for row in rows:
            axis.annotate(f"{X[row, 0]:.2g} h", (X[row, 1], y[row]), (4, 6), textcoords="offset points", fontsize=8)
        time, T = X[int(adapted.suggest(X)[0]), :2]
        axis.margins(x=0.12)
        axis.set(title=f"{name}\nnext: {time:.2g} h at {T:.0f} K", ylabel="")
        axis.get_legend().remove()
    axes[0].set_ylabel("hardness (HRC)")
    handles, labels = axes[1].get_legend_handles_labels()
    labels = ["measured after 1 h" if label == "not used" else label for label in labels]
    axes[1].legend(handles, labels, frameon=False, fontsize=8, loc="lower left")
    return figure


def draw_constants() -> Any:
    """Draw rate and exponent against temperature: whole curves as lines, left-out ones from 3 points with 90 % bars."""
    from matplotlib import pyplot as plt

    tasks = load_curves()
    family, settings = FORMS["parallel JMAK"]
    table = _with_first_rows(_fit(family(**settings), tasks), tasks)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, len(SHOWN_FILLERS)))
    for shade, filler in zip(shades, SHOWN_FILLERS, strict=True):
        shown = table[table["filler"] == filler]
        few = [_adapt(*_left_out(tasks, name, _curve_model())) for name in shown.index]
        x = (1000 / shown["temperature"]).rename("1000 K / T")
        for axis, constant in ((axes[0], "k"), (axes[1], "n")):
            whole = shown[constant].to_numpy(float)
            rate = constant == "k"
            axis.plot(x, np.log(whole) if rate else whole, "-", lw=1, color=shade)
            plot_constants(few, constant, x, logarithm=rate, label=f"{filler:g} %", color=shade, ax=axis)
    axes[0].legend(frameon=False, title="filler", fontsize=8)
    axes[1].set(ylabel="Avrami exponent n")
    axes[1].get_legend().remove()
    return figure


def draw_steel_constants() -> Any:
    """Draw level and slope of all steels against their carbon content, with standard errors."""
    from matplotlib import pyplot as plt

    tasks = fetch_steel_tempering()
    model = _fit(HollomonJaffeRegressor(optional=["c"]), tasks)
    carbon = _with_first_rows(model, tasks)["C"].rename("carbon (%)")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, name, label in (
        (axes[0], "a", "a: hardness after 1 h at the reference (HRC)"),
        (axes[1], "b", "b: fall of hardness per unit of P (HRC)"),
    ):
        plot_constants(model, name, carbon, ax=axis).set(ylabel=label)
    return figure


def draw_errors(records: pd.DataFrame, unit: str, top: float | None = None) -> Any:
    """Draw the errors of all methods by the number of points, up to the value `top`."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    plot_errors(table_of(records), unit=unit, ax=axis)
    for line in axis.lines:
        if not str(line.get_label()).startswith(("JMAK", "parallel", "Hollomon")):
            line.set(linestyle="--", marker="s", linewidth=1)
    axis.set_ylim(top=top)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _panels(n: int) -> Any:
    from matplotlib import pyplot as plt

    return plt.subplots(1, n, figsize=(11, 3.6), sharey=True, layout="constrained")


def _left_out(tasks: TaskSet, name: str, model: KineticRegressor) -> tuple[KineticRegressor, Rows, Rows, Rows]:
    """Fit to all tasks but one; return the model, the rows of that one, and three of them at random."""
    held = tasks.names.tolist().index(name)
    _fit(model, tasks[[i for i in range(len(tasks)) if i != held]])
    X = tasks[held].X
    y = tasks[held].y.reshape(-1)
    return model, X, y, next(draw_supports(len(y), 3, 1, [held]))


def _curve_model() -> KineticRegressor:
    family, settings = FORMS["parallel JMAK"]
    return family(**settings, covariates=dict.fromkeys(settings["parameters"], ORDERS["second, log filler"]))


def _adapt(model: KineticRegressor, X: Rows, y: Rows, rows: Rows) -> AdaptedEquation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentifiabilityWarning)
        adapted = model.adapt(X[rows], y[rows])
        assert isinstance(adapted, AdaptedEquation)  # the settings name one structure
        return adapted


def _fit(model: KineticRegressor, tasks: TaskSet) -> KineticRegressor:
    with warnings.catch_warnings():
        # the first rows of the fastest curves, next to the cut at 2 %, fit worse than the rest; so do some steels
        warnings.simplefilter("ignore", UnlikelyTaskWarning)
        model.fit(tasks)
    return model


def _with_first_rows(model: KineticRegressor, tasks: TaskSet) -> pd.DataFrame:
    first = tasks.X[tasks.offsets[:-1]]
    params: pd.DataFrame = model.task_params_.rename(columns={"C": "C_HJ", "C_standard_error": "C_HJ_standard_error"})
    names = [str(name) for name in tasks.feature_names or []]
    return pd.concat([params, pd.DataFrame(first, columns=names, index=params.index)], axis=1)
