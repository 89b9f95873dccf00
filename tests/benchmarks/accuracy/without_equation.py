"""Curves without an equation: HierarchicalGPRegressor beside mixed-effects models that are given one.

Theophylline (time and dose), orange trees and the sleep study, leave one task out, on the support sets of the
references; RMSE over the rows not used, over all tasks and support sets. R's nlme has the equation of one compartment,
with absorption and clearance random, and the logistic curve with a random height; lme4 has a line with a random level
and slope. Also how many of these rows 90 % intervals cover, a meta-learned network (defaults, guarded) where asked for,
and the processor time of a fit; with --rows that of fits to 120, 400 and 1,200 rows of waves.

With --default the same of AutoMetaRegressor as it comes, for as many seeds as are asked for: the choice is made anew
without each task in turn.

    python tests/benchmarks/accuracy/without_equation.py
    python tests/benchmarks/accuracy/without_equation.py --default 5 --only theophylline
"""

import argparse
import time
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import torch
from machine import describe

from metaest import AutoMetaRegressor, HierarchicalGPRegressor, MAMLRegressor, TaskSet
from metaest_datasets import load_orange, load_reference, load_sleepstudy, load_theophylline, make_sinusoids

LEVEL = 0.9


def theophylline():
    tasks = load_theophylline(exclude_time_zero=True)
    return TaskSet([(task.X[:, :2], task.y) for task in tasks]), tasks.names.tolist()


def plain(load):
    return lambda: (load(), load().names.tolist())


STUDIES = {
    "theophylline": (theophylline, "mg/L", "nlme"),
    "orange": (plain(load_orange), "mm", "nlme"),
    "sleepstudy": (plain(load_sleepstudy), "ms", "lme4"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="store_true", help="fit MAMLRegressor as well")
    parser.add_argument("--rows", action="store_true", help="print seconds by number of rows, and nothing else")
    parser.add_argument("--default", type=int, default=0, metavar="SEEDS", help="judge AutoMetaRegressor instead")
    parser.add_argument("--only", choices=STUDIES, nargs="+", default=list(STUDIES), help="studies")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    if arguments.rows:
        seconds_by_rows()
        return
    for name in arguments.only:
        if arguments.default:
            default(name, *STUDIES[name], seeds=arguments.default)
        else:
            study(name, *STUDIES[name], network=arguments.network)


def study(name, load, unit, rival, *, network):
    (tasks, names), reference = load(), load_reference(name)
    reference = reference[reference["scheme"] == "random"]
    rows, seconds = [], []
    for i, task_name in enumerate(names):
        training = TaskSet([task for j, task in enumerate(tasks) if j != i])
        started = time.process_time()
        models = {"Gaussian process": HierarchicalGPRegressor(random_state=0).fit(training)}
        seconds.append(time.process_time() - started)
        if network:
            models["MAML, guarded"] = MAMLRegressor(random_state=0).fit(training)
        for record in reference[reference["task"].astype(str) == task_name].itertuples():
            rows.append(answers(models, tasks[i], np.array(record.support, dtype=int)))
            rows[-1] |= {"k": record.k, rival: getattr(record, f"{rival}_mse")}
    means = pd.DataFrame(rows).groupby("k").mean()
    rmse = means.drop(columns="covered").pow(0.5)
    print(f"\n{name}, RMSE in {unit}\n" + rmse.T.to_string(float_format="{:.2f}".format))
    covered = ", ".join(f"{100 * share:.0f}" for share in means["covered"])
    print(f"90 % intervals of the Gaussian process cover, %: {covered}; {np.mean(seconds):.2f} s a fit")


def default(name, load, unit, rival, *, seeds):
    """Print errors of AutoMetaRegressor for each seed, and their mean."""
    (tasks, names), reference = load(), load_reference(name)
    reference = reference[reference["scheme"] == "random"]
    errors, seconds, chosen = {}, [], Counter()
    for seed in range(seeds):
        rows = []
        for i, task_name in enumerate(names):
            started = time.process_time()
            model = AutoMetaRegressor(random_state=seed).fit(tasks[[j for j in range(len(tasks)) if j != i]])
            seconds.append(time.process_time() - started)
            chosen.update([max(model.weights_, key=model.weights_.get)])
            for record in reference[reference["task"].astype(str) == task_name].itertuples():
                rows.append(answers({"default": model}, tasks[i], np.array(record.support, dtype=int)))
                rows[-1] |= {"k": record.k, rival: getattr(record, f"{rival}_mse")}
        rmse = pd.DataFrame(rows).groupby("k").mean().pow(0.5)
        errors[f"seed {seed}"] = rmse["default"]
    table = pd.DataFrame(errors).T
    table.loc["mean"] = table.mean()
    table.loc[rival] = rmse[rival]
    print(f"\n{name}, RMSE in {unit}\n" + table.to_string(float_format="{:.2f}".format))
    print(f"most weight, times: {dict(chosen)}; {np.mean(seconds):.1f} s a fit", flush=True)


def seconds_by_rows():
    for n_tasks in (12, 40, 120):
        waves = make_sinusoids(n_tasks, 10, noise=0.1, random_state=0)
        started = time.process_time()
        model = HierarchicalGPRegressor(random_state=0).fit(waves)
        fitted = time.process_time()
        model.learn_guard()
        judged = time.process_time()
        for wave in waves[:10]:
            model.adapt(wave.X[:5], wave.y[:5]).predict(wave.X[5:])
        adapted = (time.process_time() - judged) / 10
        print(
            f"{len(waves.X):5} rows: fit {fitted - started:.1f} s, guard {judged - fitted:.1f} s, "
            f"an adaptation with its predictions {1000 * adapted:.1f} ms"
        )


def answers(models, task, support):
    """Return mean squared errors of the rows not used, and the share of them that the process's intervals cover."""
    query = np.setdiff1d(np.arange(len(task)), support)
    X, y, row = task.X[query], task.y[query], {}
    for name, model in models.items():
        adapted = model.adapt(task.X[support], task.y[support], guard="guarded" in name) if len(support) else model
        row[name] = np.square(adapted.predict(X) - y).mean()
        if name == "Gaussian process":
            low, high = adapted.predict_interval(X, level=LEVEL)
            row["covered"] = ((low <= y) & (y <= high)).mean()
    return row


if __name__ == "__main__":
    main()
