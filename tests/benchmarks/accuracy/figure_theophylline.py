"""Draw the figure of docs/domains/physiology.md.

python tests/benchmarks/accuracy/figure_theophylline.py
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from metaest_datasets import load_theophylline
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    Regimen,
    plot_patient,
    plot_population,
    plot_predictions,
    plot_predictive_check,
    plot_shrinkage,
)

patients = load_theophylline(exclude_time_zero=True)
model = OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:11])
new, support = patients[11], [1, 4, 8]
patient = model.adapt(new.X[support], new.y[support])
rest = np.setdiff1d(np.arange(len(new)), support)
median = np.median([task.X[0, 1:] for task in patients], axis=0)


def grid(dose, weight):
    return pd.DataFrame({"time": np.linspace(0.1, 24.5, 150), "dose": dose, "weight": weight})


figure = Figure(figsize=(13, 7.6), layout="constrained")
axes = figure.subplots(2, 3)
plot_population(model, patients[:11], grid(*median), unit="mg/L", ax=axes[0, 0]).set_title(
    "eleven patients", loc="left"
)
plot_patient(
    patient,
    Regimen.repeated(new.X[0, 1], weight=new.X[0, 2]),
    model=model,
    X=new.X[rest],
    y=new.y[rest],
    unit="mg/L",
    ax=axes[0, 1],
)
axes[0, 1].set_title("the twelfth, from three samples", loc="left")
plot_predictive_check(model, patients[:11], n_bins=7, random_state=0, unit="mg/L", ax=axes[0, 2])
axes[0, 2].set_title("predictive check", loc="left")
plot_predictions(model, patients[:11], unit="mg/L", ax=axes[1, 0]).set_title("fit", loc="left")
plot_shrinkage(model, ax=axes[1, 1]).set_title("shrinkage", loc="left")
axes[1, 2].axis("off")
lines = [
    "constants of the twelfth",
    "",
    *patient.params_[["value", "lower_90", "upper_90"]].round(3).to_string().split("\n"),
]
axes[1, 2].text(
    0, 0.95, "\n".join([*lines, "", f"guard: {patient.guard_.decision}"]), va="top", family="monospace", fontsize=9
)
figure.savefig(Path(__file__).parents[3] / "docs" / "figures" / "theophylline.png", dpi=110)
