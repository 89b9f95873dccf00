"""MAMLRegressor with its defaults against the pooled network of the same size, budget and seed.

Theophylline, orange trees and sleep study: leave one task out, on the support sets of the mixed-effects references
(which are printed beside). Sinusoids: 1,000 to learn from, 1,000 others to adapt to.

    python tests/benchmarks/accuracy/pooled.py
"""

import argparse
from functools import partial

import numpy as np
import torch
from machine import describe

from metaest import MAMLRegressor
from metaest.diagnostics import leave_one_task_out, pooled
from metaest_datasets import load_orange, load_reference, load_sleepstudy, load_theophylline, make_sinusoids

TABLES = {
    "theophylline": (lambda: load_theophylline(exclude_time_zero=True), "nlme_mse", "mg/L"),
    "orange": (load_orange, "nlme_mse", "mm"),
    "sleepstudy": (load_sleepstudy, "lme4_mse", "ms"),
}


def interval(ours, theirs, rng):
    """Bootstrap over tasks: 95 % interval of the ratio of root mean squared errors."""
    draws = rng.integers(len(ours), size=(4000, len(ours)))
    return np.percentile(np.sqrt(ours[draws].mean(axis=1) / theirs[draws].mean(axis=1)), [2.5, 97.5])


def report(k, ours, theirs, reference, rng):
    """Print one row from the mean squared errors of each task."""
    low, high = interval(ours, theirs, rng)
    mean, other = np.sqrt(ours.mean()), np.sqrt(theirs.mean())
    last = "" if reference is None else f"{np.sqrt(reference.mean()):10.3f}"
    print(f"{k:4d} {mean:10.3f} {other:10.3f} {mean / other:8.3f}  {low:.3f} to {high:.3f} {last}", flush=True)


def head(title, reference):
    print(f"\n{title}\n{'rows':>4} {'MAML':>10} {'pooled':>10} {'ratio':>8}  {'95 %':14} {reference:>10}")


def tables(names, jobs, rng):
    for name in names:
        load, reference, unit = TABLES[name]
        model = MAMLRegressor(random_state=0)
        methods = {"maml": model.fit, "pooled": partial(pooled, model)}
        sets = load_reference(name)
        errors = leave_one_task_out(methods, load(), sets[sets["scheme"] == "random"], n_jobs=jobs).errors
        head(f"{name}, RMSE in {unit}", reference.removesuffix("_mse"))
        for k, rows in errors.groupby("k"):
            by_task = rows.groupby("task")[["maml", "pooled", reference]].mean()
            report(k, *(by_task[column].to_numpy() for column in by_task), rng)


def sinusoids(rng):
    training, test = make_sinusoids(1000, 20, random_state=0), make_sinusoids(1000, 30, random_state=1)
    model = MAMLRegressor(random_state=0).fit(training)
    other = pooled(model, training)
    head("sinusoids, RMSE", "")
    for k in (0, 1, 2, 3, 5, 10):
        errors = np.array([[_squared_error(m, task, k) for m in (model, other)] for task in test])
        report(k, errors[:, 0], errors[:, 1], None, rng)


def _squared_error(model, task, k):
    """Adapt on the first k rows, predict the last 20."""
    adapted = model.adapt(task.X[:k], task.y[:k]) if k else model
    return np.square(adapted.predict(task.X[10:]) - task.y[10:]).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*TABLES, "sinusoids"], nargs="+", default=[*TABLES, "sinusoids"])
    parser.add_argument("--jobs", type=int, default=-1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    rng = np.random.default_rng(0)
    tables([name for name in arguments.only if name in TABLES], arguments.jobs, rng)
    if "sinusoids" in arguments.only:
        sinusoids(rng)


if __name__ == "__main__":
    main()
