"""Median latency of adapting to one patient, and of predicting, through the public calls.

python tests/benchmarks/speed/latency.py
"""

import sys
from pathlib import Path

import numpy as np
import torch
from timing import seconds

from metaest import MAMLRegressor
from metaest_datasets import load_theophylline

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

REPEATS = 2000


def microseconds(call):
    """Call often after a warm-up and return the 10th, 50th and 90th percentile."""
    for _ in range(100):
        call()
    return np.percentile(1e6 * seconds(call, REPEATS), [10, 50, 90])


def main():
    torch.set_num_threads(1)
    print(describe())
    tasks = load_theophylline()
    patient = tasks[11]
    print(f"\n{'':34} {'10 %':>8} {'median':>8} {'90 %':>8}   microseconds, {REPEATS} calls")
    for sizes in ((32, 32, 32), (40, 40)):
        model = MAMLRegressor(hidden_layer_sizes=sizes, max_iter=20, random_state=0).fit(tasks[:11])
        X, y = patient.X[:5], patient.y[:5]
        adapted = model.adapt(X, y)
        calls = {
            f"adapt, 5 rows, 5 steps, {sizes}": lambda model=model, X=X, y=y: model.adapt(X, y),
            f"predict, 11 rows, {sizes}": lambda adapted=adapted: adapted.predict(patient.X),
        }
        for name, call in calls.items():
            print(f"{name:34} " + " ".join(f"{value:8.0f}" for value in microseconds(call)))


if __name__ == "__main__":
    main()
