"""AdaptedManyUnits: the constants of the units of many tasks, adapted in one call."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators import inputs
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import Calibration
from metaest.estimators.equations.censoring import warn_of_values_at_limit
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.task_rows import prepared
from metaest.estimators.equations.units.adapted import AdaptedUnits
from metaest.estimators.equations.units.adapting import adapt_units
from metaest.estimators.equations.units.levels import LevelColumns
from metaest.estimators.equations.units.posterior import UnitPosterior
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictors
from metaest.exceptions import TaskError
from metaest.tasks import TaskSet
from metaest.tasks.level_labels import has_labels

__all__ = ["AdaptedManyUnits", "adapted_many_units", "prepared_tasks"]


def adapted_many_units(
    columns: Columns, fitted: FittedEquation, tasks: Any, sample_weight: Any, conformal: Calibration | None = None
) -> AdaptedManyUnits:
    """Adapt to the units of many tasks in one batch; `columns` are of the fit."""
    _refuse_words(fitted, tasks)
    taken = inputs.require_columns(inputs.as_tasks(tasks, weighs=True, sample_weight=sample_weight))
    if taken.sample_weight is None:
        fitted.row_accuracy.warn_of_ones("adapt_many")
    columns.check(taken, taken.X.shape[1:], "adapt_many")
    inputs.check_targets(taken.y, True, 1, "adapt_many")
    rest = fitted.levels.columns.split(taken.X)[1]
    warn_of_values_at_limit(fitted.bounds, rest, taken.y, "adapt_many")
    levels, taken = fitted.levels.columns.recoded(prepared_tasks(fitted, taken))
    units = levels.units(taken, "adapt_many")
    posterior = adapt_units(fitted, units, levels, "adapt_many")
    return AdaptedManyUnits(fitted, posterior, levels, taken, columns.names, conformal)


def _refuse_words(fitted: FittedEquation, tasks: Any) -> None:
    """Raise a TaskError for pairs of a data frame and y whose units have labels, which a pair does not keep."""
    members = tasks.values() if isinstance(tasks, Mapping) else tasks if isinstance(tasks, (list, tuple)) else ()
    for task in members:
        frame: Any = task[0] if isinstance(task, (list, tuple)) and len(task) == 2 else None
        for level in fitted.levels.columns.labels if isinstance(frame, pd.DataFrame) else ():
            if level in frame.columns and has_labels(frame[level]):
                raise TaskError(
                    f"adapt_many: the level {level!r} holds labels; read the tasks from one data frame by "
                    f"TaskSet.from_frame(..., levels=[{level!r}]), or adapt to one after the other."
                )


def prepared_tasks(fitted: FittedEquation, tasks: TaskSet) -> TaskSet:
    """Return tasks with one number for all observations beyond a limit; what the noise does not allow is refused."""
    rest = fitted.levels.columns.split(tasks.X)[1]
    without_levels = TaskSet.from_checked(rest, tasks.y, tasks.offsets, tasks.names)
    return tasks.with_rows(y=prepared(fitted, without_levels).y)


class AdaptedManyUnits(AdaptedPredictors[AdaptedUnits]):
    """The predictors of many tasks with units within them, made by ``adapt_many``; a sequence in the tasks' order.

    Attributes
    ----------
    params_ : DataFrame
        One row a task, unit and constant, with the columns of :class:`AdaptedUnits`.
    tasks : TaskSet
        The tasks that were adapted to.
    """

    # attributes that a file holds
    _written_fields = ("_fitted", "_posterior", "_levels", "tasks", "n_features_in_", "feature_names_in_", "_conformal")

    def __init__(
        self,
        fitted: FittedEquation,
        posterior: UnitPosterior,
        levels: LevelColumns,
        tasks: TaskSet,
        feature_names: Any = None,
        conformal: Calibration | None = None,
    ) -> None:
        self._conformal = conformal
        self._fitted, self._posterior, self._levels, self.tasks = fitted, posterior, levels, tasks
        self.n_features_in_ = tasks.X.shape[1]
        if feature_names is not None:
            self.feature_names_in_ = feature_names

    def _one(self, i: int) -> AdaptedUnits:
        task, posterior = self.tasks[i], self._posterior.of_task(i)
        weight = None if task.sample_weight is None else np.asarray(task.sample_weight)
        y = task.y.reshape(-1)
        one = AdaptedUnits(
            self._fitted, posterior, self._levels, task.X, y, self.n_features_in_, weight, None, self._conformal
        )
        if Columns(self).names is not None:
            object.__setattr__(one, "feature_names_in_", Columns(self).names)
        return one

    @property
    def log_evidence(self) -> Tensor:
        """Logarithm of the evidence of each task's rows by Laplace's approximation, of shape (tasks,)."""
        tree = self._posterior.tree(self._fitted.levels.factors)
        zeros = [torch.zeros(factor.shape[1], n) for factor, n in zip(tree.factors, tree.sizes, strict=True)]
        system = tree.eliminate([u.double() for u in zeros], self._posterior.gradient, self._posterior.information)
        return -self._posterior.loss - 0.5 * tree.log_determinant(system)

    @cached_property
    def _params(self) -> pd.DataFrame:
        names = self.tasks.names.tolist()
        parts: Any = {name: one.params_ for name, one in zip(names, self, strict=True)}
        return pd.DataFrame(pd.concat(parts, names=["task"]))

    @property
    @in_plain_modes
    def params_(self) -> pd.DataFrame:
        """The constants of every unit of every task."""
        return self._params.copy()

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict each task's own rows.

        Parameters
        ----------
        X : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
            The tasks that were adapted to, in the same order; their rows may be others.

        Returns
        -------
        ndarray of shape (n_rows_of_all_tasks,)

        Raises
        ------
        TaskError
            When the tasks are others, or their columns.
        """
        tasks = inputs.tasks_by_name(X)
        if not isinstance(tasks, TaskSet):
            raise TaskError("predict: with levels every task has rows of its own; pass a TaskSet.")
        self._require_same(tasks)
        _, tasks = self._levels.recoded(tasks)
        return np.concatenate([one.predict(task.X) for one, task in zip(self, tasks, strict=True)])
