r"""Standardisation learned from the training tasks: :math:`(x - \mathrm{mean}) / \mathrm{scale}` for each column."""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Scaling"]


class Scaling(NamedTuple):
    """Mean and scale of each column, in float64; of images, of each channel.

    Attributes
    ----------
    mean, scale : Tensor of shape (columns,) or (channels, 1, 1)
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def learn(cls, values: Tensor, *, centred: bool = True) -> "Scaling":
        """Learn mean and standard deviation of the columns; a constant one has the size of its number for a scale.

        Parameters
        ----------
        values : Tensor of shape (rows, columns) or (rows, channels, height, width)
        centred : bool, default=True
            Whether to take the mean off. Otherwise it stays 0, and the scale is the mean size of the values.
        """
        values = values.double()
        axes = (0, *range(2, values.ndim))
        # a power of two near the largest number: sums and squares neither overflow nor vanish, and no digit changes
        size = torch.exp2(torch.frexp(values.abs().amax(dim=axes, keepdim=True)).exponent.double() - 1)
        values = values / size
        if not centred:
            scale = (values.abs().mean(dim=axes, keepdim=True) * size)[0]
            return cls(torch.zeros_like(scale), torch.where(scale == 0, 1.0, scale))
        mean = values.mean(dim=axes, keepdim=True)
        scale = (values - mean).square_().mean(dim=axes, keepdim=True).sqrt()
        mean, scale = (mean * size)[0], (scale * size)[0]
        # a column of equal numbers has a standard deviation of rounding size, not exactly 0
        constant = scale <= 10 * torch.finfo(torch.float64).eps * mean.abs()
        return cls(mean, torch.where(constant, torch.where(mean == 0, 1.0, mean.abs()), scale))

    def only(self, columns: Tensor) -> "Scaling":
        """Return the same for the columns where a boolean Tensor is true; the others stay as they are."""
        chosen = columns.view(self.mean.shape[0], *[1] * (self.mean.ndim - 1))
        return Scaling(torch.where(chosen, self.mean, 0.0), torch.where(chosen, self.scale, 1.0))

    @classmethod
    def identity(cls, columns: int, further_axes: int = 0) -> "Scaling":
        """Leave every column as it is; rows of images have two further axes."""
        shape = (columns, *[1] * further_axes)
        return cls(torch.zeros(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64))

    def apply(self, values: Tensor) -> Tensor:
        """Standardise, in the dtype of `values`."""
        centred = values - self.mean.to(values)
        # in place: a second copy of all rows is the peak of memory of a fit
        return centred.div_(self.scale.to(values)) if centred.is_floating_point() else centred / self.scale.to(values)

    def undo(self, values: Tensor) -> Tensor:
        """Go back to the user's units, in the dtype of `values`."""
        return values * self.scale.to(values) + self.mean.to(values)
