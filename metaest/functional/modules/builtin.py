"""The built-in networks: a multilayer perceptron for rows of columns, and convolutions for images."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from metaest.functional.modules.normalization import normalization_layer

__all__ = ["ACTIVATIONS", "MLP", "ConvNet"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


class MLP(nn.Module):
    r"""A multilayer perceptron, :math:`h_{l+1} = \sigma(W_l h_l + b_l)`, linear in its last layer.

    Parameters
    ----------
    n_features, n_outputs : int
    hidden_layer_sizes : sequence of int
        Units of each hidden layer; empty for a linear model.
    activation : {"identity", "logistic", "relu", "silu", "tanh"}
    normalization : {"batch", "layer", "group"} or None, default=None
        Normalisation before each activation.

    Notes
    -----
    Weights of hidden layers are uniform with variance 1 / fan-in (LeCun and others, 1998,
    :doi:`10.1007/3-540-49430-8_2`), for relu 2 / fan-in (He and others, 2015, :doi:`10.1109/ICCV.2015.123`). Their
    biases are uniform up to :math:`1 / \sqrt{\text{fan-in}}`, which matters with few features: with zero biases all
    units of a first layer on one feature bend at the same place. The last layer starts at variance 1 / fan-in and zero
    bias. Draws come from torch's global generator: seed it, as the estimators do.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int],
        activation: str,
        normalization: str | None = None,
    ) -> None:
        super().__init__()
        # what a file keeps of the architecture
        self.arguments = (n_features, n_outputs, tuple(hidden_layer_sizes), activation, normalization)
        sizes = [n_features, *hidden_layer_sizes, n_outputs]
        self.activation = activation
        layers = [nn.Linear(a, b, dtype=torch.float32) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(normalization_layer(normalization, size) for size in sizes[1:-1])
        for layer in layers:
            hidden = layer is not layers[-1]
            variance = (2 if hidden and activation == "relu" else 1) / layer.in_features
            nn.init.uniform_(layer.weight, -math.sqrt(3 * variance), math.sqrt(3 * variance))
            bound = 1 / math.sqrt(layer.in_features) if hidden else 0.0
            nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, X: Tensor) -> Tensor:
        """Predict rows X of shape (rows, n_features); the result has shape (rows, n_outputs)."""
        activate = ACTIVATIONS[self.activation]
        hidden = X
        for layer, norm in zip(self.layers[:-1], self.norms, strict=True):
            hidden = activate(norm(layer(hidden)))
        output: Tensor = self.layers[-1](hidden)
        return output


class ConvNet(nn.Module):
    """Blocks of 3 x 3 convolution, normalisation, activation and 2 x 2 maximum pooling, and one linear layer.

    With four blocks of 64 channels it is the Conv4 of few-shot learning (Vinyals and others, 2016, arXiv:1606.04080).

    Parameters
    ----------
    shape : (channels, height, width)
        Shape of one image.
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
