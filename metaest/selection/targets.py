"""What candidates predict: numbers, as probabilities of classes are, and how their episodes are drawn and judged."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.selection.answers import of_queries
from metaest.selection.candidates import Candidate
from metaest.selection.folds import folds
from metaest.tasks import Task, TaskSet

__all__ = ["FEWEST_QUERY", "MOST_QUERY", "Numbers", "Targets", "carried_first", "taken"]

# query rows that an episode has to leave
FEWEST_QUERY = 2
# ... and has at most
MOST_QUERY = 50


class Targets(ABC):
    """A kind of targets: the rows that `shots` counts, what is predicted of the others, and in which units.

    Attributes
    ----------
    unit : str
        What `shots` counts, in the plural.
    labels : bool
        Whether they are classes, and candidates classifiers.
    drawn : bool
        Whether episodes are drawn from the classes of a task.
    """

    unit: str
    labels = False
    drawn = False

    @property
    @abstractmethod
    def finest(self) -> float:
        """Least unit of mean squared errors: much smaller ones are alike."""

    @abstractmethod
    def sizes(self, tasks: TaskSet) -> NDArray[np.intp]:
        """Return numbers of tasks of which `shots` and FEWEST_QUERY more may be asked."""

    @abstractmethod
    def split(self, task: Task, shot: int, order: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows to adapt on and those to predict, of rows in an order."""

    def settled(self, candidate: Candidate) -> Candidate:
        """Return a candidate that does not decide from some of the tasks what all of them decide."""
        return candidate

    def compared(
        self, tasks: TaskSet, shots: Sequence[int], cv: int, rng: np.random.Generator
    ) -> tuple[TaskSet, list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
        """Return tasks, and for each comparison the numbers of those fitted on and of those left out to be judged on.

        Parameters
        ----------
        tasks : TaskSet
            Those of the fit; what is returned may be parts of them.
        shots : sequence of int
        cv : int
            Folds, of few tasks.
        rng : Generator
        """
        able = self.sizes(tasks) >= min(shots) + FEWEST_QUERY
        parts = folds(able, cv, rng) if len(tasks) > 1 else []
        parts = [(training, self.judged(tasks, training, left_out)) for training, left_out in parts]
        return tasks, [part for part in parts if len(part[1])]

    @abstractmethod
    def judged(self, tasks: TaskSet, training: NDArray[np.intp], left_out: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of the tasks left out that a fit on the others can be judged on."""

    @abstractmethod
    def truth(self, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
        """Return what the query rows are predicted to be, of shape (n_rows, n_columns)."""

    @abstractmethod
    def predictions(self, name: str, model: Any, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
        """Adapt a fitted candidate to supports and predict the queries, as `truth` has them."""

    @abstractmethod
    def scale(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the size of an error of one, by column."""


class Numbers(Targets):
    """Targets of a regression."""

    unit = "rows"
    finest = 1e-8  # errors of a ten-thousandth of the targets' spread: smaller ones are rounding

    def sizes(self, tasks: TaskSet) -> NDArray[np.intp]:
        """Return the numbers of rows."""
        return tasks.sizes

    def split(self, task: Task, shot: int, order: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first rows, those that the task carries before others, and the next, others where there are."""
        order, carried = carried_first(task, order)
        start = max(shot, carried)
        if len(order) - start < FEWEST_QUERY:
            start = shot
        return order[:shot], np.sort(order[start : start + MOST_QUERY])

    def judged(self, tasks: TaskSet, training: NDArray[np.intp], left_out: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return all tasks that are left out."""
        return left_out

    def truth(self, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
        """Return the targets of the query rows."""
        return _columns(query.y)

    def predictions(self, name: str, model: Any, support: TaskSet, query: TaskSet) -> NDArray[np.float64]:
        """Adapt a fitted candidate to supports and predict the queries, the rows of one task after the other."""
        return _columns(of_queries(name, model, support, query))

    def scale(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard deviation of each target; where it is rounding, the size of the target, or one."""
        size = np.abs(truth).max(axis=0)
        size = np.where(size > 0, size, 1.0)
        spread = (truth / size).std(axis=0)
        return np.asarray(size * np.where(spread > 1e-12, spread, 1.0))


def carried_first(task: Task, order: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Return an order of rows with those first that the task carries as its support, and the number of these."""
    carried = np.isin(order, () if task.support is None else task.support)
    return np.concatenate([order[carried], order[~carried]]), int(carried.sum())


def taken(task: Task, rows: NDArray[np.intp]) -> Task:
    """Return a task of some of the rows of another."""
    X, y = task.X[rows], task.y[rows]
    return Task(task.name, X, y, feature_names=task.feature_names, target_names=task.target_names)


def _columns(y: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
