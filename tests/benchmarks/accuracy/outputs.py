"""Two outputs in one task: a drug and its metabolite beside Monolix, warfarin and prothrombin beside what is published.

pm        Monolix's demonstration (2023R1; simulated, 80 patients): an oral drug with a peripheral compartment and its
          metabolite, noise of two added SDs of each, 113 values known to lie between 0 and a limit. The most probable
          constants of every patient at Monolix's population, in its standard deviations between patients, and -2 log
          likelihood there by importance sampling.
warfarin  32 volunteers (O'Reilly, 1963, 1968): one compartment with a lag, and the activity of prothrombin complex by a
          turnover whose production the drug inhibits, in full at high levels (nlmixr's: by 97 %). A joint fit, with typical values beside those of Monolix (of the
          concentrations alone) and of nlmixr (of both outputs, another absorption; as in posologyr's documentation).
          Then four patients are left out at a time, and their activities after 48 h predicted: before any row of theirs,
          from the first two concentrations, from all of the first 48 h, and from the activities of that time as well.

The files are not part of this repository: METAEST_DATA_HOME/monolix.

    python tests/benchmarks/accuracy/outputs.py pm
    python tests/benchmarks/accuracy/outputs.py warfarin
"""

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from machine import describe

from metaest import EquationRegressor, Parameter, Population, TaskSet
from metaest.population import Block, NoiseModel, OutputNoiseModel
from metaest.tasks import with_limits

N_SAMPLES = 10_000
# nodes of an integral over the time since absorption began, before and after so many hours
EARLY, NODES = 12.0, 12
# typical values of Monolix's fit of the concentrations, and of nlmixr's fit of both outputs
MONOLIX = {"lag": 0.764, "ka": 1.456, "V": 7.960, "Cl": 0.1325}
NLMIXR = {"V": np.exp(2.07), "Cl": np.exp(-2.03), "ec50": np.exp(0.00724), "kout": np.exp(-2.9), "e0": np.exp(4.57)}
FOLDS, EARLY_HOURS = 8, 48


def parent(X, ka, V, k, k12, k21, Kpm):
    """Return the concentration of a drug after one oral dose; columns time, dose, output."""
    terms = _exponentials(ka, k, k12, k21, Kpm)
    return X[:, 1] / V * sum(c * torch.exp(-rate * X[:, 0]) for c, rate in terms)


def metabolite(X, ka, V, k, k12, k21, km, Kpm):
    """Return that of its metabolite, in the same volume."""
    t, terms = X[:, 0], _exponentials(ka, k, k12, k21, Kpm)
    total = sum(c * (torch.exp(-rate * t) - torch.exp(-km * t)) / (km - rate) for c, rate in terms)
    return X[:, 1] / V * Kpm * total


def _exponentials(ka, k, k12, k21, Kpm):
    """Return factors and rates of the amount in the central compartment, of a dose of one."""
    total, product = k + k12 + Kpm + k21, (k + Kpm) * k21
    root = torch.sqrt(total**2 - 4 * product)
    fast, slow = 0.5 * (total + root), 2 * product / (total + root)
    return [
        (ka * (k21 - fast) / ((ka - fast) * (slow - fast)), fast),
        (ka * (k21 - slow) / ((ka - slow) * (fast - slow)), slow),
        (ka * (k21 - ka) / ((fast - ka) * (slow - ka)), ka),
    ]


def warfarin(X, lag, ka, V, Cl, ec50, kout, e0):
    """Return concentration or activity of rows; columns time, dose, output.

    The turnover E' = kout (e0 (1 - C / (ec50 + C)) - E) from e0 is solved by its integral over the time since the
    lag, by Gauss and Legendre's rule before and after twelve hours.
    """
    rate = Cl / V

    def level(s):
        rise = (torch.exp(-rate * s) - torch.exp(-ka * s)) / (ka - rate)
        return X[:, 1] / V * ka * rise

    since = (X[:, 0] - lag).clamp(min=0)
    early = since.clamp(max=EARLY)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    total = 0.0
    for start, width in ((torch.zeros_like(since), early), (early, since - early)):
        for node, weight in zip(0.5 * (1 + nodes), 0.5 * weights, strict=True):
            s = start + float(node) * width
            c = level(s)
            total = total + float(weight) * width * torch.exp(-kout * (since - s)) * c / (ec50 + c)
    return torch.where(X[:, 2] == 1, level(since), e0 * (1 - kout * total))


def read(name):
    """Return the observations of a file, with the dose of each patient."""
    path = Path(os.environ["METAEST_DATA_HOME"]) / "monolix" / name
    frame = pd.read_csv(path, encoding="utf-8-sig", na_values=".").rename(columns=str.lower)
    amount = "amount" if "amount" in frame else "amt"
    doses = frame.dropna(subset=[amount])
    assert (doses.time == 0).all()
    assert not doses.id.duplicated().any()
    return frame[frame[amount].isna()].assign(dose=frame.id.map(doses.set_index("id")[amount]))


def compare_with_monolix():
    """Print modes and likelihood of parent and metabolite at Monolix's population."""
    folder = Path(os.environ["METAEST_DATA_HOME"]) / "monolix"
    value = pd.read_csv(folder / "population.csv").set_index(["project", "parameter"])["value"]["pm"]
    frame = read("parent_metabolite.csv")
    frame = with_limits(frame.assign(output=frame.obsid.map({"1_Cp": 1, "2_Cm": 2})), "obs", "cens", "limit")
    columns = ["time", "dose", "output", "limit", "limit_from"]
    tasks = TaskSet.from_frame(frame, task="id", features=columns, target="obs")
    names = ["ka", "V", "k", "k12", "k21", "km", "Kpm"]
    noise = {1: ("a1_Cp", "b1_Cp"), 2: ("a2_Cm", "b2_Cm")}
    models = {j: NoiseModel("combined1", sd=value[a], cv=value[b]) for j, (a, b) in noise.items()}
    population = Population(
        {name: Parameter(value[f"{name}_pop"], lower=0) for name in names},
        [Block(sd={name: value[f"omega_{name}"]}) for name in names],
        OutputNoiseModel("output", models),
        columns=dict.fromkeys(columns, ""),
    )
    limits = {"limit": "limit", "limit_from": "limit_from"}
    model = EquationRegressor.from_population({1: parent, 2: metabolite}, population, **limits)
    censored = int((tasks.y < tasks.X[:, 3]).sum())
    print(f"pm: {len(tasks)} patients, {len(tasks.y)} rows, {censored} between two numbers")
    theirs = pd.read_csv(folder / "individual.csv").set_index(["project", "parameter", "id"])["mode"]["pm"]
    ours = model.adapt_many(tasks).params_
    for name in names:
        apart = np.abs(np.log(ours[name].to_numpy() / theirs[name].loc[tasks.names].to_numpy()))
        apart /= value[f"omega_{name}"]
        print(f"  modes of {name}: {apart.max():.4f} SD apart at most, median {np.median(apart):.1e}")
    for method in ("laplace", "importance"):
        settings = {} if method == "laplace" else {"n_samples": N_SAMPLES, "random_state": 0}
        likelihood = model.log_likelihood(tasks, method=method, **settings)
        print(
            f"  -2 log L, {method}: {-2 * likelihood.value:.2f}, s.e. {2 * likelihood.standard_error:.2f}; Monolix 8406.01, s.e. 0.37"
        )


def constants():
    """Return the constants of warfarin, with initial values of the right size."""
    start = {"lag": 0.5, "ka": 1.0, "V": 10.0, "Cl": 0.1, "ec50": 1.0, "kout": 0.05, "e0": 100.0}
    return {name: Parameter(size, lower=0) for name, size in start.items()}


def fit(tasks):
    """Return the joint fit."""
    settings = {"output": "dvid", "noise": {1: "combined1", 2: "additive"}, "covariance": "diagonal"}
    return EquationRegressor(warfarin, constants(), random_state=0, **settings).fit(tasks)


def fit_warfarin():
    """Print the joint fit of warfarin, and predictions of the activity of patients left out."""
    tasks = TaskSet.from_frame(read("warfarin.csv"), task="id", features=["time", "dose", "dvid"], target="dv")
    started = time.process_time()
    model = fit(tasks)
    print(f"warfarin: {len(tasks)} patients, {len(tasks.y)} rows, {time.process_time() - started:.1f} CPU s a fit")
    print(f"  {model.compiled_reason_}; -2 log L, Laplace: {-2 * model.log_likelihood_:.2f}")
    table = model.population_[["value", "standard_error", "omega"]]
    print(table.assign(Monolix=pd.Series(MONOLIX), nlmixr=pd.Series(NLMIXR)).to_string(float_format="{:.4g}".format))
    print(model.noise_.to_string(float_format="{:.4g}".format), "\n  nlmixr: sd 0.144 and cv 0.15 (combined2); sd 3.91")
    errors, inside = {}, {}
    for fold in range(FOLDS):
        held_out = [i for i in range(len(tasks)) if i % FOLDS == fold]
        part = fit(tasks[[i for i in range(len(tasks)) if i % FOLDS != fold]])
        for i in held_out:
            task = tasks[i]
            first, second = (np.flatnonzero(task.X[:, 2] == j) for j in (1, 2))
            early = task.X[:, 0] <= EARLY_HOURS
            given = {
                "before any row": [],
                "two concentrations": first[:2],
                "concentrations": first[early[first]],
                "and activities": np.flatnonzero(early),
            }
            asked = second[~early[second]]
            for name, rows in given.items() if len(asked) else ():
                predictor = part.adapt(task.X[rows], task.y[rows]) if len(rows) else part
                errors.setdefault(name, []).extend(predictor.predict(task.X[asked]) - task.y[asked])
                low, high = predictor.predict_interval(task.X[asked], 0.9)
                inside.setdefault(name, []).extend((low <= task.y[asked]) & (task.y[asked] <= high))
    n = len(errors["before any row"])
    print(f"  {n} activities after {EARLY_HOURS} h, of patients left out ({FOLDS} folds), from rows up to then:")
    for name, values in errors.items():
        print(
            f"    {name:20} RMSE {np.sqrt(np.mean(np.square(values))):.2f} %, 90 % intervals {np.mean(inside[name]):.0%}"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe(), flush=True)
    {"pm": compare_with_monolix, "warfarin": fit_warfarin}[sys.argv[1]]()
