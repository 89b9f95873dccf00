r"""Whether the intervals of a model hold for some tasks: shares of observations inside, before rows and after some.

Rows of one task are no independent witnesses. The share of rows inside counts as that of
:math:`n_{\text{eff}} = n / d` independent ones (Rao and Scott, 1992, :doi:`10.2307/2532311`). The design effect d is
that of the shares of the tasks; beside them an assumed one counts as ten tasks: the number of rows of a task where no
row of it was seen before, and 1 where each row is predicted from those before it. The interval is Clopper's and
Pearson's (1934, :doi:`10.1093/biomet/26.4.404`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from metaest.estimators.conformal import Scores, rows_of_supports
from metaest.estimators.equations.censoring import meets
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.updating import USUAL_WEIGHT
from metaest.exceptions import quiet
from metaest.functional.equations.censoring import Bounds
from metaest.tasks import TaskSet

__all__ = ["Outcomes", "ahead", "before", "conformal_outcomes", "coverage"]

# rows of a task that are predicted from those before them, at most
MOST_STEPS = 10

Array = NDArray[Any]


class Model(Protocol):
    """A fitted model."""

    _fitted: FittedEquation

    def predict_interval(
        self, X: Any, level: float, *, sample_weight: Any = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the ends of intervals of a task without rows."""

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[Array, Array]:
        """Return predictions, and the scale of their errors."""

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[Any]:
        """Return one predictor a task."""


class Outcomes(NamedTuple):
    """Observations and what was predicted of them.

    Attributes
    ----------
    task : ndarray of int, shape (n,)
    inside : ndarray of bool, shape (n,)
    width : ndarray of shape (n,)
        Of the intervals.
    score, scale : ndarray of shape (n,)
        Distance of the observation from the prediction in units of the scale, and the scale.
    """

    task: NDArray[np.intp]
    inside: NDArray[np.bool_]
    width: Array
    score: Array
    scale: Array

    @classmethod
    def join(cls, parts: Sequence["Outcomes"]) -> "Outcomes":
        """Return the observations of several parts."""
        return cls(*(np.concatenate(some) for some in zip(*parts, strict=True))) if parts else cls(*_nothing())


def before(model: Model, tasks: TaskSet, chosen: Sequence[int], level: float, bounds: Bounds) -> Outcomes:
    """Predict all rows of the chosen tasks without any of them."""
    return Outcomes.join([_outcomes(model, tasks, i, slice(None), level, bounds) for i in chosen])


def ahead(model: Model, tasks: TaskSet, chosen: Sequence[int], level: float, bounds: Bounds) -> Outcomes:
    """Predict rows of the chosen tasks from those before them in the task."""
    steps = [(i, int(k)) for i in chosen for k in _steps(int(tasks.sizes[i]))]
    if not steps:
        return Outcomes.join([])
    supports = rows_of_supports(tasks, [i for i, _ in steps], [np.arange(k) for _, k in steps])
    predictors = model._adapted(supports, False, 0)
    parts = [
        _outcomes(predictor, tasks, i, slice(k, k + 1), level, bounds)
        for (i, k), predictor in zip(steps, predictors, strict=True)
    ]
    return Outcomes.join(parts)


def conformal_outcomes(outcomes: Outcomes, level: float) -> Outcomes:
    """Return the same observations with intervals of a width that the other tasks ask for, each task counting once.

    The width is infinite where the other tasks cannot promise the level.
    """
    tasks, number = np.unique(outcomes.task, return_inverse=True)
    width = np.empty(len(outcomes.task))
    for j in range(len(tasks)):
        others = number != j
        if not others.any():
            width[:] = np.inf
            break
        renumbered = np.unique(number[others], return_inverse=True)[1]
        scores = Scores(outcomes.score[others][:, None], renumbered, len(tasks) - 1)
        width[~others] = 2 * scores.quantile(level, False)[0] * outcomes.scale[~others]
    return outcomes._replace(inside=2 * outcomes.score * outcomes.scale <= width, width=width)


def coverage(outcomes: Outcomes, level: float, clustered: bool) -> dict[str, float]:
    """Return the share of observations inside with its interval, counts, and the median width.

    Parameters
    ----------
    outcomes : Outcomes
    level : float
        Of the intervals, and of that of their share.
    clustered : bool
        Whether rows of one task are assumed to be inside, or outside, together.
    """
    n, tasks = len(outcomes.task), len(np.unique(outcomes.task))
    counts = {"n_tasks": tasks, "n_rows": n}
    if not n or not np.isfinite(outcomes.width).all():
        return {"covered": np.nan, "lower": np.nan, "upper": np.nan, "width": np.nan, **counts}
    share = float(outcomes.inside.mean())
    worth = n / _design_effect(outcomes, n / tasks if clustered else 1.0)
    tail, inside = (1 - level) / 2, share * worth
    lower = stats.beta.ppf(tail, inside, worth - inside + 1) if inside > 0 else 0.0
    upper = stats.beta.ppf(1 - tail, inside + 1, worth - inside) if inside < worth else 1.0
    width = float(np.median(outcomes.width))
    return {"covered": share, "lower": float(lower), "upper": float(upper), "width": width, **counts}


def _design_effect(outcomes: Outcomes, assumed: float) -> float:
    """Return by how much the variance of the share is that of independent rows, at least 1."""
    _, number = np.unique(outcomes.task, return_inverse=True)
    sizes = np.bincount(number)
    n, tasks, share = len(number), len(sizes), outcomes.inside.mean()
    if tasks < 2 or share in (0, 1):
        return max(1.0, assumed)
    away = np.bincount(number, weights=outcomes.inside) - sizes * share
    told = tasks / (tasks - 1) * float(away @ away) / (n * share * (1 - share))
    return max(1.0, float((USUAL_WEIGHT * assumed + (tasks - 1) * told) / (USUAL_WEIGHT + tasks - 1)))


def _steps(n: int) -> NDArray[np.intp]:
    """Return the rows of a task of n rows that are predicted from those before them."""
    if n - 1 <= MOST_STEPS:
        return np.arange(1, n)
    return np.linspace(1, n - 1, MOST_STEPS).round().astype(np.intp)


def _outcomes(predictor: Any, tasks: TaskSet, i: int, rows: slice, level: float, bounds: Bounds) -> Outcomes:
    """Return what a predictor says of rows of one task, beside what was observed."""
    task = tasks[i]
    weight = None if task.sample_weight is None else np.asarray(task.sample_weight)[rows]
    with quiet(Warning):
        lower, upper = predictor.predict_interval(task.X[rows], level, sample_weight=weight)
        center, scale = predictor._center_and_scale(task.X[rows], weight)
    truth = task.y[rows].astype(np.float64).reshape(-1)
    inside = meets(bounds, task.X[rows], truth, lower, upper)
    score = np.abs(truth - center) / scale
    return Outcomes(np.full(len(truth), i), inside, upper - lower, score, scale)


def _nothing() -> list[Array]:
    return [np.empty(0, np.intp), np.empty(0, bool), *(np.empty(0) for _ in range(3))]
