"""Cholesky factors that are not numbers where rounding has taken what they stand on."""

import torch
from torch import Tensor

__all__ = ["factored"]


def factored(matrix: Tensor) -> Tensor:
    """Return Cholesky factors; not a number rather than wrong, at which adaptation raises an error.

    Where a pivot is lost in rounding, the decomposition fails or does not by chance.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = torch.diagonal(factor, dim1=-2, dim2=-1).square() / torch.diagonal(matrix, dim1=-2, dim2=-1)
    lost = ~(pivots > 10 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps).all(dim=-1)
    return torch.where((lost | (failed > 0))[:, None, None], torch.nan, factor)
