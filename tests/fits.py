"""Small fits of every kind of estimator, which tests interrupt, repeat and count."""

import numpy as np
from torch import nn

from equations import THEOPHYLLINE, absorption, avrami_tasks
from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Task, TaskSet
from metaest_datasets import load_theophylline
from metaest_domains.kinetics import JMAKRegressor
from problems import ragged_tasks


class Dropping(nn.Module):
    """A module that draws from torch's generator in every step."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 1))

    def forward(self, X):
        return self.layers(X)


def dropping(n_features, n_targets):
    return Dropping()


def labelled(seed=0):
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(8):
        X = rng.standard_normal((8, 2))
        tasks.append(Task(i, X, np.where(X[:, 0] + 0.3 * X[:, 1] > np.median(X[:, 0]), "high", "low")))
    return TaskSet(tasks)


def markets(seed=0):
    rng = np.random.default_rng(seed)
    return TaskSet([Task(i, rng.standard_normal((60, 2)), rng.standard_normal(60)) for i in range(6)])


def ragged(seed=0):
    return ragged_tasks(seed=seed)


def curves(seed=0):
    return avrami_tasks(8, seed=seed)[0]


def patients(seed=0):
    """Half of theophylline's patients, with concentrations that depend on the seed."""
    tasks = load_theophylline()[:6]
    rng = np.random.default_rng(seed)
    return TaskSet([Task(own.name, own.X, own.y * np.exp(0.02 * rng.standard_normal(len(own.y)))) for own in tasks])


NETWORK = {"hidden_layer_sizes": (6,), "inner_steps": 2, "random_state": 0}
# a function that makes the estimator, and one that makes tasks of a seed
FITS = {
    "network": (lambda **own: MAMLRegressor(**{**NETWORK, "max_iter": 12, "compile": False, **own}), ragged),
    "compiled network": (lambda **own: MAMLRegressor(**{**NETWORK, "max_iter": 40, "compile": True, **own}), ragged),
    "module": (
        lambda **own: MAMLRegressor(**{**NETWORK, "module": dropping, "max_iter": 12, "compile": False, **own}),
        ragged,
    ),
    "classifier": (
        lambda **own: MAMLClassifier(**{**NETWORK, "max_iter": 12, "compile": False, **own}),
        labelled,
    ),
    "policy": (
        lambda **own: MAMLPolicy(
            **{**NETWORK, "support_size": 10, "query_size": 20, "max_iter": 12, "compile": False, **own}
        ),
        markets,
    ),
    "equation": (
        lambda **own: EquationRegressor(absorption, THEOPHYLLINE, **{"random_state": 0, "compile": False, **own}),
        patients,
    ),
    "compiled equation": (
        lambda **own: EquationRegressor(absorption, THEOPHYLLINE, **{"random_state": 0, "compile": True, **own}),
        patients,
    ),
    "query": (
        lambda **own: EquationRegressor(
            absorption, THEOPHYLLINE, **{"objective": "query", "n_episodes": 2, "random_state": 0, **own}
        ),
        patients,
    ),
    "descent": (
        lambda **own: EquationRegressor(
            absorption,
            THEOPHYLLINE,
            **{"objective": "query", "inner_solver": "gradient", "max_iter": 20, "random_state": 0, **own},
        ),
        patients,
    ),
    "JMAK": (lambda **own: JMAKRegressor(**{"random_state": 0, "compile": False, **own}), curves),
}
