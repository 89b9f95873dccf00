"""Support and query of classification tasks: which classes stand in an episode, and how many rows of each."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.classes import Classes
from metaest.tasks.split import Split, check_split, support_sizes
from metaest.tasks.task_set import TaskSet

__all__ = ["ClassSplit", "Drawing", "class_widths", "split_classes"]


@dataclass(frozen=True)
class Drawing:
    """Settings of how episodes are drawn.

    Attributes
    ----------
    support_size : int, range, (low, high) or None
        Support rows of a task, used where `k_shot` is None. Where tasks have labels of their own, one of each class at
        least.
    k_shot : int, range, (low, high) or None
        Support rows of each class; from a range a number of its own for each class.
    n_query : int or None
        Query rows of each class at most; None for all that are left.
    n_way : int or None
        Classes of an episode; None for all of a task.
    split : {"random", "first"}
    """

    support_size: Any = (1, 5)
    k_shot: Any = None
    n_query: int | None = None
    n_way: int | None = None
    split: str = "random"

    def check(self, tasks: TaskSet, classes: Classes) -> None:
        """Raise when a setting is none, or a task has fewer classes than an episode should have."""
        check_split(self.support_size, self.split)
        check_split(self.k_shot, self.split, "k_shot")
        if self.n_way is not None and classes.counts.min() < self.n_way:
            i = int(np.argmin(classes.counts))
            raise TaskError(
                f"task {tasks.name_of(i)!r}: it has {classes.counts[i]} classes, fewer than n_way={self.n_way}."
            )


class ClassSplit(NamedTuple):
    """Rows of support and query, and what the outputs of the network stand for.

    Attributes
    ----------
    rows : Split
    outputs : ndarray of int, shape (n_tasks, n_outputs)
        The class each output stands for, as numbered in the task; -1 for none.
    support, query : ndarray of int, shape (n_tasks, n_columns)
        The output each row belongs to.
    """

    rows: Split
    outputs: NDArray[np.intp]
    support: NDArray[np.intp]
    query: NDArray[np.intp]


def class_widths(tasks: TaskSet, classes: Classes, drawing: Drawing) -> tuple[int, int, int]:
    """Return how many support rows, query rows and outputs an episode has at most."""
    largest, n_classes = int(tasks.sizes.max()), int(classes.counts.max())
    n_outputs = n_classes if drawing.n_way is None else min(n_classes, drawing.n_way)
    if drawing.k_shot is None:
        bounds = check_split(drawing.support_size, drawing.split)
        support = min(10, largest // 2) if bounds is None else bounds[1]
        support = support if classes.shared else max(support, n_outputs)
    else:
        shots = check_split(drawing.k_shot, drawing.split, "k_shot")
        assert shots is not None
        support = n_outputs * max(shots[1], 0 if classes.shared else 1)
    if tasks.carries_support:
        supports = (tasks.support_of(task) for task in range(len(tasks)))
        support = max(support, *(0 if numbers is None else len(numbers) for numbers in supports), 0)
    query = largest if drawing.n_query is None else min(largest, n_outputs * drawing.n_query)
    return max(1, min(support, largest)), query, n_outputs


def split_classes(
    tasks: TaskSet,
    classes: Classes,
    chosen: NDArray[np.intp],
    drawing: Drawing,
    rng: np.random.Generator,
    *,
    shuffled: bool,
) -> ClassSplit:
    """Draw classes, support and query of each chosen task.

    A task's own support comes first. At least one row is left as query.

    Parameters
    ----------
    tasks : TaskSet
    classes : Classes
    chosen : ndarray of int, shape (n_chosen,)
        Which tasks; a task may stand more than once and then gets independent draws.
    drawing : Drawing
    rng : Generator
    shuffled : bool
        Whether classes that mean nothing beyond their task take outputs in random order, as in training, so that
        nothing can be learned of an order that has no meaning; otherwise they stand in the order of their labels.

    Returns
    -------
    ClassSplit

    Raises
    ------
    TaskError
        When a task's own support leaves no row to be scored, or lacks a class that is the task's own.
    """
    sizes = tasks.sizes[chosen]
    columns = np.arange(int(sizes.max()))
    numbers = tasks.offsets[chosen][:, None] + np.minimum(columns, sizes[:, None] - 1)
    outputs, place = _outputs(classes, classes.counts[chosen], drawing.n_way, rng, shuffled)
    row_output = np.take_along_axis(place, classes.codes[numbers], axis=1)
    row_output = np.where(columns < sizes[:, None], row_output, -1)
    keys = (
        rng.random(row_output.shape)
        if drawing.split == "random"
        else np.broadcast_to(columns / len(columns), row_output.shape)
    )
    n_outputs = outputs.shape[1]
    counts = _counts(row_output, row_output >= 0, n_outputs)
    rank = _rank(row_output, keys, counts)
    least = 0 if classes.shared else 1
    if drawing.k_shot is not None:
        wanted = _draw(drawing.k_shot, counts.shape, rng)
        wanted = np.minimum(wanted, np.maximum(counts - 1, least))
        is_support = (row_output >= 0) & (rank < np.take_along_axis(wanted, row_output.clip(min=0), axis=1))
    else:
        eligible = (row_output >= 0).sum(axis=1)
        n_support = support_sizes(eligible, check_split(drawing.support_size, drawing.split), rng)
        n_support = np.minimum(np.maximum(n_support, least * (outputs >= 0).sum(axis=1)), np.maximum(eligible - 1, 0))
        order = np.where(row_output < 0, np.inf, keys - least * (rank == 0))
        position = np.argsort(np.argsort(order, axis=1, kind="stable"), axis=1, kind="stable")
        is_support = position < n_support[:, None]
    for i, task in enumerate(chosen):
        given = tasks.support_of(int(task)) if tasks.carries_support else None
        if given is not None:
            is_support[i] = np.isin(columns, given) & (row_output[i] >= 0)
    is_query = (row_output >= 0) & ~is_support
    _check(tasks, chosen, row_output, is_support, is_query, classes)
    if drawing.n_query is not None:
        left = np.where(is_query, row_output, -1)
        is_query &= _rank(left, keys, _counts(left, is_query, n_outputs)) < drawing.n_query
    support, support_mask = _gathered(is_support)
    query, query_mask = _gathered(is_query)
    starts = tasks.offsets[chosen][:, None]
    return ClassSplit(
        Split(starts + support, support_mask, starts + query, query_mask),
        outputs,
        np.take_along_axis(row_output, support, axis=1).clip(min=0),
        np.take_along_axis(row_output, query, axis=1).clip(min=0),
    )


def _outputs(
    classes: Classes, counts: NDArray[np.intp], n_way: int | None, rng: np.random.Generator, shuffled: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the class of each output, and the output of each class; -1 for none."""
    numbers = np.arange(int(counts.max()))
    outputs = np.where(numbers < counts[:, None], numbers, -1)
    if classes.shared or (n_way is None and not shuffled):
        return outputs, outputs
    order = np.argsort(np.where(outputs < 0, np.inf, rng.random(outputs.shape)), axis=1)
    outputs = np.take_along_axis(outputs, order, axis=1)[:, :n_way]
    if not shuffled:
        outputs = np.sort(np.where(outputs < 0, len(numbers), outputs), axis=1)
        outputs = np.where(outputs == len(numbers), -1, outputs)
    place = np.full((len(counts), len(numbers) + 1), -1)
    np.put_along_axis(place, np.where(outputs < 0, len(numbers), outputs), np.arange(outputs.shape[1])[None], axis=1)
    return outputs, place[:, :-1]


def _counts(row_output: NDArray[np.intp], real: NDArray[np.bool_], n_outputs: int) -> NDArray[np.intp]:
    """Return how many rows each output has, of shape (n_tasks, n_outputs)."""
    flat = (np.arange(len(row_output))[:, None] * n_outputs + row_output)[real]
    return np.bincount(flat, minlength=len(row_output) * n_outputs).reshape(len(row_output), n_outputs)


def _rank(row_output: NDArray[np.intp], keys: NDArray[Any], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the place of each row among those of its class, by its key; rows of no class come anywhere."""
    last = np.where(row_output < 0, counts.shape[1], row_output)
    order = np.lexsort((keys, last), axis=1)
    firsts = np.concatenate([np.zeros((len(row_output), 1), int), np.cumsum(counts, axis=1)], axis=1)
    places = np.arange(row_output.shape[1])[None]
    rank = np.empty_like(row_output)
    first = np.take_along_axis(firsts, np.take_along_axis(last, order, axis=1), axis=1)
    np.put_along_axis(rank, order, places - first, axis=1)
    return rank


def _draw(k_shot: Any, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.intp]:
    bounds = check_split(k_shot, "random", "k_shot")
    assert bounds is not None
    return rng.integers(bounds[0], bounds[1], size=shape, endpoint=True).astype(np.intp)


def _gathered(real: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the places of what is marked, padded with the first of them, and which are no padding."""
    count = real.sum(axis=1)
    width = max(1, int(count.max()))
    order = np.argsort(~real, axis=1, kind="stable")[:, :width]
    mask = np.arange(width) < count[:, None]
    return np.where(mask, order, order[:, :1]), mask


def _check(
    tasks: TaskSet,
    chosen: NDArray[np.intp],
    row_output: NDArray[np.intp],
    is_support: NDArray[np.bool_],
    is_query: NDArray[np.bool_],
    classes: Classes,
) -> None:
    empty = np.flatnonzero(~is_query.any(axis=1))
    if empty.size:
        task, n = int(chosen[empty[0]]), int((row_output[empty[0]] >= 0).sum())
        name = tasks.name_of(task)
        raise TaskError(f"task {name!r}: its support holds all {n} rows; none is left to be scored.")
    if classes.shared:
        return
    n = int(row_output.max()) + 1
    unseen = (_counts(row_output, is_query, n) > 0) & (_counts(row_output, is_support, n) == 0)
    if unseen.any():
        i, output = (int(part[0]) for part in np.nonzero(unseen))
        row = int(tasks.offsets[chosen[i]] + np.flatnonzero(row_output[i] == output)[0])
        name = tasks.name_of(chosen[i])
        raise TaskError(
            f"task {name!r}: class {tasks.y[row].tolist()!r} has no support row; where each task has labels of its "
            "own, its support needs at least one row of every class."
        )
