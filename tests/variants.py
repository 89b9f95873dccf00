"""Every published variant as settings of MAMLRegressor, and the problems they are tried on."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from metaest import MAMLRegressor, Task, TaskSet
from metaest_datasets import load_theophylline, make_linear_tasks, make_sinusoids

VARIANTS = {
    "MAML": {},
    "FOMAML": {"meta_gradient": "first-order"},
    "Reptile": {"meta_gradient": "reptile"},
    "iMAML": {"meta_gradient": "implicit", "inner_steps": 20, "proximal": 0.5},
    "ANIL": {"adapt_layers": "head"},
    "BOIL": {"adapt_layers": "body"},
    "some layers": {"adapt_layers": ["layers.1", "layers.2.bias"]},
    "CAVIA": {"context_dim": 2, "inner_lr": 0.5},
    "learned rate": {"learn_inner_lr": "one"},
    "Meta-SGD": {"learn_inner_lr": "per-parameter"},
    "MAML++": {"learn_inner_lr": "per-layer-and-step", "multi_step_share": 0.5, "first_order_share": 0.3},
    "R2D2": {"inner_solver": "ridge"},
    "ALPaCA": {"inner_solver": "bayes"},
    "evidence": {"inner_solver": "evidence", "rank": 3},
}


def quadratic_tasks(n_tasks=12, seed=0):
    """Tasks whose loss is quadratic in a slope and an intercept, with inputs of different spread."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = (0.5 + i / n_tasks) * rng.standard_normal((8, 1))
        tasks.append(Task(f"q{i}", X, 1 + rng.standard_normal() * X[:, 0]))
    return TaskSet(tasks)


PROBLEMS = {
    "sinusoid": lambda: make_sinusoids(12, random_state=0),
    "linear": lambda: make_linear_tasks(12, random_state=0)[0],
    "quadratic": quadratic_tasks,
    "ragged physical": load_theophylline,
}


FEW = {"hidden_layer_sizes": (8, 6, 5), "max_iter": 8, "support_size": 3, "random_state": 0}


def fitted(variant, tasks, **settings):
    model = MAMLRegressor(**{**FEW, **VARIANTS[variant], **settings})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of so short a fit
        return model.fit(tasks)
