"""Which columns have coefficients that are fixed, and which have random ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.estimators.columns import chosen_columns
from metaest.exceptions import TaskError
from metaest.functional import Scaling
from metaest.tasks import TaskSet

__all__ = ["CONSTANT", "Design"]

# spread within tasks, in units of a column's spread over all rows, below which it is one number a task
CONSTANT = 1e-9


@dataclass(frozen=True, eq=False)
class Design:
    """Standardised columns of X with coefficients, each set of which begins with a column of ones.

    Attributes
    ----------
    random, fixed : ndarray of int
        Columns of X with random coefficients, and with fixed ones.
    shrunk : ndarray of bool, shape (1 + n_fixed,)
        Which of the fixed coefficients have a common variance.
    mean, scale : ndarray of shape (n_features,)
        Of the columns, over the training rows.
    """

    random: NDArray[np.intp]
    fixed: NDArray[np.intp]
    shrunk: NDArray[np.bool_]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, tasks: TaskSet, random: Any, fixed: str) -> "Design":
        """Return the design that settings ask for.

        Parameters
        ----------
        tasks : TaskSet
        random : "intercept", "slopes", or sequence of str or int
        fixed : {"random", "levels", "all"}
            Which columns have fixed coefficients: those with random ones; also those that are one number a task, whose
            coefficients are shrunk; or all.

        Raises
        ------
        TaskError
            When a column that is named varies within no task.
        ValueError
            When there is no such column.
        """
        mean, scale = (part.numpy() for part in Scaling.learn(torch.from_numpy(tasks.X.astype(np.float64))))
        spread = _spread_within(tasks, mean, scale)
        varies, differs = spread[0] > CONSTANT, spread[1] > CONSTANT
        if isinstance(random, str) and random == "slopes":
            columns = np.flatnonzero(varies)
        elif isinstance(random, str):
            columns = np.empty(0, dtype=np.intp)
        else:
            columns = np.array(chosen_columns(random, "random", tasks.feature_names, tasks.X.shape[1]), dtype=np.intp)
            _require_varying(columns, varies, tasks)
        if fixed == "all":
            every = np.flatnonzero(differs)
        elif fixed == "levels":
            every = np.concatenate([columns, np.flatnonzero(differs & ~varies)])
        else:
            every = columns
        shrunk = np.concatenate([[False], ~np.isin(every, columns)]) if fixed == "levels" else np.zeros(1 + len(every))
        return cls(columns, every, shrunk.astype(bool), mean, scale)

    def columns(self, X: NDArray[np.float64], which: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return ones and standardised columns of X, whose last axis is that of the columns."""
        part = (X[..., which] - self.mean[which]) / self.scale[which]
        return np.concatenate([np.ones((*X.shape[:-1], 1)), part], axis=-1)

    def in_units(self, which: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the matrix that takes coefficients of standardised columns to those of the columns themselves."""
        matrix = np.diag(np.concatenate([[1.0], 1 / self.scale[which]]))
        matrix[0, 1:] = -self.mean[which] / self.scale[which]
        return matrix


def _spread_within(
    tasks: TaskSet, mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the greatest range of each column within a task, and its range over all rows, in standard deviations."""
    X = (tasks.X.astype(np.float64) - mean) / scale
    least, most = np.minimum.reduceat(X, tasks.offsets[:-1]), np.maximum.reduceat(X, tasks.offsets[:-1])
    return (most - least).max(axis=0), most.max(axis=0) - least.min(axis=0)


def _require_varying(columns: NDArray[np.intp], varies: NDArray[np.bool_], tasks: TaskSet) -> None:
    """Raise a TaskError where a column has one number in each task, so that no task has a slope in it."""
    for column in columns[~varies[columns]].tolist():
        label = column if tasks.feature_names is None else repr(tasks.feature_names[column])
        raise TaskError(
            f"random: column {label} varies within no task, so that no task tells its slope; leave it out of random= "
            "(its effect is part of the fixed part)."
        )
