"""Heads for classes in closed form, beside the evidence head of regression on indicators of classes.

Tasks of `regret_classes.py` whose labels mean the same in all tasks; a third is left out, adapted on 1, 3, 5 and 10 rows
each, and judged on the others: Brier scores. "evidence" is MAMLRegressor(inner_solver="evidence") with one target a
class, 0 or 1, whose predictions are projected onto the probabilities; it is what a classifier with that head would be.

    python tests/benchmarks/accuracy/class_heads.py
"""

import argparse
import warnings

import numpy as np
import torch
from machine import describe
from regret_classes import logistic, perovskites, shifts

from metaest import MAMLClassifier, MAMLRegressor, Task, TaskSet

SHOTS = (1, 3, 5, 10)
HEADS = {
    "gradient": {},
    "ridge": {"inner_solver": "ridge", "support_size": SHOTS[::3]},
    "bayes": {"inner_solver": "bayes", "support_size": SHOTS[::3]},
}


def on_simplex(values):
    """Return the nearest probabilities of each row, by Euclidean distance."""
    ordered = -np.sort(-values, axis=1)
    above = (np.cumsum(ordered, axis=1) - 1) / np.arange(1, values.shape[1] + 1)
    count = (ordered > above).sum(axis=1)
    return np.clip(values - above[np.arange(len(values)), count - 1][:, None], 0, None)


def indicators(tasks, classes):
    """Return the same tasks with one target a class."""
    return TaskSet([Task(task.name, task.X, (task.y[:, None] == classes).astype(float)) for task in tasks])


def probabilities(model, classes, X, y, query):
    """Return the probability of every class of all tasks, in the order of `classes`."""
    if isinstance(model, MAMLRegressor):
        return on_simplex(model.adapt(X, (y[:, None] == classes).astype(float)).predict(query))
    adapted = model.adapt(X, y)
    p = np.zeros((len(query), len(classes)))
    p[:, np.searchsorted(classes, adapted.classes_)] = adapted.predict_proba(query)
    return p


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(describe())
    print(f"| collection | head | {' | '.join(f'{shot} rows' for shot in SHOTS)} |\n|{'---|' * (2 + len(SHOTS))}")
    for make in (shifts, logistic, perovskites):
        tasks = make(np.random.default_rng(seed))
        classes, cut = np.unique(tasks.y), 2 * len(tasks) // 3
        models = {
            name: MAMLClassifier(shared_labels=True, random_state=0, **settings) for name, settings in HEADS.items()
        }
        models = {name: model.fit(tasks[:cut]) for name, model in models.items()}
        rank = min(16, max(1, cut // 3))
        evidence = MAMLRegressor(inner_solver="evidence", activation="silu", alpha=300, rank=rank, random_state=0)
        models["evidence"] = evidence.fit(indicators(tasks[:cut], classes))
        for name, model in models.items():
            scores = []
            for shot in SHOTS:
                rng, of_shot = np.random.default_rng([seed, shot]), []
                for task in tasks[cut:]:
                    order = rng.permutation(len(task))
                    if len(task) < shot + 2:
                        continue
                    few, rest = order[:shot], order[shot:]
                    p = probabilities(model, classes, task.X[few], task.y[few], task.X[rest])
                    of_shot.append(np.mean(((p - (task.y[rest, None] == classes)) ** 2).sum(axis=1)))
                scores.append(np.mean(of_shot))
            print(f"| {make.__name__} | {name} | {' | '.join(f'{score:.3f}' for score in scores)} |", flush=True)


if __name__ == "__main__":
    main()
