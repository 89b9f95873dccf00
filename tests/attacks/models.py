"""Small fitted models, made once, and what they are asked."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from equations import averaging
from metaest import (
    AutoMetaClassifier,
    AutoMetaRegressor,
    EquationRegressor,
    HierarchicalGPRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    PopulationAverage,
    RandomCoefficientRegressor,
    Task,
    TaskSet,
)


def once(make: Callable[[], Any]) -> Callable[[], Any]:
    """Make a fitted model at the first use, silently."""

    @functools.cache
    def cached() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()

    return cached


def linear_tasks(n: int = 10, rows: int = 6, seed: int = 0) -> TaskSet:
    """Return linear tasks of two columns."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n):
        X = rng.standard_normal((rows, 2))
        tasks.append(Task(f"task {i}", X, X @ rng.standard_normal(2) + 0.1 * rng.standard_normal(rows)))
    return TaskSet(tasks)


def class_tasks(n: int = 10, rows: int = 6, seed: int = 0) -> TaskSet:
    """Return tasks of two classes that every task has."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n):
        y = np.arange(rows) % 2
        tasks.append(Task(f"task {i}", rng.standard_normal((rows, 2)) + y[:, None] * (1 + i % 2), y))
    return TaskSet(tasks)


def decay_tasks(n: int = 10, rows: int = 6, seed: int = 0) -> TaskSet:
    """Return decaying curves of one column."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n):
        t = np.sort(rng.uniform(0.1, 3, rows))
        y = 2 * np.exp(-np.exp(0.3 * rng.standard_normal()) * t) + 0.05 * rng.standard_normal(rows)
        tasks.append(Task(f"task {i}", t[:, None], y))
    return TaskSet(tasks)


def visits(n: int = 8, seed: int = 0) -> TaskSet:
    """Return decaying curves of three visits of each task; the number of the visit follows the time."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n):
        t, visit = np.tile(np.linspace(0.2, 3, 4), 3), np.repeat([0.0, 1.0, 2.0], 4)
        k = np.exp(0.3 * rng.standard_normal() + 0.2 * rng.standard_normal(3))[visit.astype(int)]
        tasks.append(
            Task(f"task {i}", np.column_stack([t, visit]), 2 * np.exp(-k * t) + 0.05 * rng.standard_normal(12))
        )
    return TaskSet(tasks)


def decay(X: torch.Tensor, k: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """First-order decay."""
    return a * torch.exp(-k * X[:, 0])


CONSTANTS = {"k": Parameter(1.0, lower=0), "a": Parameter(1.5, lower=0)}
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 8, "inner_steps": 2, "random_state": 0, "compile": False}


def new_regressor(**settings: Any) -> MAMLRegressor:
    """Return a small unfitted regressor."""
    return MAMLRegressor(**{**SMALL, **settings})


def new_average(**settings: Any) -> AutoMetaRegressor:
    """Return an unfitted average of two small regressors."""
    candidates = [("gradient", new_regressor(max_iter=1)), ("ridge", new_regressor(inner_solver="ridge", max_iter=1))]
    return AutoMetaRegressor(**{"candidates": candidates, "shots": 1, "cv": 2, "random_state": 0, **settings})


def new_class_average(**settings: Any) -> AutoMetaClassifier:
    """Return an unfitted average of two small classifiers."""
    candidates = [
        ("gradient", new_classifier(max_iter=1)),
        ("ridge", new_classifier(inner_solver="ridge", max_iter=1)),
    ]
    fixed = {"shots": 1, "cv": 2, "shared_labels": True, "random_state": 0}
    return AutoMetaClassifier(**{"candidates": candidates, **fixed, **settings})


def new_classifier(**settings: Any) -> MAMLClassifier:
    """Return a small unfitted classifier."""
    return MAMLClassifier(**{**SMALL, "shared_labels": True, **settings})


def new_policy(**settings: Any) -> MAMLPolicy:
    """Return a small unfitted policy."""
    return MAMLPolicy(**{**SMALL, "support_size": 2, "query_size": 3, **settings})


def new_random_coefficients(**settings: Any) -> RandomCoefficientRegressor:
    """Return an unfitted linear mixed model."""
    return RandomCoefficientRegressor(**{"base": "linear", "random": [0], "random_state": 0, **settings})


def new_equation(**settings: Any) -> EquationRegressor:
    """Return a small unfitted equation."""
    return EquationRegressor(decay, CONSTANTS, **{"max_iter": 5, "random_state": 0, "compile": False, **settings})


BINARY = TaskSet([Task(task.name, task.X, (task.y > 0.7).astype(float)) for task in decay_tasks(10, 12)])


def survives(X: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Return a probability."""
    return 1 / (1 + X[:, 0] / half)


def fitted_binary() -> EquationRegressor:
    """Return an equation of a probability."""
    return EquationRegressor(survives, {"half": Parameter(1.0, lower=0)}, noise="bernoulli", random_state=0).fit(BINARY)


def fitted_structures() -> EquationRegressor:
    """Return an equation that averages two structures, whatever the rule says."""
    with averaging():
        model = new_equation(noise="auto", random=["a"], max_iter=300).fit(decay_tasks())
    assert (model.structures_["weight"] > 0).sum() == 2
    return model.calibrate(decay_tasks(8, seed=1), support_size=(2, 3))


def new_population_average(**settings: Any) -> PopulationAverage:
    """Return an unfitted average of two fitted equations."""
    parts = [(noise, FrozenEstimator(new_equation(noise=noise).fit(decay_tasks()))) for noise in ("additive", "power")]
    return PopulationAverage(**{"estimators": parts, "random_state": 0, **settings})


def new_process(**settings: Any) -> HierarchicalGPRegressor:
    """Return a small unfitted Gaussian process."""
    return HierarchicalGPRegressor(**{"n_starts": 1, "max_iter": 5, "random_state": 0, **settings})


regressor = once(lambda: new_regressor().fit(linear_tasks()).calibrate(linear_tasks(8, seed=1), support_size=(2, 3)))
average = once(lambda: new_average().fit(linear_tasks()).calibrate(linear_tasks(8, seed=1), support_size=(2, 3)))
classifier = once(lambda: new_classifier().fit(class_tasks()))
class_average = once(lambda: new_class_average().fit(class_tasks()))
policy = once(lambda: new_policy().fit(linear_tasks()))
equation = once(lambda: new_equation().fit(decay_tasks()).calibrate(decay_tasks(8, seed=1), support_size=(2, 3)))
equation_of_visits = once(
    lambda: EquationRegressor(decay, CONSTANTS, levels={1: ["k"]}, covariance="diagonal", compile=False).fit(visits())
)
averaged_equation = once(fitted_structures)
binary_equation = once(fitted_binary)
adapted_binary_equation = once(lambda: binary_equation().adapt(BINARY[0].X, BINARY[0].y))
process = once(lambda: new_process().fit(linear_tasks()).calibrate(linear_tasks(8, seed=1), support_size=(2, 3)))
random_coefficients = once(
    lambda: new_random_coefficients().fit(linear_tasks(rows=8)).calibrate(linear_tasks(8, seed=1), support_size=(2, 3))
)
ridge_head = once(lambda: new_regressor(inner_solver="ridge").fit(linear_tasks()))
evidence_head = once(lambda: new_regressor(inner_solver="evidence", rank=2).fit(linear_tasks()))
with_context = once(lambda: new_regressor(context_dim=2).fit(linear_tasks()))
population_average = once(
    lambda: new_population_average().fit([]).calibrate(decay_tasks(8, seed=1), support_size=(2, 3))
)
compiled = once(lambda: new_regressor(compile=True).fit(linear_tasks()))
compiled_equation = once(lambda: new_equation(compile=True).fit(decay_tasks()))
pipeline = once(
    lambda: make_pipeline(StandardScaler(), new_regressor()).fit(
        *flat(linear_tasks())[:2], mamlregressor__groups=flat(linear_tasks())[2]
    )
)
transformed = once(
    lambda: TransformedTargetRegressor(new_regressor(), transformer=StandardScaler()).fit(
        *flat(linear_tasks())[:2], groups=flat(linear_tasks())[2]
    )
)


def flat(tasks: TaskSet) -> tuple[Any, Any, Any]:
    """Return rows, targets and groups."""
    return tasks.X, tasks.y, np.repeat(np.arange(len(tasks)), tasks.sizes)


PROBE = np.array([[0.3, -0.4], [1.0, 0.5]])
SUPPORT = np.array([[0.1, 0.2], [-1.0, 0.4], [0.7, -0.6]]), np.array([0.3, -0.2, 0.9])
CURVE_PROBE = np.array([[0.4], [1.2]])
CURVE_SUPPORT = np.array([[0.3], [1.0], [2.0]]), np.array([1.4, 0.8, 0.2])
