"""The prior of a new task's curve: the posterior of the curve that tasks share, and the variation around it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from metaest.estimators.gaussian.hierarchical_gp.evidence import Curves, Hyperparameters
from metaest.estimators.gaussian.hierarchical_gp.warps import Warp
from metaest.estimators.gaussian.prior import TaskPrior

__all__ = ["CurvePrior"]

Array = NDArray[np.float64]

# numbers in the covariances between new rows and those of the fit that are worked out at a time: some 32 MB
CHUNK_VALUES = 4_000_000
# how often rows of a batch have to occur, so that all covariances between distinct ones are worked out at once
REPEATED = 4


@dataclass(frozen=True, eq=False)
class CurvePrior(TaskPrior):
    """What the rows of many tasks say of the curve of the next.

    Attributes
    ----------
    noise_variance : float
        In the squared units of y.
    at : Hyperparameters
        For standardised columns and targets.
    curves : Curves
        The rows of the fit, in these units.
    warp : Warp
        Columns to these units.
    center, scale : float
        Mean and standard deviation of the targets of the fit.
    """

    noise_variance: float
    at: Hyperparameters
    curves: Curves
    warp: Warp
    center: float
    scale: float
    # a file of it is one of rows of patients
    holds_rows = True

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in vars(self).items() if name not in ("_factor", "_weights")}

    def fault(self) -> str:
        """Return what is wrong with a prior that a file holds."""
        X, y, offsets = self.curves.X, self.curves.y, self.curves.offsets
        rows = X.ndim == 2 and y.shape == (len(X),) and offsets.ndim == 1 and len(offsets) > 1
        if not rows or offsets[0] != 0 or offsets[-1] != len(X) or (np.diff(offsets) < 1).any():
            return "its tasks do not have the rows they claim"
        kernels = self.at.shared, self.at.task
        variances = [self.at.noise_variance, *(v for k in kernels for v in (k.constant, k.linear, k.smooth))]
        lengths = [kernel.length_scales for kernel in kernels]
        if any(scales.shape != X.shape[1:] or not (scales > 0).all() for scales in lengths):
            return "length scales and columns are not equally many, or one is not above 0"
        knots = list(zip(self.warp.values, self.warp.places, strict=False))
        rising = all(len(v) == len(p) and (np.diff(v) > 0).all() and (np.diff(p) > 0).all() for v, p in knots)
        if not rising or len(self.warp.values) != len(self.warp.places) or len(knots) != X.shape[1]:
            return "knots and columns do not fit together"
        numbers = np.concatenate([X.ravel(), y, variances, *(v for pair in knots for v in pair)])
        if not np.isfinite(numbers).all() or min(variances) < 0 or not self.scale > 0:
            return "a number is not finite, or a variance is negative"
        return super().fault()

    @cached_property
    def _factor(self) -> Array:
        """The Cholesky factor of the covariance of the rows of the fit."""
        return self.curves.factor(self.at)

    @cached_property
    def _weights(self) -> Array:
        """The inverse of this covariance, times the targets."""
        return np.asarray(cho_solve((self._factor, True), self.curves.y, check_finite=False))

    def mean(self, X: Array) -> Array:
        """Return the posterior mean of the shared curve at rows of shape (n_rows, n_features)."""
        rows, n = self.warp(X), max(1, CHUNK_VALUES // len(self.curves.X))
        parts = [self.at.shared(rows[i : i + n], self.curves.X) @ self._weights for i in range(0, len(rows), n)]
        return np.asarray(self.center + self.scale * np.concatenate([np.empty(0), *parts]))

    def variance(self, X: Array) -> Array:
        """Return the variance of a new task's curve at rows of shape (n_rows, n_features)."""
        rows, n = self.warp(X), max(1, CHUNK_VALUES // len(self.curves.X))
        parts = [np.square(self._whitened(rows[i : i + n])).sum(axis=0) for i in range(0, len(rows), n)]
        left = np.maximum(self.at.shared.diagonal(rows) - np.concatenate([np.empty(0), *parts]), 0.0)
        return np.asarray(self.scale**2 * (left + self.at.task.diagonal(rows)))

    def covariance(self, X: Array, X2: Array) -> Array:
        """Return the covariances of new tasks' curves between their rows, as :class:`TaskPrior` says."""
        one, other = self.warp(X), self.warp(X2)
        prior = self.at.shared(one, other) + self.at.task(one, other)
        return np.asarray(self.scale**2 * (prior - self._explained(one, other)))

    def _explained(self, one: Array, other: Array) -> Array:
        """Return by how much the rows of the fit lower the covariances of the shared curve."""
        n_tasks, n, m = len(one), one.shape[1], other.shape[1]
        rows = np.concatenate([one, other], axis=1)  # side by side: one triangular system of many columns is fast
        distinct, number = np.unique(rows.reshape(-1, rows.shape[2]), axis=0, return_inverse=True)
        if REPEATED * len(distinct) <= n_tasks * (n + m):  # episodes of the same tasks have the same rows
            whitened, number = self._whitened(distinct), number.reshape(n_tasks, n + m)
            return np.asarray((whitened.T @ whitened)[number[:, :n, None], number[:, None, n:]])
        explained = np.empty((n_tasks, n, m))
        size = max(1, CHUNK_VALUES // (len(self.curves.X) * (n + m)))
        for first in range(0, n_tasks, size):
            part = rows[first : first + size]
            whitened = self._whitened(part.reshape(-1, rows.shape[2])).reshape(-1, *part.shape[:2])
            left, right = whitened[:, :, :n].transpose(1, 2, 0), whitened[:, :, n:].transpose(1, 0, 2)
            explained[first : first + size] = left @ right
        return explained

    def _whitened(self, rows: Array) -> Array:
        """Return the covariances between the rows of the fit and others, divided by the Cholesky factor."""
        between = self.at.shared(self.curves.X, rows)
        return np.asarray(solve_triangular(self._factor, between, lower=True, overwrite_b=True, check_finite=False))
