"""Fits and calls of every kind, as functions without arguments that return bytes: what threads do is compared by them."""

from copy import deepcopy
from functools import partial

import numpy as np
from sklearn.base import clone
from torch import nn

from equations import avrami
from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Parameter, Task, TaskSet
from metaest_datasets import load_theophylline, make_avrami_tasks, make_sinusoids
from metaest_domains.kinetics import JMAKRegressor
from metaest_domains.physiology import OneCompartmentRegressor


def regressor(**settings):
    return MAMLRegressor(
        **{"hidden_layer_sizes": (4,), "inner_steps": 2, "max_iter": 8, "random_state": 0, "compile": False, **settings}
    )


def dropout(n_features, n_outputs):
    return nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, n_outputs))


def equation(**settings):
    constants = {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}
    return EquationRegressor(avrami, constants, **{"compile": False, "max_iter": 10, "random_state": 0, **settings})


def blobs(n_tasks=12, seed=0):
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        y = np.arange(12) % 2
        tasks.append(Task(i, rng.standard_normal((12, 2)) + np.outer(2 * y - 1, rng.standard_normal(2)), y))
    return TaskSet(tasks)


def returns(n_tasks=12, seed=0):
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.standard_normal((30, 2))
        tasks.append(Task(i, X, 0.01 * X[:, 0] * (-1) ** i + 0.01 * rng.standard_normal(30)))
    return TaskSet(tasks)


def attending(n_features, n_outputs):
    return Attending()


def families():
    """Return by name an estimator that is not fitted, and tasks of which the last four are not for its fit."""
    waves, (curves, _) = make_sinusoids(16, n_rows=8, random_state=0), make_avrami_tasks(16, random_state=0)
    patients = load_theophylline()
    policy = MAMLPolicy(hidden_layer_sizes=(4,), support_size=10, max_iter=8, random_state=0, compile=False)
    classifier = MAMLClassifier(hidden_layer_sizes=(4,), max_iter=8, random_state=0, compile=False)
    return {
        "network": (regressor(), waves),
        "compiled network": (regressor(compile=True), waves),
        "module": (regressor(module=dropout), waves),
        "attention": (regressor(module=attending), waves),
        "classifier": (classifier, blobs()),
        "compiled classifier": (clone(classifier).set_params(compile=True), blobs()),
        "policy": (policy, returns()),
        "compiled policy": (clone(policy).set_params(compile=True), returns()),
        "equation": (equation(), curves),
        "compiled equation": (equation(compile=True), curves),
        "kinetics": (JMAKRegressor(max_iter=10, random_state=0), curves),
        "compiled kinetics": (JMAKRegressor(max_iter=10, random_state=0, compile=True), curves),
        "physiology": (OneCompartmentRegressor(max_iter=30, random_state=0), patients),
    }


class Attending(nn.Module):
    """Attention over the one row, so that torch's switches are turned."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(1, 4), nn.Linear(4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, X):
        H = self.enter(X)[:, None]
        return self.leave((H + self.attention(H, H, H, need_weights=False)[0])[:, 0])


def fits(names=None):
    """Return by name a function that fits, and returns the bytes of the predictions of the fitted model."""
    return {name: partial(fitted_bytes, *pair) for name, pair in families().items() if names is None or name in names}


def fitted_bytes(estimator, tasks):
    return told(clone(estimator).fit(tasks[:-4]), tasks[-1].X)


def half_compiled(n):
    """Return n functions that fit, every other one of an estimator that is compiled."""
    made = fits()
    parts = [[made[name] for name in made if ("compiled" in name) == compiled] for compiled in (False, True)]
    return [parts[i % 2][(i // 2) % len(parts[i % 2])] for i in range(n)]


def told(predictor, X):
    if hasattr(predictor, "predict_proba"):
        return np.ascontiguousarray(predictor.predict_proba(X)).tobytes()
    return np.ascontiguousarray(predictor.predict(X)).tobytes()


def fitted(names=None):
    """Return by name a fitted model, and tasks that it has not seen."""
    models = {}
    for name, (estimator, tasks) in families().items():
        if names is None or name in names:
            model = clone(estimator).fit(tasks[:-4])
            models[name] = model, tasks[-4:]
            if hasattr(model, "calibrate"):
                certain = deepcopy(model).calibrate(tasks[-4:], support_size=(2, 4))
                models[f"{name}, calibrated"] = certain, tasks[-4:]
    return models


def calls(models):
    """Return by name a function of a number: one call of a fitted model, and the bytes of its answer."""
    made = {}
    for name, (model, new) in models.items():
        if name.endswith("calibrated"):
            made[f"{name}: interval"] = partial(interval, model, new)
            continue
        made[f"{name}: adapt"] = partial(adapted, model, new)
        made[f"{name}: many"] = partial(many, model, new)
        if "classifier" not in name and "policy" not in name:
            made[f"{name}: guard"] = partial(adapted, model, new, guard=True)
        if hasattr(model, "simulate"):
            made[f"{name}: simulate"] = partial(simulated, model, new)
    return made


def of_task(tasks, i):
    task, rows = tasks[i % len(tasks)], slice(0, 2 + i % 3)
    return task, task.X[rows], task.y[rows]


def adapted(model, tasks, i, **settings):
    task, X, y = of_task(tasks, i)
    return told(model.adapt(X, y, **settings), task.X)


def many(model, tasks, i):
    rows = 2 + i % 3
    few = TaskSet([Task(task.name, task.X[:rows], task.y[:rows]) for task in tasks])
    if not hasattr(model, "adapt_many"):
        return np.float64(model.score(tasks)).tobytes()
    return b"".join(told(predictor, tasks[0].X) for predictor in model.adapt_many(few))


def interval(model, tasks, i):
    task, X, y = of_task(tasks, i)
    predictor = model.adapt(X, y) if i % 2 else model
    return b"".join(
        np.asarray(own).tobytes() for own in predictor.predict_interval(task.X, level=0.5, method="conformal")
    )


def simulated(model, tasks, i):
    return np.asarray(model.simulate(tasks[0].X, 5, random_state=i)).tobytes()
