r"""The evidence of curves of tasks around a shared curve, and its slopes.

The rows of all tasks together are normal with the covariances

.. math:: \mathrm{cov}(y_{ti}, y_{sj}) = k_m(x, x') + [t = s]\, k_f(x, x') + [t = s, i = j]\, \sigma^2

and their log density is :math:`-\tfrac12 y^T K^{-1} y - \tfrac12 \log |K| - \tfrac n2 \log 2\pi`, with the slope
:math:`\tfrac12 \mathrm{tr}((a a^T - K^{-1})\, \partial K)`, :math:`a = K^{-1} y` (Rasmussen, Williams, 2006,
equations 2.30 and 5.9).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri

from metaest.estimators.gaussian.hierarchical_gp.kernels import Kernel
from metaest.estimators.gaussian.prior import ROUNDINGS

__all__ = ["Curves", "Hyperparameters"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Kernels of the shared curve and of the tasks' curves around it, and the variance of the noise.

    Attributes
    ----------
    noise_variance : float
    shared, task : Kernel
    """

    noise_variance: float
    shared: Kernel
    task: Kernel

    @classmethod
    def of_logs(cls, logs: Array) -> "Hyperparameters":
        """Return those of logarithms: of the noise variance, then of the shared and of the tasks' kernel."""
        half = len(logs) // 2
        return cls(float(np.exp(logs[0])), Kernel.of_logs(logs[1 : 1 + half]), Kernel.of_logs(logs[1 + half :]))


@dataclass(frozen=True, eq=False)
class Curves:
    """Rows of tasks in standardised units, sorted by task.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,)
    offsets : ndarray of int, shape (n_tasks + 1,)
        Task t has the rows from ``offsets[t]`` to ``offsets[t + 1] - 1``.
    """

    X: Array
    y: Array
    offsets: NDArray[np.intp]

    @cached_property
    def covariates(self) -> NDArray[np.bool_]:
        """Which columns do not vary within any task."""
        first = np.repeat(self.X[self.offsets[:-1]], np.diff(self.offsets), axis=0)
        return np.asarray((first == self.X).all(axis=0))

    @cached_property
    def _batches(self) -> list[NDArray[np.intp]]:
        """Row numbers of tasks of one size each, of shape (n_tasks, n_rows)."""
        sizes = np.diff(self.offsets)
        return [self.offsets[:-1][sizes == size][:, None] + np.arange(size) for size in np.unique(sizes)]

    def factor(self, at: Hyperparameters) -> Array:
        """Return the lower Cholesky factor of the covariance of all rows."""
        return self._factor(at, at.shared.smooth_part(self.X, self.X), self._task_parts(at))

    def _factor(self, at: Hyperparameters, smooth: Array, parts: list[Array]) -> Array:
        covariance = at.shared.constant + at.shared.linear * (self.X @ self.X.T) + smooth
        for rows, part in zip(self._batches, parts, strict=True):
            X = self.X[rows]
            covariance[rows[:, :, None], rows[:, None, :]] += (
                at.task.constant + at.task.linear * (X @ X.swapaxes(1, 2)) + part
            )
        diagonal = np.einsum("ii->i", covariance)
        # the second term is within the rounding of the sums, and keeps the factor of near rows real
        diagonal += at.noise_variance + ROUNDINGS * len(diagonal) * np.finfo(np.float64).eps * diagonal.max()
        return np.asarray(cholesky(covariance, lower=True, overwrite_a=True, check_finite=False))

    def _task_parts(self, at: Hyperparameters) -> list[Array]:
        """Return the squared exponentials within tasks, for each batch of tasks of one size."""
        return [at.task.smooth_part(self.X[rows], self.X[rows]) for rows in self._batches]

    def log_evidence(self, logs: Array) -> float:
        """Return the log density of y at logarithms of hyperparameters."""
        return self.evidence_and_slopes(logs, slopes=False)[0]

    def evidence_and_slopes(self, logs: Array, *, slopes: bool = True) -> tuple[float, Array]:
        """Return the log density of y, and its slopes in the logarithms of the hyperparameters.

        Raises
        ------
        LinAlgError
            When the covariance is singular to rounding.
        """
        at = Hyperparameters.of_logs(logs)
        smooth, parts = at.shared.smooth_part(self.X, self.X), self._task_parts(at)
        factor = self._factor(at, smooth, parts)
        weights = cho_solve((factor, True), self.y, check_finite=False)
        evidence = float(
            -0.5 * self.y @ weights - np.log(np.diag(factor)).sum() - 0.5 * len(self.y) * np.log(2 * np.pi)
        )
        if not slopes:
            return evidence, np.empty(0)
        inverse = dpotri(factor, lower=True, overwrite_c=True)[0]
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        outer = np.outer(weights, weights) - inverse
        of_task = np.zeros(len(logs) // 2)
        for rows, part in zip(self._batches, parts, strict=True):
            of_task += at.task.slopes(self.X[rows], part, outer[rows[:, :, None], rows[:, None, :]])
        of_noise = at.noise_variance * np.trace(outer)
        return evidence, 0.5 * np.concatenate([[of_noise], at.shared.slopes(self.X, smooth, outer), of_task])
