"""Support and query rows of many meta-steps, by sorting random keys of their rows."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.jit.codegen.row_order import row_order_text
from metaest.jit.llvm.compile import compile_function

__all__ = ["MOST_RANKED_ROWS", "EpisodeDraws", "split_by_keys"]

# most rows of a task for which comparing all pairs is faster than sorting
MOST_RANKED_ROWS = 32


class EpisodeDraws(NamedTuple):
    """Row numbers of the tasks of some meta-steps.

    Attributes
    ----------
    support, query : ndarray of int32, shape (steps, tasks, rows)
        Padded with a row of the same task.
    support_count, query_count : ndarray of int32, shape (steps, tasks)
        Numbers of rows that are not padding.
    rows : tuple of Tensor
        X and y, of which these are row numbers.
    """

    support: NDArray[np.int32]
    support_count: NDArray[np.int32]
    query: NDArray[np.int32]
    query_count: NDArray[np.int32]
    rows: tuple[Tensor, Tensor]

    def part(self, first: int, count: int) -> EpisodeDraws:
        """Return some of the steps."""
        place = slice(first, first + count)
        support, query = self.support[place], self.query[place]
        return EpisodeDraws(support, self.support_count[place], query, self.query_count[place], self.rows)


def split_by_keys(
    keys: NDArray[np.float64],
    sizes: NDArray[np.intp],
    starts: NDArray[np.intp],
    n_support: NDArray[np.intp],
    n_steps: int,
    width_support: int,
    width_query: int,
    rows: tuple[Tensor, Tensor],
) -> EpisodeDraws:
    """Choose as support of each task the rows with the smallest keys, and as query the others.

    Parameters
    ----------
    keys : ndarray of shape (n_steps * n_tasks, n_columns)
        Infinite beyond a task's rows.
    sizes, starts, n_support : ndarray of int, shape (n_steps * n_tasks,)
        Number of rows of each task, index of its first row, and number of support rows.
    n_steps : int
    width_support, width_query : int
        Rows to which support and query are padded.
    rows : tuple of Tensor
        X and y of all tasks.

    Returns
    -------
    EpisodeDraws
    """
    shape = n_steps, len(sizes) // n_steps
    support, query = (np.empty((*shape, width), dtype=np.int32) for width in (width_support, width_query))
    given = [np.ascontiguousarray(numbers, dtype=np.int64) for numbers in (sizes, starts, n_support)]
    arrays: tuple[NDArray[Any], ...] = (np.ascontiguousarray(keys), *given, support, query)
    call = compile_function(row_order_text(keys.shape[1]), "order", [ctypes.c_void_p] * 6 + [ctypes.c_int64] * 3)
    call(*(array.ctypes.data for array in arrays), len(sizes), width_support, width_query)
    counts = [numbers.astype(np.int32).reshape(shape) for numbers in (n_support, sizes - n_support)]
    return EpisodeDraws(support, counts[0], query, counts[1], rows)
