"""Split the rows of every task into support (adapted on) and query (scored on)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.arguments import is_whole
from metaest.tasks.task_set import TaskSet

__all__ = [
    "MAX_DEFAULT_SUPPORT",
    "Drawn",
    "Split",
    "check_split",
    "draw_batches",
    "order_rows",
    "split_tasks",
    "widths",
]

MAX_DEFAULT_SUPPORT = 10
SupportSize = int | range | tuple[int, int] | None


class Split(NamedTuple):
    """Row numbers into the flat arrays of a TaskSet, padded with a valid row of the same task.

    Attributes
    ----------
    support, query : ndarray of int, shape (n_tasks, n_columns)
    support_mask, query_mask : ndarray of bool, same shapes
        True for a row, False for padding.
    """

    support: NDArray[np.intp]
    support_mask: NDArray[np.bool_]
    query: NDArray[np.intp]
    query_mask: NDArray[np.bool_]

    def part(self, place: slice) -> "Split":
        """Return that of some of the tasks."""
        return Split(self.support[place], self.support_mask[place], self.query[place], self.query_mask[place])


def check_split(support_size: Any, split: Any, name: str = "support_size") -> tuple[int, int] | None:
    """Return the smallest and largest support size, or None for half the rows.

    Parameters
    ----------
    support_size : int, range, (low, high) or None
    split : {"random", "first"}
    name : str
        What the error message calls the size.

    Raises
    ------
    ValueError
        When one of the two has another value.
    """
    if split not in ("random", "first"):
        raise ValueError(f"split must be 'random' or 'first', got {split!r}.")
    if support_size is None:
        return None
    if is_whole(support_size):
        low = high = int(support_size)
    elif isinstance(support_size, range) and len(support_size) and abs(support_size.step) == 1:
        low, high = min(support_size), max(support_size)
    elif (
        isinstance(support_size, (tuple, list))
        and len(support_size) == 2
        and all(is_whole(bound) for bound in support_size)
    ):
        low, high = (int(bound) for bound in support_size)
    else:
        raise ValueError(
            f"{name} must be an int, a range such as range(1, 6), a (smallest, largest) pair or None, "
            f"got {support_size!r}."
        )
    if not 0 <= low <= high:
        raise ValueError(f"{name} must be at least 0 and its range in ascending order, got {support_size!r}.")
    return low, high


def split_tasks(
    tasks: TaskSet,
    chosen: NDArray[np.intp],
    support_size: SupportSize,
    split: str,
    rng: np.random.Generator,
) -> Split:
    """Draw the support of each chosen task; its other rows are the query.

    A task's own support comes first. Otherwise the size is `support_size`, drawn anew for each task where it is a
    range, half the rows (at most 10) where it is None, and never more than all rows but one, so that at least one row
    is left to be scored; a task of one row is query only.

    Parameters
    ----------
    tasks : TaskSet
    chosen : ndarray of int, shape (n_chosen,)
        Which tasks; a task may stand more than once and then gets independent draws.
    support_size : int, range, (low, high) or None
    split : {"random", "first"}
        Whether support rows are drawn, or are the first in row order (for rows in order of time).
    rng : Generator

    Returns
    -------
    Split

    Raises
    ------
    TaskError
        When a task's own support leaves no row to be scored.
    """
    drawn = draw_batches(tasks, lambda most: chosen[None], 1, support_size, split, rng)
    return order_rows(tasks, drawn)


class Drawn(NamedTuple):
    """Random numbers that say how tasks are split.

    Attributes
    ----------
    chosen : ndarray of int, shape (n_chosen,)
        Which tasks, of all batches one after the other.
    n_support : ndarray of int, shape (n_chosen,)
    keys : ndarray of float, shape (n_chosen, n_columns)
        The rows with the smallest are the support; infinite beyond a task's rows.
    """

    chosen: NDArray[np.intp]
    n_support: NDArray[np.intp]
    keys: NDArray[np.float64]


def draw_batches(
    tasks: TaskSet,
    batches: Callable[[int], NDArray[np.intp]],
    count: int,
    support_size: SupportSize,
    split: str,
    rng: np.random.Generator,
) -> Drawn:
    """Draw the splits of some batches of equal size, as so many calls of :func:`split_tasks` would.

    Parameters
    ----------
    batches : callable
        A number -> the tasks of the next batches, at least one and at most so many, of shape (batches, tasks); it is
        called when the numbers of those before are drawn.
    count : int, at least 1
        Batches.
    tasks, support_size, split, rng
        As :func:`split_tasks` takes them.

    Returns
    -------
    Drawn
    """
    bounds = check_split(support_size, split)
    varies = bounds is not None and bounds[0] != bounds[1]
    all_sizes = tasks.sizes
    width, even = int(all_sizes.max()), int(all_sizes.min()) == int(all_sizes.max())
    first = batches(count)
    n_tasks = first.shape[1]
    chosen = np.empty((count, n_tasks), dtype=np.intp)
    n_support = np.empty_like(chosen)
    keys = np.empty((count, n_tasks, width)) if even else np.full((count, n_tasks, width), np.inf)
    done = 0
    while done < count:
        # numbers are drawn in the order of separate calls, in one call where nothing else is drawn between them
        some = first if done == 0 else batches(count - done)
        here, done = done, done + len(some)
        chosen[here:done] = some
        if split == "random" and even and not varies:
            rng.random(out=keys[here:done])
            continue
        for k in range(here, done):
            if varies:
                n_support[k] = support_sizes(all_sizes[chosen[k]], bounds, rng)
            if split == "random" and even:
                rng.random(out=keys[k])
            elif split == "random":
                width_of_batch = int(all_sizes[chosen[k]].max())
                keys[k, :, :width_of_batch] = rng.random((n_tasks, width_of_batch))
    if split != "random":
        keys[:] = np.arange(width)
    flat = chosen.ravel()
    sizes = all_sizes[flat]
    flat_keys: NDArray[np.float64] = keys.reshape(len(flat), width)
    if not even:
        flat_keys = flat_keys[:, : int(sizes.max())]
        beyond = np.arange(flat_keys.shape[1]) >= sizes[:, None]
        flat_keys = np.where(beyond, np.inf, flat_keys)  # padding sorts last
    return Drawn(flat, n_support.ravel() if varies else support_sizes(sizes, bounds, rng), flat_keys)


def order_rows(tasks: TaskSet, drawn: Drawn) -> Split:
    """Split tasks by the numbers drawn; a task's own support comes first."""
    chosen, n_support, keys = drawn
    sizes = tasks.sizes[chosen]
    columns = np.arange(keys.shape[1])
    if tasks.carries_support:
        keys, n_support = keys.copy(), n_support.copy()
        for i, task in enumerate(chosen):
            support_rows = tasks.support_of(int(task))
            if support_rows is None:
                continue
            if len(support_rows) == sizes[i]:
                name = tasks.name_of(task)
                raise TaskError(f"task {name!r}: its support holds all {sizes[i]} rows; none is left to be scored.")
            keys[i, support_rows] = -1.0
            n_support[i] = len(support_rows)
    order = np.argsort(keys, axis=1, kind="stable")
    starts = tasks.offsets[chosen][:, None]

    width_s, width_q = max(1, int(n_support.max())), int((sizes - n_support).max())
    support_mask = columns[:width_s] < n_support[:, None]
    # padding repeats the last row of each part
    place = np.minimum(columns[:width_s], np.maximum(n_support - 1, 0)[:, None])
    support = np.take_along_axis(order, place, axis=1)
    query_mask = columns[:width_q] < (sizes - n_support)[:, None]
    position = np.minimum(n_support[:, None] + columns[:width_q], sizes[:, None] - 1)
    query = np.take_along_axis(order, position, axis=1)
    return Split(starts + support, support_mask, starts + query, query_mask)


def support_sizes(
    sizes: NDArray[np.intp], bounds: tuple[int, int] | None, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw how many support rows tasks of these sizes have; at least one row of each is left."""
    if bounds is None:
        wanted = np.minimum(sizes // 2, MAX_DEFAULT_SUPPORT)
    elif bounds[0] == bounds[1]:
        wanted = np.full(len(sizes), bounds[0])
    else:
        wanted = rng.integers(bounds[0], bounds[1], size=len(sizes), endpoint=True)
    return np.minimum(wanted, sizes - 1).astype(np.intp)


def widths(tasks: TaskSet, support_size: SupportSize, split: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the least and the most support rows, and query rows, that any split of any of these tasks has.

    Parameters
    ----------
    tasks : TaskSet
    support_size, split
        As :func:`split_tasks` takes them.

    Returns
    -------
    tuple of (int, int)
        For the support, at least one column wide, and for the query.
    """
    bounds = check_split(support_size, split)
    sizes = tasks.sizes
    low, high = (
        support_sizes(sizes, None if bounds is None else (size, size), np.random.default_rng(0))
        for size in (bounds or (0, 0))
    )
    if tasks.carries_support:
        for i in range(len(tasks)):
            support_rows = tasks.support_of(i)
            if support_rows is not None:
                low[i] = high[i] = len(support_rows)
    query = sizes - high, sizes - low
    return (int(low.min()), max(1, int(high.max()))), (int(query[0].min()), int(query[1].max()))
