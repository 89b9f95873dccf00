"""Choose MAMLRegressor's defaults on simulated tasks that appear in no other benchmark.

Eleven families of curves, few tasks and many, are drawn; each candidate is meta-trained on the tasks of a family and
judged on 60 new ones at 2, 3 and 5 support rows. Printed: the mean squared error relative to the pooled network that
has the built-in settings, as a geometric mean over families and support sizes.

    python tests/benchmarks/accuracy/defaults.py --candidates 8 --jobs 2
"""

import argparse
import time
import warnings

import numpy as np
import torch
from joblib import Parallel, delayed
from machine import describe

from metaest import MAMLRegressor, OvershootWarning, TaskSet
from metaest.diagnostics import pooled

N_TEST = 60
SUPPORT_SIZES = (2, 3, 5)


def _curves(rng, n_tasks, x, values, noise):
    y = values + noise * rng.standard_normal(values.shape)
    n_rows = x.shape[1]
    return TaskSet.from_arrays(x.reshape(n_tasks * n_rows, -1), y.reshape(-1), np.repeat(np.arange(n_tasks), n_rows))


def decay(rng, n):
    t = np.sort(rng.uniform(0, 10, (n, 9)), axis=1)
    A, k = 10 * np.exp(0.3 * rng.standard_normal((2, n, 1)))
    return _curves(rng, n, t[..., None], A * np.exp(-0.04 * k * t), 0.4)


def dose_response(rng, n):
    x = np.tile(np.linspace(-3, 3, 8), (n, 1))
    top, middle = 100 + 20 * rng.standard_normal((n, 1)), 0.7 * rng.standard_normal((n, 1))
    return _curves(rng, n, x[..., None], top / (1 + np.exp(-2 * (x - middle))), 4.0)


def quadratic(rng, n):
    x = rng.uniform(-1, 1, (n, 10))
    a, b, c = rng.standard_normal((3, n, 1)) * np.array([0.5, 1.0, 1.0])[:, None, None] + 1
    return _curves(rng, n, x[..., None], a * x**2 + b * x + c, 0.3)


def saturation(rng, n):
    x = np.tile(np.array([0.1, 0.2, 0.5, 1, 2, 4, 8, 12]), (n, 1))
    v, k = 5 * np.exp(0.3 * rng.standard_normal((n, 1))), np.exp(0.5 * rng.standard_normal((n, 1)))
    return _curves(rng, n, x[..., None], v * x / (k + x), 0.2)


def straight_lines(rng, n):
    x = np.tile(np.arange(8.0), (n, 1))
    a, b = 20 + 4 * rng.standard_normal((n, 1)), 1 + rng.standard_normal((n, 1))
    return _curves(rng, n, x[..., None], a + b * x, 3.0)


def covariate(rng, n):
    """Two columns that are constant within a task, one of which matters."""
    t, z = rng.uniform(0, 5, (n, 10)), rng.uniform(-1, 1, (n, 2, 1))
    k = np.exp(0.4 * z[:, 0] + 0.3 * rng.standard_normal((n, 1)))
    x = np.stack([t, *(np.broadcast_to(z[:, j], t.shape) for j in (0, 1))], axis=-1)
    return _curves(rng, n, x, 1 - np.exp(-((0.5 * k * t) ** 2)), 0.05)


def _with_constants(x, z):
    """Put columns that are constant within a task beside x of shape (tasks, rows)."""
    return np.stack([x, *(np.broadcast_to(column[:, None], x.shape) for column in z.T)], axis=-1)


def two_phase(rng, n):
    """Few tasks, unevenly spaced times, and two constant columns without meaning."""
    t = np.tile(np.array([0.2, 0.5, 1, 2, 4, 6, 9, 14, 20]), (n, 1)) * rng.uniform(0.9, 1.1, (n, 9))
    a, b = 6 * np.exp(0.3 * rng.standard_normal((2, n, 1)))
    k = 0.6 * np.exp(0.4 * rng.standard_normal((n, 1)))
    z = np.array([50, 3]) + np.array([8, 0.5]) * rng.standard_normal((n, 2))
    return _curves(rng, n, _with_constants(t, z), a * np.exp(-k * t) + b * np.exp(-0.05 * t), 0.5)


def growth(rng, n):
    """Few tasks and one constant column that says a little about the plateau."""
    x = np.tile(np.linspace(0, 10, 8), (n, 1))
    z = rng.standard_normal((n, 1))
    top, middle = 10 + z + 1.5 * rng.standard_normal((n, 1)), 5 + 0.8 * rng.standard_normal((n, 1))
    return _curves(rng, n, _with_constants(x, z), top / (1 + np.exp(middle - x)), 0.4)


def intercepts(rng, n):
    """Straight lines of one slope; the level is a task's own, three constant columns say little about it."""
    x, z = rng.uniform(0, 4, (n, 10)), rng.standard_normal((n, 3))
    level = 0.5 * z[:, :1] + rng.standard_normal((n, 1))
    return _curves(rng, n, _with_constants(x, z), level + 0.8 * x, 0.4)


def triangle_waves(rng, n):
    x = rng.uniform(-5, 5, (n, 20))
    a, b = rng.uniform(0.5, 4, (n, 1)), rng.uniform(0, 2, (n, 1))
    return _curves(rng, n, x[..., None], a * (2 * np.abs((x / 3 + b) % 2 - 1) - 1), 0.05)


def bumps(rng, n):
    x = rng.uniform(-4, 4, (n, 15))
    a, m, s = 2 + rng.standard_normal((n, 1)), rng.uniform(-2, 2, (n, 1)), rng.uniform(0.7, 1.5, (n, 1))
    return _curves(rng, n, x[..., None], a * np.exp(-(((x - m) / s) ** 2)), 0.05)


FAMILIES = {
    decay: 12,
    dose_response: 5,
    quadratic: 15,
    saturation: 6,
    straight_lines: 18,
    covariate: 25,
    two_phase: 11,
    growth: 8,
    intercepts: 16,
    triangle_waves: 600,
    bumps: 300,
}

# the part of the space where coarser rounds (relu, 1 to 10 inner steps, 300 to 2000 meta-steps) did best
GRID = {
    "hidden_layer_sizes": [(40, 40), (32, 32, 32)],
    "activation": ["tanh", "silu"],
    "inner_lr": [0.01, 0.02, 0.05, 0.1],
    "meta_lr": [0.003, 0.01],
    "alpha": [10.0, 30.0, 100.0],
}


def losses(settings, family, n_train, seed, joint=False):
    """Mean squared error over the variance around the training mean, at each support size."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", OvershootWarning)
    tasks = family(np.random.default_rng(seed), n_train + N_TEST)
    model = MAMLRegressor(random_state=seed, **settings)
    model = pooled(model, tasks[:n_train]) if joint else model.fit(tasks[:n_train])
    return [1 - model.set_params(support_size=k).score(tasks[n_train:]) for k in SUPPORT_SIZES]


def relative(settings, seed):
    """Log ratio to the pooled network, for each family and support size."""
    rows = []
    for family, n_train in FAMILIES.items():
        try:
            mine = losses(settings, family, n_train, seed)
        except ArithmeticError:
            mine = [10.0] * len(SUPPORT_SIZES)
        rows.append(np.log(np.array(mine) / POOLED[family.__name__, seed]))
    return np.array(rows)


POOLED = {}


def _evaluate(settings, seeds, reference):
    POOLED.update(reference)
    started = time.perf_counter()
    table = np.mean([relative(settings, seed) for seed in seeds], axis=0)
    return settings, table, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    seeds = range(100, 100 + arguments.seeds)
    workers = Parallel(n_jobs=arguments.jobs, return_as="generator_unordered")
    keys = [(family, n, seed) for family, n in FAMILIES.items() for seed in seeds]
    pooled_losses = Parallel(n_jobs=arguments.jobs)(delayed(losses)({}, *key, joint=True) for key in keys)
    reference = {
        (family.__name__, seed): np.array(loss) for (family, _, seed), loss in zip(keys, pooled_losses, strict=True)
    }
    rng = np.random.default_rng(0)
    candidates = [{}] + [
        {name: values[rng.integers(len(values))] for name, values in GRID.items()} for _ in range(arguments.candidates)
    ]
    torch.set_num_threads(1)
    print(describe())
    print("families:", ", ".join(f"{family.__name__} ({n} tasks)" for family, n in FAMILIES.items()))
    results = []
    for settings, table, seconds in workers(delayed(_evaluate)(c, seeds, reference) for c in candidates):
        results.append((np.exp(table.mean()), settings))
        families = " ".join(f"{value:.2f}" for value in np.exp(table.mean(axis=1)))
        print(f"{np.exp(table.mean()):.3f} | {families} | {seconds:5.0f} s | {settings or 'the defaults'}", flush=True)
    print("\nbest five:")
    for value, settings in sorted(results, key=lambda result: result[0])[:5]:
        print(f"{value:.3f} {settings or 'the defaults'}")


if __name__ == "__main__":
    main()
