"""The figure of docs/guide/equations.md: one patient's curve, the way its constants move, and the error by number of samples.

python tests/benchmarks/accuracy/equations_accuracy.py --output docs/figures/equations.csv
python tests/benchmarks/accuracy/figure_equations.py
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from equations_accuracy import STUDIES
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from metaest import EquationRegressor, IdentifiabilityWarning
from metaest_datasets import load_theophylline

FIGURES = Path(__file__).parents[3] / "docs" / "figures"

PATIENT, SUPPORT = 11, [0, 6]
BAYES, MAML, POPULATION, INK = "#0b6e99", "#c4561d", "#8a8f98", "#20262e"


def fit(**settings):
    study = STUDIES["theophylline"]
    return EquationRegressor(study["equation"], study["parameters"], random=["Ka", "Cl"], **settings)


def curves(ax, model, patient):
    grid = np.column_stack([np.linspace(0.05, 25, 200), np.tile(patient.X[0, 1:], (200, 1))])
    adapted = model.adapt(patient.X[SUPPORT], patient.y[SUPPORT])
    for predictor, color, label in ((model, POPULATION, "of any patient"), (adapted, BAYES, "of this one")):
        low, high = predictor.predict_interval(grid, of="curve")
        ax.fill_between(grid[:, 0], low, high, color=color, alpha=0.18, lw=0, label=f"90 % band {label}")
        ax.plot(grid[:, 0], predictor.predict(grid), color=color, ls="-" if predictor is adapted else "--", lw=1.8)
    query = np.setdiff1d(np.arange(len(patient)), SUPPORT)
    ax.plot(patient.X[SUPPORT, 0], patient.y[SUPPORT], "o", color=BAYES, ms=7, label="samples used")
    ax.plot(patient.X[query, 0], patient.y[query], "o", mfc="white", mec=INK, ms=5, label="samples predicted")
    times = grid[::4]
    best = times[adapted.suggest(times)[0], 0]
    ax.axvline(best, color=INK, lw=1, ls=":", label=f"next sample at {best:.1f} h")
    ax.set(xlabel="hours since the dose", ylabel="theophylline, mg/L", xlim=(0, 25), ylim=(0, None))
    ax.set_title("two samples of a new patient", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=8.5)
    return adapted


def ellipse(ax, center, covariance, **style):
    """Draw where 90 % of a normal distribution lies."""
    values, vectors = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    size = 2 * np.sqrt(4.605 * values)
    ax.add_patch(Ellipse(center, size[1], size[0], angle=angle, **style))


def plane(ax, bayes, maml, adapted, patient):
    names = ["Ka", "Cl"]
    center = bayes.population_.loc[names, "scaled_value"].to_numpy()
    ellipse(ax, center, bayes.covariance_.to_numpy(), fc=POPULATION, alpha=0.2, label="patients (90 %)")
    ax.plot(*center, "P", color=POPULATION, ms=9, mec="white", label="population")
    table = adapted.params_.loc[names]
    ends = np.log(table[["value", "lower_90", "upper_90"]].to_numpy())
    ax.errorbar(
        ends[0, 0],
        ends[1, 0],
        xerr=[[ends[0, 0] - ends[0, 1]], [ends[0, 2] - ends[0, 0]]],
        yerr=[[ends[1, 0] - ends[1, 1]], [ends[1, 2] - ends[1, 0]]],
        fmt="o",
        color=BAYES,
        capsize=3,
        label="most probable (Bayes), 90 %",
    )
    path = []
    for steps in range(maml.inner_steps + 1):
        path.append(np.log(steps_of(maml, patient, steps).loc[names, "value"].to_numpy()))
    path = np.array(path)
    ax.plot(*path.T, "-", color=MAML, lw=1.2)
    ax.plot(*path.T, "o", color=MAML, ms=4.5, label=f"{maml.inner_steps} gradient steps (MAML)")
    everything = adapted_to_all(bayes, patient)
    ax.plot(*np.log(everything.loc[names, "value"]), "*", color=INK, ms=11, label="from all ten samples")
    ax.set(xlabel="ln Ka", ylabel="ln Cl")
    ax.set_title("where its constants go", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=8.5, loc="lower left")


def steps_of(maml, patient, steps):
    """Constants after some of the inner steps; none is the learned start."""
    if steps == 0:
        return maml.population_
    solver = maml._fitted.solver
    short = (
        maml.adapt(patient.X[SUPPORT], patient.y[SUPPORT]) if steps == solver.steps else shortened(maml, patient, steps)
    )
    return short.params_


def shortened(maml, patient, steps):
    from dataclasses import replace

    from metaest.estimators.equations.task_rows import adapt_rows

    fewer = replace(maml._fitted, solver=replace(maml._fitted.solver, steps=steps))
    X, y = patient.X[SUPPORT], patient.y[SUPPORT]
    posterior = adapt_rows(fewer, X, y, "adapt")
    return type(maml.adapt(X, y))._make(fewer, posterior, X, y, None)


def adapted_to_all(model, patient):
    return model.adapt(patient.X, patient.y).params_


def errors(ax):
    table = pd.read_csv(FIGURES / "equations.csv")
    table = table[(table["data"] == "theophylline")].set_index("k")
    lines = {
        "reference": ("R's nlme", INK, "--", "s"),
        "same": ("evidence (hierarchical Bayes)", BAYES, "-", "o"),
        "MAML exact": ("gradient steps, exact", MAML, "-", "^"),
        "MAML first-order": ("gradient steps, first-order", MAML, ":", "v"),
        "query": ("query density, Gauss-Newton", "#6a4c93", "-", "D"),
    }
    for column, (label, color, style, marker) in lines.items():
        reference = {"ms": 11, "mfc": "none", "zorder": 3} if column == "reference" else {"ms": 5}
        ax.plot(table.index, table[column], color=color, ls=style, marker=marker, label=label, **reference)
    ax.set(xlabel="samples of the new patient", ylabel="RMSE, mg/L", xticks=[0, 1, 2, 3, 5])
    ax.set_title("twelve patients, each left out once", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=8.5)


def main():
    warnings.simplefilter("ignore", IdentifiabilityWarning)
    torch.set_num_threads(1)
    tasks = load_theophylline(exclude_time_zero=True)
    patient, others = tasks[PATIENT], tasks[np.delete(np.arange(12), PATIENT)]
    bayes = fit().fit(others)
    maml = fit(objective="query", inner_solver="gradient", random_state=0).fit(others)
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    adapted = curves(left, bayes, patient)
    plane(middle, bayes, maml, adapted, patient)
    errors(right)
    for ax in (left, middle, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    figure.savefig(FIGURES / "equations.png", dpi=110)


if __name__ == "__main__":
    main()
