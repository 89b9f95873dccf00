"""Regret of the default for classes: AutoMetaClassifier beside each of its candidates, on collections of tasks.

A third of the tasks is left out; a method is fitted on the others, adapted to rows of each left-out task (1, 3 and 5 of
a task where labels are shared, 1 and 3 of each class where they are a task's own), and judged on its other rows by the
Brier score. Every choice is made on the tasks fitted on. The regret is the geometric mean, over numbers of rows, of the
default's Brier score over that of the best fixed candidate. A second table has the log loss and calibration of all.

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


# least probability of what is true in a log loss: one row that a candidate is sure of and wrong about would be all of it
LEAST = 1e-6
# whether labels mean the same in every task
COLLECTIONS = {
    "shifts": (shifts, True),
    "logistic": (logistic, True),
    "digits": (digits, False),
    "perovskites": (perovskites, True),
}


def answers(labels, model, tasks, numbers, shots):
    """Return probabilities and indicators of query rows, with the number of rows adapted on and the episode of each."""
    parts = []
    for i, episode in enumerate(episodes(labels, tasks, numbers, shots, "random", len(numbers), 1)):
        truth = labels.truth(episode.support, episode.query)
        p = labels.predictions("it", model, episode.support, episode.query)
        parts.append((p, truth, np.full(len(p), episode.shot), np.full(len(p), i)))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def by_shot(values, shot, episode, shots):
    """Return means over episodes of the means of their rows, by number of rows adapted on."""
    each = [np.mean([values[episode == i].mean() for i in np.unique(episode[shot == at])]) for at in shots]
    return np.array(each)


def brier(p, truth, shot, episode, shots):
    """Return Brier scores by number of rows adapted on."""
    return by_shot(((p - truth) ** 2).sum(axis=1), shot, episode, shots)


def log_loss(p, truth, shot, episode, shots):
    """Return logarithms of the probabilities of what is true, of LEAST at least, by number of rows adapted on."""
    return by_shot(-np.log((p * truth).sum(axis=1).clip(LEAST)), shot, episode, shots)


def calibration(p, truth):
    """Return the mean of the largest probability, the share that is right, and the expected calibration error.

    The latter is the mean over rows of the distance of both in ten bins of the largest probability.
    """
    top, right = p.max(axis=1), p.argmax(axis=1) == truth.argmax(axis=1)
    place = np.minimum((10 * top).astype(int), 9)
    away = [abs((top - right)[place == k].sum()) for k in range(10)]
    return top.mean(), right.mean(), sum(away) / len(top)


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
    regrets, notes, quality = [], [], []
    for name in args.only:
        make, shared = COLLECTIONS[name]
        tasks = make(np.random.default_rng(args.seed))
        n, shots = len(tasks), [1, 3, 5] if shared else [1, 3]
        training, new = tasks[: 2 * n // 3], np.arange(2 * n // 3, n)
        labels, started = Labels.of(tasks, shared), time.process_time()
        default = AutoMetaClassifier(shots=shots, shared_labels=shared, random_state=0).fit(training)
        seconds = time.process_time() - started
        models = {"default": default}
        for candidate in default_class_candidates(training, Labels.of(training, shared), "random", 0):
            model = default.models_.get(candidate.name) or fitted(candidate.name, candidate.estimator, training)
            models[candidate.name] = model
        said = {it: answers(labels, model, tasks, new, shots) for it, model in models.items()}
        scores = {it: brier(*of_one, shots) for it, of_one in said.items()}
        ours = scores.pop("default")
        best = min(scores, key=lambda it: np.log(scores[it]).mean())
        regrets.append(np.exp(np.log(ours / scores[best]).mean()))
        p, truth, shot, episode = said["default"]
        accuracy = by_shot(p.argmax(axis=1) == truth.argmax(axis=1), shot, episode, shots)
        cells = [" ".join(f"{value:.3f}" for value in row) for row in (scores[best], ours, accuracy)]
        print(f"| {name} | {n} | {regrets[-1]:.3f} | {best} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
        notes.append(f"{name}: {default.choice_}; " + ", ".join(f"{it} {scores[it].round(3)}" for it in scores))
        for it in said:
            row = f"{brier(*said[it], shots).mean():.3f} | {log_loss(*said[it], shots).mean():.3f}"
            said_of = " | ".join(f"{value:.3f}" for value in calibration(*said[it][:2]))
            quality.append(f"| {name} | {it} | {row} | {said_of} |")
    print("\n" + "\n".join(notes))
    print(f"geometric mean of the regret {np.exp(np.log(regrets).mean()):.3f}, worst {max(regrets):.3f}")
    print("\n| collection | | Brier score | log loss | largest probability | accuracy | calibration error |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(quality))


if __name__ == "__main__":
    main()
