"""Nodes and weights of Gauss's rules, from the eigenvalues of a tridiagonal matrix.

Golub and Welsch (1969, :doi:`10.1090/S0025-5718-69-99647-1`).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["gauss_hermite", "gauss_legendre"]


@lru_cache(maxsize=16)
def gauss_hermite(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights for the weight function exp(-z^2 / 2), each of shape (n,)."""
    return _rule(torch.arange(1, n, dtype=torch.float64).sqrt(), math.sqrt(2 * math.pi))


@lru_cache(maxsize=16)
def gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights for an integral from -1 to 1, each of shape (n,)."""
    k = torch.arange(1, n, dtype=torch.float64)
    return _rule(k / (4 * k.square() - 1).sqrt(), 2.0)


def _rule(beside: Tensor, total: float) -> tuple[Tensor, Tensor]:
    """Return the rule of a symmetric weight function with this integral, from what stands beside the diagonal."""
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes, total * vectors[0].square()
