"""Choose MAMLClassifier's defaults on simulated tasks that appear in no other benchmark.

Three families with labels that mean the same in every task, and three in which each task has labels of its own. Each
candidate is meta-trained on the tasks of a family and judged on 100 new ones with 1, 2 and 5 support rows of each class
(as many rows at random where labels are shared). Printed: the query's cross-entropy, over families, and the share of
rows called rightly.

    python tests/benchmarks/accuracy/class_defaults.py --jobs 2
"""

import argparse
import time
import warnings
from itertools import product

import numpy as np
import torch
from joblib import Parallel, delayed
from machine import describe
from sklearn.metrics import log_loss

from metaest import MAMLClassifier, OvershootWarning, Task, TaskSet

N_TEST, SHOTS, N_ROWS = 100, (1, 2, 5), 40


def thresholds(rng, i):
    """Ill above a limit that is a patient's own, in one of three columns."""
    X = rng.standard_normal((N_ROWS, 3))
    return X, (X[:, 0] + 0.3 * rng.standard_normal(N_ROWS) > rng.standard_normal()).astype(int)


def directions(rng, i):
    """Two classes on two sides of a line through the middle, turned by the task."""
    X, angle = rng.standard_normal((N_ROWS, 2)), rng.uniform(-1.2, 1.2)
    return X, (X @ [np.cos(angle), np.sin(angle)] + 0.2 * rng.standard_normal(N_ROWS) > 0).astype(int)


def regimes(rng, i):
    """Three classes, in order along a curve whose scale is the task's; the middle one is rare."""
    X = np.column_stack([rng.uniform(0, 4, N_ROWS), rng.standard_normal(N_ROWS)])
    value = X[:, 0] * np.exp(0.4 * rng.standard_normal()) + 0.5 * X[:, 1] ** 2 + 0.3 * rng.standard_normal(N_ROWS)
    return X, np.digitize(value, [1.8, 2.4])


def _blobs(rng, centres, spread):
    y = np.arange(N_ROWS) % len(centres)
    return centres[y] + spread * rng.standard_normal((N_ROWS, centres.shape[1])), y


def blobs(rng, i):
    """Four clouds in eight dimensions, six of which say nothing."""
    centres = np.zeros((4, 8))
    centres[:, :2] = 2 * rng.standard_normal((4, 2))
    return _blobs(rng, centres, 0.8)


def rings(rng, i):
    """Three rings of other radii around a centre; only the distance matters."""
    y = np.arange(N_ROWS) % 3
    radius = rng.uniform(0.3, 3.0, 3)[y] * np.exp(0.1 * rng.standard_normal(N_ROWS))
    angle = rng.uniform(0, 2 * np.pi, N_ROWS)
    return radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]), y


def waves(rng, i):
    """Five waves of other frequencies, with phases at random, at sixteen times."""
    y = np.arange(N_ROWS) % 5
    frequency, t = rng.uniform(0.3, 2.5, 5)[y], np.linspace(0, 3, 16)
    return np.sin(frequency[:, None] * t + rng.uniform(0, 1.0, (N_ROWS, 1))) + 0.2 * rng.standard_normal(
        (N_ROWS, 16)
    ), y


FAMILIES = {
    thresholds: (20, True),
    directions: (15, True),
    regimes: (40, True),
    blobs: (100, False),
    rings: (60, False),
    waves: (40, False),
}
GRID = {"normalization": [None, "layer", "batch"], "inner_lr": [0.05, 0.1, 0.2, 0.4]}


def _judged(settings, family, seed):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    warnings.simplefilter("ignore", OvershootWarning)
    n_train, shared = FAMILIES[family]
    rng = np.random.default_rng([seed, n_train])
    tasks = TaskSet([Task(i, *family(rng, i)) for i in range(n_train + N_TEST)])
    started = time.perf_counter()
    model = MAMLClassifier(shared_labels=shared, random_state=seed, **settings)
    if settings.get("normalization") == "batch":
        model.set_params(support_size=(2, 5))
    try:
        model.fit(tasks[:n_train])
    except ArithmeticError:
        return [(10.0, 0.0)] * len(SHOTS), time.perf_counter() - started
    results = []
    for k in SHOTS:
        losses, right = [], []
        for task in tasks[n_train:]:
            order = np.random.default_rng([seed, k]).permutation(N_ROWS)
            if shared:
                support = order[: max(k, 2)]
            else:
                support = np.concatenate([order[task.y[order] == c][:k] for c in np.unique(task.y)])
            query = np.setdiff1d(np.arange(N_ROWS), support)
            query = query[np.isin(task.y[query], np.unique(tasks.y if shared else task.y[support]))]
            adapted = model.adapt(task.X[support], task.y[support])
            p = adapted.predict_proba(task.X[query]).astype(float)
            p = np.clip(p, 1e-7, 1) / np.clip(p, 1e-7, 1).sum(axis=1, keepdims=True)
            losses.append(log_loss(task.y[query], p, labels=adapted.classes_))
            right.append(np.mean(adapted.predict(task.X[query]) == task.y[query]))
        results.append((np.mean(losses), np.mean(right)))
    return results, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    print(describe())
    print("families:", ", ".join(f"{family.__name__} ({n} tasks)" for family, (n, _) in FAMILIES.items()), "\n")
    seeds = range(100, 100 + arguments.seeds)
    for values in product(*GRID.values()):
        settings = dict(zip(GRID, values, strict=True))
        keys = list(product(FAMILIES, seeds))
        found = Parallel(n_jobs=arguments.jobs)(delayed(_judged)(settings, *key) for key in keys)
        table = np.array([result for result, _ in found])  # (families and seeds, shots, 2)
        by_family = table.reshape(len(FAMILIES), -1, 2).mean(axis=1)
        cells = " ".join(f"{loss:.2f}/{100 * right:.0f}" for loss, right in by_family)
        loss, right = by_family.mean(axis=0)
        print(f"{loss:.3f} {100 * right:.1f} % | {cells} | {sum(s for _, s in found):4.0f} s | {settings}", flush=True)


if __name__ == "__main__":
    main()
