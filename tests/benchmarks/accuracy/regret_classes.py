"""Regret of the default for classes: AutoMetaClassifier beside each of its candidates, on collections of tasks.

A third of the tasks is left out; a method is fitted on the others, adapted to rows of each left-out task (1, 3 and 5 of
a task where labels are shared, 1 and 3 of each class where they are a task's own), and judged on its other rows by the
Brier score. Every choice is made on the tasks fitted on. The regret is the geometric mean, over numbers of rows, of the
default's Brier score over that of the best fixed candidate.

    python tests/benchmarks/accuracy/regret_classes.py
"""

import argparse
import time
import warnings

import numpy as np
import torch
from machine import describe
from sklearn.datasets import load_digits

from metaest import AutoMetaClassifier, TaskSet
from metaest.selection.answers import fitted
from metaest.selection.class_candidates import default_class_candidates
from metaest.selection.episodes import episodes
from metaest.selection.labels import Labels
from metaest_datasets import fetch_perovskite_table

FEATURES = ["r_A", "r_B", "n_A", "n_B", "chi_A", "chi_B", "t", "A to X", "B to X"]


def shifts(rng, n=60, rows=30):
    """Three Gaussian classes whose means are moved by the task."""
    centres, y = rng.standard_normal((3, 6)), np.arange(rows) % 3
    moved = [centres + 0.7 * rng.standard_normal(centres.shape) for _ in range(n)]
    return TaskSet([(own[y] + rng.standard_normal((rows, 6)), y) for own in moved])


def logistic(rng, n=120, rows=30, columns=8):
    """Two classes by a logistic regression whose coefficients have two directions."""
    W = 1.5 * rng.standard_normal((2, columns)) / 2
    tasks = []
    for _ in range(n):
        X = rng.standard_normal((rows, columns))
        score = X @ (rng.standard_normal(2) @ W) + 1.5 * rng.standard_normal() + 2 * np.sin(2 * X[:, 0])
        tasks.append((X, np.where(score + rng.logistic(size=rows) > 0, "yes", "no")))
    return TaskSet(tasks)


def digits(rng, n=60, rows=8):
    """Three of ten handwritten digits, in a new order of labels for each task; new tasks have four other digits."""
    X, y = load_digits(return_X_y=True)
    tasks = []
    for i in range(n):
        chosen = rng.choice(np.arange(6) if i < 2 * n // 3 else np.arange(6, 10), 3, replace=False)
        numbers = np.concatenate([rng.choice(np.flatnonzero(y == k), rows, replace=False) for k in chosen])
        tasks.append((X[numbers], np.repeat(rng.permutation(3), rows)))
    return TaskSet(tasks)


def perovskites(rng):
    """Perovskite or not, a task an anion and an oxidation state of A."""
    table = fetch_perovskite_table()
    table["A to X"], table["B to X"] = table["r_A"] / table["r_X"], table["r_B"] / table["r_X"]
    groups = [part for _, part in table.groupby(["X", "n_A"]) if len(part) >= 8]
    tasks = [(part[FEATURES].to_numpy(float), part["perovskite"].to_numpy().astype(int)) for part in groups]
    return TaskSet([tasks[i] for i in rng.permutation(len(tasks))])


# whether labels mean the same in every task
COLLECTIONS = {
    "shifts": (shifts, True),
    "logistic": (logistic, True),
    "digits": (digits, False),
    "perovskites": (perovskites, True),
}


def scores(labels, model, tasks, numbers, shots):
    """Return Brier scores by number of rows, and accuracies."""
    brier, right = [], []
    for episode in episodes(labels, tasks, numbers, shots, "random", len(numbers), 1):
        truth = labels.truth(episode.support, episode.query)
        p = labels.predictions("it", model, episode.support, episode.query)
        brier.append((episode.shot, ((p - truth) ** 2).sum(axis=1).mean()))
        right.append((episode.shot, (p.argmax(axis=1) == truth.argmax(axis=1)).mean()))
    return [np.array([np.mean([v for at, v in pairs if at == shot]) for shot in shots]) for pairs in (brier, right)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(COLLECTIONS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(describe())
    print("| collection | tasks | regret | best fixed | its Brier scores | of the default | accuracy | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    regrets, notes = [], []
    for name in args.only:
        make, shared = COLLECTIONS[name]
        tasks = make(np.random.default_rng(args.seed))
        n, shots = len(tasks), [1, 3, 5] if shared else [1, 3]
        training, new = tasks[: 2 * n // 3], np.arange(2 * n // 3, n)
        labels, started = Labels.of(tasks, shared), time.process_time()
        default = AutoMetaClassifier(shots=shots, shared_labels=shared, random_state=0).fit(training)
        seconds = time.process_time() - started
        ours, accuracy = scores(labels, default, tasks, new, shots)
        fixed = {}
        for candidate in default_class_candidates(training, Labels.of(training, shared), "random", 0):
            model = default.models_.get(candidate.name) or fitted(candidate.name, candidate.estimator, training)
            fixed[candidate.name] = scores(labels, model, tasks, new, shots)[0]
        best = min(fixed, key=lambda it: np.log(fixed[it]).mean())
        regrets.append(np.exp(np.log(ours / fixed[best]).mean()))
        cells = [" ".join(f"{value:.3f}" for value in row) for row in (fixed[best], ours, accuracy)]
        print(f"| {name} | {n} | {regrets[-1]:.3f} | {best} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
        notes.append(f"{name}: {default.choice_}; " + ", ".join(f"{it} {fixed[it].round(3)}" for it in fixed))
    print("\n" + "\n".join(notes))
    print(f"geometric mean of the regret {np.exp(np.log(regrets).mean()):.3f}, worst {max(regrets):.3f}")


if __name__ == "__main__":
    main()
