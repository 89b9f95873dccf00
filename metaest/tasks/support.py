"""The support rows tasks carry, side by side in one array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaest.tasks.record import ReadOnly, read_only

__all__ = ["SupportRows"]

IntArray = NDArray[np.intp]


class SupportRows(ReadOnly):
    """Support row numbers of many tasks.

    Parameters
    ----------
    rows : sequence of (ndarray of int or None)
        For each task its support rows, or None where the choice is the estimator's.

    Attributes
    ----------
    sizes : ndarray of int, shape (n_tasks,)
        Number of support rows; -1 for None.
    """

    def __init__(self, rows: Sequence[IntArray | None]) -> None:
        self.sizes: IntArray = np.array([-1 if numbers is None else len(numbers) for numbers in rows], dtype=np.intp)
        self._flat: IntArray = np.concatenate(
            [np.empty(0, np.intp), *(numbers for numbers in rows if numbers is not None)]
        )
        self._flat = read_only(self._flat.astype(np.intp))
        self._ends = np.cumsum(np.clip(self.sizes, 0, None))

    def of(self, i: int) -> IntArray | None:
        """Return the support rows of task number `i`, or None."""
        if self.sizes[i] < 0:
            return None
        return self._flat[self._ends[i] - self.sizes[i] : self._ends[i]]

    def take(self, chosen: IntArray) -> "SupportRows | None":
        """Return those of the chosen tasks, or None where none of them carries any."""
        if (self.sizes[chosen] < 0).all():
            return None
        return SupportRows([self.of(int(i)) for i in chosen])
