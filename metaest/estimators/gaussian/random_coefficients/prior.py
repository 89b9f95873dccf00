r"""The prior of a task with random coefficients: a fixed part, and coefficients :math:`b \sim N(0, D)` of some columns.

Given rows (X, y) of a task with residuals r from the fixed part, the coefficients have

.. math:: P = D - D Z^T (Z D Z^T + s^2 I)^{-1} Z D, \qquad E b = P Z^T r / s^2,

which is computed from matrices of the size of b.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.gaussian.prior import Conditioned, Moments, TaskPrior
from metaest.estimators.gaussian.random_coefficients.alternation import Base
from metaest.estimators.gaussian.random_coefficients.design import Design
from metaest.estimators.gaussian.random_coefficients.trees import BoostedTrees

__all__ = ["CoefficientPrior", "predictions", "with_names"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CoefficientPrior(TaskPrior):
    """A fixed part and random coefficients.

    Attributes
    ----------
    design : Design
    beta : ndarray of shape (p,)
        Fixed coefficients of the standardised columns.
    factor : ndarray of shape (q, q)
        A root of the covariance of the random coefficients.
    noise_variance : float
    scale : float
        By which predictions of the regressor are multiplied: it was fitted to standardised targets.
    base : regressor or None
    feature_names : tuple of str or None
        Column names with which the regressor was fitted.
    """

    design: Design
    beta: Array
    factor: Array
    noise_variance: float
    scale: float
    base: Base | None
    feature_names: tuple[str, ...] | None

    def mean(self, X: Array) -> Array:
        """Return the fixed part."""
        mean = self.design.columns(X, self.design.fixed) @ self.beta
        if self.base is None or not len(X):
            return np.asarray(mean)
        return np.asarray(mean + self.scale * predictions(self.base, X, self.feature_names))

    def variance(self, X: Array) -> Array:
        """Return the variance of the random part."""
        return np.asarray(np.square(self.random_columns(X) @ self.factor).sum(axis=-1))

    def covariance(self, X: Array, X2: Array) -> Array:
        """Return the covariances of the random part."""
        first, second = self.random_columns(X) @ self.factor, self.random_columns(X2) @ self.factor
        return np.asarray(first @ second.swapaxes(1, 2))

    def random_columns(self, X: Array) -> Array:
        """Return the columns with random coefficients."""
        return self.design.columns(X, self.design.random)

    def condition(self, X: Array, y: Array, mask: NDArray[np.bool_]) -> Conditioned:
        """Return the tasks given some of their rows."""
        n_features = X.shape[2]
        residual = np.where(mask, y - self.mean(X.reshape(-1, n_features)).reshape(y.shape), 0.0)
        # columns and residuals in units of the prior and of the noise, above the rows of the prior itself: a triangular
        # factor of these has the digits that the matrix P loses where noise is small beside the coefficients
        noise = np.sqrt(self.noise_variance)
        columns = np.where(mask[:, :, None], self.random_columns(X) @ self.factor, 0.0) / noise
        q = len(self.factor)
        rows = np.zeros((len(X), X.shape[1] + q, q + 1))
        rows[:, : X.shape[1], :q], rows[:, : X.shape[1], q] = columns, residual / noise
        rows[:, X.shape[1] :, :q] = np.eye(q)
        if not np.isfinite(rows).all():
            raise FloatingPointError("the fixed part or a column is not finite")
        triangle = np.asarray(np.linalg.qr(rows, mode="r"))
        pivots = np.einsum("tii->ti", triangle[:, :q, :q])
        scaled = np.linalg.inv(triangle[:, :q, :q] / pivots[:, :, None])  # pivots may differ by many orders
        expected = self.factor @ (scaled @ (triangle[:, :q, q] / pivots)[:, :, None])
        if not np.isfinite(expected).all():
            raise FloatingPointError("the coefficients are not finite")
        return CoefficientPosterior(self, expected[:, :, 0], self.factor @ (scaled / pivots[:, None, :]))

    def fault(self) -> str:
        """Return what is wrong with a prior that a file holds, and nothing where all is well."""
        whole = (self.design.random, self.design.fixed)
        if any(columns.ndim != 1 for columns in (*whole, self.design.mean, self.design.shrunk)):
            return "its columns are no list"
        p, q = 1 + len(self.design.fixed), 1 + len(self.design.random)
        if self.beta.shape != (p,) or self.factor.shape != (q, q) or self.design.mean.shape != self.design.scale.shape:
            return "coefficients and columns differ in number"
        if not (np.isfinite(self.design.mean).all() and (self.design.scale > 0).all()):
            return "a scale of a column is not above 0"
        columns = np.concatenate(whole)
        if len(columns) and not (columns.min() >= 0 and columns.max() < len(self.design.mean)):
            return "a coefficient is one of a column that is not there"
        if isinstance(self.base, BoostedTrees) and (fault := self.base.fault(len(self.design.mean))):
            return fault
        return super().fault()


@dataclass(frozen=True, eq=False)
class CoefficientPosterior:
    """Tasks with random coefficients, given some of their rows.

    Attributes
    ----------
    prior : CoefficientPrior
    expected : ndarray of shape (n_tasks, q)
        The expected coefficients.
    root : ndarray of shape (n_tasks, q, q)
        A root of their covariance.
    """

    prior: CoefficientPrior
    expected: Array
    root: Array

    def at(self, X: Array, spread: bool) -> Moments:
        """Return the moments of the tasks' functions at rows of shape (n_tasks, n_rows, n_features)."""
        columns = self.prior.random_columns(X)
        mean = self.prior.mean(X.reshape(-1, X.shape[2])).reshape(X.shape[:2])
        mean = mean + np.matmul(columns, self.expected[:, :, None])[:, :, 0]
        return Moments(mean, np.square(columns @ self.root).sum(axis=2) if spread else None)


def predictions(base: Base, X: Array, feature_names: tuple[str, ...] | None) -> Array:
    """Return a regressor's predictions of rows, with the column names that it was fitted with."""
    return np.asarray(base.predict(with_names(X, feature_names)), dtype=np.float64).reshape(-1)


def with_names(X: Array, feature_names: tuple[str, ...] | None) -> Any:
    """Return rows as a regressor takes them: a data frame where columns have names."""
    return X if feature_names is None else pd.DataFrame(X, columns=list(feature_names))
