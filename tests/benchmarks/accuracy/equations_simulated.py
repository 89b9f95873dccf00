"""EquationRegressor on simulated Avrami curves whose constants are known: population, coverage, and where to measure
next.

Ln k and ln n are normal between curves (SD 0.3 and 0.2, medians 1 and 2), the noise has SD 0.02.

    python tests/benchmarks/accuracy/equations_simulated.py
"""

import argparse
import warnings

import numpy as np
import torch
from equations_speed import CONSTANTS, avrami, avrami_numpy
from machine import describe
from scipy.stats import norm

from metaest import EquationRegressor, IdentifiabilityWarning, OvershootWarning, Parameter, TaskSet, UnlikelyTaskWarning

NOISE, TRUE = 0.02, np.array([0.0, np.log(2.0)])
NAMES = ["k", "n"]
PLANS = ("3 random", "3 equally spaced (5, 10, 15)", "3 suggested at once", "1 suggested, 3 times")


def constants(n_tasks, rng):
    return TRUE + rng.standard_normal((n_tasks, 2)) * [0.3, 0.2]


def measure(t, phi, rng):
    return avrami_numpy(t, *np.exp(phi).T[:, :, None]) + NOISE * rng.standard_normal(t.shape)


def as_tasks(t, y):
    return TaskSet.from_arrays(t.reshape(-1, 1), y.reshape(-1), np.repeat(np.arange(len(t)), t.shape[1]))


def learn(n_tasks, n_rows, rng):
    t = rng.uniform(0.05, 2.5, (n_tasks, n_rows))
    return EquationRegressor(avrami, CONSTANTS).fit(as_tasks(t, measure(t, constants(n_tasks, rng), rng)))


def logarithms(adapted):
    return np.log(adapted.params_[NAMES].to_numpy(dtype=float))


def coverage(seeds, n_rows, n_tasks=100):
    print(f"\n{n_rows} points a curve, {n_tasks} curves to learn from, 500 to adapt to (one row a seed)")
    print("  population: errors in standard errors | covered by 90 % intervals: ln k, ln n, a new observation")
    totals = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        model = learn(n_tasks, n_rows, rng)
        error = (model.population_["scaled_value"] - TRUE) / model.population_["scaled_standard_error"]
        phi = constants(500, rng)
        t = rng.uniform(0.05, 2.5, (500, n_rows + 1))
        y = measure(t, phi, rng)
        adapted = model.adapt_many(as_tasks(t[:, :n_rows], y[:, :n_rows]))
        inside, seen = np.zeros(2), 0
        for i, one in enumerate(adapted):
            table = one.params_.loc[NAMES]
            inside += (np.log(table["lower_90"]) <= phi[i]) & (phi[i] <= np.log(table["upper_90"]))
            low, high = one.predict_interval(t[i, n_rows:, None])
            seen += low[0] <= y[i, n_rows] <= high[0]
        shares = [*inside / 500, seen / 500]
        totals.append(shares)
        print(f"  {error['k']:6.2f} {error['n']:6.2f}   " + " ".join(f"{100 * s:6.1f} %" for s in shares), flush=True)
    print("  mean            " + " ".join(f"{100 * s:6.1f} %" for s in np.mean(totals, axis=0)))


def plans(model, phi, rng):
    """Rows of each plan: one random start, then three more; the sequential plan looks again after each."""
    t = np.linspace(0.125, 2.5, 20)
    y = measure(np.tile(t, (len(phi), 1)), phi, rng)
    found = {name: [] for name in PLANS}
    for i in range(len(phi)):
        first = int(rng.integers(20))
        others = np.delete(np.arange(20), first)
        adapted = model.adapt(t[[first], None], y[i, [first]])
        found["3 random"].append([first, *rng.choice(others, 3, replace=False)])
        found["3 equally spaced (5, 10, 15)"].append([first, 4, 9, 14])
        found["3 suggested at once"].append([first, *others[adapted.suggest(t[others, None], n=3)]])
        rows = [first]
        for _ in range(3):
            others = np.setdiff1d(np.arange(20), rows)
            rows.append(int(others[adapted.suggest(t[others, None])[0]]))
            adapted = model.adapt(t[rows, None], y[i, rows])
        found["1 suggested, 3 times"].append(rows)
    return t, y, found


def suggestions(n_tasks):
    rng = np.random.default_rng(0)
    model = learn(100, 5, rng)
    phi = constants(n_tasks, rng)
    t, y, found = plans(model, phi, rng)
    print(f"\nFour points a curve, {n_tasks} curves, 20 candidate times up to 2.5: one at random, then")
    print(f"  {'':30} {'error of ln k':>14} {'ratio':>7} {'error of ln n':>14} {'ratio':>7}")
    errors = {}
    for name, rows in found.items():
        rows = np.array(rows)
        tasks = as_tasks(t[rows], np.take_along_axis(y, rows, axis=1))
        errors[name] = np.abs(logarithms(model.adapt_many(tasks)) - phi)
        mean, ratio = errors[name].mean(axis=0), errors[name].mean(axis=0) / errors["3 random"].mean(axis=0)
        print(f"  {name:30} {mean[0]:14.4f} {ratio[0]:7.3f} {mean[1]:14.4f} {ratio[1]:7.3f}")
    for name in ("3 suggested at once", "1 suggested, 3 times"):
        draws = np.random.default_rng(1).integers(n_tasks, size=(2000, n_tasks))
        for other in ("3 random", "3 equally spaced (5, 10, 15)"):
            ratios = errors[name][draws].mean(axis=1) / errors[other][draws].mean(axis=1)
            low, high = np.percentile(ratios, [2.5, 97.5], axis=0)
            print(f"  {name} / {other}: 95 % ln k {low[0]:.3f} to {high[0]:.3f}, ln n {low[1]:.3f} to {high[1]:.3f}")


def targets(n_tasks):
    """Does asking for one constant help that constant?"""
    rng = np.random.default_rng(3)
    model = learn(100, 5, rng)
    phi = constants(n_tasks, rng)
    t = np.linspace(0.125, 2.5, 20)
    y = measure(np.tile(t, (n_tasks, 1)), phi, rng)
    z = norm.ppf(0.95)
    print(f"\nOne random point, then two for a target: mean width of the 90 % interval, {n_tasks} curves")
    for target in (None, "k", "n"):
        rows = []
        for i in range(n_tasks):
            first = int(rng.integers(20))
            others = np.delete(np.arange(20), first)
            adapted = model.adapt(t[[first], None], y[i, [first]])
            rows.append([first, *others[adapted.suggest(t[others, None], n=2, target=target)]])
        table = model.adapt_many(as_tasks(t[np.array(rows)], np.take_along_axis(y, np.array(rows), axis=1))).params_
        widths = [2 * z * (table[f"{name}_standard_error"] / table[name]).mean() for name in NAMES]
        print(f"  target {target or 'all':4} ln k {widths[0]:.4f}  ln n {widths[1]:.4f}")


def decay_tasks(n_tasks, n_rows, rng):
    """k and a vary by factors (SD of the logarithms 0.4), noise SD 0.05."""
    t = np.sort(rng.uniform(0, 4, (n_tasks, n_rows)), axis=1)
    k, a = np.exp(0.4 * rng.standard_normal((2, n_tasks, 1)))
    return as_tasks(t, a * np.exp(-k * t) + 0.05 * rng.standard_normal(t.shape))


def logistic_tasks(n_tasks, n_rows, rng):
    """Height and midpoint vary, the width does not; noise SD 0.1."""
    t = np.sort(rng.uniform(0, 4, (n_tasks, n_rows)), axis=1)
    height, middle = 3 * np.exp(0.3 * rng.standard_normal((n_tasks, 1))), 2 + 0.3 * rng.standard_normal((n_tasks, 1))
    return as_tasks(t, height / (1 + np.exp((middle - t) / 0.5)) + 0.1 * rng.standard_normal(t.shape))


FAMILIES = {
    "decay": (
        decay_tasks,
        lambda X, k, a: a * torch.exp(-k * X[:, 0]),
        {"k": Parameter(1.0, lower=0), "a": Parameter(1.0, lower=0)},
    ),
    "logistic": (
        logistic_tasks,
        lambda X, height, middle, width: height / (1 + torch.exp((middle - X[:, 0]) / width)),
        {"height": Parameter(2.0, lower=0), "middle": Parameter(1.5), "width": Parameter(0.6, lower=0)},
    ),
}
QUERY = {"objective": "query", "random_state": 0}
WAYS = {
    "evidence": {},
    "query density": QUERY,
    "MAML, 5 steps": {**QUERY, "inner_solver": "gradient"},
    "MAML, 10 steps": {**QUERY, "inner_solver": "gradient", "inner_steps": 10},
}


def objectives(seeds):
    print(
        f"\nOther objectives: RMSE over whole curves relative to evidence, 1 and 3 rows of 200 new tasks, {seeds} seeds"
    )
    print(f"  {'':28}" + "".join(f"{name:>18}" for name in WAYS))
    for family, (make, equation, parameters) in FAMILIES.items():
        for n_tasks in (8, 30):
            error = np.zeros((len(WAYS), 2))
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                training, new = make(n_tasks, 8, rng), make(200, 12, rng)
                for i, settings in enumerate(WAYS.values()):
                    model = EquationRegressor(equation, parameters, **settings).fit(training)
                    for j, rows in enumerate(([0], [1, 5, 9])):
                        adapted = model.adapt_many([(task.X[rows], task.y[rows]) for task in new])
                        error[i, j] += np.mean(
                            [
                                np.square(one.predict(task.X) - task.y).mean()
                                for one, task in zip(adapted, new, strict=True)
                            ]
                        )
            ratio = np.sqrt(error / error[0])
            print(f"  {family:10} {n_tasks:3d} tasks, 1 row  " + "".join(f"{value:18.3f}" for value in ratio[:, 0]))
            print(f"  {'':10} {'':9} 3 rows " + "".join(f"{value:18.3f}" for value in ratio[:, 1]), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--curves", type=int, default=2000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", IdentifiabilityWarning)
    torch.set_num_threads(1)
    print(describe())
    for n_rows in (5, 2):
        coverage(arguments.seeds, n_rows)
    coverage(4 * arguments.seeds, 5, n_tasks=10)
    suggestions(arguments.curves)
    targets(300)
    for kind in (OvershootWarning, UnlikelyTaskWarning):
        warnings.simplefilter("ignore", kind)
    objectives(4)


if __name__ == "__main__":
    main()
