"""New shops that differ by levels and trends: random coefficients beside a network and boosted trees.

Simulated weekly sales, as logarithms: 60 shops of a fit with 78 weeks each, 40 new ones. Every shop has a level (half of
its variance is told by its size and region), a trend, and its own answers to season and promotions; all open with a ramp,
and share a season with a peak, an effect of prices and noise. A new shop has its first 4, 13 or 26 weeks, and weeks 27 to
78 are predicted. Three settings: as said, with three times the noise, and without trends. RMSE, mean of the seeds, and
seconds of processor time of a fit. Then the share of weeks that 90 % intervals from 4 and 13 weeks contain, after fits of
15 and of 60 shops with a random level and trend.

    python tests/benchmarks/accuracy/levels.py
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from machine import describe
from sklearn.ensemble import HistGradientBoostingRegressor

from metaest import MAMLRegressor, RandomCoefficientRegressor, Task, TaskSet

SIZES, N_TRAIN, N_NEW, WEEKS, FIRST = (4, 13, 26), 60, 40, 78, 26
COLUMNS = ("age", "week", "promotion", "price", "size", "region")
FAMILIES = {
    "levels, trends": {"trend": 0.3, "noise": 0.1},
    "three times the noise": {"trend": 0.3, "noise": 0.3},
    "levels only": {"trend": 0.0, "noise": 0.1},
}


def shop(name, rng, trend, noise):
    """Return one shop."""
    size, region = rng.normal(), float(rng.integers(4))
    age = np.arange(float(WEEKS))
    week = (rng.integers(52) + age) % 52
    promotion, price = (rng.random(WEEKS) < 0.25).astype(float), rng.normal(size=WEEKS)
    level = 0.35 * (1.1 * np.tanh(1.5 * size) + 0.3 * (region == 2) + rng.normal())
    season = 0.15 * np.sin(2 * np.pi * week / 52) + 0.35 * np.exp(-0.5 * ((week - 49) / 1.5) ** 2)
    season -= 0.2 * ((week > 1) & (week < 6))
    y = 8 + level + season * (1 + 0.2 * rng.normal()) - 0.3 * np.exp(-age / 6) + trend * rng.normal() * age / 52
    y += promotion * (0.2 + 0.1 * rng.normal() + 0.1 * (week > 44)) - 0.08 * price * (1 + (price > 0))
    X = np.column_stack([age, week, promotion, price, np.full(WEEKS, size), np.full(WEEKS, region)])
    return Task(name, X, y + noise * rng.normal(size=WEEKS), feature_names=COLUMNS)


class Trees:
    """Boosted trees on all rows; on values relative to the mean of a task's first rows where these are known."""

    def __init__(self, relative):
        self.relative = relative

    def fit(self, tasks):
        """Fit one regressor for each number of first rows."""
        self.of_size = {}
        for k in SIZES if self.relative else SIZES[:1]:
            level = np.array([task.y[:k].mean() for task in tasks]) * self.relative
            regressor = HistGradientBoostingRegressor(max_leaf_nodes=8, early_stopping=False, random_state=0)
            self.of_size[k] = regressor.fit(tasks.X, tasks.y - np.repeat(level, tasks.sizes))
        return self

    def predict(self, X, y, new):
        """Predict rows of a task of which the first are known."""
        k = len(y) if self.relative else SIZES[0]
        return self.of_size[k].predict(new) + y.mean() * self.relative


class Adapting:
    """A meta-learned model."""

    def __init__(self, model, guard=False):
        self.model, self.guard = model, guard

    def fit(self, tasks):
        """Fit the model, and its guard where it has one."""
        self.model.fit(tasks)
        if self.guard:
            self.model.learn_guard()
        return self

    def predict(self, X, y, new):
        """Predict rows of a task of which the first are known."""
        return self.model.adapt(X, y, guard=self.guard).predict(new)


def models(seed):
    """Return the models that are compared."""
    few = {"support_size": (4, 26), "split": "first", "random_state": seed}
    return {
        "random level": Adapting(RandomCoefficientRegressor(random_state=seed)),
        "random level and trend": Adapting(RandomCoefficientRegressor(random=["age"], random_state=seed)),
        "the same, guarded": Adapting(
            RandomCoefficientRegressor(random=["age"], split="first", random_state=seed), guard=True
        ),
        "random slopes of all": Adapting(RandomCoefficientRegressor(random="slopes", random_state=seed)),
        "linear, level and trend": Adapting(RandomCoefficientRegressor("linear", random=["age"])),
        "MAMLRegressor, guarded": Adapting(MAMLRegressor(**few), guard=True),
        "trees, pooled": Trees(False),
        "trees, relative": Trees(True),
    }


def run(name, family, seed):
    """Return the squared errors of one model on the shops of one seed."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(seed)
    tasks = [shop(i, rng, **FAMILIES[family]) for i in range(N_TRAIN + N_NEW)]
    model, start = models(seed)[name], time.process_time()
    model.fit(TaskSet(tasks[:N_TRAIN]))
    seconds = time.process_time() - start
    rows = []
    for k in SIZES:
        errors = [model.predict(t.X[:k], t.y[:k], t.X[FIRST:]) - t.y[FIRST:] for t in tasks[N_TRAIN:]]
        error = float(np.square(errors).mean())
        rows.append({"model": name, "family": family, "k": k, "error": error, "seconds": seconds})
    return rows


def covered(family, n_shops, seed):
    """Return the shares of weeks inside 90 % intervals from 4 and 13 weeks."""
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(1000 + seed)
    tasks = [shop(i, rng, **FAMILIES[family]) for i in range(n_shops + N_NEW)]
    model = RandomCoefficientRegressor(random=["age"], random_state=0).fit(TaskSet(tasks[:n_shops]))
    shares = []
    for k in SIZES[:2]:
        ends = [model.adapt(t.X[:k], t.y[:k]).predict_interval(t.X[FIRST:]) for t in tasks[n_shops:]]
        truth = [t.y[FIRST:] for t in tasks[n_shops:]]
        shares.append(np.mean([(low <= y) & (y <= high) for (low, high), y in zip(ends, truth, strict=True)]))
    return shares


def main():
    """Print a table for each family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    print(describe())
    names = list(models(0))
    work = [(name, family, seed) for family in FAMILIES for name in names for seed in range(arguments.seeds)]
    parts = Parallel(n_jobs=arguments.jobs)(delayed(run)(*own) for own in work)
    table = pd.DataFrame([row for rows in parts for row in rows])
    for family in FAMILIES:
        print(f"\n{family}: RMSE from {', '.join(map(str, SIZES))} weeks")
        for name in names:
            part = table[(table["model"] == name) & (table["family"] == family)]
            rmse = part.groupby("k")["error"].mean().pow(0.5)
            print(f"{name:26}" + "".join(f"{rmse[k]:8.3f}" for k in SIZES) + f"{part['seconds'].mean():8.1f} s")
    print("\n90 % intervals contain, from 4 and 13 weeks")
    for family in FAMILIES:
        for n_shops, seeds in ((15, 4 * arguments.seeds), (60, arguments.seeds)):
            shares = np.mean([covered(family, n_shops, seed) for seed in range(seeds)], axis=0)
            print(f"{family:26}{n_shops:4d} shops" + "".join(f"{share:8.2f}" for share in shares))


if __name__ == "__main__":
    main()
