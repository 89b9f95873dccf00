"""The sinusoid benchmark of the literature, 5-shot, exact and first-order.

Amplitude 0.1 to 5, phase 0 to pi, frequency 1, x in [-5, 5]; a network of two hidden layers of 40 relu units; ONE inner
step of rate 0.01 on 5 rows; 25 tasks a meta-step; Adam. The mean squared error is taken over 2,000 test tasks with 100
rows each besides the 5 support rows.

    python docs/benchmarks/sinusoid.py --steps 60000
"""

import argparse
import time

import numpy as np
import torch
from machine import describe

from metaest import MAMLRegressor
from metaest_datasets import make_sinusoids

SHOTS, N_TRAIN, N_TEST, N_QUERY = 5, 100_000, 2_000, 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--kinds", nargs="+", default=["exact", "first-order"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    training = make_sinusoids(N_TRAIN, 2 * SHOTS, random_state=0)
    test = make_sinusoids(N_TEST, SHOTS + N_QUERY, random_state=1)
    print(f"\n{'meta-gradient':14} {'before':>8} {'after':>8} {'95 % interval':>18} {'steps/s':>8} {'fit, s':>8}")
    for kind in arguments.kinds:
        started = time.perf_counter()
        model = MAMLRegressor(
            hidden_layer_sizes=(40, 40),
            activation="relu",
            inner_steps=1,
            inner_lr=0.01,
            meta_gradient=kind,
            support_size=SHOTS,
            meta_lr=0.001,
            meta_batch_size=25,
            max_iter=arguments.steps,
            alpha=0.0,
            max_grad_norm=None,
            standardize=False,
            random_state=0,
        ).fit(training)
        seconds = time.perf_counter() - started
        errors = np.array([_errors(model, task) for task in test])
        (before, after), half = errors.mean(axis=0), 1.96 * errors[:, 1].std(ddof=1) / np.sqrt(N_TEST)
        print(
            f"{kind:14} {before:8.3f} {after:8.3f} {after - half:8.3f} to {after + half:6.3f} "
            f"{arguments.steps / seconds:8.0f} {seconds:8.0f}",
            flush=True,
        )


def _errors(model, task):
    X, y = task.X[SHOTS:], task.y[SHOTS:]
    adapted = model.adapt(task.X[:SHOTS], task.y[:SHOTS])
    return [np.square(predictor.predict(X) - y).mean() for predictor in (model, adapted)]


if __name__ == "__main__":
    main()
