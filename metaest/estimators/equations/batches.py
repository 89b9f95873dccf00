"""Tasks as padded observations, a bounded number at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import Observations
from metaest.tasks import TaskSet

__all__ = ["chunks", "evenly", "one_task", "rows_of", "whole"]

# rows, padding included, of the tasks that are adapted at a time: they stay in a processor's cache
CHUNK_ROWS = 60_000


def rows_of(tasks: TaskSet, rows: NDArray[np.intp], mask: NDArray[np.bool_]) -> Observations:
    """Gather padded row numbers of shape (tasks, rows)."""
    return Observations.stack(
        torch.from_numpy(tasks.X[rows].astype(np.float64)),
        torch.from_numpy(tasks.y[rows].astype(np.float64).reshape(rows.shape)),
        torch.from_numpy(mask.astype(np.float64)),
        None if tasks.sample_weight is None else torch.from_numpy(tasks.sample_weight[rows]),
    )


def whole(tasks: TaskSet, chosen: NDArray[np.intp] | None = None) -> Observations:
    """Return all rows of the chosen tasks, padded with each task's last row, so that times do not fall there."""
    chosen = np.arange(len(tasks)) if chosen is None else chosen
    sizes, first = tasks.sizes[chosen], tasks.offsets[:-1][chosen]
    columns = np.arange(sizes.max())
    mask = columns < sizes[:, None]
    return rows_of(tasks, first[:, None] + np.minimum(columns, np.maximum(sizes - 1, 0)[:, None]), mask)


def one_task(
    X: NDArray[Any], y: NDArray[Any] | None = None, copies: int = 1, weight: NDArray[Any] | None = None
) -> Observations:
    """Return rows of one task, (rows, features), `copies` times; y is zero where it is not given, and weights one."""
    # copies: the user's rows may be read-only, and torch takes no negative strides
    rows = torch.from_numpy(np.array(X, dtype=np.float64, order="C"))
    target = torch.zeros(len(rows)).double() if y is None else torch.from_numpy(np.array(y, dtype=np.float64))
    weights = None if weight is None else torch.from_numpy(np.array(weight, dtype=np.float64)).expand(copies, -1)
    ones = torch.ones(copies, len(rows)).double()
    return Observations.stack(rows[None].expand(copies, -1, -1), target[None].expand(copies, -1), ones, weights)


def evenly(n: int, most: int) -> Tensor:
    """Return at most `most` of the numbers 0 to n - 1, evenly spread, the first and the last among them."""
    if n <= most:
        return torch.arange(n)
    return torch.from_numpy(np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)))


def chunks(sizes: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield numbers of tasks of about equal size, as many as keep a batch in a processor's cache."""
    order = np.argsort(sizes, kind="stable") if len(np.unique(sizes)) > 1 else np.arange(len(sizes))
    first = 0
    while first < len(order):
        # sizes rise along the order: the last task of a chunk sets its width
        widths = np.maximum(sizes[order[first:]], 1) * np.arange(1, len(order) - first + 1)
        n = max(1, int(np.searchsorted(widths, CHUNK_ROWS, side="right")))
        yield order[first : first + n]
        first += n
