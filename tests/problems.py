"""Task families the tests share."""

import numpy as np

from metaest import Task, TaskSet


def ragged_tasks(n_tasks=8, n_features=2, seed=0, names=None, **columns):
    """Noisy linear tasks of 3 to 10 rows."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.standard_normal((3 + i % 8, n_features))
        y = X @ rng.standard_normal(n_features) + i + 0.1 * rng.standard_normal(len(X))
        tasks.append(Task(f"task {i}" if names is None else names[i], X, y, **columns))
    return TaskSet(tasks)
