"""What is compared: the candidates of "auto" for tasks of a shape, what they cost, and those of the user."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor

from metaest.estimators.gaussian.hierarchical_gp.regressor import HierarchicalGPRegressor
from metaest.estimators.gaussian.random_coefficients.regressor import RandomCoefficientRegressor
from metaest.estimators.networks.regressor import MAMLRegressor
from metaest.selection.folds import MOST_TASKS
from metaest.tasks import TaskSet

__all__ = [
    "Candidate",
    "default_candidates",
    "given_candidates",
    "rows_of_trial_and_fit",
    "seconds_of_trees",
    "within_budget",
]


# columns up to which each may have a slope of its own in every task
MOST_SLOPES = 10
# rows up to which a Gaussian process of all rows is offered
MOST_ROWS_OF_GP = 1000
# tasks from which a network is offered, where there is something else
FEWEST_TASKS = 10
# tasks from which a weak penalty on the weights of a network is enough
MANY_TASKS = 1000
# meta-steps of a network
STEPS = 1000
# ... and of its trial: as few as are compiled
TRIAL_STEPS = 300
# work on a row beside that on its columns, in columns
WEIGHTS_A_ROW = 100


@dataclass(frozen=True)
class Candidate:
    """A way to learn from many tasks.

    Attributes
    ----------
    name : str
    estimator : estimator
    trial : estimator
        What is compared: the estimator itself, or the same with fewer steps.
    cost : (float, float)
        Seconds of a trial and of the fit, for a task set of this shape on one core; an estimate that does not depend
        on a clock.
    """

    name: str
    estimator: Any
    trial: Any
    cost: tuple[float, float] = (0.0, 0.0)


def given_candidates(candidates: Sequence[Any], taken: Iterable[str] = (), *, labels: bool = False) -> list[Candidate]:
    """Return the user's candidates; names of settings are `taken`, and `labels` wants classifiers.

    Raises
    ------
    ValueError
        When they are no pairs of distinct names and estimators.
    """
    offered = []
    for pair in candidates:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError(f"candidates must be pairs of a name and an estimator; got {pair!r}.")
        name, estimator = pair
        if "__" in name or name in set(taken):
            raise ValueError(
                f"candidates: the name {name!r} is that of a setting, or holds two underscores; rename it."
            )
        missing = [method for method in ("fit", "adapt", "predict", "get_params") if not hasattr(estimator, method)]
        if missing or isinstance(estimator, type):
            raise ValueError(
                f"candidates: {name!r} must be an estimator with fit, adapt and predict, got {estimator!r}"
                + (f", which has no {missing[0]}." if missing else ".")
            )
        if labels and (is_regressor(estimator) or getattr(estimator, "_estimator_type", "") == "regressor"):
            raise ValueError(
                f"candidates: {name!r} is a regressor, which has no probabilities of classes, got {estimator!r}."
            )
        if not labels and is_classifier(estimator):
            raise ValueError(
                f"candidates: {name!r} is a classifier, whose labels cannot be averaged, got {estimator!r}."
            )
        offered.append(Candidate(name, estimator, estimator))
    names = [candidate.name for candidate in offered]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not names:
        raise ValueError(
            f"candidates: the name {twice[0]!r} stands twice." if twice else "candidates: none were given."
        )
    return offered


def default_candidates(tasks: TaskSet, split: str, seed: int) -> list[Candidate]:
    """Return the candidates of "auto" for tasks of this shape, the simplest first."""
    settings: dict[str, Any] = {"split": split, "random_state": seed}
    n_rows, n_columns = len(tasks.X), int(np.prod(tasks.X.shape[1:]))
    offered = []
    if tasks.X.ndim == 2 and tasks.y[0].size == 1:
        sizes = [n * (n_columns + 1) for n in rows_of_trial_and_fit(tasks)]
        lines = _seconds_of_lines(sizes[0], n_columns), _seconds_of_lines(sizes[1], n_columns)
        trees = seconds_of_trees(sizes[0]), seconds_of_trees(sizes[1])
        slopes = n_columns <= MOST_SLOPES and _varies(tasks)
        linear = RandomCoefficientRegressor("linear", random="slopes" if slopes else "intercept", **settings)
        levels = RandomCoefficientRegressor(random="intercept", **settings)
        offered += [
            Candidate("linear mixed model", linear, linear, lines),
            Candidate("boosted trees and levels", levels, levels, trees),
        ]
        if slopes:
            trends = RandomCoefficientRegressor(random="slopes", **settings)
            offered.append(Candidate("boosted trees and slopes", trends, trends, (1.25 * trees[0], 1.25 * trees[1])))
        if n_rows <= MOST_ROWS_OF_GP:
            process, seconds = HierarchicalGPRegressor(**settings), 0.3 + 1.2e-8 * n_rows**3
            offered.append(Candidate("Gaussian process", process, process, (seconds, seconds)))
    if len(tasks) >= FEWEST_TASKS or not offered:
        offered.append(_network(tasks, n_columns, settings))
    return offered


def _network(tasks: TaskSet, n_columns: int, settings: dict[str, Any]) -> Candidate:
    """Return a network learned by the evidence, with few directions and a strong penalty where there are few tasks."""
    alpha, rank = 300.0 if len(tasks) < MANY_TASKS else 30.0, min(16, max(1, len(tasks) // 3))
    network = MAMLRegressor(
        inner_solver="evidence", rank=rank, activation="silu", alpha=alpha, max_iter=STEPS, **settings
    )
    a_batch = min(len(tasks), network.meta_batch_size) * len(tasks.X) / len(tasks)
    trial_cost, cost = (0.5 + 3e-8 * steps * a_batch * (n_columns + WEIGHTS_A_ROW) for steps in (TRIAL_STEPS, STEPS))
    return Candidate(
        "network by evidence", network, clone(network).set_params(max_iter=TRIAL_STEPS), (trial_cost, cost)
    )


def rows_of_trial_and_fit(tasks: TaskSet) -> tuple[float, int]:
    """Return the numbers of rows of a comparison, in which not all of many tasks take part, and of the fit."""
    return len(tasks.X) * min(1.0, MOST_TASKS / len(tasks)), len(tasks.X)


def _seconds_of_lines(size: float, n_columns: int) -> float:
    """Return the seconds of a linear mixed model on so many numbers."""
    return 0.1 + 3e-7 * size * n_columns


def seconds_of_trees(size: float) -> float:
    """Return the seconds of boosted trees on so many numbers: many rows end the boosting early."""
    return min(1.0 + 4e-5 * size, 10.0 + 4e-6 * size)


def _varies(tasks: TaskSet) -> bool:
    """Tell whether a column varies within a task."""
    return any(bool(np.ptp(task.X, axis=0).any()) for task in tasks)


def within_budget(
    offered: Sequence[Candidate],
    tasks: TaskSet,
    parts: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    budget: float | None,
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the candidates that a budget of seconds holds, in order, and why the others are not tried.

    The cheapest come first, whatever their order; the first two are kept in any case. The fit counts in full, though
    only those chosen are fitted.
    """
    cost = {candidate.name: len(parts) * candidate.cost[0] + candidate.cost[1] for candidate in offered}
    kept: set[str] = set()
    refused: dict[str, str] = {}
    spent = 0.0
    for name in sorted(cost, key=lambda name: cost[name]):
        if budget is not None and len(kept) >= 2 and spent + cost[name] > budget:
            refused[name] = (
                f"not tried: it would take about {cost[name]:.3g} s, and time_budget={budget:g} has "
                f"{max(budget - spent, 0):.3g} s left"
            )
            continue
        kept.add(name)
        spent += cost[name]
    return [candidate for candidate in offered if candidate.name in kept], refused
