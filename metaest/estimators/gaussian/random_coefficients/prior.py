r"""The prior of a task with random coefficients: a fixed part, and coefficients :math:`b \sim N(0, D)` of some columns.

Given rows (X, y) of a task with residuals r from the fixed part, the coefficients have

.. math:: P = D - D Z^T (Z D Z^T + s^2 I)^{-1} Z D, \qquad E b = P Z^T r / s^2,

which is computed from matrices of the size of b. To the variance :math:`z^T P z` of a new row come that of the fixed
coefficients, whose error the expected b takes back in part; twice what is lost since b is weighed by estimates of D and
:math:`s^2` (Prasad, Rao, 1990, :doi:`10.1080/01621459.1990.10475320`); and by how much these estimates are too small
(Datta, Lahiri, 2000, Statistica Sinica 10, 613-627). Intervals are those of Student's distribution with the degrees of
freedom of

.. math:: 2 v^2 / \mathrm{var}(\hat v), \qquad v = z^T P z + s^2

(Satterthwaite, 1946, :doi:`10.2307/3002019`), as lmerTest has them for fixed coefficients.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.estimators.gaussian.prior import Moments, TaskPrior
from metaest.estimators.gaussian.random_coefficients.alternation import Base
from metaest.estimators.gaussian.random_coefficients.design import Design
from metaest.estimators.gaussian.random_coefficients.maximum_likelihood import covariance_root
from metaest.estimators.gaussian.random_coefficients.trees import BoostedTrees
from metaest.estimators.gaussian.random_coefficients.uncertainty import Uncertainty

__all__ = ["CoefficientPrior", "predictions", "with_names"]

Array = NDArray[np.float64]

# numbers that are worked with at a time: some 16 MB
CHUNK_VALUES = 2_000_000
# share of a column's length below which what is left of it is rounding
ROUNDING = 1e-12
# rounding of a singular value, in units of the prior, that may not be taken for what rows tell
LOST = 0.5


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
    uncertainty : Uncertainty
        Of what was estimated, for standardised targets.
    """

    design: Design
    beta: Array
    factor: Array
    noise_variance: float
    scale: float
    base: Base | None
    feature_names: tuple[str, ...] | None
    uncertainty: Uncertainty

    def mean(self, X: Array) -> Array:
        """Return the fixed part."""
        mean = self.design.columns(X, self.design.fixed) @ self.beta
        if self.base is None or not len(X):
            return np.asarray(mean)
        return np.asarray(mean + self.scale * predictions(self.base, X, self.feature_names))

    def variance(self, X: Array) -> Array:
        """Return the variance of the task's function, what the estimates leave open included."""
        return np.asarray(self.condition(*_no_rows(X)).variance(X[None])[0])

    def freedom(self, X: Array, *, noise: bool) -> Array:
        """Return the degrees of freedom of the variance before adaptation."""
        return np.asarray(self.condition(*_no_rows(X)).freedom(X[None], noise=noise)[0])

    def covariance(self, X: Array, X2: Array) -> Array:
        """Return the covariances of the random part."""
        first, second = self.random_columns(X) @ self.factor, self.random_columns(X2) @ self.factor
        return np.asarray(first @ second.swapaxes(1, 2))

    def random_columns(self, X: Array) -> Array:
        """Return the columns with random coefficients."""
        return self.design.columns(X, self.design.random)

    def condition(self, X: Array, y: Array, mask: NDArray[np.bool_]) -> "CoefficientPosterior":
        """Return the tasks given some of their rows."""
        n_features = X.shape[2]
        residual = np.where(mask, y - self.mean(X.reshape(-1, n_features)).reshape(y.shape), 0.0)
        # all in units of the noise. Singular values keep the digits that the matrix P loses where noise is small beside
        # the coefficients; the rows of zeros make them as many as there are coefficients
        noise, q = np.sqrt(self.noise_variance), len(self.factor)
        Z = np.where(mask[:, :, None], self.random_columns(X), 0.0) / noise
        C = np.where(mask[:, :, None], self.design.columns(X, self.design.fixed), 0.0) / noise
        columns = Z @ self.factor
        if not (np.isfinite(columns).all() and np.isfinite(residual).all()):
            raise FloatingPointError("the fixed part or a column is not finite")
        padded = np.concatenate([columns, np.zeros((len(X), q, q))], axis=1)
        left, values, right = np.linalg.svd(padded, full_matrices=False)
        left, turned = left[:, : X.shape[1]], right @ self.factor.T
        length = np.hypot(1.0, values)[:, :, None]
        eps, order = np.finfo(np.float64).eps, np.arange(q)
        lost = (eps * values[:, :1] > LOST * length[:, :, 0]) & (order < mask.sum(axis=1)[:, None])
        if lost.any():
            raise FloatingPointError("rows differ by so many orders of magnitude that the small ones are lost")
        gain = left @ (values[:, :, None] / length / length * turned)  # Z P / s
        expected = (residual / noise)[:, None, :] @ gain
        whitened = left.swapaxes(1, 2) @ Z
        rest = Z - left @ whitened
        # where all coefficients vary nothing is left but rounding
        rest = np.where(np.abs(rest) > ROUNDING * np.linalg.norm(Z, axis=1, keepdims=True), rest, 0.0)
        whitened = whitened / length
        precision = whitened.swapaxes(1, 2) @ whitened + rest.swapaxes(1, 2) @ rest
        if not (np.isfinite(expected).all() and np.isfinite(precision).all()):
            raise FloatingPointError("the coefficients are not finite")
        of_noise = values[:, :, None] / length**3 * turned
        return CoefficientPosterior(
            self,
            expected[:, 0],
            (turned / length).swapaxes(1, 2),
            np.eye(q) - Z.swapaxes(1, 2) @ gain,
            C.swapaxes(1, 2) @ gain,
            precision,
            gain,
            whitened.swapaxes(1, 2) @ of_noise,
            of_noise,
        )

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
        if fault := self.uncertainty.fault(p, q):
            return fault
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
        A root of their covariance P.
    unseen : ndarray of shape (n_tasks, q, q)
        :math:`D^{-1} P`: the share of the coefficients that the rows do not tell.
    fixed : ndarray of shape (n_tasks, p, q)
        By how much the expected coefficients fall with the fixed ones.
    precision : ndarray of shape (n_tasks, q, q)
        :math:`Z^T V^{-1} Z` of the rows.
    gain : ndarray of shape (n_tasks, n_rows, q)
        :math:`Z P / s`.
    across : ndarray of shape (n_tasks, q, q)
        :math:`Z^T V^{-1} Z P`.
    of_noise : ndarray of shape (n_tasks, q, q)
        A root of :math:`P Z^T V^{-1} Z P`, transposed.
    """

    prior: CoefficientPrior
    expected: Array
    root: Array
    unseen: Array
    fixed: Array
    precision: Array
    gain: Array
    across: Array
    of_noise: Array

    def at(self, X: Array, spread: bool) -> Moments:
        """Return the moments of the tasks' functions at rows of shape (n_tasks, n_rows, n_features)."""
        columns = self.prior.random_columns(X)
        mean = self.prior.mean(X.reshape(-1, X.shape[2])).reshape(X.shape[:2])
        mean = mean + np.matmul(columns, self.expected[:, :, None])[:, :, 0]
        return Moments(mean, self.variance(X) if spread else None)

    def variance(self, X: Array) -> Array:
        """Return variances of the tasks' functions: of coefficients, of fixed ones, and what unknown variances add."""
        uncertainty, columns = self.prior.uncertainty, self.prior.random_columns(X)
        w, told = self._directions(columns)
        fixed = self.prior.design.columns(X, self.prior.design.fixed) - columns @ self.fixed.swapaxes(1, 2)
        of_fixed = np.einsum("trp,pq,trq->tr", fixed, uncertainty.fixed, fixed)
        bias = ((w @ self._symmetric(uncertainty.bias[:-1])) * w).sum(axis=2) + uncertainty.bias[-1] * told
        added = np.maximum(of_fixed, 0.0) + np.maximum(bias, 0.0) + 2 * self._of_weights(columns)
        return np.asarray(np.square(columns @ self.root).sum(axis=2) + self.prior.scale**2 * added)

    def freedom(self, X: Array, *, noise: bool) -> Array:
        """Return degrees of freedom of the variance, with the noise or without."""
        columns, of_parameters = self.prior.random_columns(X), self.prior.uncertainty.variances
        v = np.square(columns @ self.root).sum(axis=2) + (self.prior.noise_variance if noise else 0.0)
        w, told = self._directions(columns)
        i, j = self.prior.uncertainty.entries(columns.shape[2])
        spread = np.empty(v.shape)
        for rows in _blocks(v.shape[1], len(v) * len(of_parameters)):
            of_entries = np.where(i == j, 1.0, 2.0) * w[:, rows][..., i] * w[:, rows][..., j]
            slopes = np.concatenate([of_entries, told[:, rows, None] + float(noise)], axis=2)
            spread[:, rows] = ((slopes @ of_parameters) * slopes).sum(axis=2)
        tiny = np.finfo(np.float64).tiny
        return np.asarray(np.maximum(2 * np.square(v / self.prior.scale**2) / np.maximum(spread, tiny), 1.0))

    def _directions(self, columns: Array) -> tuple[Array, Array]:
        """Return the directions w of D on which variances depend, of slope w w', and their slopes in the noise."""
        told = np.square(columns @ self.gain.swapaxes(1, 2)).sum(axis=2) / self.prior.noise_variance
        return columns @ self.unseen.swapaxes(1, 2), told

    def _symmetric(self, entries: Array) -> Array:
        """Return numbers for the entries of D as a symmetric matrix."""
        q = len(self.prior.factor)
        i, j = self.prior.uncertainty.entries(q)
        matrix = np.zeros((q, q))
        matrix[i, j] = matrix[j, i] = entries
        return matrix

    def _of_weights(self, columns: Array) -> Array:
        """Return what is lost since rows are weighed by variances that are estimates."""
        # with u_a = E_a w for an entry of D and u = -P z / s^2 for the noise: the sum of A_ab u_a' Z' V^-1 Z u_b
        unit, noise, covariance = self.prior.scale**2, self.prior.noise_variance, self.prior.uncertainty.variances
        i, j = self.prior.uncertainty.entries(columns.shape[2])
        root, entry = covariance_root(covariance[:-1, :-1]), np.arange(len(i))
        w, _ = self._directions(columns)
        of_noise = np.square(columns @ self.of_noise.swapaxes(1, 2)).sum(axis=2) / noise
        across = ((w @ self._symmetric(covariance[:-1, -1])) * (columns @ self.across.swapaxes(1, 2))).sum(axis=2)
        lost = (covariance[-1, -1] * of_noise - 2 * across) * (unit / noise)
        for rows in _blocks(columns.shape[1], len(columns) * columns.shape[2] * len(i)):
            turns = np.zeros((*w[:, rows].shape, len(i)))
            turns[:, :, i, entry] = w[:, rows][..., j]
            turns[:, :, j, entry] = w[:, rows][..., i]
            turned = turns @ root
            lost[:, rows] += (turned * (unit * self.precision[:, None] @ turned)).sum(axis=(2, 3))
        return np.asarray(np.maximum(lost, 0.0))


def _blocks(n_rows: int, size: int) -> Iterator[slice]:
    """Yield rows of which each takes so many numbers, as many as memory bears."""
    height = max(1, CHUNK_VALUES // size)
    for first in range(0, n_rows, height):
        yield slice(first, first + height)


def _no_rows(X: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return one task without rows."""
    return np.zeros((1, 0, X.shape[1])), np.zeros((1, 0)), np.zeros((1, 0), dtype=bool)


def predictions(base: Base, X: Array, feature_names: tuple[str, ...] | None) -> Array:
    """Return a regressor's predictions of rows, with the column names that it was fitted with."""
    return np.asarray(base.predict(with_names(X, feature_names)), dtype=np.float64).reshape(-1)


def with_names(X: Array, feature_names: tuple[str, ...] | None) -> Any:
    """Return rows as a regressor takes them: a data frame where columns have names."""
    return X if feature_names is None else pd.DataFrame(X, columns=list(feature_names))
