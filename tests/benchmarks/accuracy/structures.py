"""EquationRegressor(noise="auto", covariance="auto", random="auto"), beside the default structure and mixed models of R.

    python tests/benchmarks/accuracy/structures.py real FOLDER
    python tests/benchmarks/accuracy/structures.py simulated

``real``: theophylline, orange trees and sleepstudy, each subject left out, adapted to the support rows of FOLDER, which
holds data, supports and the errors of nlme and lme4 (one file each). ``simulated``: saturating curves with a noise of
each kind; errors of the curves of new tasks after 1 to 5 rows, in units of those of the default structure.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from metaest import EquationRegressor, Parameter
from metaest.tasks import Task, TaskSet

AUTO = {"noise": "auto", "covariance": "auto", "random": "auto", "random_state": 0}


def absorption(X, lKa, lKe, lCl):
    """One compartment, first-order absorption; X has the hours and the dose."""
    ka, ke, cl = torch.exp(lKa), torch.exp(lKe), torch.exp(lCl)
    t, dose = X[:, 0], X[:, 1]
    return dose * ke * ka / cl / (ka - ke) * (torch.exp(-ke * t) - torch.exp(-ka * t))


def logistic(X, Asym, xmid, scal):
    """Growth to a plateau."""
    return Asym / (1 + torch.exp((xmid - X[:, 0]) / scal))


def line(X, a, b):
    """A straight line."""
    return a + b * X[:, 0]


def saturating(X, size, rate):
    """An exponential approach to a plateau."""
    return size * (1 - torch.exp(-rate * X[:, 0]))


REAL = {
    "Theoph": (absorption, {"lKa": 0.5, "lKe": -2.5, "lCl": -3.2}),
    "Orange": (logistic, {"Asym": 190.0, "xmid": 730.0, "scal": 350.0}),
    "sleepstudy": (line, {"a": 250.0, "b": 10.0}),
}
SIZES = {"size": Parameter(20, lower=0), "rate": Parameter(1, lower=0)}
SCATTER = {
    "proportional": lambda f: 0.2 * f,
    "combined": lambda f: np.hypot(0.5, 0.2 * f),
    "power": lambda f: 0.05 * f**1.5,
}


def tasks_of(folder, name):
    """Return the tasks of a data set."""
    frame = pd.read_csv(folder / f"{name}.csv")
    columns = [column for column in ("x", "x2") if column in frame]
    return {str(key): Task(str(key), g[columns].to_numpy(), g["y"].to_numpy()) for key, g in frame.groupby("task")}


def references(folder, name):
    """Return mean squared errors of R by task, number of rows and repetition."""
    if name == "sleepstudy":
        frame = pd.read_csv(folder / "lmer_results.csv")
        frame = frame[frame["scheme"] == "random"]
    else:
        frame = pd.read_csv(folder / "nlme_results.csv")
        frame = frame[frame["dataset"] == name]
    column = "lmer" if name == "sleepstudy" else "nlme"
    return {(str(r["task"]), int(r["k"]), int(r["rep"])): float(r[column]) for _, r in frame.iterrows()}


def real(folder):
    """Print root mean squared errors beside those of R."""
    for name, (equation, constants) in REAL.items():
        tasks, errors, seconds = tasks_of(folder, name), {}, []
        supports = json.loads((folder / f"{name}_support.json").read_text())
        wanted = references(folder, name)
        averaged = 0
        for left_out, task in tasks.items():
            train = TaskSet([other for key, other in tasks.items() if key != left_out])
            start = time.process_time()
            models = {"auto": EquationRegressor(equation, constants, **AUTO).fit(train)}
            seconds.append(time.process_time() - start)
            models["default"] = EquationRegressor(equation, constants).fit(train)
            averaged += int((models["auto"].structures_["weight"] > 0).sum() > 1)
            for entry in supports[left_out]:
                k, rep = (int(np.ravel(entry[key])[0]) for key in ("k", "rep"))
                scheme = np.ravel(entry.get("scheme", ["random"]))[0]
                if scheme != "random" or (left_out, k, rep) not in wanted:
                    continue
                rows = np.ravel(entry["idx"]).astype(int)
                rest = np.setdiff1d(np.arange(len(task)), rows)
                for kind, model in models.items():
                    given = (task.X[rows], task.y[rows]) if len(rows) else ([], [])
                    predicted = model.adapt(*given).predict(task.X[rest])
                    errors.setdefault((kind, k), []).append(np.square(task.y[rest] - predicted).mean())
                errors.setdefault(("R", k), []).append(wanted[left_out, k, rep])
        print(f"{name}: {max(seconds):.1f} s CPU a fit at most, averaged in {averaged} of {len(tasks)} fits")
        for k in sorted({k for _, k in errors}):
            rmse = {kind: np.sqrt(np.mean(errors[kind, k])) for kind in ("R", "default", "auto")}
            ratios = ", ".join(f"{kind} {rmse[kind] / rmse['R']:.3f}" for kind in ("default", "auto"))
            print(f"  k={k}: R {rmse['R']:.3f}; ratios to it: {ratios}", flush=True)


def simulated_tasks(n_tasks, seed, scatter):
    """Return saturating curves with noise, and the curves without."""
    rng = np.random.default_rng(seed)
    tasks, curves = [], []
    for i in range(n_tasks):
        size, rate = np.exp(rng.normal([3.0, -0.5], [0.5, 0.3]))
        X = np.sort(rng.uniform(0.1, 6, (10, 1)), axis=0)
        curve = size * (1 - np.exp(-rate * X[:, 0]))
        tasks.append(Task(f"task {i}", X, curve + scatter(curve) * rng.standard_normal(10)))
        curves.append(curve)
    return TaskSet(tasks), curves


def simulated():
    """Print errors in units of those of the default structure."""
    for kind, scatter in SCATTER.items():
        ratios = []
        for seed in range(3):
            train, _ = simulated_tasks(40, seed, scatter)
            new, curves = simulated_tasks(100, 1000 + seed, scatter)
            start = time.process_time()
            auto = EquationRegressor(saturating, SIZES, **AUTO).fit(train)
            seconds = time.process_time() - start
            right = EquationRegressor(saturating, SIZES, noise=kind).fit(train)
            default = EquationRegressor(saturating, SIZES).fit(train)
            rng, squares = np.random.default_rng(seed), {"auto": [], "right": [], "default": []}
            for i, curve in enumerate(curves):
                rows = rng.permutation(10)[: 1 + i % 5]
                for name, model in (("auto", auto), ("right", right), ("default", default)):
                    predicted = model.adapt(new[i].X[rows], new[i].y[rows]).predict(new[i].X)
                    squares[name].append(np.square(curve - predicted).mean())
            rmse = {name: np.sqrt(np.mean(values)) for name, values in squares.items()}
            ratios.append((rmse["auto"] / rmse["default"], rmse["right"] / rmse["default"]))
            used = auto.structures_.query("weight > 0")
            what = ", ".join(used["noise"] + " " + used["covariance"])
            told = f"auto {ratios[-1][0]:.3f}, kind known {ratios[-1][1]:.3f}"
            print(f"  {kind}, seed {seed}: {told}, {seconds:.1f} s CPU; {what}", flush=True)
        means = np.exp(np.mean(np.log(ratios), axis=0))
        print(
            f"{kind} noise: auto {means[0]:.3f} of the default's error, with the kind known {means[1]:.3f}", flush=True
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "real":
        real(Path(sys.argv[2]))
    else:
        simulated()
