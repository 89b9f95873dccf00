"""Regret of the default: AutoMetaRegressor beside every fixed choice and three baselines, on collections of tasks.

Tasks are left out in folds; a method is fitted on the others, adapted to 1, 3, 5 and 10 rows of each left-out task (as
many as leave two), and judged on its other rows. Every choice of AutoMetaRegressor is made inside the folds. The
regret of a collection is the geometric mean over numbers of rows of the default's root mean squared error over that of
the best fixed candidate.

    python tests/benchmarks/accuracy/regret.py --output FILE
    python tests/benchmarks/accuracy/regret.py --output FILE --only levels trends

Simulated families are drawn from the seed in the command (``--seed``); real data come from ``METAEST_DATA_HOME``, and
are skipped where they are not there. Results are kept in the file, and those that are there are not computed again.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from machine import describe
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from metaest import AutoMetaRegressor, TaskSet
from metaest.selection.candidates import default_candidates
from metaest_datasets import (
    fetch_hall2018,
    fetch_polymer_crystallisation,
    fetch_steel_tempering,
    load_orange,
    load_sleepstudy,
    load_theophylline,
    make_avrami_tasks,
    make_linear_tasks,
    make_sinusoids,
)
from metaest_domains.physiology import glucose_windows

SHOTS, FOLDS, MOST_QUERY = (1, 3, 5, 10), 3, 50


def levels(rng, n=60, rows=30):
    """A level a task, and a surface that all share."""
    X = rng.standard_normal((n, rows, 5))
    y = 2 * rng.standard_normal((n, 1)) + np.sin(2 * X[..., 0]) + X[..., 1] * X[..., 2]
    return TaskSet(list(zip(X, y + 0.3 * rng.standard_normal(y.shape), strict=True)))


def trends(rng, n=60, rows=30):
    """A level and a trend a task, and a step that all share."""
    t = np.sort(rng.uniform(0, 1, (n, rows)), axis=1)
    z = rng.standard_normal((n, rows))
    y = rng.standard_normal((n, 1)) + 2 * rng.standard_normal((n, 1)) * t + (z > 0.5)
    return TaskSet(
        [(np.column_stack(own), target) for own, target in zip(np.stack([t, z], 2).swapaxes(1, 2), y, strict=True)]
    )


def seasons(rng, n=80, rows=40):
    """Weekly values: a level, a yearly wave whose size differs, holidays."""
    week = np.tile(np.arange(rows), (n, 1)) + rng.integers(0, 52, (n, 1))
    holiday = (rng.random((n, rows)) < 0.1).astype(float)
    size = 1 + 0.3 * rng.standard_normal((n, 1))
    y = rng.standard_normal((n, 1)) + 0.4 * size * np.sin(2 * np.pi * week / 52) + 0.5 * size * holiday
    y += 0.15 * rng.standard_normal(y.shape)
    X = np.stack([np.sin(2 * np.pi * week / 52), np.cos(2 * np.pi * week / 52), holiday], axis=2)
    return TaskSet(list(zip(X, y, strict=True)))


def tables(rng, n=400, rows=30, columns=12):
    """Linear coefficients of low rank a task, and a shared surface of few columns."""
    W = 0.6 * rng.standard_normal((2, columns))
    X = rng.standard_normal((n, rows, columns))
    z = rng.standard_normal((n, 2))
    y = np.einsum("nrc,nc->nr", X, z @ W) + np.cos(2 * X[..., 0]) + X[..., 1] * X[..., 3]
    return TaskSet(list(zip(X, y + 0.3 * rng.standard_normal(y.shape), strict=True)))


def alike(rng, n=40, rows=20):
    """Tasks that do not differ."""
    X = rng.standard_normal((n, rows, 3))
    y = np.tanh(X[..., 0]) + X[..., 1] ** 2
    return TaskSet(list(zip(X, y + 0.5 * rng.standard_normal(y.shape), strict=True)))


def waves(rng):
    """Sinusoids of other phase and size."""
    return make_sinusoids(200, n_rows=20, random_state=int(rng.integers(2**31)))


def lines(rng):
    """Straight lines around a common one."""
    return make_linear_tasks(40, random_state=int(rng.integers(2**31)))[0]


def transformations(rng):
    """Curves of the Avrami equation."""
    return make_avrami_tasks(24, random_state=int(rng.integers(2**31))).tasks


def glucose():
    """Readings of an hour, and the one half an hour later, of people with a sensor."""
    people = {}
    for person in fetch_hall2018():
        windows = glucose_windows(person.X[:, 0], person.y, n_readings=12, horizons=(30,))
        at = np.linspace(0, len(windows.history) - 1, 40).astype(int)
        people[person.name] = (windows.history[at], windows.ahead[at, 0])
    return TaskSet(people)


def thinned(tasks, rows=40):
    """At most so many rows a task, evenly spaced."""
    sets = {}
    for task in tasks:
        at = np.unique(np.linspace(0, len(task) - 1, min(rows, len(task))).astype(int))
        sets[task.name] = (task.X[at], task.y[at])
    return TaskSet(sets)


COLLECTIONS = {
    "levels": levels,
    "trends": trends,
    "seasons": seasons,
    "tables": tables,
    "alike": alike,
    "waves": waves,
    "lines": lines,
    "Avrami": transformations,
    "theophylline": lambda rng: load_theophylline(exclude_time_zero=True),
    "orange trees": lambda rng: load_orange(),
    "sleep": lambda rng: load_sleepstudy(),
    "steel tempering": lambda rng: thinned(fetch_steel_tempering()),
    "glucose": lambda rng: glucose(),
    "polymer": lambda rng: thinned(fetch_polymer_crystallisation()),
}


class PooledBoosting:
    """Boosted trees on all rows, with the mean and the number of a task's support rows and their mean X as columns."""

    def fit(self, tasks):
        rng, rows, targets = np.random.default_rng(0), [], []
        for task in tasks:
            for shot in SHOTS:
                if len(task) > shot + 1:
                    order = rng.permutation(len(task))
                    rows.append(self._with(task.X[order[shot:]], task.X[order[:shot]], task.y[order[:shot]]))
                    targets.append(task.y[order[shot:]])
        self.trees = HistGradientBoostingRegressor(random_state=0).fit(np.concatenate(rows), np.concatenate(targets))
        return self

    def _with(self, X, support, y):
        facts = np.concatenate([[y.mean(), y[-1], len(y)], support.mean(axis=0)])
        return np.column_stack([X, np.tile(facts, (len(X), 1))])

    def answer(self, X, y, query):
        return self.trees.predict(self._with(query, X, y))


class RidgePerTask:
    """Ridge regression on the task's own rows alone; its mean where there is one row."""

    def fit(self, tasks):
        self.scale = StandardScaler().fit(tasks.X)
        return self

    def answer(self, X, y, query):
        if len(X) < 3:
            return np.full(len(query), y.mean())
        ridge = RidgeCV(np.logspace(-2, 3, 11)).fit(self.scale.transform(X), y)
        return ridge.predict(self.scale.transform(query))


class PooledGP:
    """A Gaussian process on all rows, with a column a task; the size of these columns by the marginal likelihood."""

    def fit(self, tasks):
        self.scale, self.mean, self.sd = StandardScaler().fit(tasks.X), tasks.y.mean(), tasks.y.std()
        keep = np.random.default_rng(0).permutation(len(tasks.X))[:600]
        self.n = len(tasks)
        self.codes = np.eye(self.n + 1)[np.repeat(np.arange(self.n), tasks.sizes)[keep]]
        self.X, self.y = self.scale.transform(tasks.X[keep]), (tasks.y[keep] - self.mean) / self.sd
        best = -np.inf
        for size in (0.3, 1.0, 3.0):
            kernel = ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1)
            process = GaussianProcessRegressor(kernel).fit(np.hstack([self.X, size * self.codes]), self.y)
            if process.log_marginal_likelihood_value_ > best:
                best, self.size, self.kernel = process.log_marginal_likelihood_value_, size, process.kernel_
        return self

    def answer(self, X, y, query):
        rows = [self._coded(X), self._coded(query)]
        known = np.hstack([self.X, self.size * self.codes])
        process = GaussianProcessRegressor(self.kernel, optimizer=None)
        process.fit(np.vstack([known, rows[0]]), np.concatenate([self.y, (y - self.mean) / self.sd]))
        return self.mean + self.sd * process.predict(rows[1])

    def _coded(self, X):
        code = self.size * np.eye(self.n + 1)[[self.n]]
        return np.hstack([self.scale.transform(X), np.tile(code, (len(X), 1))])


BASELINES = {"pooled boosting": PooledBoosting, "ridge a task": RidgePerTask, "pooled GP": PooledGP}


def errors_of(answer, tasks, left_out, seed):
    """Return mean squared errors, by number of rows, of each left-out task."""
    result = {}
    for shot in SHOTS:
        values = []
        for i in left_out:
            task = tasks[int(i)]
            if len(task) < shot + 2:
                continue
            rng = np.random.default_rng([seed, shot, int(i)])
            for _ in range(3 if len(tasks) < 30 else 1):
                order = rng.permutation(len(task))
                few, rest = order[:shot], order[shot : shot + MOST_QUERY]
                values.append(float(np.mean((answer(task.X[few], task.y[few], task.X[rest]) - task.y[rest]) ** 2)))
        result[shot] = values
    return result


def one_fold(name, tasks, training, left_out, seed):
    """Return the errors and seconds of all methods, and what the default chose."""
    learned, out = tasks[training], {}
    for baseline, kind in BASELINES.items():
        started = time.process_time()
        fitted = kind().fit(learned)
        out[baseline] = {"errors": errors_of(fitted.answer, tasks, left_out, seed)}
        out[baseline]["seconds"] = time.process_time() - started
    started = time.process_time()
    model = AutoMetaRegressor(random_state=seed).fit(learned)
    seconds = time.process_time() - started
    errors = errors_of(lambda X, y, query: model.adapt(X, y).predict(query), tasks, left_out, seed)
    out["default"] = {"errors": errors, "seconds": seconds, "weights": model.weights_, "choice": model.choice_}
    # the seed that the default gives its candidates
    same = int(check_random_state(seed).randint(2**31 - 1))
    for candidate in default_candidates(learned, "random", same):
        if candidate.name not in model.table_.index[model.table_["status"] == "compared"]:
            continue
        started = time.process_time()
        fixed = clone(candidate.estimator).fit(learned)
        out[f"fixed: {candidate.name}"] = {
            "errors": errors_of(lambda X, y, query, m=fixed: m.adapt(X, y).predict(query), tasks, left_out, seed),
            "seconds": time.process_time() - started,
        }
    return out


def kept(path, name, make, seed):
    """Return the results of a collection, computed fold by fold where they are not in the file."""
    done = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    of_name = {entry["fold"]: entry for entry in done if entry["collection"] == name and entry["seed"] == seed}
    tasks = make(np.random.default_rng([seed, len(name)]))
    order = np.random.default_rng(seed).permutation(len(tasks))
    for fold, left_out in enumerate(np.array_split(order, FOLDS)):
        if fold in of_name:
            continue
        training = np.setdiff1d(order, left_out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = one_fold(name, tasks, training, np.sort(left_out), seed)
        of_name[fold] = {"collection": name, "seed": seed, "fold": fold, "tasks": len(tasks), "results": results}
        with path.open("a") as file:
            file.write(json.dumps(of_name[fold]) + "\n")
    return [of_name[fold] for fold in range(FOLDS)]


def summary(entries):
    """Return root mean squared errors by method and number of rows, over the tasks of all folds."""
    methods = set.intersection(*(set(entry["results"]) for entry in entries))
    table = {}
    for method in sorted(methods):
        squares = [
            [value for entry in entries for value in entry["results"][method]["errors"][str(shot)]] for shot in SHOTS
        ]
        table[method] = np.array([np.sqrt(np.mean(values)) if values else np.nan for values in squares])
    return table


def ratio(one, other):
    """Return the geometric mean of the ratio of errors over the numbers of rows that both have."""
    return float(np.exp(np.nanmean(np.log(one / other))))


def main(arguments):
    torch.set_num_threads(1)
    print(describe())
    regrets, lines = {}, []
    for name in arguments.only or COLLECTIONS:
        try:
            entries = kept(arguments.output, name, COLLECTIONS[name], arguments.seed)
        except (OSError, LookupError) as error:
            print(f"{name}: skipped: {error}")
            continue
        entries = [json.loads(json.dumps(entry)) for entry in entries]
        table = summary(entries)
        fixed = {method: errors for method, errors in table.items() if method.startswith("fixed: ")}
        best = min(fixed, key=lambda method: ratio(fixed[method], table["default"]))
        regret, n_tasks = ratio(table["default"], fixed[best]), entries[0]["tasks"]
        regrets[name] = regret, n_tasks
        others = " | ".join(f"{ratio(table['default'], table[baseline]):.3f}" for baseline in BASELINES)
        seconds = np.mean([entry["results"]["default"]["seconds"] for entry in entries])
        chosen = best.removeprefix("fixed: ")
        lines.append(f"| {name} | {n_tasks} | {regret:.3f} | {chosen} | {others} | {seconds:.0f} |")
        print(f"\n{name}: {n_tasks} tasks; regret {regret:.3f} against {chosen}")
        for method, errors in table.items():
            seconds = np.mean([entry["results"][method]["seconds"] for entry in entries])
            shown = " ".join(f"{value:9.4g}" for value in errors)
            print(f"  {method:28} {shown}   {ratio(errors, table['default']):6.3f} of the default's   {seconds:6.1f} s")
        for entry in entries:
            print(f"    fold {entry['fold']}: {entry['results']['default']['choice']}")
    if not lines:
        return
    print("\n| collection | tasks | regret | best fixed | pooled boosting | ridge a task | pooled GP | CPU s |")
    print("|---|---|---|---|---|---|---|---|\n" + "\n".join(lines))
    for least in (1, 30):
        values = np.array([regret for regret, n_tasks in regrets.values() if n_tasks >= least])
        if len(values):
            mean = np.exp(np.log(values).mean())
            print(f"{len(values)} collections of {least} tasks or more: mean {mean:.3f}, worst {values.max():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("regret.jsonl"), help="file of results")
    parser.add_argument("--only", nargs="*", choices=list(COLLECTIONS), help="collections")
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
