"""What a likelihood of random coefficients needs of the rows: a few small matrices a task, and none that grows."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["TaskStatistics"]

# directions of a task's Z'Z whose eigenvalue is below this share of its greatest count as absent
SINGULAR = 1e-12
# share of a column's size below which what others leave of it is rounding
PRESENT = 1e-9


@dataclass(frozen=True)
class TaskStatistics:
    r"""Sufficient statistics of :math:`y_t = C_t \beta + Z_t b_t + e_t`.

    The least-squares coefficients of a task's columns on :math:`Z_t` and what they leave are kept apart, since
    differences of sums of squares lose the digits of a noise that is small beside the levels.

    Attributes
    ----------
    information : ndarray of shape (n_tasks, q, q)
        :math:`Z_t^T Z_t`.
    fixed : ndarray of shape (n_tasks, q, p)
        Least-squares coefficients of the columns of :math:`C_t` on :math:`Z_t`.
    target : ndarray of shape (n_tasks, q)
        Those of :math:`y_t`.
    rest : ndarray of shape (min(n_rows, p + 1), p + 1)
        The triangular factor of what these leave of (C, y), over all rows.
    n_rows : int
    n_spare : int
        Rows less the ranks of the :math:`Z_t`: what tells noise from random coefficients.
    n_free : int
        These less the rank of what :math:`Z_t` leave of the columns of :math:`C_t`: what tells noise from all
        coefficients.
    """

    information: NDArray[np.float64]
    fixed: NDArray[np.float64]
    target: NDArray[np.float64]
    rest: NDArray[np.float64]
    n_rows: int
    n_spare: int
    n_free: int

    @classmethod
    def of(
        cls, Z: NDArray[np.float64], C: NDArray[np.float64], y: NDArray[np.float64], offsets: NDArray[np.intp]
    ) -> Self:
        """Return the statistics of rows of shape (n_rows, q), (n_rows, p) and (n_rows,); task after task."""
        owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        columns = np.column_stack([C, y])
        information = crossed(Z, Z, offsets)
        inverse, rank = _pseudo_inverse(information)
        coefficients = inverse @ crossed(Z, columns, offsets)
        rest = columns
        for j in range(Z.shape[1]):
            rest = rest - Z[:, j, None] * coefficients[owner, j]
        factor = np.asarray(np.linalg.qr(rest, mode="r"))
        n_spare = len(y) - int(rank.sum())
        n_free = n_spare - _rank_left(rest[:, :-1], C)
        return cls(information, coefficients[..., :-1], coefficients[..., -1], factor, len(y), n_spare, n_free)


def crossed(A: NDArray[np.float64], B: NDArray[np.float64], offsets: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return :math:`A_t^T B_t` of every task, each of which has a row."""
    return np.stack([np.add.reduceat(A[:, j, None] * B, offsets[:-1], axis=0) for j in range(A.shape[1])], axis=1)


def _rank_left(left: NDArray[np.float64], C: NDArray[np.float64]) -> int:
    """Return the rank of what is left of columns; of one that is spanned, rounding is left."""
    size = np.sqrt(np.square(C).sum(axis=0))
    values = np.linalg.svd(left / np.where(size > 0, size, 1.0), compute_uv=False)
    return int((values > PRESENT * max(1.0, values.max(initial=0.0))).sum())


def _pseudo_inverse(matrices: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the pseudo-inverses of symmetric matrices, and their ranks."""
    values, vectors = np.linalg.eigh(matrices)
    present = values > SINGULAR * values[:, -1:]
    inverse = np.where(present, 1 / np.where(present, values, 1.0), 0.0)
    return (vectors * inverse[:, None, :]) @ vectors.transpose(0, 2, 1), present.sum(axis=1)
