"""Equations, hierarchical models and simulated tasks the tests share."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from metaest import Parameter, TaskSet
from metaest.estimators.equations import structures
from metaest.functional import (
    Equation,
    HierarchicalModel,
    Noise,
    Observations,
    PopulationParameters,
    Transforms,
)
from metaest.functional.equations.hierarchical import Design

INF = float("inf")


@contextmanager
def averaging():
    """Let fits with ``noise="auto"`` average additive and power noise, whatever the rule says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structures, "FOLDS", 2)
        patch.setattr(structures, "NOISES", ("additive", "power"))
        patch.setattr(structures, "_near_best", lambda losses: np.arange(len(losses)))
        patch.setattr(structures, "_is_better", lambda saved: True)
        yield


def line(X, a, b):
    return a + b * X[:, 0]


def decay(X, k, a):
    return a * torch.exp(-k * X[:, 0])


def avrami(X, k, n):
    return 1 - torch.exp(-((k * X[:, 0]) ** n))


def absorption(X, Ke, Ka, Cl):
    """First-order absorption and elimination of a dose X[:, 1]."""
    t, dose = X[:, 0], X[:, 1]
    return dose * Ke * Ka / Cl / (Ka - Ke) * (torch.exp(-Ke * t) - torch.exp(-Ka * t))


def wave(X, amplitude, phase):
    return amplitude * torch.sin(X[:, 0] + phase)


def cumulated(X, k, a):
    """A sum over the rows before: not an equation of single rows."""
    return a * torch.cumsum(torch.exp(-k * X[:, 0]), dim=0)


def branching(X, k, a):
    """A branch on the value of a constant: neither for vectors of constants nor for vmap."""
    return a * torch.exp(-k * X[:, 0]) if k > 0 else a * X[:, 0]


# constants of avrami, rates and exponents of its tasks being near 1 and 2
AVRAMI = {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}
THEOPHYLLINE = {"Ke": Parameter(0.1, lower=0), "Ka": Parameter(1.5, lower=0), "Cl": Parameter(0.04, lower=0)}
EQUATIONS = {
    "line": (line, ("a", "b"), (-INF, -INF), (INF, INF)),
    "decay": (decay, ("k", "a"), (0.0, 0.0), (INF, 5.0)),
    "avrami": (avrami, ("k", "n"), (0.0, 0.0), (INF, INF)),
    "cumulated": (cumulated, ("k", "a"), (0.0, -INF), (INF, INF)),
}


def model_of(name, noise="additive", mode=None):
    function, names, lower, upper = EQUATIONS[name]
    mode = mode or ("vmap" if name == "cumulated" else "rows")
    return HierarchicalModel(Equation(function, names, mode), Transforms(lower, upper), Noise(noise, 0.01))


def observations(sizes=(3, 1, 5, 2, 4), seed=0):
    """Ragged tasks, padded with their first row."""
    generator = torch.Generator().manual_seed(seed)
    rows, tasks = max(sizes), len(sizes)
    X = 0.2 + 2 * torch.rand(tasks, rows, 1, generator=generator, dtype=torch.float64)
    y = torch.rand(tasks, rows, generator=generator, dtype=torch.float64)
    mask = (torch.arange(rows) < torch.tensor(sizes)[:, None]).double()
    X = torch.where(mask[..., None] > 0, X, X[:, :1])
    y = torch.where(mask > 0, y, y[:, :1])
    return Observations.stack(X, y, mask)


def population(noise="additive", random=2, coefficients=3):
    """Two constants, `random` of them varying, the first with a covariate."""
    beta = torch.tensor([-0.2, 0.3, 0.15], dtype=torch.float64)[:coefficients]
    factor = torch.tensor([[0.4, 0.0], [0.1, 0.3]], dtype=torch.float64)[:, :random]
    of_noise = {"combined": [-1.0, -1.5], "combined1": [-1.0, -1.5], "power": [-1.0, 0.3]}.get(noise, [-1.0])
    log_sigma = torch.tensor(of_noise, dtype=torch.float64)
    return PopulationParameters(beta, factor, log_sigma)


def design(tasks=5, coefficients=3):
    z = torch.sin(torch.arange(1.0, 1 + tasks).double())
    multiplier = torch.cat([torch.ones(2, tasks, dtype=torch.float64), z[None]])[:coefficients]
    return Design(torch.tensor([0, 1, 0])[:coefficients], multiplier)


def avrami_tasks(n_tasks, n_rows=5, seed=0, noise=0.02):
    """Curves with SD 0.3 of ln k and 0.2 of ln n, median k 1 and n 2; returns the true constants too."""
    rng = np.random.default_rng(seed)
    k = np.exp(0.3 * rng.standard_normal(n_tasks))
    n = 2 * np.exp(0.2 * rng.standard_normal(n_tasks))
    t = rng.uniform(0.05, 2.5, (n_tasks, n_rows))
    y = 1 - np.exp(-((k[:, None] * t) ** n[:, None])) + noise * rng.standard_normal(t.shape)
    names = np.repeat([f"curve {i}" for i in range(n_tasks)], n_rows)
    tasks = TaskSet.from_arrays(t.reshape(-1, 1), y.reshape(-1), names, feature_names=["t"])
    return tasks, k, n


def assert_slopes_are_differences(loss, people):
    """Compare the gradient of ``loss(*population)`` with differences, but for zeros of the factor, which stay zero."""
    leaves = [part.clone().requires_grad_() for part in people]
    gradients = torch.autograd.grad(loss(*leaves), leaves, materialize_grads=True)
    for i, part in enumerate(people):
        for j in range(part.numel()):
            if i == 1 and float(part.reshape(-1)[j]) == 0:
                continue
            ends = []
            for sign in (1, -1):
                moved = [value.clone() for value in people]
                moved[i].view(-1)[j] += sign * 1e-5
                ends.append(float(loss(*moved).detach()))
            expected = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(float(gradients[i].reshape(-1)[j]), expected, rtol=2e-5, atol=2e-7)
