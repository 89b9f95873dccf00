"""Labels as numbers: which classes a task has, and whether a label means the same in all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from metaest.exceptions import TaskError, filters_kept
from metaest.tasks.task_set import TaskSet

__all__ = ["Classes", "encode", "encode_known", "labels_of", "place_among", "share_labels"]


@dataclass(frozen=True)
class Classes:
    """The labels of the rows of a TaskSet, as numbers.

    Attributes
    ----------
    shared : bool
        Whether a label means the same in every task. If so its number is its place among all labels, otherwise its
        place among those of its task.
    codes : ndarray of int, shape (n_rows,)
    counts : ndarray of int, shape (n_tasks,)
        Number of classes of each task; where labels are shared, of all.
    labels : ndarray
        All labels, sorted.
    """

    shared: bool
    codes: NDArray[np.intp]
    counts: NDArray[np.intp]
    labels: NDArray[Any]


@filters_kept()
def labels_of(y: NDArray[Any], where: Callable[[int], str]) -> NDArray[Any]:
    """Return one label a row, or raise where targets are no labels.

    Parameters
    ----------
    y : ndarray
    where : callable
        Row number -> how the message begins.
    """
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and (y % 1 != 0).any():
        row = int(np.flatnonzero(y % 1 != 0)[0])
        raise TaskError(f"{where(row)}: y is {y[row]:g}, which is no label. Unknown label type: continuous.")
    if y.dtype.kind == "f" and (np.abs(y) > 2.0**53).any():
        row = int(np.flatnonzero(np.abs(y) > 2.0**53)[0])
        raise TaskError(
            f"{where(row)}: the label {y[row]:g} is a whole number that floats do not tell from its neighbours (beyond "
            "2^53); write labels as words, or as whole numbers of 64 bits."
        )
    check_classification_targets(y)
    return y


def _labels_of_tasks(tasks: TaskSet) -> NDArray[Any]:
    return labels_of(tasks.y, lambda row: f"task {tasks.name_of(tasks.place_of(row)[0])!r}")


def share_labels(tasks: TaskSet) -> bool:
    """Tell whether labels seem to mean the same in all tasks: one task at least has every label there is."""
    _, codes = np.unique(_labels_of_tasks(tasks), return_inverse=True)
    most = max(len(np.unique(codes[a:b])) for a, b in pairwise(tasks.offsets))
    return most == int(codes.max()) + 1


def encode(tasks: TaskSet, shared: bool) -> Classes:
    """Return the labels of tasks as numbers.

    Parameters
    ----------
    tasks : TaskSet
    shared : bool
        Whether a label means the same in every task.

    Returns
    -------
    Classes

    Raises
    ------
    ValueError
        When the targets are several columns.
    TaskError
        When a target is no label; when there is one class only: of all, or where each task has its own labels, in a
        task.
    """
    labels, codes = np.unique(_labels_of_tasks(tasks), return_inverse=True)
    if shared:
        if len(labels) < 2:
            raise TaskError(
                f"all rows have one label, {labels.tolist()[0]!r}; a classifier needs more than one class to learn."
            )
        return Classes(True, codes, np.full(len(tasks), len(labels)), labels)
    owner = np.repeat(np.arange(len(tasks)), tasks.sizes)
    pairs, inverse = np.unique(owner * len(labels) + codes, return_inverse=True)
    counts = np.bincount(pairs // len(labels), minlength=len(tasks))
    if counts.min() < 2:
        i = int(np.argmin(counts))
        label = labels[codes[tasks.offsets[i]]]
        raise TaskError(
            f"task {tasks.name_of(i)!r}: it has one class only, {label.tolist()!r}; at least two are "
            "needed where each task has labels of its own."
        )
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return Classes(False, inverse - firsts[owner], counts, labels)


def encode_known(tasks: TaskSet, labels: NDArray[Any]) -> Classes:
    """Return the labels of tasks as their numbers among those of a fitted model.

    Parameters
    ----------
    tasks : TaskSet
    labels : ndarray
        Those of the model, sorted.

    Returns
    -------
    Classes

    Raises
    ------
    TaskError
        When a task has another label.
    """
    y = _labels_of_tasks(tasks)
    owner = np.repeat(np.arange(len(tasks)), tasks.sizes)
    names = tasks.names.tolist()
    codes = place_among(y, labels, lambda row: f"task {names[owner[row]]!r}")
    return Classes(True, codes, np.full(len(tasks), len(labels)), labels)


def place_among(y: NDArray[Any], labels: NDArray[Any], where: Any) -> NDArray[np.intp]:
    """Return the places of the labels `y` among sorted ones; a TaskError names the first that is not among them.

    Parameters
    ----------
    y, labels : ndarray
    where : callable
        Row number -> how the message begins.
    """
    if (y.dtype.kind == "U") != (labels.dtype.kind == "U"):
        kinds = ["words" if array.dtype.kind == "U" else "numbers" for array in (y, labels)]
        raise TaskError(f"{where(0)}: its labels are {kinds[0]}, but those of the fit were {kinds[1]}.")
    places = np.searchsorted(labels, y).clip(max=len(labels) - 1)
    unknown = np.flatnonzero(labels[places] != y)
    if unknown.size:
        row = int(unknown[0])
        raise TaskError(
            f"{where(row)}: label {y[row].tolist()!r} was not met in the fit, which had {labels.tolist()[:20]}; with "
            "shared_labels=False each task may have labels of its own."
        )
    return places
