"""The figures of the study."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from metaest import IdentifiabilityWarning, TaskSet, UnlikelyTaskWarning
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.study.evaluation import draw_supports, table_of
from metaest_domains.kinetics.study.polymer import FORMS, ORDERS, load_curves

__all__ = ["plot_constants", "plot_curves", "plot_errors"]

EXAMPLES = ("47.5 C, 0.1 %", "46 C, 1 %", "43 C, 5 %")
INK, BLUE, ORANGE, GREY = "#222222", "#2369bd", "#d1701f", "#8a8a8a"


def plot_curves() -> Any:
    """Draw three left-out curves, what three points say of them, and where the next measurement would go."""
    from matplotlib import pyplot as plt

    tasks = load_curves()
    names = tasks.names.tolist()
    figure, axes = plt.subplots(1, len(EXAMPLES), figsize=(11, 3.4), sharey=True, layout="constrained")
    for axis, name in zip(axes, EXAMPLES, strict=True):
        held = names.index(name)
        model = _covariate_model(tasks[[i for i in range(len(tasks)) if i != held]])
        X, y = tasks[held].X, tasks[held].y.reshape(-1)
        rows = next(draw_supports(len(y), 3, 1, [held]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IdentifiabilityWarning)
            adapted = model.adapt(X[rows], y[rows])
        low, high = adapted.predict_interval(X)
        prior_low, prior_high = model.predict_interval(X)
        following = int(adapted.suggest(X)[0])
        axis.fill_between(
            X[:, 0], prior_low, prior_high, color=GREY, alpha=0.25, lw=0, label="from its covariates alone"
        )
        axis.fill_between(X[:, 0], low, high, color=BLUE, alpha=0.3, lw=0, label="after three points, 90 %")
        axis.plot(X[:, 0], y, color=INK, lw=1.2, label="measured")
        axis.plot(X[:, 0], adapted.predict(X), color=BLUE, lw=1.2)
        axis.plot(X[rows, 0], y[rows], "o", color=ORANGE, ms=6, label="the three points")
        axis.axvline(X[following, 0], color=ORANGE, ls="--", lw=1, label="where to measure next")
        axis.set(title=name, xlabel="time since the cut (s)")
    axes[0].set_ylabel("relative crystallinity")
    axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def plot_constants() -> Any:
    """Draw rate and exponent of all curves against temperature, with standard errors."""
    from matplotlib import pyplot as plt

    tasks = load_curves()
    family, settings = FORMS["parallel JMAK"]
    model = _fit(family(**settings), tasks)
    first = tasks.X[tasks.offsets[:-1]]
    table = model.task_params_.assign(T=first[:, 1], filler=first[:, 2])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, table["filler"].nunique()))
    for shade, (filler, own) in zip(shades, table.groupby("filler"), strict=True):
        x = 1000 / own["T"]
        axes[0].errorbar(x, np.log(own["k"]), own["k_standard_error"] / own["k"], fmt="o-", ms=4, lw=1, color=shade)
        axes[1].errorbar(x, own["n"], own["n_standard_error"], fmt="o-", ms=4, lw=1, color=shade, label=f"{filler:g} %")
    axes[0].set(xlabel="1000 K / T", ylabel="ln (k / (1/s))")
    axes[1].set(xlabel="1000 K / T", ylabel="Avrami exponent n")
    axes[1].legend(frameon=False, title="filler", fontsize=8)
    for axis in axes:
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


def _covariate_model(training: TaskSet) -> KineticRegressor:
    family, settings = FORMS["parallel JMAK"]
    model = family(**settings, covariates=dict.fromkeys(settings["parameters"], ORDERS["second, log filler"]))
    return _fit(model, training)


def _fit(model: KineticRegressor, tasks: TaskSet) -> KineticRegressor:
    with warnings.catch_warnings():
        # the first rows of the fastest curves, beside the cut, do not fit as well as the rest
        warnings.simplefilter("ignore", UnlikelyTaskWarning)
        model.fit(tasks)
    return model
