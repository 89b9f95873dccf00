"""EquationRegressor against R's mixed-effects software, leave one task out, on the reference support sets.

Theophylline and orange trees against nlme, sleep study against lme4: root mean squared error over the rows not used,
over all tasks and support sets, and its ratio to the reference. "same" has the reference's random effects, "default"
lets all constants vary with a full covariance, "query" and the MAML rows have the reference's random effects.

    python tests/benchmarks/accuracy/equations_accuracy.py --output docs/figures/equations.csv
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import describe

from metaest import EquationRegressor, Parameter
from metaest.diagnostics import leave_one_task_out
from metaest_datasets import load_orange, load_reference, load_sleepstudy, load_theophylline


def absorption(X, Ke, Ka, Cl):
    t, dose = X[:, 0], X[:, 1]
    return dose * Ke * Ka / Cl / (Ka - Ke) * (torch.exp(-Ke * t) - torch.exp(-Ka * t))


def logistic(X, Asym, xmid, scal):
    return Asym / (1 + torch.exp((xmid - X[:, 0]) / scal))


def line(X, a, b):
    return a + b * X[:, 0]


STUDIES = {
    "theophylline": {
        "tasks": partial(load_theophylline, exclude_time_zero=True),
        "equation": absorption,
        "parameters": {
            "Ke": Parameter(0.1, lower=0, unit="1/h"),
            "Ka": Parameter(1.5, lower=0, unit="1/h"),
            "Cl": Parameter(0.04, lower=0, unit="L/h/kg"),
        },
        "random": ["Ka", "Cl"],
        "reference": "nlme_mse",
    },
    "orange": {
        "tasks": load_orange,
        "equation": logistic,
        "parameters": {"Asym": Parameter(190.0, unit="mm"), "xmid": Parameter(700.0), "scal": Parameter(350.0)},
        "random": ["Asym"],
        "reference": "nlme_mse",
    },
    "sleepstudy": {
        "tasks": load_sleepstudy,
        "equation": line,
        "parameters": {"a": 250.0, "b": 10.0},
        "random": None,
        "reference": "lme4_mse",
    },
}


def learn(study, settings, others):
    return EquationRegressor(study["equation"], study["parameters"], **settings).fit(others)


def methods_of(study):
    same = {"random": study["random"], "random_state": 0}
    gradient = {**same, "objective": "query", "inner_solver": "gradient"}
    settings = {
        "same": same,
        "default": {},
        "query": {**same, "objective": "query"},
        "MAML exact": gradient,
        "MAML first-order": {**gradient, "meta_gradient": "first-order"},
    }
    return {name: partial(learn, study, own) for name, own in settings.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--output", type=Path, help="a CSV file for the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    tables = []
    for name, study in STUDIES.items():
        started = time.perf_counter()
        sets = load_reference(name)
        sets = sets[sets["scheme"] == "random"]
        methods = methods_of(study)
        errors = leave_one_task_out(methods, study["tasks"](), sets, n_jobs=arguments.jobs).errors
        rmse = errors.groupby("k")[[*methods, study["reference"]]].mean() ** 0.5
        rmse = rmse.rename(columns={study["reference"]: "reference"})
        print(f"\n{name}: RMSE by number of rows ({time.perf_counter() - started:.0f} s)")
        print(rmse.T.to_string(float_format="{:.3f}".format))
        print("ratio to the reference")
        print(rmse.div(rmse["reference"], axis=0).drop(columns="reference").T.to_string(float_format="{:.3f}".format))
        tables.append(rmse.assign(data=name).reset_index())
    table = pd.concat(tables)
    chosen = table[table["data"].isin(["theophylline", "orange"]) & (table["k"] > 0)]
    print("\nTheophylline and orange trees, 1, 2, 3 and 5 rows")
    for name in methods:
        ratio = chosen[name] / chosen["reference"]
        print(f"{name:18} geometric mean {np.exp(np.log(ratio).mean()):.4f}, largest {ratio.max():.4f}")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.output, index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
