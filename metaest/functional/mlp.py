"""The built-in network: a multilayer perceptron with its activation after every hidden layer."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "MLP"]

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

    Notes
    -----
    Weights are drawn uniformly with the fan-in scaling of He et al. (:doi:`10.1109/ICCV.2015.123`) for relu and silu
    and of Glorot and Bengio for the others, biases are zero, from torch's global generator: seed it, as the
    estimators do.
    """

    def __init__(self, n_features: int, n_outputs: int, hidden_layer_sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        sizes = [n_features, *hidden_layer_sizes, n_outputs]
        self.activation = activation
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        for i, layer in enumerate(layers):
            hidden = i < len(hidden_layer_sizes)
            if hidden and activation in ("relu", "silu"):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Predict rows X of shape (rows, n_features); the result has shape (rows, n_outputs)."""
        activate = ACTIVATIONS[self.activation]
        hidden = X
        for layer in self.layers[:-1]:
            hidden = activate(layer(hidden))
        output: Tensor = self.layers[-1](hidden)
        return output
