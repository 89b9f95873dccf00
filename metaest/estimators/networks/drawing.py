"""The episodes of many meta-steps at once, as machine code reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.networks.class_episodes import ClassSource
from metaest.estimators.networks.episodes import RegressionSource
from metaest.estimators.networks.policies import PolicySource
from metaest.functional import Rows
from metaest.jit import ORDERED, Draws, Shapes, Side, ordered
from metaest.tasks import Split, class_widths, order_rows, widths

__all__ = ["class_draws", "policy_draws", "regression_draws"]

Draw = Callable[[int], Draws]


def regression_draws(source: RegressionSource, batches: Iterator[NDArray[np.intp]]) -> tuple[Shapes, Draw]:
    """Return what episodes look like, and what draws them for many meta-steps, as numbers of the rows of all tasks."""
    support, query = widths(source.tasks, source.support_size, source.split)
    X, y = source.standardised
    shapes = Shapes(Side(support[1], support[0] != support[1]), Side(query[1], query[0] != query[1]),
                    tuple(X.shape[1:]), y.shape[1])  # fmt: skip

    def draw(count: int) -> Draws:
        drawn = source.draw_batches(batches, count)
        if source.tasks._support is None and drawn.keys.shape[1] <= ORDERED:
            sizes, starts = source.tasks.sizes[drawn.chosen], source.tasks.offsets[drawn.chosen]
            return ordered(drawn.keys, sizes, starts, drawn.n_support, count, support[1], query[1], (X, y))
        return _numbered(order_rows(source.tasks, drawn), count, support[1], query[1], (X, y))

    return shapes, draw


def _numbered(split: Split, count: int, n_support: int, n_query: int, rows: tuple[Tensor, Tensor]) -> Draws:
    """Return the rows of so many meta-steps, each padded to the same length."""

    def padded(own: NDArray[np.intp], length: int) -> NDArray[np.int32]:
        found: NDArray[np.int32] = np.empty((count, len(own) // count, length), dtype=np.int32)
        flat = found.reshape(-1, length)
        flat[:, : own.shape[1]] = own
        flat[:, own.shape[1] :] = own[:, :1]
        return found

    def counts(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        found: NDArray[np.int32] = mask.sum(axis=1, dtype=np.int32).reshape(count, -1)
        return found

    return Draws(
        padded(split.support, n_support),
        counts(split.support_mask),
        padded(split.query, n_query),
        counts(split.query_mask),
        rows,
    )


def policy_draws(source: PolicySource, batches: Iterator[NDArray[np.intp]]) -> tuple[Shapes, Draw]:
    """Return the same for policies: a stretch of time each."""
    X, y = source.standardised
    support, query = source.widths
    shapes = Shapes(Side(support, False), Side(query, True), tuple(X.shape[1:]), y.shape[1])

    def draw(count: int) -> Draws:
        splits = [source.split(next(batches), training=True) for _ in range(count)]
        whole = Split(*(np.concatenate(parts) for parts in zip(*splits, strict=True)))
        return _numbered(whole, count, support, query, (X, y))

    return shapes, draw


def class_draws(source: ClassSource, batches: Iterator[NDArray[np.intp]]) -> tuple[Shapes, Draw]:
    """Return the same for classes, with rows of its own for every episode: their targets are the episode's."""
    n_support, n_query, n_outputs = class_widths(source.tasks, source.classes, source.drawing)
    n_outputs = max(n_outputs, source.n_outputs)
    shapes = Shapes(Side(n_support, True), Side(n_query, True), tuple(source.tasks.X.shape[1:]), n_outputs)

    def draw(count: int) -> Draws:
        steps = [source.episodes(next(batches)) for _ in range(count)]
        sides, counts, numbers, first = [], [], [], 0
        for rows, length in (
            ([step.support for step in steps], n_support),
            ([step.query for step in steps], n_query),
        ):
            n_tasks = len(rows[0].X)
            padded = [_padded(own, length, n_outputs) for own in rows]
            sides.append([torch.cat([own[part].flatten(0, 1) for own in padded]) for part in (0, 1)])
            counts.append(np.stack([own.mask.sum(dim=1).numpy() for own in rows]).astype(np.int32))
            numbers.append(first + np.arange(count * n_tasks * length, dtype=np.int32).reshape(count, n_tasks, length))
            first += count * n_tasks * length
        X, y = (torch.cat(parts) for parts in zip(*sides, strict=True))
        return Draws(numbers[0], counts[0], numbers[1], counts[1], (X, y))

    return shapes, draw


def _padded(rows: Rows, length: int, n_outputs: int) -> tuple[Tensor, Tensor]:
    """Return X and y with so many rows, the first over again, and so many outputs, of which the last are no class."""
    more = length - rows.X.shape[1]
    X, y = (
        torch.cat([own, own[:, :1].expand(-1, more, *own.shape[2:])], dim=1) if more else own
        for own in (rows.X, rows.y)
    )
    return X, torch.nn.functional.pad(y, (0, n_outputs - y.shape[2]), value=-1.0)
