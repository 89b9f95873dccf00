"""Types of the functional core: parameters, padded rows, episodes, and the callables that take them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

__all__ = ["BatchForward", "Episodes", "Forward", "Loss", "Params", "Rows"]

Params = dict[str, Tensor]
"""Named parameters of one task; a batch of tasks has one more axis in front of each."""

Forward = Callable[[Params, Tensor], Tensor]
"""One task: parameters and X of shape (rows, features) -> predictions of shape (rows, outputs)."""


class Rows(NamedTuple):
    """Rows of a batch of tasks, padded to the longest with a valid row of the same task.

    Attributes
    ----------
    X : Tensor of shape (tasks, rows, features)
    y : Tensor of shape (tasks, rows, targets)
    mask : Tensor of shape (tasks, rows)
        1 for a row, 0 for padding, in the dtype of X.
    """

    X: Tensor
    y: Tensor
    mask: Tensor


class Episodes(NamedTuple):
    """The rows of a meta-step: for each task those to adapt on, and those on which the result is judged."""

    support: Rows
    query: Rows

    def parts(self, size: int | None) -> list["Episodes"]:
        """Return the same tasks in parts of at most `size`; None for all at once."""
        n_tasks = len(self.query.X)
        if size is None or size >= n_tasks:
            return [self]
        places = [slice(first, first + size) for first in range(0, n_tasks, size)]
        return [Episodes(*(Rows(*(part[place] for part in rows)) for rows in self)) for place in places]


BatchForward = Callable[[Params, Rows], Tensor]
"""A batch: parameters with a task axis and rows -> predictions of shape (tasks, rows, outputs)."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Predictions, targets and mask of a batch -> one loss for each task, of shape (tasks,)."""
