"""Averages of one equation in several structures: mean curves, and mixtures in equal parts of what members answer.

Every function takes the members of an average, the best first; with one member it answers as that one does.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.equations import many_tasks
from metaest.estimators.equations.answers import (
    interval_of_mixture,
    mean_curve,
    simulated,
    spread_of_observations,
)
from metaest.estimators.equations.draws import Draws
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.near_rows import NearRows
from metaest.estimators.guard import Answers, FittedGuard
from metaest.estimators.mixture import mixed
from metaest.tasks import TaskSet

__all__ = [
    "Part",
    "answering",
    "asking",
    "guard_answers",
    "intervals",
    "mean_curves",
    "mixture",
    "query_predictions",
    "simulations",
    "spread",
]


class Part(NamedTuple):
    """A member of an average with draws of its constants, and rows near which its residuals are known."""

    fitted: FittedEquation
    draws: Draws
    near: NearRows | None = None


def mixture(parts: Sequence[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and standard deviation of curves from pairs of them."""
    if len(parts) == 1:
        mean, sd = parts[0]
        return mean, sd
    return mixed([1 / len(parts)] * len(parts), parts)


def intervals(
    parts: Sequence[Part], X: NDArray[Any], level: float, of: str, weight: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends of an interval of a mixture for every row."""
    return interval_of_mixture([(part.fitted, part.draws, part.near) for part in parts], X, level, of, weight)


def mean_curves(parts: Sequence[Part], X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the curves of draws of all members."""
    return np.asarray(np.mean([mean_curve(part.fitted, part.draws, X) for part in parts], axis=0))


def simulations(
    parts: Sequence[Part], X: NDArray[Any], n: int, rng: np.random.Generator, weight: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Return n observations, each of a member that is drawn first, of shape (n, rows)."""
    if len(parts) == 1:
        return simulated(parts[0].fitted, parts[0].draws, X, n, rng, weight, parts[0].near)
    chosen = rng.integers(len(parts), size=n)
    drawn = np.empty((n, len(X)))
    for i, part in enumerate(parts):
        of_part = np.flatnonzero(chosen == i)
        if len(of_part):
            drawn[of_part] = simulated(part.fitted, part.draws, X, len(of_part), rng, weight, part.near)
    return drawn


def spread(
    members: Sequence[FittedEquation],
    mean: NDArray[Any],
    sd: NDArray[Any],
    X: NDArray[Any],
    weight: NDArray[Any] | None,
) -> NDArray[np.float64]:
    """Return the standard deviation of observations around curves of a given one, by the mean variance of the noise."""
    scales = [spread_of_observations(fitted, mean, sd, X, weight) for fitted in members]
    return scales[0] if len(scales) == 1 else np.asarray(np.sqrt(np.mean(np.square(scales), axis=0)))


def query_predictions(
    members: Sequence[FittedEquation],
    tasks: TaskSet,
    support_size: Any,
    split: str,
    rng: np.random.Generator,
    *,
    verbose: bool = False,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Adapt to the support of every task and predict its query; all members take the same rows."""
    answers = [
        many_tasks.query_predictions(fitted, tasks, support_size, split, draws, verbose=verbose)
        for fitted, draws in zip(members, [rng, *(copy.deepcopy(rng) for _ in members[1:])], strict=True)
    ]
    truth, prediction, rows = answers[0]
    if len(answers) > 1:
        prediction = np.mean([each[1] for each in answers], axis=0)
    return truth, prediction, rows


def asking(members: Sequence[FittedEquation]) -> Callable[[TaskSet], Answers]:
    """Return what a guard asks; a file names it and its arguments."""
    return partial(guard_answers, members) if len(members) > 1 else partial(many_tasks.guard_answers, members[0])


def guard_answers(members: Sequence[FittedEquation], tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for a guard to compare with the population."""
    answers = [many_tasks.guard_answers(fitted, tasks) for fitted in members]
    if len(answers) == 1:
        return answers[0]
    means = {name: np.mean([getattr(each, name) for each in answers], axis=0) for name in ("adapted", "population")}
    return answers[0]._replace(**means)


def answering(judge: FittedGuard, compiled: FittedEquation, further: Sequence[FittedEquation] | None) -> FittedGuard:
    """Return a guard that adapts in machine code; that of an average stays as it is."""
    return judge if further else many_tasks.with_answers_of(judge, compiled)
