"""OneCompartmentRegressor on theophylline, leave one patient out, against R's nlme on the reference support sets.

The model is chosen inside every fold by its BIC on the other eleven patients, out of 24: which constants vary, whether
absorption begins with a lag that is shared or varies, covariance, and noise. RMSE over the rows not used, its ratio to
nlme's with an interval by a paired bootstrap over patients; with and without guard; predictions by the most probable
constants (mode) and by the mean of the posterior's curves (mean); coverage of 90 % posterior intervals. Conformal
intervals: of the eleven patients six are fitted on and five calibrate, whose greatest level is 5/6, so that level 0.8
is asked for.

    python tests/benchmarks/accuracy/theophylline.py
"""

import argparse
import warnings
from itertools import product

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from machine import describe

from metaest import Task, TaskSet
from metaest_datasets import load_reference, load_theophylline
from metaest_domains.physiology import OneCompartmentRegressor

CANDIDATES = [
    {"parametrization": "rate", "random": [*random, *varying], "lag": lag, "covariance": covariance, "noise": noise}
    for random, (lag, varying), covariance, noise in product(
        (["clearance", "absorption"], ["clearance", "absorption", "elimination"]),
        ((False, []), (True, []), (True, ["lag"])),
        ("full", "diagonal"),
        ("additive", "combined"),
    )
]
METHODS = ("mode", "mean", "guarded mode", "guarded mean")
LEVEL, CONFORMAL_LEVEL, N_FIT = 0.9, 0.8, 6
N_BOOTSTRAP = 10_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    print(describe())
    tasks, reference = load_theophylline(exclude_time_zero=True), load_reference("theophylline")
    found = Parallel(n_jobs=arguments.jobs)(delayed(fold)(tasks, reference, name) for name in tasks.names.tolist())
    errors = pd.DataFrame([row for rows, _, _ in found for row in rows])
    for _, name, chosen in found:
        print(f"patient {name:>2}: {chosen}")
    report(errors)


def fold(tasks, reference, name):
    """Fit to all patients but one, choose by BIC, and predict the one."""
    warnings.simplefilter("ignore")
    training = TaskSet([task for task in tasks if task.name != name])
    fits = [OneCompartmentRegressor(**settings).fit(training) for settings in CANDIDATES]
    model = min(fits, key=lambda fit: fit.bic_)
    settings = CANDIDATES[fits.index(model)]
    rng = np.random.default_rng(int(name))
    order = rng.permutation(len(training))
    few = OneCompartmentRegressor(**settings, random_state=0).fit(TaskSet([training[int(i)] for i in order[:N_FIT]]))
    held_out = [training[int(i)] for i in order[N_FIT:]]
    task, rows = tasks.task(name), []
    for record in reference[reference["task"].astype(str) == name].itertuples():
        support = np.array(record.support, dtype=int)
        query = np.setdiff1d(np.arange(len(task)), support)
        X, y = task.X[query], task.y[query]
        row = {"task": name, "k": record.k, "nlme": record.nlme_mse}
        for guard in (False, True):
            patient = model.adapt(task.X[support], task.y[support], guard=guard) if len(support) else model
            word = "guarded " if guard else ""
            row[word + "mode"] = np.square(patient.predict(X) - y).mean()
            row[word + "mean"] = np.square(patient.predict_mean(X) - y).mean()
            low, high = patient.predict_interval(X, level=LEVEL)
            row[word + "covered"] = ((low <= y) & (y <= high)).mean()
        row["population"] = np.square(model.predict(X) - y).mean()
        if record.rep <= 3:
            scheme = [
                Task(own.name, own.X, own.y, support=rng.permutation(len(own))[: len(support)]) for own in held_out
            ]
            few.calibrate(scheme if len(support) else held_out, None if len(support) else 0, guard=False)
            patient = few.adapt(task.X[support], task.y[support], guard=False) if len(support) else few
            for simultaneous, word in ((False, "conformal rows"), (True, "conformal whole")):
                low, high = patient.predict_interval(
                    X, level=CONFORMAL_LEVEL, method="conformal", simultaneous=simultaneous
                )
                inside = (low <= y) & (y <= high)
                row[word] = float(inside.all()) if simultaneous else inside.mean()
        rows.append(row)
    return rows, name, settings


def report(errors):
    ks = sorted(errors["k"].unique())
    rmse = errors.groupby("k")[["nlme", "population", *METHODS]].mean().pow(0.5)
    print("\nRMSE, mg/L\n" + rmse.T.to_string(float_format="{:.3f}".format))
    print("\nRatio to nlme: geometric mean over k = 1, 2, 3, 5, and 95 % interval (paired bootstrap over patients)")
    by_patient = {k: errors[errors["k"] == k].groupby("task")[["nlme", "population", *METHODS]].sum() for k in ks if k}
    rng = np.random.default_rng(0)
    draws = rng.integers(0, errors["task"].nunique(), (N_BOOTSTRAP, errors["task"].nunique()))
    for method in METHODS:
        ratios = [np.sqrt(own[method].sum() / own["nlme"].sum()) for own in by_patient.values()]
        drawn = [
            np.sqrt(own[method].to_numpy()[draws].sum(axis=1) / own["nlme"].to_numpy()[draws].sum(axis=1))
            for own in by_patient.values()
        ]
        low, high = np.quantile(np.exp(np.log(drawn).mean(axis=0)), [0.025, 0.975])
        print(f"{method:14} {np.exp(np.log(ratios).mean()):.3f} ({low:.3f} to {high:.3f})")
    print("\nShare of the gain in RMSE that the guard keeps")
    for way in ("mode", "mean"):
        gain = {k: rmse.loc[k, "population"] - rmse.loc[k, way] for k in ks if k}
        kept = {k: rmse.loc[k, "population"] - rmse.loc[k, f"guarded {way}"] for k in ks if k}
        print(f"{way:6}" + "  ".join(f"k={k}: {100 * kept[k] / gain[k]:.0f} %" for k in gain))
    columns = ["covered", "guarded covered", "conformal rows", "conformal whole"]
    print(f"\nCoverage, %: posterior at {100 * LEVEL:.0f}, conformal at {100 * CONFORMAL_LEVEL:.0f}")
    print((100 * errors.groupby("k")[columns].mean()).round(0).T.to_string(float_format="{:.0f}".format))


if __name__ == "__main__":
    main()
