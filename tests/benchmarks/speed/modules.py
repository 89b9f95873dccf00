"""CPU seconds of a default fit of recurrent networks and attention: torch's own layers, and as metaest runs them.

python tests/benchmarks/speed/modules.py

A subclass of a recurrent layer keeps torch's own forward pass, which tasks are looped over. The time of
its 1,000 meta-steps is extrapolated from 10.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from metaest import MAMLRegressor

sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
from machine import describe

N_TASKS = 30
N_ROWS = 20
N_STEPS = 10
UNITS = 16


class TorchGRU(nn.GRU):
    """As torch runs it."""


class TorchLSTM(nn.LSTM):
    """As torch runs it."""


class Recurrent(nn.Module):
    """A layer over the columns, and a linear one on its last output."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer(1, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, 1)

    def forward(self, X):
        return self.head(self.layer(X[..., None])[0][:, -1])


class Attention(nn.Module):
    """One encoder layer over the columns, and a linear one on all of its outputs."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(1, UNITS)
        self.layer = nn.TransformerEncoderLayer(UNITS, 4, 2 * UNITS, dropout=0.0, batch_first=True)
        self.head = nn.Linear(UNITS * N_STEPS, 1)

    def forward(self, X):
        return self.head(self.layer(self.enter(X[..., None])).flatten(1))


def make_tasks():
    """Return random walks whose last value counts by a factor of the task's own."""
    rng = np.random.default_rng(0)
    tasks = []
    for factor in rng.normal(size=N_TASKS):
        X = 0.3 * rng.normal(size=(N_ROWS, N_STEPS)).cumsum(axis=1)
        tasks.append((X, factor * X[:, -1] + X.mean(axis=1) + 0.1 * rng.normal(size=N_ROWS)))
    return tasks


def seconds(module, tasks, max_iter):
    """Return the CPU seconds of a fit, and the model."""
    torch.manual_seed(0)
    started = time.process_time()
    model = MAMLRegressor(module=module(), max_iter=max_iter, random_state=0).fit(tasks)
    return time.process_time() - started, model


def main():
    torch.set_num_threads(1)
    print(describe())
    tasks = make_tasks()
    print(f"\n{N_TASKS} tasks of {N_ROWS} sequences of {N_STEPS} steps, {UNITS} units; 1,000 meta-steps\n")
    print(f"{'':24} {'CPU s':>7}   evaluated")
    for name, layer in (("GRU, torch's own", TorchGRU), ("LSTM, torch's own", TorchLSTM)):
        short, _ = seconds(lambda layer=layer: Recurrent(layer), tasks, 2)
        long, model = seconds(lambda layer=layer: Recurrent(layer), tasks, 12)
        print(f"{name:24} {100 * (long - short):7.0f}   {model.batching_}, extrapolated")
    for name, module in (
        ("GRU", lambda: Recurrent(nn.GRU)),
        ("LSTM", lambda: Recurrent(nn.LSTM)),
        ("TransformerEncoderLayer", Attention),
    ):
        spent, model = seconds(module, tasks, 1000)
        print(f"{name:24} {spent:7.0f}   {model.batching_}, {'compiled' if model.compiled_ else 'not compiled'}")


if __name__ == "__main__":
    main()
