"""What is timed: tasks, settings, and the same model for every library."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from metaest import TaskSet


class JMAK(nn.Module):
    """Conversion after some time; logarithms of rate and exponent are the parameters."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(-1.0))
        self.exponent = nn.Parameter(torch.tensor(0.7))

    def forward(self, X):
        return 1 - torch.exp(-torch.exp(self.rate) * X ** torch.exp(self.exponent))


@dataclass(frozen=True)
class Workload:
    """Meta-steps of one kind.

    Attributes
    ----------
    name : str
    width : int
        Of the two hidden layers; 0 for the JMAK equation.
    steps : int
        Inner steps.
    n_tasks, n_rows : int
        Tasks a meta-step, and rows of support and of query each.
    inner_lr : float
    """

    name: str
    width: int
    steps: int
    n_tasks: int = 25
    n_rows: int = 10
    inner_lr: float = 0.01

    def module(self):
        """A network with its initial weights."""
        torch.manual_seed(0)
        if not self.width:
            return JMAK()
        return nn.Sequential(
            nn.Linear(1, self.width), nn.ReLU(), nn.Linear(self.width, self.width), nn.ReLU(), nn.Linear(self.width, 1)
        )

    @staticmethod
    def loss(prediction, y):
        """Return the mean squared error."""
        return nn.functional.mse_loss(prediction, y)

    @staticmethod
    def targets(tasks):
        """Return targets of tasks as the loss wants them."""
        return torch.tensor(np.asarray(tasks.y))[:, None]

    def tasks(self, n=1000):
        """Tasks of twice n_rows rows."""
        rng = np.random.default_rng(0)
        X = rng.uniform(0.1, 3, (n, 2 * self.n_rows, 1)).astype("float32")
        if self.width:
            amplitude, phase = rng.uniform(0.1, 5, (n, 1)), rng.uniform(0, np.pi, (n, 1))
            y = amplitude * np.sin(3 * X[..., 0] + phase)
        else:
            rate, exponent = rng.uniform(0.2, 1, (n, 1)), rng.uniform(1, 3, (n, 1))
            y = 1 - np.exp(-rate * X[..., 0] ** exponent)
        return TaskSet(list(zip(X, y.astype("float32"), strict=True)))


WORKLOADS = [
    Workload("W1, 1 step", 40, 1),
    Workload("W1, 5 steps", 40, 5),
    Workload("W3, 5 steps", 0, 5, 64, 5, 0.1),
    Workload("width 64, 1 step", 64, 1),
    Workload("width 64, 5 steps", 64, 5),
    Workload("width 128, 1 step", 128, 1),
    Workload("width 128, 5 steps", 128, 5),
    Workload("width 256, 1 step", 256, 1),
    Workload("width 256, 5 steps", 256, 5),
]
