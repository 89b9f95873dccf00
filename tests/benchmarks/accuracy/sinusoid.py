"""The sinusoid benchmark of the literature: every variant, trained on 5 rows, tested on 5, 10 and 20.

Amplitude 0.1 to 5, phase 0 to pi, x in [-5, 5], frequency 1 or uniform in [0.8, 1.2]; a network of two hidden layers of
40 relu units; 5 support and 10 query rows; 25 tasks a meta-step; Adam from 0.001; ONE inner step. With one step Reptile
is joint training, so that it is tried with five as well; iMAML needs more. The mean squared error is taken over 1,000
test tasks with 100 rows each besides the support rows.

MAML, FOMAML and Meta-SGD start from the rate 0.01 of the papers. Other methods have no agreed rate: it is the best of
four after 5,000 meta-steps, on 500 tasks drawn for that.

    python tests/benchmarks/accuracy/sinusoid.py --steps 60000 --frequency 1
    python tests/benchmarks/accuracy/sinusoid.py --steps 60000 --frequency 0.8 1.2
"""

import argparse
import time
import warnings

import numpy as np
import torch
from machine import describe
from sklearn.exceptions import ConvergenceWarning

from metaest import DivergenceError, MAMLRegressor, OvershootWarning
from metaest_datasets import make_sinusoids

SHOTS, QUERIES, N_TRAIN, N_TUNE, N_TEST, N_QUERY = 5, 10, 100_000, 500, 1_000, 100
TUNING_STEPS, TESTED = 5_000, (5, 10, 20)
RATES = (0.01, 0.03, 0.1, 0.3)
METHODS = {
    "MAML": ({}, (0.01,)),
    "FOMAML": ({"meta_gradient": "first-order"}, (0.01,)),
    "Reptile": ({"meta_gradient": "reptile"}, RATES),
    "Reptile, 5 steps": ({"meta_gradient": "reptile", "inner_steps": 5}, RATES),
    "iMAML, 16 steps": ({"meta_gradient": "implicit", "inner_steps": 16, "proximal": 1.0}, RATES),
    "ANIL": ({"adapt_layers": "head"}, RATES),
    "BOIL": ({"adapt_layers": "body"}, RATES),
    "Meta-SGD": ({"learn_inner_lr": "per-parameter"}, (0.01,)),
    "CAVIA, 4": ({"context_dim": 4}, (0.1, 0.3, 1.0, 3.0)),
    "R2D2": ({"inner_solver": "ridge"}, (0.01,)),
    "ALPaCA": ({"inner_solver": "bayes"}, (0.01,)),
    "evidence": ({"inner_solver": "evidence"}, (0.01,)),
}

SLOW = ("iMAML, 16 steps",)  # an hour: on request


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--frequency", type=float, nargs="+", default=[1.0])
    parser.add_argument("--methods", nargs="+", default=[m for m in METHODS if m not in SLOW])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", OvershootWarning)
    print(describe())
    frequency = arguments.frequency[0] if len(arguments.frequency) == 1 else tuple(arguments.frequency)
    draw = {"frequency": frequency}
    training = make_sinusoids(N_TRAIN, SHOTS + QUERIES, random_state=0, **draw)
    test = make_sinusoids(N_TEST, 20 + N_QUERY, random_state=1, **draw)
    fresh = make_sinusoids(N_TUNE, 20 + N_QUERY, random_state=2, **draw)
    print(
        f"frequency {frequency}, {arguments.steps} meta-steps; mean squared error (half width of the 95 % interval)\n"
    )
    print(
        f"{'':18} {'rate':>5} {'0 rows':>8} {'5 rows':>14} {'10 rows':>14} {'20 rows':>14} {'steps/s':>8}", flush=True
    )
    for method in arguments.methods:
        settings, rates = METHODS[method]
        rate = rates[0]
        if len(rates) > 1:
            rate = min(rates, key=lambda own: _tried(training, own, settings, fresh))
        started = time.perf_counter()
        model = _fit(training, arguments.steps, rate, settings)
        speed = arguments.steps / (time.perf_counter() - started)
        cells = []
        for shots in TESTED:
            errors = _errors(model, test, shots)
            cells.append(f"{errors.mean():6.3f} ({1.96 * errors.std(ddof=1) / np.sqrt(N_TEST):.3f})")
        zero = np.mean([np.square(model.predict(task.X[20:]) - task.y[20:]).mean() for task in test])
        print(f"{method:18} {rate:5g} {zero:8.3f} {' '.join(f'{cell:>14}' for cell in cells)} {speed:8.0f}", flush=True)


def _tried(training, rate, settings, fresh):
    try:
        return _errors(_fit(training, TUNING_STEPS, rate, settings), fresh, SHOTS).mean()
    except DivergenceError:
        return np.inf


def _fit(training, steps, rate, settings):
    own = {"inner_steps": 1, **settings}
    return MAMLRegressor(
        hidden_layer_sizes=(40, 40),
        activation="relu",
        inner_lr=rate,
        support_size=SHOTS,
        meta_lr=0.001,
        meta_batch_size=25,
        max_iter=steps,
        alpha=0.0,
        max_grad_norm=None,
        standardize=False,
        random_state=0,
        **own,
    ).fit(training)


def _errors(model, tasks, shots):
    return np.array(
        [
            np.square(model.adapt(task.X[:shots], task.y[:shots]).predict(task.X[20:]) - task.y[20:]).mean()
            for task in tasks
        ]
    )


if __name__ == "__main__":
    main()
