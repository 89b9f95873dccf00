"""Convolutions for images that are few: distorted in training, looked at several times afterwards.

In training every image is mapped by an affine map of its own, drawn evenly: turned by up to 0.3 radians, sheared and
stretched by up to a quarter, and moved by up to a tenth of its size (Simard, Steinkraus and Platt, 2003,
doi:10.1109/ICDAR.2003.1227801). Later features are means over five looks: at the image as it is, and turned and moved a
little to four sides.
"""

import math

import torch
from torch import Tensor, nn

from metaest.functional.modules.normalization import normalization_layer

__all__ = ["DistortedConvNet"]

# how far images are turned (in radians), sheared, stretched, and moved (in units of half their size), at most
ANGLE = 0.3
SHEAR = 0.225
STRETCH = 0.225
SHIFT = 0.18
# angle, and shifts to the right and down
LOOKS = ((0.12, 0.05, 0.0), (-0.12, -0.05, 0.0), (0.12, 0.0, -0.05), (-0.12, 0.0, 0.05))
# channels of the first blocks
FIRST = (16, 32)
# ... and of those after them, of which there is one at least
LATER = 64
# pixels that the last block should leave, in each direction
LEFT = 3
# least blocks
FEWEST = 2


class DistortedConvNet(nn.Module):
    """Blocks of 3 x 3 convolution, normalisation and relu, the first of stride 2, others with pooling; a linear layer.

    There are as many blocks as leave about three pixels in each direction: two for 8 x 8, three for 28 x 28, four for
    84 x 84. A first convolution of stride 2 makes the largest layer a quarter of what pooling leaves of it.

    Parameters
    ----------
    shape : (channels, height, width)
        Shape of one image.
    n_outputs : int

    Raises
    ------
    ValueError
        When the shape is not that of an image.
    """

    def __init__(self, shape: tuple[int, ...], n_outputs: int) -> None:
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"images of shape (channels, height, width) are wanted, got rows of shape {tuple(shape)}.")
        inner, height, width = shape
        n_blocks = max(FEWEST, math.floor(math.log2(max(min(height, width) / LEFT, 1))))
        channels = (*FIRST, *[LATER] * max(n_blocks - len(FIRST), 1))[-n_blocks:]
        self.convolutions, self.norms, self.pools = nn.ModuleList(), nn.ModuleList(), []
        for i, outer in enumerate(channels):
            layer = nn.Conv2d(inner, outer, 3, stride=1 if i else 2, padding=1, dtype=torch.float32)
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            self.convolutions.append(layer)
            self.norms.append(normalization_layer("layer", outer))
            self.pools.append(i > 0 and min(height, width) > 1)
            if i == 0:
                height, width = -(-height // 2), -(-width // 2)
            elif self.pools[-1]:
                height, width = height // 2, width // 2
            inner = outer
        self.head = nn.Linear(inner * height * width, n_outputs, dtype=torch.float32)
        nn.init.uniform_(self.head.weight, -math.sqrt(3 / self.head.in_features), math.sqrt(3 / self.head.in_features))
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Predict images of shape (rows, channels, height, width); the result has shape (rows, n_outputs)."""
        if self.training:
            output: Tensor = self.head(self._features(distorted(X)))
            return output
        looks = torch.cat([X, *(moved(X, *look) for look in LOOKS)])
        features = self._features(looks)
        mean: Tensor = self.head(features.view(1 + len(LOOKS), len(X), features.shape[1]).mean(dim=0))
        return mean

    def _features(self, X: Tensor) -> Tensor:
        # with channels last, convolutions on a CPU take half the time
        X = X.contiguous(memory_format=torch.channels_last)
        for convolution, norm, pools in zip(self.convolutions, self.norms, self.pools, strict=True):
            X = torch.relu(norm(convolution(X)))
            X = nn.functional.max_pool2d(X, 2) if pools else X
        return X.flatten(1)


def distorted(X: Tensor) -> Tensor:
    """Return images, each mapped by an affine map drawn from torch's global generator."""
    u = 2 * torch.rand(6, len(X), dtype=X.dtype, device=X.device) - 1
    cos, sin = torch.cos(ANGLE * u[0]), torch.sin(ANGLE * u[0])
    wide, high = 1 + STRETCH * u[2], 1 + STRETCH * u[3]
    rows = [cos * wide, -sin + SHEAR * u[1], SHIFT * u[4], sin, cos * high, SHIFT * u[5]]
    return _mapped(X, torch.stack(rows, dim=1).view(-1, 2, 3))


def moved(X: Tensor, angle: float, right: float, down: float) -> Tensor:
    """Return images turned by an angle and moved by parts of half their size."""
    cos, sin = math.cos(angle), math.sin(angle)
    rows = torch.tensor([[cos, -sin, right], [sin, cos, down]], dtype=X.dtype, device=X.device)
    return _mapped(X, rows.expand(len(X), 2, 3))


def _mapped(X: Tensor, rows: Tensor) -> Tensor:
    grid = nn.functional.affine_grid(rows, list(X.shape), align_corners=False)
    return nn.functional.grid_sample(X, grid, padding_mode="border", align_corners=False)
