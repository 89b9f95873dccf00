"""Warfarin in 32 patients by one compartment with a lag, each constant varying, beside Monolix's estimates.

The noise of Monolix's model w1 is the sum of two standard deviations (combined1); the other kinds are fitted beside it.
The file of its demonstration is not part of this repository: METAEST_DATA_HOME/monolix holds warfarin.csv and
population.csv. Distances are in Monolix's standard errors.

    python tests/benchmarks/accuracy/warfarin.py
"""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe

from metaest_domains.physiology import OneCompartmentRegressor, read_patients

NAMES = {"lag": "Tlag", "absorption": "ka", "volume": "V", "clearance": "Cl"}
NOISES = ("combined1", "combined", "proportional", "lognormal")


def main():
    print(describe())
    warnings.simplefilter("ignore")
    folder = Path(os.environ["METAEST_DATA_HOME"]) / "monolix"
    records = pd.read_csv(folder / "warfarin.csv", encoding="utf-8-sig", na_values=".")
    records = records.loc[records["dvid"] != 2, ["id", "time", "amt", "dv"]]
    patients = read_patients(records, patient="id", dose="amt", time="time", target="dv")
    for noise in NOISES:
        some = patients if noise != "lognormal" else above_zero(patients)
        model = OneCompartmentRegressor(lag=True, random=list(NAMES), noise=noise).fit(some)
        values = ", ".join(f"{name} {value:.4g}" for name, value in model.noise_.items())
        print(f"{noise}: {len(some.X)} rows, -2 log-likelihood {-2 * model.log_likelihood_:.2f}, {values}")
        if noise == "combined1":
            print(beside(model, folder).round(4).to_string())


def above_zero(patients):
    """Return the patients without rows that are not above zero."""
    return type(patients)([type(task)(task.name, task.X[task.y > 0], task.y[task.y > 0]) for task in patients])


def beside(model, folder):
    """Return estimates beside those of Monolix."""
    lines = (folder / "population.csv").read_text(encoding="utf-8").splitlines()
    theirs = {line.split(",")[1]: np.array(line.split(",")[2:4], float) for line in lines if line.startswith("w1,")}
    ours = {f"{theirs_name}_pop": model.population_.loc[name, "value"] for name, theirs_name in NAMES.items()}
    ours |= {f"omega_{theirs_name}": model.population_.loc[name, "omega"] for name, theirs_name in NAMES.items()}
    ours |= {"a": model.noise_["sd"], "b": model.noise_["cv"]}
    table = pd.DataFrame({"metaest": ours, "Monolix": {name: theirs[name][0] for name in ours}})
    return table.assign(distance=[(ours[name] - theirs[name][0]) / theirs[name][1] for name in ours])


if __name__ == "__main__":
    main()
