r"""Standardisation learned from the training tasks: :math:`(x - \mathrm{mean}) / \mathrm{scale}` for each column."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Scaling"]


class Scaling(NamedTuple):
    """Mean and scale of each column, in float64.

    Attributes
    ----------
    mean, scale : Tensor of shape (columns,)
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def learn(cls, values: Tensor) -> "Scaling":
        """Learn mean and standard deviation of the columns of `values`; a constant column keeps scale 1."""
        values = values.double()
        mean = values.mean(dim=0)
        scale = (values - mean).square().mean(dim=0).sqrt()
        # a column of equal numbers has a standard deviation of rounding size, not exactly 0
        constant = scale <= 10 * torch.finfo(torch.float64).eps * mean.abs()
        return cls(mean, torch.where(constant, torch.ones_like(scale), scale))

    @classmethod
    def identity(cls, columns: int) -> "Scaling":
        """Leave every column as it is."""
        return cls(torch.zeros(columns, dtype=torch.float64), torch.ones(columns, dtype=torch.float64))

    def apply(self, values: Tensor) -> Tensor:
        """Standardise, in the dtype of `values`."""
        return (values - self.mean.to(values)) / self.scale.to(values)

    def undo(self, values: Tensor) -> Tensor:
        """Go back to the user's units, in the dtype of `values`."""
        return values * self.scale.to(values) + self.mean.to(values)
