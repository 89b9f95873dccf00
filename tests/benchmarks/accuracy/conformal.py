"""Do conformal intervals hold for new patients, and how wide are they?

200 simulated populations: patients whose logarithm of concentration falls along a line, with rates that vary with
heavier tails than a normal distribution, and noise in proportion to the curve and beside it. The model, an equation
fitted to 30 patients, is wrong in both (normal tails, additive noise). 20 or 200 calibration patients, 50 new ones,
k = 0, 3, 10 samples to adapt on, level 0.9. "oracle" is the width that the best multiple of the model's own standard
deviation, known from the new patients themselves, needs to cover just 90 % of their rows.

    python tests/benchmarks/accuracy/conformal.py
"""

import argparse
import warnings

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from machine import describe

from metaest import EquationRegressor, Parameter, TaskSet

SIZES, LEVEL, N_FIT, N_NEW, N_ROWS = (0, 3, 10), 0.9, 30, 50, 16


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def patients(n, rng):
    pairs = []
    for _ in range(n):
        t = rng.permutation(rng.uniform(0.2, 8, N_ROWS))
        rate = 0.3 * np.exp(0.25 * rng.standard_t(4))
        y = 10 * np.exp(0.15 * rng.normal()) * np.exp(-rate * t)
        pairs.append((t[:, None], y * (1 + 0.1 * rng.normal(size=N_ROWS)) + 0.1 * rng.normal(size=N_ROWS)))
    return TaskSet(pairs)


def run(seed):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    constants = {"start": Parameter(8.0, lower=0), "rate": Parameter(0.4, lower=0)}
    model = EquationRegressor(decay, constants, split="first", random_state=seed).fit(patients(N_FIT, rng))
    new, many = patients(N_NEW, rng), patients(200, rng)
    rows = []
    for n_tasks in (20, 200):
        calibration = many[:n_tasks]
        for k in SIZES:
            model.calibrate(calibration, support_size=k)
            if k:
                supports = TaskSet([(task.X[:k], task.y[:k]) for task in new])
                predictors = list(model.adapt_many(supports))
            else:
                predictors = [model] * len(new)
            scores, covered, width, whole, center = [], [], [], [], []
            for task, predictor in zip(new, predictors, strict=True):
                X, y = task.X[k:], task.y[k:]
                low, high = predictor.predict_interval(X, LEVEL, "conformal")
                covered.append(((low <= y) & (y <= high)).mean())
                width.append((high - low).mean() / 2)
                mean, scale = predictor._center_and_scale(X)
                scores.append(np.abs(y - mean) / scale)
                center.append(scale.mean())
                low, high = predictor.predict_interval(X, LEVEL, "conformal", simultaneous=True)
                whole.append(((low <= y) & (y <= high)).all())
            oracle = np.quantile(np.concatenate(scores), LEVEL) * np.mean(center)
            rows.append({"calibration": n_tasks, "k": k, "rows": np.mean(covered), "whole": np.mean(whole),
                         "width": np.mean(width), "oracle": oracle})  # fmt: skip
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--populations", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    print(describe())
    parts = Parallel(n_jobs=arguments.jobs)(delayed(run)(seed) for seed in range(arguments.populations))
    found = pd.DataFrame([row for rows in parts for row in rows])
    grouped = found.groupby(["calibration", "k"])
    table = 100 * grouped[["rows", "whole"]].mean()
    table["± (rows)"] = 100 * 1.96 * grouped["rows"].std() / arguments.populations**0.5
    table["width / oracle"] = grouped["width"].mean() / grouped["oracle"].mean()
    print(f"\nCoverage of new patients at level {LEVEL}, %, mean over {arguments.populations} populations\n")
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
