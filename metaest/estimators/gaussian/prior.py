r"""The prior of a task whose rows are jointly Gaussian, and its posterior given some of the rows.

With a mean m, a covariance K between the values of the task's function and noise of variance :math:`\sigma^2`, the
function given rows (X, y) has

.. math:: E f(x) = m(x) + K(x, X) (K(X, X) + \sigma^2 I)^{-1} (y - m(X)), \qquad
          \mathrm{var} f(x) = K(x, x) - K(x, X) (K(X, X) + \sigma^2 I)^{-1} K(X, x)

(Rasmussen, Williams, 2006, Gaussian Processes for Machine Learning, equations 2.25 and 2.26).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["ROUNDINGS", "Conditioned", "Moments", "TaskPosterior", "TaskPrior"]

Array = NDArray[np.float64]

# relative error of a sum of n products, in units of n roundings: what is added to a diagonal so that a covariance that
# is singular to rounding still has a Cholesky factor
ROUNDINGS = 4


class Moments(NamedTuple):
    """Mean and variance of the functions of some tasks, without noise.

    Attributes
    ----------
    mean : ndarray of shape (n_tasks, n_rows)
        Or of another shape, that of the rows.
    variance : ndarray of the same shape, or None
        None where it was not asked for.
    """

    mean: Array
    variance: Array | None

    @classmethod
    def before(cls, prior: "TaskPrior", X: Array, *, spread: bool) -> "Moments":
        """Return the moments before adaptation at rows of shape (n_rows, n_features), of shape (n_rows,)."""
        return cls(prior.mean(X), prior.variance(X) if spread else None)

    def mixed(self, before: "Moments", share: float | Array) -> "Moments":
        """Return the moments of a function that is this one with a probability, and another one otherwise."""
        shift = self.mean - before.mean
        mean = np.where(share == 1, self.mean, before.mean + share * shift)
        if self.variance is None or before.variance is None:
            return Moments(mean, None)
        mixed = share * self.variance + (1 - share) * before.variance + share * (1 - share) * np.square(shift)
        return Moments(mean, np.where(share == 1, self.variance, mixed))


class Conditioned(Protocol):
    """Tasks of which some rows have been observed."""

    def at(self, X: Array, spread: bool) -> Moments:
        """Return the moments of the tasks' functions at rows of shape (n_tasks, n_rows, n_features)."""

    def freedom(self, X: Array, *, noise: bool) -> Array:
        """Return the degrees of freedom of these variances, of shape (n_tasks, n_rows); infinite where all is known."""


class TaskPrior(ABC):
    """What an estimator knows of a new task before it has seen any of its rows, in the units of y and in float64.

    A subclass is a frozen data class (``eq=False``) of numbers, arrays and objects that a file can hold. It works on
    rows that have been checked.

    Attributes
    ----------
    noise_variance : float
        Variance of an observation around the task's function; above 0.
    """

    noise_variance: float

    @abstractmethod
    def mean(self, X: Array) -> Array:
        """Return the mean of the task's function at rows of shape (n_rows, n_features), of shape (n_rows,)."""

    @abstractmethod
    def variance(self, X: Array) -> Array:
        """Return the variance of the task's function at rows of shape (n_rows, n_features), of shape (n_rows,)."""

    @abstractmethod
    def covariance(self, X: Array, X2: Array) -> Array:
        """Return the covariances of each task's function between its rows.

        Parameters
        ----------
        X : ndarray of shape (n_tasks, n_rows, n_features)
        X2 : ndarray of shape (n_tasks, n_rows_2, n_features)

        Returns
        -------
        ndarray of shape (n_tasks, n_rows, n_rows_2)
        """

    def freedom(self, X: Array, *, noise: bool) -> Array:
        """Return the degrees of freedom of the variance at rows, of shape (n_rows,), with the noise or without."""
        return np.full(len(X), np.inf)

    def fault(self) -> str:
        """Return what is wrong with a prior that a file holds, and nothing where all is well; subclasses add to it."""
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        numbers = [
            value for value in values if isinstance(value, (float, np.ndarray)) and np.asarray(value).dtype.kind == "f"
        ]
        if not all(np.isfinite(value).all() for value in numbers):
            return "a number is not finite"
        return "" if self.noise_variance > 0 else "the variance of the noise is not above 0"

    def condition(self, X: Array, y: Array, mask: NDArray[np.bool_]) -> Conditioned:
        """Return the tasks given some of their rows; a subclass with a shorter way than n x n matrices replaces it.

        Parameters
        ----------
        X : ndarray of shape (n_tasks, n_rows, n_features)
        y : ndarray of shape (n_tasks, n_rows)
        mask : ndarray of bool, shape (n_tasks, n_rows)
            Which rows count; the others are padding, and hold numbers that can be worked with.

        Raises
        ------
        FloatingPointError
            When numbers become too large.
        """
        n_rows, n_features = X.shape[1:]
        if not n_rows:
            return TaskPosterior(self, X, mask, np.zeros((len(X), 0, 0)), y)
        residual = np.where(mask, y - self.mean(X.reshape(-1, n_features)).reshape(y.shape), 0.0)
        covariance = np.where(mask[:, :, None] & mask[:, None, :], self.covariance(X, X), 0.0)
        diagonal = np.einsum("tii->ti", covariance)
        tiny = ROUNDINGS * n_rows * np.finfo(np.float64).eps * diagonal.max(axis=1, initial=0.0)
        diagonal += np.where(mask, self.noise_variance + tiny[:, None], 1.0)
        if not (np.isfinite(covariance).all() and np.isfinite(residual).all()):
            raise FloatingPointError("a mean or a covariance of the prior is not finite")
        factor = np.linalg.cholesky(covariance)
        whitened = _solved(factor, residual[:, :, None])
        weights = _solved(factor.swapaxes(1, 2), whitened, lower=False)[:, :, 0]
        if not np.isfinite(weights).all():
            raise FloatingPointError("the weights of the rows are not finite")
        return TaskPosterior(self, X, mask, factor, weights)


@dataclass(frozen=True, eq=False)
class TaskPosterior:
    """Tasks given some of their rows, by Cholesky factors of their covariances.

    Attributes
    ----------
    prior : TaskPrior
    X : ndarray of shape (n_tasks, n_rows, n_features)
    mask : ndarray of bool, shape (n_tasks, n_rows)
    factor : ndarray of shape (n_tasks, n_rows, n_rows)
        Lower triangular; its square is the covariance of the observations.
    weights : ndarray of shape (n_tasks, n_rows)
        The inverse of this covariance, times the residuals.
    """

    prior: TaskPrior
    X: Array
    mask: NDArray[np.bool_]
    factor: Array
    weights: Array

    def at(self, X: Array, spread: bool) -> Moments:
        """Return the moments of the tasks' functions at rows of shape (n_tasks, n_rows, n_features)."""
        rows, shape = X.reshape(-1, X.shape[2]), X.shape[:2]
        mean = self.prior.mean(rows).reshape(shape)
        variance = self.prior.variance(rows).reshape(shape) if spread else None
        if self.X.shape[1]:
            between = np.where(self.mask[:, None, :], self.prior.covariance(X, self.X), 0.0)
            mean = mean + np.matmul(between, self.weights[:, :, None])[:, :, 0]
            if variance is not None:
                explained = np.square(_solved(self.factor, between.swapaxes(1, 2))).sum(axis=1)
                variance = np.maximum(variance - explained, 0.0)
        return Moments(mean, variance)

    def freedom(self, X: Array, *, noise: bool) -> Array:
        """Return infinite degrees of freedom: variances are taken as known."""
        return np.full(X.shape[:2], np.inf)


def _solved(factor: Array, right: Array, *, lower: bool = True) -> Array:
    """Solve triangular systems of shape (n_tasks, n_rows, n_rows)."""
    if len(factor) == 1:
        return np.asarray(solve_triangular(factor[0], right[0], lower=lower, check_finite=False))[None]
    return np.asarray(np.linalg.solve(factor, right))
