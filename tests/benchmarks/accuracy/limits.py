"""Constants of decays whose low and high values are known by intervals, beside rows left out and numbers put in.

Each study has 30 patients of two laboratories, the first with a limit of quantification of 2 and an upper limit of 8, the
second with 1 and none; ten samples a patient, a exp(-k t) with medians 10 and 0.4, SDs 0.2 of both logarithms, noise of SD
0.3. The same studies are fitted to all values as they were measured ("all measured"), by limits of each row ("limits"),
where values between a limit of detection of 0.5 and that of quantification are told from lower ones ("intervals"), without the rows beyond a limit ("left out"), and with half the lower limit, or the
upper one, in their place ("numbers put in").

    python tests/benchmarks/accuracy/limits.py --replicates 200

Bias is the mean of estimate / truth - 1 with its standard error; covered is the share of 95 % intervals of a constant's
median that hold the truth.
"""

import argparse
import warnings

import numpy as np
import torch
from machine import describe

from metaest import EquationRegressor, Parameter, TaskSet

TRUTH = {"k": 0.4, "a": 10.0, "omega of k": 0.2, "omega of a": 0.2, "sd": 0.3}
COLUMNS = ("t", "lower", "from", "upper")


def decay(X, k, a):
    return a * torch.exp(-k * X[:, 0])


def study(rng):
    """Return X, values, and which lie below or above a limit, of each patient."""
    patients = []
    t = np.linspace(0.5, 10, 10)
    for i in range(30):
        k, a = np.exp(np.log([TRUTH["k"], TRUTH["a"]]) + 0.2 * rng.standard_normal(2))
        y = a * np.exp(-k * t) + TRUTH["sd"] * rng.standard_normal(10)
        lower, upper = (2.0, 8.0) if i % 2 else (1.0, 1e6)
        X = np.column_stack([t, np.full(10, lower), np.full(10, -1e30), np.full(10, upper)])
        patients.append((X, y, y < lower, y > upper))
    return patients


def ways(patients):
    """Return the tasks and the settings of each way to fit a study."""
    coded = [(X, np.where(low, -9.0, np.where(high, 1e9, y))) for X, y, low, high in patients]
    put_in = [(X, np.where(low, X[:, 1] / 2, np.where(high, X[:, 3], y))) for X, y, low, high in patients]
    within = [(X[~low & ~high], y[~low & ~high]) for X, y, low, high in patients]
    limits = {"limit": "lower", "upper_limit": "upper"}
    detected = []
    for (X, y, low, _), (_, z) in zip(patients, coded, strict=True):
        ends = X.copy()
        ends[low & (y > 0.5), 2] = 0.5  # from the limit of detection to that of quantification
        ends[low & (y <= 0.5), 1] = 0.5
        detected.append((ends, z))
    put_in = [(X, np.where(low, X[:, 1] / 2, np.where(high, X[:, 3], y))) for X, y, low, high in patients]
    within = [(X[~low & ~high], y[~low & ~high]) for X, y, low, high in patients]
    return {
        "all measured": ([(X, y) for X, y, _, _ in patients], {}),
        "limits": (coded, limits),
        "intervals": (detected, {**limits, "limit_from": "from"}),
        "left out": (within, {}),
        "numbers put in": (put_in, {}),
    }


def estimates(pairs, settings):
    """Return estimates, and whether the intervals of medians hold the truth."""
    offsets = np.cumsum([0, *(len(y) for _, y in pairs)])
    X, y = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    tasks = TaskSet.from_checked(X, y, offsets, np.arange(len(pairs)).astype(object), feature_names=COLUMNS)
    table = {"k": Parameter(0.5, lower=0), "a": Parameter(8.0, lower=0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EquationRegressor(decay, table, covariance="diagonal", **settings).fit(tasks)
    population = model.population_
    at, error = population["scaled_value"].to_numpy(), population["scaled_standard_error"].to_numpy()
    held = np.abs(at - np.log([TRUTH["k"], TRUTH["a"]])) <= 1.96 * error
    return [*population["value"], *population["omega"], float(model.noise_["sd"])], held


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--replicates", type=int, default=20)
    n = parser.parse_args().replicates
    print(describe(), flush=True)
    results_by_setting = {}
    for i in range(n):
        for name, (pairs, settings) in ways(study(np.random.default_rng(i))).items():
            results_by_setting.setdefault(name, []).append(estimates(pairs, settings))
    truth = np.array(list(TRUTH.values()))
    print(f"{n} studies; bias in %\n{'':16}" + "".join(f"{name:>16}" for name in TRUTH) + "   k covered   a covered")
    for name, results in results_by_setting.items():
        ratio = 100 * (np.array([values for values, _ in results]) / truth - 1)
        parts = [f"{m:+.1f} ({s:.1f})" for m, s in zip(ratio.mean(axis=0), ratio.std(axis=0) / n**0.5, strict=True)]
        held = np.mean([h for _, h in results], axis=0)
        print(f"{name:16}" + "".join(f"{part:>16}" for part in parts) + "".join(f"{100 * h:>10.0f} %" for h in held))


if __name__ == "__main__":
    main()
