"""The built-in network for images: blocks of convolution, normalisation, activation and pooling, and a linear layer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metaest.functional.mlp import ACTIVATIONS
from metaest.functional.normalization import normalization_layer

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Blocks of 3 x 3 convolution, normalisation, activation and 2 x 2 maximum pooling, and one linear layer.

    With four blocks of 64 channels it is the Conv4 of few-shot learning (Vinyals and others, 2016, arXiv:1606.04080).

    Parameters
    ----------
    shape : (channels, height, width)
        Of an image.
    n_outputs : int
    channels : sequence of int, default=(64, 64, 64, 64)
        One for each block.
    activation : str, default="relu"
        As :class:`~metaest.functional.MLP` has them.
    normalization : {"batch", "layer", "group"} or None, default="batch"

    Raises
    ------
    ValueError
        When the shape is not that of an image.

    Notes
    -----
    Pooling stops where one pixel is left. Weights are drawn from torch's global generator: uniform with variance
    2 / fan-in (He and others, 2015, :doi:`10.1109/ICCV.2015.123`).
    """

    def __init__(
        self,
        shape: Sequence[int],
        n_outputs: int,
        channels: Sequence[int] = (64, 64, 64, 64),
        activation: str = "relu",
        normalization: str | None = "batch",
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"images of shape (channels, height, width) are wanted, got rows of shape {tuple(shape)}.")
        # what a file keeps of the architecture
        self.arguments = (tuple(shape), n_outputs, tuple(channels), activation, normalization)
        self.activation = activation
        inner, (height, width) = shape[0], shape[1:]
        self.convolutions, self.norms, self.pools = nn.ModuleList(), nn.ModuleList(), []
        for outer in channels:
            layer = nn.Conv2d(inner, outer, 3, padding=1, dtype=torch.float32)
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            self.convolutions.append(layer)
            self.norms.append(normalization_layer(normalization, outer))
            self.pools.append(min(height, width) > 1)
            if self.pools[-1]:
                height, width = height // 2, width // 2
            inner = outer
        self.head = nn.Linear(inner * height * width, n_outputs, dtype=torch.float32)
        nn.init.uniform_(self.head.weight, -math.sqrt(3 / self.head.in_features), math.sqrt(3 / self.head.in_features))
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Predict images of shape (rows, channels, height, width); the result has shape (rows, n_outputs)."""
        activate = ACTIVATIONS[self.activation]
        for convolution, norm, pools in zip(self.convolutions, self.norms, self.pools, strict=True):
            X = activate(norm(convolution(X)))
            X = nn.functional.max_pool2d(X, 2) if pools else X
        output: Tensor = self.head(X.flatten(1))
        return output
