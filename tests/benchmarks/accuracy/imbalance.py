"""Lopsided supports, balanced queries: does the balanced objective make up for the bias of its own learning signal?

Digits of scikit-learn: six of the ten for training, the four others for the test, in five draws of the six. A task has
four digits; each has 1 to 20 rows in the support, and in training as many again in the query, so that a training task
is as lopsided in the one as in the other. Test queries have 15 rows of each digit. Compared on the same test tasks: the
plain objective, the balanced one, and weights of classes in the support.

    python tests/benchmarks/accuracy/imbalance.py
"""

import argparse

import numpy as np
import torch
from machine import describe
from sklearn.datasets import load_digits

from metaest import MAMLClassifier, Task, TaskSet

N_WAY, MOST, N_QUERY, N_TRAIN, N_TEST, N_DRAWS = 4, 20, 15, 400, 200, 5
OBJECTIVES = {
    "plain": {},
    "balanced": {"balanced": True},
    "weights balanced": {"class_weight": "balanced"},
    "balanced, weights learned": {"balanced": True, "class_weight": "learned"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    print(f"{arguments.steps} meta-steps, {N_DRAWS} draws of digits, {N_TEST} test tasks each\n")
    scores = {name: [] for name in OBJECTIVES}
    for draw in range(N_DRAWS):
        digits = np.random.default_rng(draw).permutation(10)
        training = _tasks(digits[:6], N_TRAIN, None, draw)
        test = _tasks(digits[6:], N_TEST, N_QUERY, draw)
        for name, settings in OBJECTIVES.items():
            model = MAMLClassifier(
                max_iter=arguments.steps,
                shared_labels=False,
                standardize=False,
                scoring="balanced_accuracy",
                random_state=0,
                **settings,
            ).fit(training)
            scores[name].append(100 * model.task_scores(test).to_numpy())
    plain = np.concatenate(scores["plain"])
    print(f"{'':28} {'balanced accuracy':>18}   against plain, paired 95 % interval over tasks (over draws of digits)")
    for name, own in scores.items():
        each = np.concatenate(own)
        line = f"{name:28} {each.mean():16.2f} %"
        if name != "plain":
            gain, by_draw = (
                each - plain,
                np.array([a.mean() - b.mean() for a, b in zip(own, scores["plain"], strict=True)]),
            )
            over_tasks = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
            over_draws = 2.776 * by_draw.std(ddof=1) / np.sqrt(N_DRAWS)  # Student, four degrees of freedom
            line += f"   {gain.mean():+.2f} ± {over_tasks:.2f} (± {over_draws:.2f})"
        print(line, flush=True)


def _tasks(digits, n_tasks, n_query, seed):
    X, y = load_digits(return_X_y=True)
    X = X / 16 - 0.3
    rng = np.random.default_rng([seed, len(digits)])
    tasks = []
    for i in range(n_tasks):
        rows, support = [], []
        for digit in rng.choice(digits, N_WAY, replace=False):
            shots = int(rng.integers(1, MOST, endpoint=True))
            own = rng.permutation(np.flatnonzero(y == digit))[: shots + (n_query or shots)]
            support += range(len(rows), len(rows) + shots)
            rows += own.tolist()
        tasks.append(Task(i, X[rows], y[rows], support=support))
    return TaskSet(tasks)


if __name__ == "__main__":
    main()
