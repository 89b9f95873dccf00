"""Twelve panels: the population's prediction for each patient, and the guarded one after a few samples."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from metaest import IdentifiabilityWarning
from metaest.diagnostics import LeaveOneOut

__all__ = ["plot_patients"]

POPULATION = "#8a8f98"
PERSONAL = "#0b6e99"
INK = "#20262e"
HARM = "#b3261e"
LEVEL = 0.9


def plot_patients(result: LeaveOneOut, *, method: str = "equation_guarded", k: int = 3, rep: int = 1) -> Any:
    """Draw population and personalised curves with the samples used and the samples predicted.

    Each panel has the error before and after the samples, what the guard decided, and says so where personalising made
    the error larger.

    Parameters
    ----------
    result : LeaveOneOut
    method : str, default="equation_guarded"
        Whose curves to draw; the band of an equation is its 90 % interval for new samples.
    k : int, default=3
        Samples to adapt on.
    rep : int, default=1
        Which of the reference's support sets of that size.

    Returns
    -------
    matplotlib.figure.Figure
        Needs matplotlib (``pip install metaest[plots]``).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 8.4), layout="constrained")
    axes = figure.subplots(3, 4, sharex=True, sharey=True)
    rows = result.errors[(result.errors["k"] == k) & (result.errors["rep"] == rep)].set_index("task")
    for ax, name in zip(axes.flat, result.tasks.names.tolist(), strict=True):
        _panel(ax, result.models[name][method], result.tasks.task(name), np.array(rows.loc[name, "support"], dtype=int))
    figure.supxlabel("hours since the dose")
    figure.supylabel("theophylline in serum, mg/L")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    return figure


def _panel(ax: Any, model: Any, patient: Any, support: Any) -> None:
    """Draw one patient."""
    query = np.setdiff1d(np.arange(len(patient)), support)
    with warnings.catch_warnings():
        # the band shows what the samples leave open
        warnings.simplefilter("ignore", IdentifiabilityWarning)
        adapted = model.adapt(patient.X[support], patient.y[support])
    dose, weight = patient.X[0, 1], patient.X[0, 2]
    grid = pd.DataFrame({"time": np.linspace(0.25, 25, 200), "dose": dose, "weight": weight})
    before, after = model.predict(grid), adapted.predict(grid)
    ax.plot(grid["time"], before, color=POPULATION, ls="--", lw=1.4, label="before any sample (population)")
    ax.plot(grid["time"], after, color=PERSONAL, lw=2, label=f"personalised by {len(support)} samples")
    samples = {"marker": "o", "ls": "none"}
    ax.plot(patient.X[support, 0], patient.y[support], **samples, color=PERSONAL, ms=7, label="samples used")
    ax.plot(patient.X[query, 0], patient.y[query], **samples, mfc="white", mec=INK, ms=5, label="samples predicted")
    if hasattr(adapted, "params_"):
        low, high = adapted.predict_interval(grid, level=LEVEL)
        label = f"{LEVEL:.0%} of new samples".replace("%", " %")
        ax.fill_between(grid["time"], low, high, color=PERSONAL, alpha=0.13, lw=0, label=label)
    ax.set_title(f"patient {patient.name}", loc="left", fontsize=10, fontweight="bold", color=INK)
    first, second = (
        float(np.sqrt(np.square(predictor.predict(patient.X[query]) - patient.y[query]).mean()))
        for predictor in (model, adapted)
    )
    lines = [f"{dose:.2f} mg/kg, {weight:.0f} kg", f"RMSE {first:.2f} → {second:.2f} mg/L"]
    if getattr(adapted, "guard_", None) is not None:
        lines.append(f"guard: {adapted.guard_.decision}")
    worse = round(second, 2) > round(first, 2)
    if worse:
        lines.append("worse than the population")
    where = {"transform": ax.transAxes, "ha": "right", "va": "top", "fontsize": 8.5}
    ax.text(0.98, 0.96, "\n".join(lines), color=HARM if worse else INK, **where)
    ax.set(xlim=(-0.5, 25.5), ylim=(0, 14), xticks=range(0, 25, 6))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
