"""Outcomes of a fit that are not normal: their columns and rows checked, and questions that make no sense of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from metaest.exceptions import TaskError, warn
from metaest.functional import Noise, Ordinal, Outcome
from metaest.tasks import TaskSet

__all__ = [
    "check_outcomes",
    "check_outcomes_of_tasks",
    "check_predicted",
    "outcome_for",
    "refuse_outcome",
    "require_scores",
    "require_simulated",
    "warn_of_degenerate",
]


def outcome_for(outcome: Outcome, tasks: TaskSet) -> Outcome:
    """Return an outcome for the columns and the values of tasks, all of which it allows.

    Raises
    ------
    ValueError
        When there is no such column.
    TaskError
        When an observation is none of this kind; the message names task and row.

    Warns
    -----
    ConvergenceWarning
        When the observations leave the constants open, such as zeros alone.
    """
    if tasks.sample_weight is not None:
        raise ValueError(
            f"sample_weight is the accuracy of normal observations, and noise={outcome.kind!r} has none: a number of "
            "trials is Binomial(trials=...), a time at risk a factor of the equation."
        )
    names = tasks.feature_names
    numbers: dict[str, Any] = {}
    for setting, label in outcome.labels.items():
        if isinstance(label, str):
            if names is None or label not in names:
                has = "the columns have no names" if names is None else f"it has {list(names)}"
                raise ValueError(f"{setting}: there is no column {label!r} in X; {has}.")
            numbers[setting] = names.index(label)
        elif isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise ValueError(f"{setting} must be a column of X, by name or by number, got {label!r}.")
        elif not 0 <= label < tasks.X.shape[1]:
            raise ValueError(f"{setting}: {label!r} is no column of X, which has {tasks.X.shape[1]} columns.")
        else:
            numbers[setting] = int(label)
    if isinstance(outcome, Ordinal) and outcome.categories is None:
        check_outcomes_of_tasks(outcome, tasks)
        numbers["categories"] = max(2, int(tasks.y.max()) + 1)
    outcome = replace(outcome, **numbers)
    check_outcomes_of_tasks(outcome, tasks)
    warn_of_degenerate(outcome, tasks)
    return outcome


def warn_of_degenerate(outcome: Outcome, tasks: TaskSet) -> None:
    """Warn of observations that leave the constants open."""
    sentence = outcome.degenerate(*_tensors(tasks.X, tasks.y))
    if sentence:
        warn(
            f"fit: {sentence}; constants run to where they stop, and their standard errors mean nothing.",
            ConvergenceWarning,
        )


def check_outcomes(noise: Noise, X: NDArray[Any], y: NDArray[Any], where: str) -> None:
    """Raise a TaskError where an observation of one task is none of the kind of the fit; `where` begins the message."""
    if noise.normal or not len(y):
        return
    assert isinstance(noise, Outcome)
    fault = noise.fault(*_tensors(X, y))
    if fault is not None:
        raise TaskError(f"{where}: {fault.what} in row {fault.row}, but noise={noise.kind!r}: {fault.remedy}.")


def check_predicted(noise: Noise, X: NDArray[Any], where: str) -> None:
    """Raise a TaskError where nothing can be predicted of a row, such as without a number of trials."""
    if isinstance(noise, Outcome) and len(X):
        fault = noise.row_fault(torch.from_numpy(X.astype(np.float64)))
        if fault is not None:
            raise TaskError(f"{where}: {fault.what} in row {fault.row}, but noise={noise.kind!r}: {fault.remedy}.")


def check_outcomes_of_tasks(noise: Noise, tasks: TaskSet) -> None:
    """Raise the TaskError of `check_outcomes` for the first task with such an observation."""
    if noise.normal:
        return
    assert isinstance(noise, Outcome)
    if noise.fault(*_tensors(tasks.X, tasks.y)) is not None:
        for task in tasks:
            check_outcomes(noise, task.X, task.y, f"task {task.name!r}")


def _tensors(X: NDArray[Any], y: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Return rows and observations as tensors."""
    return torch.from_numpy(X.astype(np.float64)), torch.from_numpy(y.reshape(-1).astype(np.float64))


def require_scores(noise: Noise, where: str = "score") -> None:
    """Raise a ValueError where errors of predictions say nothing, since the times of rows are those of events."""
    if isinstance(noise, Outcome) and not noise.simulates:
        raise ValueError(
            f"{where}: rows of noise={noise.kind!r} end where their events happened, so that no prediction of y is "
            "judged by them; compare log_likelihood(tasks) of tasks that were left out."
        )


def require_simulated(noise: Noise, where: str) -> None:
    """Raise a ValueError where data like those of a fit cannot be drawn at given rows."""
    if isinstance(noise, Outcome) and not noise.simulates:
        raise ValueError(
            f"{where}: data of noise={noise.kind!r} cannot be drawn row by row: the times of rows are when their "
            "events happened."
        )


def refuse_outcome(noise: Noise, where: str, remedy: str) -> None:
    """Raise a ValueError for a question that makes sense of normal observations alone."""
    if not noise.normal:
        raise ValueError(f"{where}: observations of noise={noise.kind!r} are not normal; {remedy}.")
