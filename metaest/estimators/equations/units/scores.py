"""Few-shot predictions of tasks with units: adapt to the support rows of all units, predict the others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.conformal import rows_of_supports
from metaest.estimators.equations.censoring import as_recorded
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.units.adapted import AdaptedUnits
from metaest.estimators.equations.units.adapted_many import adapted_many_units, prepared_tasks
from metaest.exceptions import quiet
from metaest.tasks import TaskSet, split_tasks

__all__ = ["unit_predictions"]


def unit_predictions(
    columns: Columns, fitted: FittedEquation, tasks: TaskSet, support_size: Any, split: str, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Adapt to the support of every task and predict its query.

    Returns
    -------
    truth, prediction : ndarray of shape (n_query_rows,)
    rows : ndarray of shape (n_query_rows,)
        Their row numbers in the TaskSet.
    """
    levels, tasks = fitted.levels.columns.recoded(prepared_tasks(fitted, tasks))
    drawn = split_tasks(tasks, np.arange(len(tasks)), support_size, split, rng)
    first = tasks.offsets[:-1]
    supports = [drawn.support[i][drawn.support_mask[i]] - first[i] for i in range(len(tasks))]
    # a task of one row has no support: it is predicted before any adaptation
    some = [i for i, support in enumerate(supports) if len(support)]
    unadapted = AdaptedUnits(fitted, None, levels, tasks.X[:0], tasks.y[:0].reshape(-1), tasks.X.shape[1])
    if columns.names is not None:
        object.__setattr__(unadapted, "feature_names_in_", columns.names)
    adapted = dict.fromkeys(range(len(tasks)), unadapted)
    if some:
        with quiet(UserWarning):
            support = rows_of_supports(tasks, some, [supports[i] for i in some])
            adapted |= dict(zip(some, adapted_many_units(columns, fitted, support, None), strict=True))
    predictions, numbers = [], []
    for i, one in adapted.items():
        query = drawn.query[i][drawn.query_mask[i]]
        predictions.append(one.predict(tasks.X[query]))
        numbers.append(query)
    rows, prediction = np.concatenate(numbers), np.concatenate(predictions)
    truth = tasks.y[rows].astype(np.float64).reshape(-1)
    rest = fitted.levels.columns.split(tasks.X[rows])[1]
    return truth, as_recorded(fitted.bounds, rest, truth, prediction), rows
