"""Does a model fit my tasks?: the method ``recalibrate`` of ``EquationRegressor``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import require_level
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration, Scores, calibration_sizes, refuse_seen, scores_of
from metaest.estimators.equations.batches import evenly
from metaest.estimators.equations.checks import check_tasks, unlikely_tasks
from metaest.estimators.equations.local_bias import bias_of
from metaest.estimators.equations.local_coverage import Model, Outcomes, ahead, before, conformal_outcomes, coverage
from metaest.estimators.equations.many_tasks import adapt_tasks
from metaest.estimators.equations.outcomes import refuse_outcome
from metaest.estimators.equations.recalibration import (
    AHEAD,
    AS_IT_WAS,
    BEFORE,
    CONFORMAL,
    UPDATED,
    Recalibration,
    in_words,
)
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.task_rows import support_tasks
from metaest.estimators.modes import in_plain_modes
from metaest.exceptions import TaskError, quiet
from metaest.population.json_form import plain_settings
from metaest.tasks import TaskSet

__all__ = ["recalibrate"]

# parts in which tasks are left out of an update
FOLDS = 5
# tasks whose rows are held against intervals, at most
MOST_JUDGED = 200
# settings of a fit that an update does not have: what they said, the population says
AS_UPDATED = {"covariates": None, "small_sample": "none", "objective": "evidence", "checkpoint": None}


@in_plain_modes
def recalibrate(
    self: Any, tasks: Any, support_size: Any = None, *, level: float = 0.9, sample_weight: Any = None
) -> Recalibration:
    r"""Tell whether the model fits tasks of your own, and update it by them; the model itself is untouched.

    It says how far the typical constants of the tasks lie from the model's, for their covariates; whether the model's
    intervals hold for them, before any row of a task and from each row to the next, which are taken in their order; and
    both of the model updated by tasks (``prior_weight="auto"``), each task predicted by an update that did not see it.
    Intervals of the shares take into account that the rows of one task are not independent. Of more than 200 tasks, 200
    are held against intervals, and of a task ten steps.

    Parameters
    ----------
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        Not those of the fit.
    support_size : int, range, (smallest, largest) or None, default=None
        Numbers of rows at which the conformal intervals of the updated model are calibrated, as `calibrate` takes them.
    level : float, default=0.9
        Of all intervals.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows of all tasks, as `adapt_many` takes them.

    Returns
    -------
    Recalibration
        Printed, it is a text. ``result.model`` is the updated model; its conformal intervals are calibrated by the same
        tasks, each predicted by an update without it (Barber and others, 2021, :doi:`10.1214/20-AOS1965`, call it the
        jackknife).

    Raises
    ------
    TaskError, ValueError
        When the tasks cannot be used or were in the fit, or the model has what no population holds: an average of
        structures, a correlation of residuals, a column of measurement errors, gradient steps.

    Warns
    -----
    UnlikelyTaskWarning
        When no curve of the model comes near the rows of tasks, as where they are in another unit; the answer says so
        too.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter, Population
    >>> from metaest.population import Block, NoiseModel
    >>> def decay(X, start, rate):
    ...     return start * torch.exp(-rate * X[:, 0])
    >>> def published(rate):
    ...     return Population(
    ...         {"start": Parameter(10, lower=0, unit="mg/L"), "rate": Parameter(rate, lower=0, unit="1/h")},
    ...         Block(cv={"start": 0.2, "rate": 0.3}),
    ...         NoiseModel("proportional", cv=0.1),
    ...         columns={"time": "h"},
    ...     )
    >>> yours = EquationRegressor.from_population(decay, published(0.3))
    >>> tasks = yours.simulate_tasks([[1.0], [3.0], [6.0]], 12, random_state=0)
    >>> result = EquationRegressor.from_population(decay, published(0.2)).recalibrate(tasks)
    >>> result.bias[["population", "local"]].round(2).loc["rate"].tolist()
    [0.2, 0.31]
    >>> result.verdict.split(" (p")[0]
    'Your tasks do not follow this model'
    """
    check_is_fitted(self)
    require_level(level)
    population = self.to_population()  # which refuses what an update cannot take
    where, columns, fitted = "recalibrate", Columns(self), self._fitted
    refuse_outcome(fitted.model.noise, where, "fit the tasks anew")
    taken = support_tasks(columns, fitted, tasks, sample_weight, where)
    refuse_seen(self._seen, taken, where)
    check_tasks(fitted.function, taken)
    self._warn_outside(dict(enumerate(taken.X.T)), where)
    sizes = _possible(calibration_sizes(self, taken, support_size), taken, support_size)
    model = clone(self)
    as_kept = {**population.as_settings(), "prior_weight": "auto", **AS_UPDATED, **plain_settings(population.settings)}
    model.set_params(**{name: value for name, value in as_kept.items() if name in model.get_params(deep=False)})
    with quiet(Warning):
        posterior = adapt_tasks(fitted, fitted, taken)  # with the errors that it has
        folds = _Folds.of(model, taken)
        whose = _whose(self, folds, taken, level)
        bias = bias_of(FitSettings.of(model), fitted, taken, level)
    table = pd.DataFrame([{"rows": rows, "intervals": name, **row} for (rows, name), row in whose.items()])
    updated = model.fit(taken)
    updated._conformal = folds.calibration(taken, sizes, self.split == "first", self._seed)
    unlikely = unlikely_tasks(posterior, taken.names)
    verdict = in_words(bias.table, table, bias.p_value, level, len(taken), unlikely)
    return Recalibration(bias.table, table, bias.p_value, verdict, updated, level, len(taken), len(taken.X))


@dataclass(frozen=True)
class _Folds:
    """Models updated without some of the tasks, and which tasks these are."""

    models: list[Any]
    left_out: list[list[int]]

    @classmethod
    def of(cls, model: BaseEstimator, tasks: TaskSet) -> "_Folds":
        """Update a model without each part of the tasks; there is none of a single task."""
        n = len(tasks)
        parts = [list(range(j, n, min(n, FOLDS))) for j in range(min(n, FOLDS))] if n > 1 else []
        kept = [[i for i in range(n) if i not in part] for part in parts]
        return cls([clone(model).set_params(verbose=False).fit(tasks[chosen]) for chosen in kept], parts)

    def calibration(self, tasks: TaskSet, sizes: Sequence[int], ordered: bool, seed: int) -> Calibration | None:
        """Return the scores of tasks that their model did not see; None where there is no such model."""
        if not self.models:
            return None
        rng = np.random.default_rng(seed)
        orders = [np.arange(n) if ordered else rng.permutation(n) for n in tasks.sizes]
        scores = {}
        for size in sizes:
            parts = []
            for model, part in zip(self.models, self.left_out, strict=True):
                able = [i for i in part if tasks.sizes[i] > size]
                if able:
                    supports, queries = [orders[i][:size] for i in able], [orders[i][size:] for i in able]
                    parts.append(scores_of(model, tasks[able], supports, queries, False, 0))
            if parts:
                starts = np.cumsum([0, *(part.n_tasks for part in parts)])
                owner = [part.task + start for part, start in zip(parts, starts[:-1], strict=True)]
                values = np.concatenate([part.values for part in parts])
                scores[size] = Scores(values, np.concatenate(owner), int(starts[-1]))
        return Calibration(scores, None, frozenset(), False)


def _possible(sizes: list[int], tasks: TaskSet, support_size: Any) -> list[int]:
    """Return numbers of support rows, of the usual ones those that leave a row to judge by."""
    possible = [size for size in sizes if size < tasks.sizes.max()]
    if support_size is not None and len(possible) < len(sizes):
        raise TaskError(f"recalibrate: no task has more than {sizes[-1]} rows, so that none is left to judge by.")
    return possible


def _whose(model: Model, folds: _Folds, tasks: TaskSet, level: float) -> dict[tuple[str, str], dict[str, float]]:
    """Return the coverage of intervals by what was known and whose they are."""
    rows, bounds, judged = {}, model._fitted.bounds, evenly(len(tasks), MOST_JUDGED).tolist()
    left_out = [[i for i in part if i in judged] for part in folds.left_out]
    for rows_before, predicted in ((BEFORE, before), (AHEAD, ahead)):
        clustered = rows_before == BEFORE
        as_it_was = predicted(model, tasks, judged, level, bounds)
        parts = [predicted(one, tasks, some, level, bounds) for one, some in zip(folds.models, left_out, strict=True)]
        updated = Outcomes.join(parts)
        rows[rows_before, AS_IT_WAS] = coverage(as_it_was, level, clustered)
        rows[rows_before, UPDATED] = coverage(updated, level, clustered)
        rows[rows_before, CONFORMAL] = coverage(conformal_outcomes(updated, level), level, clustered)
    return rows
