"""EquationRegressor(noise="auto", covariance="auto", random="auto"), beside the default structure and mixed models of R.

    python tests/benchmarks/accuracy/structures.py real [--auto]
    python tests/benchmarks/accuracy/structures.py simulated

``real``: theophylline, orange trees and sleepstudy, each subject left out, adapted to the support rows of the references
(nlme and lme4); also the equation and a Gaussian process compared by AutoMetaRegressor. ``simulated``: saturating
curves with a noise of each kind; errors of the curves of new tasks after 1 to 5 rows, in units of those of the default
structure.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import torch
from machine import describe
from without_equation import STUDIES, answers

from metaest import AutoMetaRegressor, EquationRegressor, HierarchicalGPRegressor, Parameter, Task, TaskSet
from metaest_datasets import load_reference

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


EQUATIONS = {
    "theophylline": (absorption, {"lKa": 0.5, "lKe": -2.5, "lCl": -3.2}),
    "orange": (logistic, {"Asym": 190.0, "xmid": 730.0, "scal": 350.0}),
    "sleepstudy": (line, {"a": 250.0, "b": 10.0}),
}
SIZES = {"size": Parameter(20, lower=0), "rate": Parameter(1, lower=0)}
SCATTER = {
    "proportional": lambda f: 0.2 * f,
    "combined": lambda f: np.hypot(0.5, 0.2 * f),
    "power": lambda f: 0.05 * f**1.5,
}


def models_of(name, training, *, auto):
    """Return models of a study's equation, and seconds of the slowest."""
    equation = EquationRegressor(*EQUATIONS[name], random_state=0)
    candidates = [("equation", equation), ("process", HierarchicalGPRegressor(random_state=0))]
    stack = AutoMetaRegressor(candidates=candidates, shots=(1, 2, 3, 5), random_state=0)
    wanted = {"default": equation, "with a Gaussian process": stack}
    if auto:
        wanted["auto"] = EquationRegressor(*EQUATIONS[name], **AUTO)
    seconds = {}
    for kind, model in wanted.items():
        started = time.process_time()
        model.fit(training)
        seconds[kind] = time.process_time() - started
    return wanted, seconds


def real(only, *, auto):
    """Print root mean squared errors beside those of R."""
    for name in only or EQUATIONS:
        load, _, rival = STUDIES[name]
        (tasks, names), reference = load(), load_reference(name)
        reference = reference[reference["scheme"] == "random"]
        rows, seconds, averages = [], [], 0
        for i, task_name in enumerate(names):
            models, of_fit = models_of(name, tasks[[j for j in range(len(tasks)) if j != i]], auto=auto)
            seconds.append(of_fit)
            averages += auto and int((models["auto"].structures_["weight"] > 0).sum() > 1)
            for record in reference[reference["task"].astype(str) == task_name].itertuples():
                rows.append(answers(models, tasks[i], np.array(record.support, dtype=int)))
                rows[-1] |= {"k": record.k, rival: getattr(record, f"{rival}_mse")}
        rmse = pd.DataFrame(rows).groupby("k").mean().pow(0.5)
        ratios = rmse.div(rmse.pop(rival), axis=0)
        ratios.loc["geometric mean"] = np.exp(np.log(ratios).mean())
        print(f"\n{name}, RMSE over that of {rival}\n" + ratios.T.to_string(float_format="{:.3f}".format))
        if auto:
            print(f"structures are averaged in {averages} of {len(names)} fits")
        print(f"CPU seconds of a fit at most: {pd.DataFrame(seconds).max().round(1).to_dict()}", flush=True)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["real", "simulated"])
    parser.add_argument("--auto", action="store_true", help="also choose structures of measured data, which is slow")
    parser.add_argument("--only", nargs="*", choices=list(EQUATIONS), help="measured data")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    if arguments.data == "real":
        real(arguments.only, auto=arguments.auto)
    else:
        simulated()
