"""Draw twelve panels: the prediction for each patient by the population model, and after a few samples."""

from typing import Any

import numpy as np
import pandas as pd

from metaest.diagnostics import LeaveOneOut

__all__ = ["plot_patients"]

# colours, as in metaest_domains.physiology.plots
POPULATION = "#8a8f98"
PERSONAL = "#0b6e99"
INK = "#20262e"


def plot_patients(result: LeaveOneOut, *, k: int = 3, rep: int = 1) -> Any:
    """Draw population and personalised curves with the samples used and the samples predicted.

    Parameters
    ----------
    result : LeaveOneOut
    k : int, default=3
        Number of samples to adapt to.
    rep : int, default=1
        Number of the support set of that size in the reference.

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
        _panel(ax, result, name, np.array(rows.loc[name, "support"], dtype=int))
    figure.supxlabel("hours since the dose")
    figure.supylabel("theophylline in serum, mg/L")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _panel(ax: Any, result: LeaveOneOut, name: str, support: Any) -> None:
    patient = result.tasks.task(name)
    model = result.models[name]["maml"]
    query = np.setdiff1d(np.arange(len(patient)), support)
    adapted = model.adapt(patient.X[support], patient.y[support])
    time = patient.X[:, 0]
    dose = patient.X[0, 1]
    weight = patient.X[0, 2]
    grid = pd.DataFrame({"time": np.linspace(0.25, 25, 200), "dose": dose, "weight": weight})
    ax.plot(
        grid["time"], model.predict(grid), color=POPULATION, ls="--", lw=1.4, label="before any sample (population)"
    )
    ax.plot(grid["time"], adapted.predict(grid), color=PERSONAL, lw=2, label=f"personalised by {len(support)} samples")
    ax.plot(time[support], patient.y[support], "o", color=PERSONAL, ms=7, label="samples used")
    ax.plot(time[query], patient.y[query], "o", mfc="white", mec=INK, ms=5, label="samples predicted")
    before, after = (
        np.sqrt(np.square(predictor.predict(patient.X[query]) - patient.y[query]).mean())
        for predictor in (model, adapted)
    )
    ax.set_title(f"patient {name}", loc="left", fontsize=10, fontweight="bold", color=INK)
    ax.text(
        0.98,
        0.96,
        f"{dose:.2f} mg/kg, {weight:.0f} kg\nRMSE {before:.2f} → {after:.2f} mg/L",
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=8.5,
        color=INK,
    )
    ax.set(xlim=(-0.5, 25.5), ylim=(0, 14), xticks=range(0, 25, 6))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
