"""Rows of many tasks as tensors of one size."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Observations"]


class Observations(NamedTuple):
    """Rows of many tasks, padded to the longest with the last row of the same task; the tasks along the last axis.

    Attributes
    ----------
    X : Tensor of shape (rows * tasks, features)
        Row r of task t stands at r * tasks + t.
    y : Tensor of shape (rows, tasks)
    mask : Tensor of shape (rows, tasks)
        1 for a row, 0 for padding.
    full : bool
        True where there is no padding, which saves a multiplication of every row.
    weight : Tensor of shape (rows, tasks) or None
        Above zero: the variance of a row's noise is divided by it. None for ones.
    """

    X: Tensor
    y: Tensor
    mask: Tensor
    full: bool = False
    weight: Tensor | None = None

    @classmethod
    def stack(cls, X: Tensor, y: Tensor, mask: Tensor, weight: Tensor | None = None) -> "Observations":
        """Build from X of shape (tasks, rows, features), y, mask and weight of shape (tasks, rows)."""
        # column by column in memory: an equation reads X[:, j]
        flat = X.permute(2, 1, 0).reshape(X.shape[2], -1)
        weight = None if weight is None else weight.T.contiguous()
        return cls(flat.T, y.T.contiguous(), mask.T.contiguous(), bool((mask == 1).all()), weight)

    def take(self, tasks: Tensor) -> "Observations":
        """Return the rows of the chosen tasks."""
        columns = self.X.T.reshape(-1, *self.y.shape)[:, :, tasks]
        X = columns.reshape(len(columns), -1).T
        weight = None if self.weight is None else self.weight[:, tasks]
        return Observations(X, self.y[:, tasks], self.mask[:, tasks], self.full, weight)

    def arranged(self, order: Tensor) -> "Observations":
        """Return the rows of each task in another order: their numbers, of shape (rows, tasks), padding last."""
        X = self.X.T.reshape(-1, *self.y.shape)
        columns = X.gather(1, order.expand(len(X), -1, -1)).reshape(len(X), -1)
        weight = None if self.weight is None else self.weight.gather(0, order)
        return Observations(columns.T, self.y.gather(0, order), self.mask.gather(0, order), self.full, weight)

    def thin(self, most: int) -> "Observations":
        """Return at most so many rows of each task, evenly spread; padding must follow the rows of a task."""
        rows, tasks = self.y.shape
        if rows <= most:
            return self
        sizes = self.mask.sum(dim=0)
        step = torch.arange(most, dtype=sizes.dtype, device=sizes.device)[:, None]
        spread = torch.where(sizes > most, step * (sizes - 1) / max(1, most - 1), torch.minimum(step, sizes - 1))
        number = spread.round().long()  # (most, tasks)
        X = self.X.T.reshape(-1, rows, tasks)
        columns = X.gather(1, number.expand(len(X), -1, -1)).reshape(len(X), -1)
        mask = (step < sizes).to(self.mask)
        weight = None if self.weight is None else self.weight.gather(0, number)
        return Observations(columns.T, self.y.gather(0, number), mask, bool((mask == 1).all()), weight)

    def to(self, dtype: torch.dtype) -> "Observations":
        """Return the same in another floating-point type."""
        weight = None if self.weight is None else self.weight.to(dtype)
        return Observations(self.X.T.to(dtype).T, self.y.to(dtype), self.mask.to(dtype), self.full, weight)

    def masked(self, values: Tensor) -> Tensor:
        """Return values of shape (rows, tasks) with zeros for the padding."""
        return values if self.full else torch.where(self.mask > 0, values, 0.0)

    def weighed(self, values: Tensor) -> Tensor:
        """Return values of shape (rows, tasks) times the weights of the rows, with zeros for the padding."""
        return self.masked(values if self.weight is None else values * self.weight)

    def by_task(self) -> Tensor:
        """Return X with shape (tasks, rows, features)."""
        rows, tasks = self.y.shape
        return self.X.reshape(rows, tasks, -1).transpose(0, 1)
