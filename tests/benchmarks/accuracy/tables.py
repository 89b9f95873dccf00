"""Thousands of tables of twenty columns: seconds, memory and error of what learns from all and adapts to ten rows.

Each table has its own slopes, which are mixtures of three patterns, and its own level; all share a curved part:

    y = X (z W) + b + sin(2 x0) + x1 x2 + 0.3 noise,   z of 3 and b standard normal, W of (3, 20) normal with 0.6

with X standard normal, 50 rows a table. Learned from 5,000 tables, or as many as `--tables` says; 300 others are adapted
on 10 rows, and the other 40 are predicted. "default" is AutoMetaRegressor as it comes, whose comparison of candidates is
part of its fit. "evidence" has silu units, "evidence, tanh" the default, and "evidence, 300" has that with alpha=300.
"Bayes, linear" is empirical Bayes of slopes and level by expectation-maximisation, "Bayes, truth" the same with
sin(2 x0) and x1 x2 as further columns. LightGBM, where it is installed, is fitted on the tables and the ten rows together,
with the table as a category. Every method is a process of its own, whose peak of memory is that of Python, torch and the
tables too.

    python tests/benchmarks/accuracy/tables.py --tables 20 100 500 5000
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
import torch
from machine import describe

from metaest import AutoMetaRegressor, MAMLRegressor, Task, TaskSet

N_COLUMNS, N_PATTERNS, N_ROWS, N_SHOTS, N_TEST, NOISE = 20, 3, 50, 10, 300, 0.3
SOLVERS = {
    "evidence": {"inner_solver": "evidence", "activation": "silu"},
    "evidence, tanh": {"inner_solver": "evidence"},
    "evidence, 300": {"inner_solver": "evidence", "alpha": 300.0},
    "bayes": {"inner_solver": "bayes", "support_size": N_SHOTS},
    "ridge": {"inner_solver": "ridge", "support_size": N_SHOTS},
    "gradient": {},
}


def tables(count, patterns, seed):
    """Return X of shape (tables, rows, columns), and y."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count, N_ROWS, N_COLUMNS))
    slopes, level = rng.standard_normal((count, N_PATTERNS)) @ patterns, rng.standard_normal((count, 1))
    y = np.einsum("tnp,tp->tn", X, slopes) + level + np.sin(2 * X[..., 0]) + X[..., 1] * X[..., 2]
    return X, y + NOISE * rng.standard_normal(y.shape)


def by_network(settings, training, test):
    tasks = TaskSet([Task(i, *task) for i, task in enumerate(zip(*training, strict=True))])
    kind = AutoMetaRegressor if settings is None else MAMLRegressor
    model = kind(random_state=0, **(settings or {})).fit(tasks)
    if settings is None:
        print(model.table_.to_string(float_format="{:.4g}".format), model.choice_, sep="\n", flush=True)
    X, y = test
    return np.array([model.adapt(x[:N_SHOTS], t[:N_SHOTS]).predict(x[N_SHOTS:]) for x, t in zip(X, y, strict=True)])


def by_empirical_bayes(columns, training, test, rounds=50):
    """Weights normal around a mean: their covariance, the mean and the noise by expectation-maximisation."""
    phi, (_, y) = columns(training[0]), training
    moments, right = phi.mT @ phi, (phi.mT @ y[..., None])[..., 0]
    mean, covariance, noise = np.zeros(phi.shape[-1]), np.eye(phi.shape[-1]), 1.0
    for _ in range(rounds):
        spread = np.linalg.inv(np.linalg.inv(covariance) + moments / noise)
        weights = (spread @ (np.linalg.solve(covariance, mean) + right / noise)[..., None])[..., 0]
        mean = weights.mean(axis=0)
        covariance = ((weights - mean).T @ (weights - mean) + spread.sum(axis=0)) / len(y)
        left = y - (phi @ weights[..., None])[..., 0]
        noise = (np.square(left).sum() + (spread * moments).sum()) / y.size
    phi, y = columns(test[0]), test[1][:, :N_SHOTS]
    given, asked = phi[:, :N_SHOTS], phi[:, N_SHOTS:]
    gain = asked @ covariance @ given.mT @ np.linalg.inv(given @ covariance @ given.mT + noise * np.eye(N_SHOTS))
    return asked @ mean + (gain @ (y - given @ mean)[..., None])[..., 0]


def linear(X):
    return np.concatenate([X, np.ones_like(X[..., :1])], axis=-1)


def truth(X):
    return np.concatenate([linear(X), np.sin(2 * X[..., :1]), X[..., 1:2] * X[..., 2:3]], axis=-1)


def by_trees(training, test):
    """Boosted trees of all rows at once, with the number of the table as a category; None without LightGBM."""
    try:
        from lightgbm import LGBMRegressor
    except ImportError:
        return None
    X = np.concatenate([training[0].reshape(-1, N_COLUMNS), test[0][:, :N_SHOTS].reshape(-1, N_COLUMNS)])
    y = np.concatenate([training[1].ravel(), test[1][:, :N_SHOTS].ravel()])
    n_training = len(training[1])
    numbers = np.repeat(np.arange(n_training), N_ROWS), n_training + np.repeat(np.arange(N_TEST), N_SHOTS)
    model = LGBMRegressor(n_estimators=500, random_state=0, n_jobs=1, verbose=-1)
    model.fit(np.column_stack([X, np.concatenate(numbers)]), y, categorical_feature=[N_COLUMNS])
    asked = test[0][:, N_SHOTS:]
    again = n_training + np.repeat(np.arange(N_TEST), N_ROWS - N_SHOTS)
    return model.predict(np.column_stack([asked.reshape(-1, N_COLUMNS), again])).reshape(asked.shape[:2])


METHODS = {
    "default": (by_network, None),
    **{name: (by_network, settings) for name, settings in SOLVERS.items()},
    "Bayes, linear": (by_empirical_bayes, linear),
    "Bayes, truth": (by_empirical_bayes, truth),
    "LightGBM": (lambda _, *data: by_trees(*data), None),
}


def measured(name, count):
    """Return seconds, peak memory in MiB and root mean squared error of a method; None where it is not installed."""
    torch.set_num_threads(1)
    patterns = 0.6 * np.random.default_rng(0).standard_normal((N_PATTERNS, N_COLUMNS))
    training, test = tables(count, patterns, 1), tables(N_TEST, patterns, 2)
    method, setting = METHODS[name]
    started, used = time.perf_counter(), time.process_time()
    predicted = method(setting, training, test)
    seconds = time.perf_counter() - started, time.process_time() - used
    if predicted is None:
        return None
    error = float(np.sqrt(np.square(predicted - test[1][:, N_SHOTS:]).mean()))
    return *seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, nargs="+", default=[5000])
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    arguments = parser.parse_args()
    print(describe())
    for count in arguments.tables:
        print(f"\n{count} tables\n{'':16} {'s':>7} {'CPU s':>7} {'MiB':>7} {'RMSE':>7}")
        for name in arguments.methods:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(measured, (name, count))
            cells = "is not installed" if row is None else "{:7.1f} {:7.1f} {:7.0f} {:7.3f}".format(*row)
            print(f"{name:16} {cells}", flush=True)


if __name__ == "__main__":
    main()
