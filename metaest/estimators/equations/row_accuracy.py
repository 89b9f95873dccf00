r"""Known accuracy of single observations: weights of rows, and a column of standard deviations of the measurement.

The variance of an observation is :math:`v / w + s^2`, with the variance v of the noise, the weight w of its row
(``sample_weight``) and the standard deviation s of its measurement (``measurement_sd``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.exceptions import TaskError, warn
from metaest.tasks import TaskSet
from metaest.tasks.weights import as_weights, require_weights

__all__ = ["RowAccuracy", "relative_accuracy", "with_mean_weight_one"]


@dataclass(frozen=True)
class RowAccuracy:
    """Known accuracy of the rows of a fit, with which that of new rows is compared.

    Attributes
    ----------
    label : str, int or None
        The user's name for the column of standard deviations.
    column : int or None
        The number of that column.
    weights : (float, float) or None
        The smallest and the largest weight of the fit; None without weights.
    """

    label: str | int | None = None
    column: int | None = None
    weights: tuple[float, float] | None = None

    @classmethod
    def learn(cls, label: Any, tasks: TaskSet) -> RowAccuracy:
        """Find the column, check it, and note the range of the weights."""
        w = tasks.sample_weight
        accuracy = cls(label, _find_column(label, tasks), None if w is None else (float(w.min()), float(w.max())))
        accuracy.check_tasks(tasks)
        return accuracy

    def check_tasks(self, tasks: TaskSet) -> None:
        """Raise a TaskError where a standard deviation is below zero, naming task and row."""
        if self.column is not None and (tasks.X[:, self.column] < 0).any():
            for task in tasks:
                self.check(task.X, f"task {task.name!r}")

    def check(self, X: NDArray[Any], where: str) -> None:
        """Raise a TaskError where a standard deviation is below zero; the message begins with `where`."""
        if self.column is None:
            return
        bad = np.flatnonzero(X[:, self.column] < 0)
        if len(bad):
            raise TaskError(
                f"{where}: measurement_sd column {self.label!r} is {X[bad[0], self.column]:g} in row {bad[0]}; a "
                "standard deviation in the unit of y is wanted, at least 0 (a scaler before the model changes it)."
            )

    def of_rows(self, sample_weight: Any, n_rows: int, where: str) -> NDArray[np.float64] | None:
        """Return the weights of rows of one task; None where all are 1.

        Raises
        ------
        TaskError
            When they are no weights.

        Warns
        -----
        UserWarning
            When none are given, and the fit had weights all above or all below 1.
        """
        if sample_weight is None:
            if n_rows:
                self.warn_of_ones(where)
            return None
        weight = as_weights(sample_weight, n_rows, where)
        require_weights(weight, lambda row: (where, row))
        return weight

    def of_new_rows(self, sample_weight: Any, n_rows: int, where: str) -> NDArray[np.float64] | None:
        """Return the weights of observations to be made, which are above zero."""
        weight = self.of_rows(sample_weight, n_rows, where)
        if weight is not None and not weight.all():
            row = int(np.flatnonzero(weight == 0)[0])
            raise TaskError(f"{where}: sample_weight is 0 in row {row}; a new observation needs a weight above 0.")
        return weight

    def of_predicted(self, sample_weight: Any, n_rows: int, of: str) -> NDArray[np.float64] | None:
        """Return the weights of rows of ``predict_interval``; a curve (``of="curve"``) has none."""
        if of == "observation":
            return self.of_new_rows(sample_weight, n_rows, "predict_interval")
        if sample_weight is not None:
            raise ValueError("predict_interval: sample_weight is for of='observation'; a curve has no noise.")
        return None

    def weighted_rows(
        self, X: NDArray[Any], y: NDArray[Any], sample_weight: Any, where: str
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
        """Return the rows of one task that have a weight above zero, and their weights."""
        weight = self.of_rows(sample_weight, len(X), where)
        if weight is None:
            return X, y, None
        if len(weight) and not weight.any():
            raise TaskError(f"{where}: the weights of all rows are zero; nothing is left to adapt to.")
        chosen = weight > 0
        return X[chosen], y[chosen], weight[chosen]

    def warn_of_ones(self, where: str) -> None:
        """Warn when weights of 1 are far from those of the fit."""
        if self.weights is not None and not self.weights[0] <= 1 <= self.weights[1]:
            low, high = self.weights
            warn(
                f"{where}: the rows come without sample_weight and are taken with weight 1, but those of the fit had "
                f"weights from {low:.3g} to {high:.3g}; pass weights on the same scale."
            )


def _find_column(label: Any, tasks: TaskSet) -> int | None:
    """Return the number of the column of standard deviations, or raise a ValueError when there is no such one."""
    if label is None:
        return None
    names = tasks.feature_names
    if isinstance(label, str):
        if names is None or label not in names:
            has = "the columns have no names" if names is None else f"it has {list(names)}"
            raise ValueError(f"measurement_sd: there is no column {label!r} in X; {has}.")
        return names.index(label)
    if not 0 <= label < tasks.X.shape[1]:
        raise ValueError(f"measurement_sd: {label!r} is no column of X, which has {tasks.X.shape[1]} columns.")
    return int(label)


def with_mean_weight_one(tasks: TaskSet) -> tuple[TaskSet, float]:
    """Return tasks whose weights have a geometric mean of 1, and the logarithm of what they were divided by.

    A search that starts from the spread of the targets then does not depend on the unit of the weights.
    """
    weight = tasks.sample_weight
    if weight is None:
        return tasks, 0.0
    shift = float(np.log(weight).mean())
    return tasks.with_rows(sample_weight=weight * np.exp(-shift)), shift


def relative_accuracy(noise: Any, f: Tensor, log_sigma: Tensor, observations: Any) -> Tensor | None:
    """Return the variance of the noise over that of each observation; None where all are alike."""
    accuracy = noise.accuracy(observations)
    if accuracy.alike or not noise.normal:
        return None
    alike = noise.variance(f, log_sigma, accuracy._replace(weight=None, variance=None))
    # errors of several outputs are compared in units of the spread of their observations
    ratio: Tensor = alike / noise.variance(f, log_sigma, accuracy) * noise.units(accuracy) ** 2
    return torch.where(torch.isfinite(ratio), ratio, 0.0)
