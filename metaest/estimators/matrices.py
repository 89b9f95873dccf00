"""Linear algebra of many small matrices in numpy, the matrices along the last axis.

It does for the fit what `metaest.functional.equations.small_matrices` does in torch, whose calls take longer than the
work of a dozen tasks.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["cholesky", "inverse", "log_determinant", "sandwich", "solve"]

Array = NDArray[np.float64]


def cholesky(matrix: Array, damping: Array | None = None) -> Array:
    """Return the lower factors of matrices of shape (m, m, tasks); NaN where one is not positive definite."""
    m = len(matrix)
    factor = np.zeros(matrix.shape)
    for j in range(m):
        column = matrix[j:, j]
        if damping is not None:
            column = column.copy()
            column[0] += column[0] * damping
        if j:
            column = column - np.add.reduce(factor[j:, :j] * factor[j, :j], axis=1)
        root = np.sqrt(column[0])
        factor[j, j] = root
        if j + 1 < m:
            np.divide(column[1:], root, out=factor[j + 1 :, j])
    return factor


def solve(factor: Array, right: Array) -> Array:
    """Solve for right-hand sides of shape (m, ..., tasks)."""
    m = len(factor)
    result = np.empty(right.shape)
    for i in range(m):
        rest = right[i]
        for k in range(i):
            rest = rest - factor[i, k] * result[k]
        np.divide(rest, factor[i, i], out=result[i])
    for i in reversed(range(m)):
        rest = result[i]
        for k in range(i + 1, m):
            rest = rest - factor[k, i] * result[k]
        np.divide(rest, factor[i, i], out=result[i])
    return result


def inverse(factor: Array) -> Array:
    """Return the inverses, of shape (m, m, tasks)."""
    m, tasks = len(factor), factor.shape[2]
    if m == 1:
        return 1.0 / factor / factor
    eye = np.zeros((m, m, tasks))
    eye[range(m), range(m)] = 1.0
    result = solve(factor, eye)
    return 0.5 * (result + result.transpose(1, 0, 2))


def log_determinant(factor: Array) -> Array:
    """Return the logarithms of the determinants, of shape (tasks,)."""
    result: Array = 2 * np.log(factor[range(len(factor)), range(len(factor))]).sum(axis=0)
    return result


def sandwich(outer: Array, inner: Array) -> Array:
    """Return ``outer @ inner @ outer.T`` for one outer matrix (p, m) and inner ones of shape (m, m, tasks)."""
    p, m = outer.shape
    if not p or not m:
        return np.zeros((p, p, inner.shape[-1]))
    half = (outer @ inner.reshape(m, -1)).reshape(p, *inner.shape[1:])
    return outer @ half
