"""What the guard costs where patients do not differ, and what it keeps where they do.

Simulated patients after one oral dose, 40 in each fit, 100 new ones; each has k samples to adapt on and is judged at
eight other times. "null": no differences between patients; "differing": clearance, volume and absorption vary by 30 %.
By an equation (OneCompartmentRegressor), a meta-learned network (MAMLRegressor, defaults), and a pooled network that is
fine-tuned (never trained to adapt), as RMSE relative to the population's answer, noise included.

    python tests/benchmarks/accuracy/guard.py
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from machine import describe

from metaest import MAMLRegressor, TaskSet
from metaest_domains.physiology import OneCompartmentRegressor

SIZES, N_TRAIN, N_NEW, NOISE = (1, 3, 5, 8), 40, 100, 0.15
MODELS = ("equation", "meta-learned network", "fine-tuned network")


def curve(t, constants):
    cl, v, a = constants
    ke = cl / v
    ka = ke + a
    return 100 * ka / (v * (ka - ke)) * (np.exp(-ke * t) - np.exp(-ka * t))


def patients(n, spread, rng):
    """Return rows of time and dose, noisy concentrations, and the curve itself."""
    found = []
    for _ in range(n):
        constants = np.array([3.0, 30.0, 0.9]) * np.exp(spread * rng.normal(size=3))
        t = rng.permutation(np.sort(rng.uniform(0.3, 24, 16)))
        y = curve(t, constants)
        found.append((np.column_stack([t, np.full(16, 100.0)]), y + NOISE * rng.normal(size=16), y))
    return found


def fitted(kind, tasks, seed):
    if kind == "equation":
        return OneCompartmentRegressor(noise="additive", random_state=seed).fit(tasks)
    if kind == "meta-learned network":
        return MAMLRegressor(random_state=seed).fit(tasks)
    pooled = MAMLRegressor(inner_steps=0, random_state=seed).fit(tasks)
    return pooled.set_params(inner_steps=20, inner_lr=0.1)


def run(kind, spread, seed):
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(seed)
    known = patients(N_TRAIN, spread, rng)
    model = fitted(kind, TaskSet([(X, y) for X, y, _ in known]), seed)
    rows = []
    for X, y, truth in patients(N_NEW, spread, rng):
        query = slice(8, None)
        before = np.square(model.predict(X[query]) - truth[query]).mean()
        for k in SIZES:
            plain, guarded = (model.adapt(X[:k], y[:k], guard=guard) for guard in (False, True))
            after = [np.square(p.predict(X[query]) - truth[query]).mean() for p in (plain, guarded)]
            rows.append({"model": kind, "spread": spread, "k": k, "before": before, "after": after[0],
                         "guarded": after[1], "decision": guarded.guard_.decision})  # fmt: skip
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    print(describe())
    work = [(kind, spread, seed) for kind in MODELS for spread in (0.0, 0.3) for seed in range(arguments.seeds)]
    parts = Parallel(n_jobs=arguments.jobs)(delayed(run)(*own) for own in work)
    found = pd.DataFrame([row for rows in parts for row in rows])
    # noise is part of what is predicted: an error that nobody can avoid
    columns = ["before", "after", "guarded"]
    found[columns] += NOISE**2
    for spread, title in ((0.0, "null patients: RMSE relative to the population"), (0.3, "differing patients")):
        print(f"\n{title}")
        for kind in MODELS:
            own = found[(found["model"] == kind) & (found["spread"] == spread)]
            rmse = own.groupby("k")[columns].mean().pow(0.5)
            decided = own.groupby("k")["decision"].value_counts(normalize=True).unstack(fill_value=0)
            for k in SIZES:
                r = rmse.loc[k]
                words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in decided.loc[k].items())
                kept = "" if r["after"] >= r["before"] else (
                    f"  keeps {100 * (r['before'] - r['guarded']) / (r['before'] - r['after']):4.0f} % of the gain"
                )  # fmt: skip
                print(
                    f"{kind:22} k={k}: adapted {r['after'] / r['before']:.3f}, guarded {r['guarded'] / r['before']:.3f}"
                    f"{kept}  ({words})"
                )


if __name__ == "__main__":
    main()
