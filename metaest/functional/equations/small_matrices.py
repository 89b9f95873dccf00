"""Linear algebra of very many very small matrices, the matrices along the last axis.

A matrix of shape (m, m, tasks) is a table of m * m vectors over the tasks, and Cholesky's method unrolled over the
table is a few elementwise operations on whole vectors: ten times faster than a library call a matrix for thousands of
tasks (LAPACK costs about 0.1 microseconds a call and more), and torch differentiates it like everything else.
"""

import torch
from torch import Tensor

__all__ = ["cholesky", "inverse", "log_determinant", "sandwich", "solve"]


def cholesky(matrix: Tensor, damping: Tensor | None = None) -> list[list[Tensor]]:
    """Return the lower factor as a table of vectors; NaN where a matrix is not positive definite.

    Parameters
    ----------
    matrix : Tensor of shape (m, m, tasks)
    damping : Tensor of shape (tasks,), optional
        The diagonal is multiplied by one plus this before it is factored.

    Returns
    -------
    list of m lists; entry [i][j], for j at most i, has shape (tasks,)
    """
    factor: list[list[Tensor]] = []
    for i in range(matrix.shape[0]):
        row: list[Tensor] = []
        for j in range(i + 1):
            rest = matrix[i, j] if i != j or damping is None else torch.addcmul(matrix[i, i], matrix[i, i], damping)
            for k in range(j):
                rest = rest - row[k] * (factor[j][k] if j < i else row[k])
            row.append(rest.sqrt() if i == j else rest / factor[j][j])
        factor.append(row)
    return factor


def solve(factor: list[list[Tensor]], right: Tensor) -> Tensor:
    """Solve with a factored matrix for one right-hand side, of shape (m, tasks), or several, (m, n, tasks)."""
    m = len(factor)
    if m == 0:
        return right
    forward: list[Tensor] = []
    for i in range(m):
        rest = right[i]
        for k in range(i):
            rest = rest - factor[i][k] * forward[k]
        forward.append(rest / factor[i][i])
    backward: list[Tensor] = [right[0]] * m
    for i in reversed(range(m)):
        rest = forward[i]
        for k in range(i + 1, m):
            rest = rest - factor[k][i] * backward[k]
        backward[i] = rest / factor[i][i]
    return torch.stack(backward)


def inverse(factor: list[list[Tensor]], like: Tensor) -> Tensor:
    """Return the inverses, of the shape (m, m, tasks) of `like`."""
    eye = torch.eye(len(factor), dtype=like.dtype, device=like.device)[..., None].expand_as(like)
    return torch.stack([solve(factor, eye[:, j]) for j in range(len(factor))], dim=1) if factor else like


def log_determinant(factor: list[list[Tensor]], like: Tensor) -> Tensor:
    """Return the logarithms of the determinants, of shape (tasks,)."""
    if not factor:
        return like.new_zeros(like.shape[-1])
    return 2 * torch.stack([row[-1].log() for row in factor]).sum(dim=0)


def sandwich(outer: Tensor, inner: Tensor) -> Tensor:
    """Return outer @ inner @ outer.T for one outer matrix of shape (p, m) and inner ones of shape (m, m, tasks)."""
    p, m = outer.shape
    if p == 0 or m == 0:
        return inner.new_zeros(p, p, inner.shape[-1])
    half = (outer @ inner.reshape(m, -1)).reshape(p, m, -1)
    whole = (outer @ half.transpose(0, 1).reshape(m, -1)).reshape(p, p, -1)
    return whole.transpose(0, 1)
