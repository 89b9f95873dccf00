"""Perovskite or not, with a few labels of an anion family never seen.

Each anion (O, Cl, F, I, Br) is left out in turn; models learn from the four others, get 4, 8 or 16 labels of the one
left out, drawn at random, and are judged by balanced accuracy on its other compositions, over 50 draws. The mean over
the five anions is printed. Goldschmidt's t and tau need no labels; tau was fitted by its authors on 460 of the 576.

Features: ratios of the radii, t, the radii, oxidation states and electronegativities of A and B. What identifies the
family (radius and electronegativity of X) is left out.

Settings of each method are chosen anew for each anion left out, among those of GRID (LOGISTIC for the regressions), by
leaving out each of the four others in turn and scoring it likewise, over 10 draws: no label of an anion has a say in
the settings that are judged by it.

    python tests/benchmarks/accuracy/perovskites.py
"""

import argparse
import time
import warnings
from itertools import combinations, product

import numpy as np
import torch
from machine import describe
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaest import MAMLClassifier, TaskSet
from metaest_datasets import fetch_perovskite_table

SIZES, N_DRAWS, N_TUNING = (4, 8, 16), 50, 10
FEATURES = ["r_A", "r_B", "n_A", "n_B", "chi_A", "chi_B", "t", "A to X", "B to X"]
COMMON = {"support_size": (4, 16), "shared_labels": True, "balanced": True, "random_state": 0}
NETWORK = {"max_iter": (150, 600), "alpha": (30.0, 300.0)}
GRID = {
    "MAML": {"inner_lr": (0.05, 0.2), **NETWORK},
    "MAML, weights learned": {"class_weight": ("learned",), "inner_lr": (0.05, 0.2), **NETWORK},
    "ANIL": {"adapt_layers": ("head",), "inner_lr": (0.05, 0.2), **NETWORK},
    "R2D2": {"inner_solver": ("ridge",), **NETWORK},
    "pooled network": {"support_size": (0,), "inner_steps": (0,), **NETWORK},
}
STRENGTHS = {"C": (0.01, 0.1, 1.0, 10.0)}
LOGISTIC = {"logistic, others and support": STRENGTHS, "logistic, support alone": STRENGTHS}


class Logistic:
    """Logistic regression on a task's support, and on the training tasks' rows if they are given."""

    def __init__(self, tasks, C):
        self.tasks, self.C = tasks, C

    def adapt(self, X, y):
        if self.tasks is not None:
            X, y = np.concatenate([self.tasks.X, X]), np.concatenate([self.tasks.y, y])
        if len(np.unique(y)) < 2:
            return Always(y[0])
        return make_pipeline(
            StandardScaler(), LogisticRegression(C=self.C, class_weight="balanced", max_iter=1000)
        ).fit(X, y)


class Always:
    """The one label of a support with one class."""

    def __init__(self, label):
        self.label = label

    def predict(self, X):
        return np.full(len(X), self.label)


class Rule:
    """Goldschmidt's t or tau: what it says of each composition of the task, whatever the support."""

    def __init__(self, said):
        self.said = said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(describe())
    table = fetch_perovskite_table()
    table["A to X"], table["B to X"] = table["r_A"] / table["r_X"], table["r_B"] / table["r_X"]
    tasks = TaskSet.from_frame(table, task="X", features=FEATURES, target="perovskite")
    other = ~table["is_train"].to_numpy()
    truth = table["perovskite"].to_numpy()
    for name in ("t", "tau"):
        right = table[f"{name}_predicts"].to_numpy() == truth
        print(
            f"{name}: accuracy {100 * right.mean():.1f} % on all, {100 * right[other].mean():.1f} % on the "
            f"{other.sum()} tau was not fitted on"
        )
    print(f"\nbalanced accuracy, %{'':13} " + " ".join(f"{size:>3} labels" for size in SIZES) + "   CPU minutes")
    for name in ("t", "tau"):
        _report(name, [_scores(Rule(_own(table, task)[f"{name}_predicts"]), task, N_DRAWS) for task in tasks])
    for name, grid in (LOGISTIC | GRID).items():
        started = time.process_time()
        settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        chosen = _chosen(name, settings, tasks)
        scores = [
            _scores(_fitted(name, settings[chosen[i]], _without(tasks, i)), tasks[i], N_DRAWS)
            for i in range(len(tasks))
        ]
        _report(name, scores, (time.process_time() - started) / 60)
        free = [key for key, values in grid.items() if len(values) > 1]
        said = [f"{tasks[i].name} " + " ".join(f"{settings[chosen[i]][key]:g}" for key in free) for i in range(5)]
        print(f"    {', '.join(free)}: {'; '.join(said)}", flush=True)


def _own(table, task):
    return {name: table.loc[table["X"] == task.name, name].to_numpy() for name in table}


def _without(tasks, *left_out):
    return tasks[np.delete(np.arange(len(tasks)), left_out)]


def _fitted(name, settings, training):
    if name in LOGISTIC:
        return Logistic(training if "others" in name else None, **settings)
    return MAMLClassifier(**{**COMMON, **settings}).fit(training)


def _chosen(name, settings, tasks):
    """Return for each task left out which settings are best on the others, each predicted without both."""
    scores = np.zeros((len(settings), len(tasks)))
    for which, own in enumerate(settings):
        for pair in combinations(range(len(tasks)), 2):
            model = _fitted(name, own, _without(tasks, *pair))
            for left_out, judged in (pair, pair[::-1]):
                scores[which, left_out] += _scores(model, tasks[judged], N_TUNING).mean()
    return scores.argmax(axis=0)


def _scores(model, task, n_draws):
    """Return the balanced accuracy on a task, the mean over draws, for each number of labels."""
    means = []
    for size in SIZES:
        rng = np.random.default_rng([size, n_draws])
        scores = []
        for _ in range(n_draws):
            support = rng.permutation(len(task))[:size]
            query = np.setdiff1d(np.arange(len(task)), support)
            if isinstance(model, Rule):
                said = model.said[query]
            else:
                said = model.adapt(task.X[support], task.y[support]).predict(task.X[query])
            scores.append(balanced_accuracy_score(task.y[query], said))
        means.append(np.mean(scores))
    return np.array(means)


def _report(name, scores, minutes=None):
    cells = " ".join(f"{100 * cell:10.1f}" for cell in np.mean(scores, axis=0))
    print(f"{name:32} {cells}" + (f" {minutes:13.1f}" if minutes is not None else ""), flush=True)


if __name__ == "__main__":
    main()
