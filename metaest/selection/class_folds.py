"""Folds of classes, where the same classes come again in several tasks, or many are those of one data set.

Were whole tasks left out, the others would have shown a candidate the very classes that it is judged on, and the one
that remembers classes best would win; a new task has new ones. So classes are left out: fits see the tasks without
them, and are judged on the tasks' rows of them alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from metaest.selection.folds import MOST_TASKS
from metaest.tasks import Task, TaskSet, share_labels

__all__ = ["classes_left_out", "episodes_of_classes", "recurring_classes", "renamed"]

# from so many classes on, a quarter of them is left out once; below, all are left out in turn
MANY_CLASSES = 50
# episodes that candidates are judged on, where these are drawn
WANTED = 60
# rows of a class of such an episode, beside those that are adapted on
N_QUERY = 15


def recurring_classes(tasks: TaskSet) -> NDArray[np.intp] | None:
    """Return the number of the class of every row, where classes come again in tasks that have labels of their own.

    Labels tell so where they come again and no task has all of them: else they are places, as "a" to "c" are. Equal
    rows tell so, too, where no task has equal rows in two classes.

    Parameters
    ----------
    tasks : TaskSet

    Returns
    -------
    ndarray of int, shape (n_rows,), or None
        None where no class is seen to come again.
    """
    task = np.repeat(np.arange(len(tasks)), tasks.sizes)
    labels, codes = np.unique(tasks.y.ravel(), return_inverse=True)
    if len(tasks) == 1:
        return codes
    pairs, pair = np.unique(task * len(labels) + codes, return_inverse=True)
    if not share_labels(tasks):
        return codes if len(labels) < len(pairs) else None
    flat = np.ascontiguousarray(tasks.X.reshape(len(tasks.X), -1))
    _, row = np.unique(flat.view(np.dtype((np.void, flat.strides[0]))).ravel(), return_inverse=True)
    edges = np.ones(len(row), dtype=np.int8), (pair, len(pairs) + row)
    size = len(pairs) + int(row.max()) + 1
    group = connected_components(coo_array(edges, shape=(size, size)), directed=False)[1][: len(pairs)]
    groups, number = np.unique(group, return_inverse=True)
    in_tasks = np.unique((pairs // len(labels)) * len(groups) + number)
    if len(groups) == len(pairs) or len(in_tasks) < len(pairs):
        return None  # no rows are equal, or rows of two classes of a task are
    return np.asarray(number[pair], dtype=np.intp)


def classes_left_out(
    tasks: TaskSet, classes: NDArray[np.intp], n_way: int | None, cv: int, rng: np.random.Generator
) -> list[tuple[list[Task], list[Task]]]:
    """Return, of each comparison, the tasks without some classes, and the tasks of these classes alone.

    Parameters
    ----------
    tasks : TaskSet
    classes : ndarray of int, shape (n_rows,)
        As :func:`recurring_classes` returns them.
    n_way : int or None
        Classes that a task has to keep for a fit; two at least.
    cv : int
    rng : Generator
    """
    n, least = int(classes.max()) + 1, max(n_way or 2, 2)
    most, order = n - least, rng.permutation(n)
    if most < 2:
        return []
    if n >= MANY_CLASSES:
        return _enough([_parted(tasks, classes, order[: min(max(least, n // 4), most)], least, rng)], tasks)
    for n_folds in range(min(cv, n // 2), 1, -1):
        size = min(max(least, -(-n // n_folds)), most)
        groups = [order[i : i + size] for i in range(0, n - size + 1, size)]
        if made := _enough([_parted(tasks, classes, group, least, rng) for group in groups], tasks):
            return made
    return []


def _parted(
    tasks: TaskSet, classes: NDArray[np.intp], group: NDArray[np.intp], least: int, rng: np.random.Generator
) -> tuple[list[Task], list[Task]]:
    """Return tasks without a group of classes, of as many as `least`, and tasks of these alone, of two at least."""
    is_out, training, judged = np.isin(classes, group), [], []
    for i in rng.permutation(len(tasks))[:MOST_TASKS]:
        task, out = tasks[int(i)], is_out[tasks.offsets[i] : tasks.offsets[i + 1]]
        kept, left = np.flatnonzero(~out), np.flatnonzero(out)
        if len(np.unique(task.y[kept])) >= least:
            training.append(_part(task, kept, task.name))
        if len(np.unique(task.y[left])) >= 2:
            judged.append(_part(task, left, task.name))
    return training, judged


def _enough(made: list[tuple[list[Task], list[Task]]], tasks: TaskSet) -> list[tuple[list[Task], list[Task]]]:
    """Return the comparisons where the fits keep a quarter of the tasks, and ten or a quarter are judged; else none."""
    quarter = min(len(tasks), MOST_TASKS) / 4
    if min(len(training) for training, _ in made) < quarter or sum(len(judged) for _, judged in made) < min(
        quarter, 10
    ):
        return []
    return [(training, judged[: MOST_TASKS // 4 // len(made)]) for training, judged in made if judged]


def episodes_of_classes(
    tasks: Sequence[Task], n_way: int, n_episodes: int, most: int, rng: np.random.Generator
) -> list[Task]:
    """Draw tasks of some classes of others.

    Parameters
    ----------
    tasks : sequence of Task
        They take turns.
    n_way : int
        Classes of an episode, or all where a task has fewer.
    n_episodes : int
    most : int
        Rows that are adapted on, of a class.
    rng : Generator
    """
    drawn = []
    for i in range(n_episodes):
        task = tasks[i % len(tasks)]
        y = task.y.ravel()
        labels = np.unique(y)
        chosen, rows = rng.choice(labels, min(n_way, len(labels)), replace=False), []
        for label in chosen:
            rows.append(rng.permutation(np.flatnonzero(y == label))[: most + N_QUERY])
        drawn.append(_part(task, np.sort(np.concatenate(rows)), f"{task.name}, episode {i}"))
    return drawn


def _part(task: Task, rows: NDArray[np.intp], name: Any) -> Task:
    """Return a task of some of the rows of another, with what it carries of that one's support."""
    support = None if task.support is None else np.flatnonzero(np.isin(rows, task.support))
    support = None if support is None or len(support) == len(rows) else support
    return renamed(Task.from_checked(task.name, task.X[rows], task.y[rows], support=support), name, like=task)


def renamed(task: Task, name: Any, like: Task | None = None) -> Task:
    """Return a task of the same rows by another name, with the columns' names of a task that it is like."""
    return Task.from_checked(
        name,
        task.X,
        task.y,
        support=None if task.support is None else np.asarray(task.support, dtype=np.intp),
        feature_names=(like or task).feature_names,
        target_names=(like or task).target_names,
    )
