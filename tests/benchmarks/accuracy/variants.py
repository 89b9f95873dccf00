"""Every variant of MAMLRegressor on a dozen patients: leave one task out, beside the mixed-effects references.

Each variant has one setting of its own: the inner rate, or the weight decay where there is no rate. Of three values it
takes the one with the least error on six simulated families of 8 to 18 tasks (those of tests/benchmarks/accuracy/defaults.py);
everything else is the library's default. Then theophylline and the sleep study are predicted, one task left out at a
time, on the support sets of the references. Ratios are of root mean squared errors over 1, 2, 3 and 5 rows, with
intervals bootstrapped over tasks.

    python tests/benchmarks/accuracy/variants.py
"""

import argparse

import numpy as np
import torch
from defaults import FAMILIES, losses
from joblib import Parallel, delayed
from machine import describe
from pooled import TABLES, interval

from metaest import DivergenceError, MAMLRegressor
from metaest.diagnostics import leave_one_task_out, pooled
from metaest_datasets import load_reference

FEW = {family: n for family, n in FAMILIES.items() if 8 <= n <= 18}
RATES, DECAYS = ("inner_lr", (0.02, 0.05, 0.2)), ("alpha", (3.0, 30.0, 300.0))
VARIANTS = {
    "MAML": ({}, RATES),
    "FOMAML": ({"meta_gradient": "first-order"}, RATES),
    "Reptile": ({"meta_gradient": "reptile"}, RATES),
    "iMAML": ({"meta_gradient": "implicit", "inner_steps": 16}, RATES),
    "ANIL": ({"adapt_layers": "head"}, RATES),
    "BOIL": ({"adapt_layers": "body"}, RATES),
    "CAVIA": ({"context_dim": 2}, ("inner_lr", (0.2, 0.5, 2.0))),
    "one learned rate": ({"learn_inner_lr": "one"}, RATES),
    "Meta-SGD": ({"learn_inner_lr": "per-parameter"}, RATES),
    "MAML++": (
        {"learn_inner_lr": "per-layer-and-step", "multi_step_share": 0.2, "first_order_share": 0.2},
        RATES,
    ),
    "R2D2": ({"inner_solver": "ridge"}, DECAYS),
    "ALPaCA": ({"inner_solver": "bayes"}, DECAYS),
    "evidence": ({"inner_solver": "evidence"}, DECAYS),
}
SEED = 100


def simulated(settings, family, n_tasks):
    """Mean logarithm of the relative errors on one family, at 2, 3 and 5 rows."""
    try:
        return np.log(losses(settings, family, n_tasks, SEED)).mean()
    except DivergenceError:
        return np.log(10.0)


def choose(jobs):
    """Return the settings of each variant; print what was chosen, and the errors of all candidates."""
    candidates = [
        (name, {**fixed, own: value}) for name, (fixed, (own, values)) in VARIANTS.items() for value in values
    ]
    wanted = [(settings, *family) for _, settings in candidates for family in FEW.items()]
    found = np.reshape(Parallel(n_jobs=jobs)(delayed(simulated)(*own) for own in wanted), (len(candidates), len(FEW)))
    chosen = {}
    print("\nsimulated tasks, squared error over variance (geometric mean of families and 2, 3, 5 rows)")
    for name, (_, (own, values)) in VARIANTS.items():
        errors = [np.exp(row.mean()) for (of, _), row in zip(candidates, found, strict=True) if of == name]
        best = int(np.argmin(errors))
        chosen[name] = [settings for of, settings in candidates if of == name][best]
        tried = "  ".join(f"{value:g}: {error:.3f}" for value, error in zip(values, errors, strict=True))
        print(f"{name:18} {own} = {values[best]:<5g} of  {tried}", flush=True)
    return chosen


def left_out(name, chosen, jobs, rng):
    """Print the table of one data set."""
    load, reference, unit = TABLES[name]
    methods = {variant: MAMLRegressor(random_state=0, **own).fit for variant, own in chosen.items()}
    methods["pooled"] = lambda others: pooled(MAMLRegressor(random_state=0), others)
    sets = load_reference(name)
    errors = leave_one_task_out(methods, load(), sets[sets["scheme"] == "random"], n_jobs=jobs).errors
    columns = [*methods, reference]
    by_rows = np.sqrt(errors.groupby(["k", "task"])[columns].mean().groupby("k").mean())
    by_task = errors[errors["k"] > 0].groupby(["task", "k"])[columns].mean().groupby("task").mean()
    mixed = reference.removesuffix("_mse")
    ks = by_rows.index.tolist()
    print(f"\n{name}, RMSE in {unit}; ratios over {', '.join(map(str, ks[1:]))} rows (95 % interval)")
    print(f"{'':18}" + "".join(f"{k:8}" for k in ks) + f"{'to MAML':>23}{'to ' + mixed:>23}")
    for column in columns:
        cells = "".join(f"{by_rows.loc[k, column]:8.3f}" for k in ks)
        ratios = "".join(ratio(by_task[column], by_task[other], rng) for other in ("MAML", reference))
        print(f"{mixed if column == reference else column:18}{cells}{ratios}", flush=True)


def ratio(one, other, rng):
    """Return the ratio of root mean squared errors with its interval, or a dash for a method beside itself."""
    if one is other or one.name == other.name:
        return f"{'-':>23}"
    low, high = interval(one.to_numpy(), other.to_numpy(), rng)
    return f"{np.sqrt(one.mean() / other.mean()):9.2f} ({low:.2f} to {high:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=-1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    chosen, rng = choose(arguments.jobs), np.random.default_rng(0)
    for name in ("theophylline", "sleepstudy"):
        left_out(name, chosen, arguments.jobs, rng)


if __name__ == "__main__":
    main()
