"""Small estimators of Gaussian tasks, with priors that can be written down."""

from dataclasses import dataclass

import numpy as np

from metaest import Task, TaskSet
from metaest.estimators.gaussian.base import CONSTRAINTS, BaseGaussian
from metaest.estimators.gaussian.prior import TaskPrior


@dataclass(frozen=True, eq=False)
class Levels(TaskPrior):
    """Tasks that differ by a level, around a line."""

    slope: float
    level_variance: float
    noise_variance: float

    def mean(self, X):
        return self.slope * X[:, 0]

    def variance(self, X):
        return np.full(len(X), self.level_variance)

    def covariance(self, X, X2):
        return np.full((len(X), X.shape[1], X2.shape[1]), self.level_variance)


@dataclass(frozen=True, eq=False)
class Bumps(TaskPrior):
    """Tasks that are smooth curves around a constant."""

    noise_variance: float = 0.1

    def mean(self, X):
        return np.full(len(X), 0.5)

    def variance(self, X):
        return np.full(len(X), 2.0)

    def covariance(self, X, X2):
        return 2.0 * np.exp(-0.5 * np.square(X[:, :, None] - X2[:, None]).sum(axis=3))


class LevelRegressor(BaseGaussian):
    """Learns levels by moments: rows within tasks, and means of tasks."""

    _parameter_constraints = CONSTRAINTS

    def __init__(self, *, support_size=(1, 5), split="random", random_state=None, verbose=False):
        self.support_size = support_size
        self.split = split
        self.random_state = random_state
        self.verbose = verbose

    def _learn(self, tasks, rng):
        task = np.repeat(np.arange(len(tasks)), tasks.sizes)
        y = tasks.y.reshape(-1)
        X = tasks.X[:, 0] - (np.bincount(task, tasks.X[:, 0]) / tasks.sizes)[task]
        within = y - (np.bincount(task, y) / tasks.sizes)[task]
        slope = float(X @ within / (X @ X))
        means = np.bincount(task, y - slope * tasks.X[:, 0]) / tasks.sizes
        noise = float(np.square(within - slope * X).sum() / max(1, len(y) - len(tasks) - 1)) + 1e-9
        self.levels_ = means
        return Levels(slope, float(means.var()), noise)


class BumpRegressor(LevelRegressor):
    """Knows its prior."""

    def _learn(self, tasks, rng):
        return Bumps()


def level_tasks(n_tasks=20, seed=0, rows=8, **columns):
    """Tasks of at most `rows` rows that differ by their level."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.uniform(0, 2, (rows - i % 3, 1))
        y = 1.5 * X[:, 0] + 2 * rng.standard_normal() + 0.3 * rng.standard_normal(len(X))
        tasks.append(Task(f"task {seed}.{i}", X, y, **columns))
    return TaskSet(tasks)
