"""The figures of the study."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest import AdaptedEquation, IdentifiabilityWarning, TaskSet, UnlikelyTaskWarning
from metaest_datasets import fetch_steel_tempering
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.study.evaluation import draw_supports, table_of
from metaest_domains.kinetics.study.polymer import FORMS, ORDERS, load_curves
from metaest_domains.kinetics.study.steel import steel_model
from metaest_domains.kinetics.tempering import HollomonJaffeRegressor

__all__ = ["plot_constants", "plot_curves", "plot_errors", "plot_steel_constants", "plot_steels"]

EXAMPLES = ("47.5 C, 0.1 %", "46 C, 1 %", "43 C, 5 %")
SHOWN_FILLERS = (0.1, 1.0, 5.0)
STEELS = ("AISI-SAE 1040", "AISI-SAE 6150", "AISI-SAE E52100")
INK, BLUE, ORANGE, GREY = "#222222", "#2369bd", "#d1701f", "#8a8a8a"
Rows = NDArray[Any]


def plot_curves() -> Any:
    """Draw three left-out curves, what three points say of them, and where the next measurement would go."""
    tasks = load_curves()
    figure, axes = _panels(len(EXAMPLES))
    for axis, name in zip(axes, EXAMPLES, strict=True):
        model, X, y, rows = _left_out(tasks, name, _curve_model())
        adapted = _adapt(model, X, y, rows)
        following = int(adapted.suggest(X)[0])
        _draw_bands(axis, X[:, 0], X, model, adapted, "temperature and filler")
        axis.plot(X[:, 0], y, color=INK, lw=1.2, label="measured")
        axis.plot(X[rows, 0], y[rows], "o", color=ORANGE, ms=6, label="the three points")
        axis.axvline(X[following, 0], color=ORANGE, ls="--", lw=1, label="where to measure next")
        axis.set(title=name, xlabel="time since the cut (s)")
    axes[0].set_ylabel("relative crystallinity")
    axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def plot_steels() -> Any:
    """Draw three left-out steels after one hour at each temperature, as three measurements at any time tell it."""
    tasks = fetch_steel_tempering()
    figure, axes = _panels(len(STEELS))
    for axis, name in zip(axes, STEELS, strict=True):
        model, X, y, rows = _left_out(tasks, name, steel_model())
        adapted = _adapt(model, X, y, rows)
        line = np.repeat(X[:1], 50, axis=0)
        line[:, 0], line[:, 1] = 1.0, np.linspace(X[:, 1].min(), X[:, 1].max(), 50)
        hour = X[:, 0] == 1.0
        _draw_bands(axis, line[:, 1], line, model, adapted, "composition")
        axis.plot(X[hour, 1], y[hour], "o", mfc="none", color=INK, ms=4, label="measured after 1 h")
        axis.plot(X[rows, 1], y[rows], "o", color=ORANGE, ms=6, label="the three points")
        for row in rows:
            axis.annotate(f"{X[row, 0]:.2g} h", (X[row, 1], y[row]), (4, 6), textcoords="offset points", fontsize=8)
        time, T = X[int(adapted.suggest(X)[0]), :2]
        axis.axvline(T, color=ORANGE, ls="--", lw=1, label="where to measure next")
        axis.margins(x=0.12)
        axis.set(title=f"{name}\nnext: {time:.2g} h at {T:.0f} K", xlabel="temperature (K)")
    axes[0].set_ylabel("hardness (HRC)")
    axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def plot_constants() -> Any:
    """Draw rate and exponent against temperature: of whole curves, and of left-out curves from three points, 90 %."""
    from matplotlib import pyplot as plt

    tasks = load_curves()
    family, settings = FORMS["parallel JMAK"]
    table = _with_first_rows(_fit(family(**settings), tasks), tasks)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, len(SHOWN_FILLERS)))
    for shade, filler in zip(shades, SHOWN_FILLERS, strict=True):
        own = table[table["filler"] == filler]
        few = [_adapt(*_left_out(tasks, name, _curve_model())).params_ for name in own.index]
        x = 1000 / own["temperature"].to_numpy()
        for axis, constant in ((axes[0], "k"), (axes[1], "n")):
            whole = own[constant].to_numpy(float)
            value, low, high = np.array([p.loc[constant, ["value", "lower_90", "upper_90"]] for p in few], float).T
            if constant == "k":
                whole, value, low, high = np.log([whole, value, low, high])
            axis.plot(x, whole, "-", lw=1, color=shade)
            ends = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
            axis.errorbar(x, value, ends, fmt="o", ms=4, lw=1, color=shade, label=f"{filler:g} %")
    axes[0].set(xlabel="1000 K / T", ylabel="ln (k / (1/s))")
    axes[1].set(xlabel="1000 K / T", ylabel="Avrami exponent n")
    axes[0].legend(frameon=False, title="filler", fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.25)
    return figure


def plot_steel_constants() -> Any:
    """Draw level and slope of all steels against their carbon content, with standard errors."""
    from matplotlib import pyplot as plt

    tasks = fetch_steel_tempering()
    table = _with_first_rows(_fit(HollomonJaffeRegressor(optional=["c"]), tasks), tasks)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, name, label in (
        (axes[0], "a", "a: hardness after 1 h at the reference (HRC)"),
        (axes[1], "b", "b: fall of hardness per unit of P (HRC)"),
    ):
        axis.errorbar(table["C"], table[name], table[f"{name}_standard_error"], fmt="o", ms=4, lw=1, color=BLUE)
        axis.set(xlabel="carbon (%)", ylabel=label)
        axis.grid(alpha=0.25)
    return figure


def plot_errors(records: pd.DataFrame, unit: str, top: float | None = None) -> Any:
    """Draw the errors of all methods by the number of points; a method above the top leaves the picture."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for i, (method, row) in enumerate(table_of(records).iterrows()):
        ours = str(method).startswith(("JMAK", "parallel", "Hollomon"))
        axis.plot(row.index, row, "o-" if ours else "s--", ms=4, lw=1.5 if ours else 1, color=f"C{i}", label=method)
    axis.set(xlabel="points of the new one", ylabel=unit, yscale="log")
    axis.set_ylim(top=top)
    axis.grid(alpha=0.25, which="both")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(ScalarFormatter())
    return figure


def _panels(n: int) -> Any:
    from matplotlib import pyplot as plt

    return plt.subplots(1, n, figsize=(11, 3.6), sharey=True, layout="constrained")


def _left_out(tasks: TaskSet, name: str, model: KineticRegressor) -> tuple[KineticRegressor, Rows, Rows, Rows]:
    """Fit to all tasks but one; return the model, the rows of that one, and three of them at random."""
    held = tasks.names.tolist().index(name)
    _fit(model, tasks[[i for i in range(len(tasks)) if i != held]])
    X, y = tasks[held].X, tasks[held].y.reshape(-1)
    return model, X, y, next(draw_supports(len(y), 3, 1, [held]))


def _draw_bands(
    axis: Any, x: Rows, X: Rows, model: KineticRegressor, adapted: AdaptedEquation, covariates: str
) -> None:
    before, after = model.predict_interval(X), adapted.predict_interval(X)
    axis.fill_between(x, *before, color=GREY, alpha=0.25, lw=0, label=f"from its {covariates} alone")
    axis.fill_between(x, *after, color=BLUE, alpha=0.3, lw=0, label="after three points, 90 %")
    axis.plot(x, adapted.predict(X), color=BLUE, lw=1.2)


def _curve_model() -> KineticRegressor:
    family, settings = FORMS["parallel JMAK"]
    return family(**settings, covariates=dict.fromkeys(settings["parameters"], ORDERS["second, log filler"]))


def _adapt(model: KineticRegressor, X: Rows, y: Rows, rows: Rows) -> AdaptedEquation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentifiabilityWarning)
        return model.adapt(X[rows], y[rows])


def _fit(model: KineticRegressor, tasks: TaskSet) -> KineticRegressor:
    with warnings.catch_warnings():
        # the first rows of the fastest curves, beside the cut, do not fit as well as the rest; nor do some steels
        warnings.simplefilter("ignore", UnlikelyTaskWarning)
        model.fit(tasks)
    return model


def _with_first_rows(model: KineticRegressor, tasks: TaskSet) -> pd.DataFrame:
    first = tasks.X[tasks.offsets[:-1]]
    own: pd.DataFrame = model.task_params_.rename(columns={"C": "C_HJ", "C_standard_error": "C_HJ_standard_error"})
    names = [str(name) for name in tasks.feature_names or []]
    return pd.concat([own, pd.DataFrame(first, columns=names, index=own.index)], axis=1)
