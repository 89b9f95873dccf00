r"""Covariances of curves: a constant, a linear part and a squared exponential with one length scale a column.

.. math:: k(x, x') = c + v\, x^T x' + s \exp\Big(-\tfrac12 \sum_j (x_j - x'_j)^2 / l_j^2\Big)

(Rasmussen, Williams, 2006, Gaussian Processes for Machine Learning, sections 4.2 and 5.1). Parameters are logarithms:
of the variances c, v and s, and of the length scales l.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernel"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Kernel:
    """A covariance of curves over standardised columns.

    Attributes
    ----------
    constant, linear, smooth : float
        Variances c, v and s; at least 0.
    length_scales : ndarray of shape (n_features,)
        Above 0; infinite for a column on which the smooth part does not depend.
    """

    constant: float
    linear: float
    smooth: float
    length_scales: Array

    @classmethod
    def of_logs(cls, logs: Array) -> "Kernel":
        """Return the kernel of logarithms in the order of the fields, of shape (3 + n_features,)."""
        values = np.exp(logs)
        return cls(float(values[0]), float(values[1]), float(values[2]), values[3:])

    def diagonal(self, X: Array) -> Array:
        """Return the variances at rows of shape (..., n_features)."""
        return np.asarray(self.constant + self.linear * np.square(X).sum(axis=-1) + self.smooth)

    def __call__(self, X: Array, X2: Array) -> Array:
        """Return the covariances between rows of shape (..., n, n_features) and (..., m, n_features)."""
        smooth = self.smooth_part(X, X2)
        return np.asarray(self.constant + self.linear * (X @ np.swapaxes(X2, -1, -2)) + smooth)

    def smooth_part(self, X: Array, X2: Array) -> Array:
        """Return the squared exponential between rows of shape (..., n, n_features) and (..., m, n_features)."""
        one, other = X / self.length_scales, X2 / self.length_scales
        distance = np.square(one[..., :, None, 0] - other[..., None, :, 0])
        for j in range(1, X.shape[-1]):  # differences, since expanded squares lose digits between near rows
            distance += np.square(one[..., :, None, j] - other[..., None, :, j])
        return np.asarray(self.smooth * np.exp(-0.5 * distance))

    def slopes(self, X: Array, smooth: Array, weight: Array) -> Array:
        """Return the slopes of the sum of weights times covariances, in the logarithms.

        Parameters
        ----------
        X : ndarray of shape (..., n, n_features)
        smooth : ndarray of shape (..., n, n)
            As `smooth_part` returns it for X and X.
        weight : ndarray of shape (..., n, n)
            Symmetric in the last two axes.

        Returns
        -------
        ndarray of shape (3 + n_features,)
        """
        weighted = weight * smooth
        near = np.square(X) * weighted.sum(axis=-1)[..., None] - X * (weighted @ X)
        axes = tuple(range(near.ndim - 1))
        of_scales = 2 * near.sum(axis=axes) / np.square(self.length_scales)
        linear = self.linear * (X * (weight @ X)).sum()
        return np.concatenate([[self.constant * weight.sum(), linear, weighted.sum()], of_scales])
