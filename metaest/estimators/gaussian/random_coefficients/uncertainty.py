r"""What is not known of fixed coefficients and variances, and what it adds to the variance of predictions.

With :math:`B_t = Z_t^T V_t^{-1} Z_t`, :math:`G_t = Z_t^T V_t^{-1} C_t` and :math:`\Phi` the covariance of the fixed
coefficients, their expected information of the entries of D (of which a symmetric matrix :math:`E_a` has the a-th) is,
with the fixed coefficients estimated beside them,

.. math:: I_{ab} = \tfrac12 \sum_t \mathrm{tr}\, E_a B_t E_b (B_t - G_t \Phi G_t^T) .

The restricted likelihood has the term of :math:`G_t \Phi G_t^T` twice, and another one that gives half of it back where
tasks are alike: the difference is of the second order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.gaussian.random_coefficients.likelihood import inverted
from metaest.estimators.gaussian.random_coefficients.maximum_likelihood import Components
from metaest.estimators.gaussian.random_coefficients.statistics import TaskStatistics

__all__ = ["Uncertainty"]

Array = NDArray[np.float64]

# numbers that are worked with at a time
CHUNK_VALUES = 2_000_000
# share of the information of a task, over that of the best told direction, below which rows tell nothing
UNTOLD = 1e-10
# share of the greatest variance of a coefficient below which a variance of the noise is no different from a larger one
LEAST_SHARE = 1e-12


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Covariances of what was estimated.

    Attributes
    ----------
    fixed : ndarray of shape (p, p)
        Of the fixed coefficients.
    variances : ndarray of shape (n_entries + 1, n_entries + 1)
        Of the entries of D (of its diagonal, or of its lower triangle row by row), and of the variance of the noise.
    bias : ndarray of shape (n_entries + 1,)
        By how much these are too small on average, for the fixed coefficients that were estimated beside them; zero
        with the restricted likelihood.
    """

    fixed: Array
    variances: Array
    bias: Array

    @classmethod
    def of(
        cls,
        statistics: TaskStatistics,
        components: Components,
        shrunk: NDArray[np.bool_],
        *,
        diagonal: bool,
        restricted: bool,
    ) -> "Uncertainty":
        """Return the uncertainty of estimates from the statistics that they were made from."""
        q, largest = components.covariance.shape[0], float(np.diag(components.covariance).max())
        noise = max(components.noise, LEAST_SHARE * largest)
        S, relative = statistics.information, components.covariance / noise
        unseen: Array = np.asarray(np.linalg.inv(np.eye(q) + S @ relative), dtype=np.float64)  # T
        B = unseen @ S
        B = (B + B.transpose(0, 2, 1)) / 2
        G, rest = B @ statistics.fixed, statistics.rest[:, :-1]
        within = rest.T @ rest
        penalty = np.diag(np.where(shrunk, 1 / components.tau**2, 0.0))
        normal = within + np.einsum("tqp,tqr->pr", statistics.fixed, G)
        fixed = inverted(normal + penalty)[0]
        N = G @ fixed @ G.transpose(0, 2, 1)
        # C' V^-2 C and C' V^-3 C, of directions that Z explains and of others
        seen = G.transpose(0, 2, 1) @ unseen
        second = within + np.einsum("tpq,tqr->pr", seen, statistics.fixed)
        third = within + np.einsum("tpq,tqs,tsr->pr", seen, unseen, statistics.fixed)
        entries = places(q, diagonal=diagonal)
        left = statistics.n_rows - q * len(S) + float(np.einsum("tij,tji->", unseen, unseen))
        information = _information(B, B - N, unseen, left - float((fixed * third).sum()), entries)
        one_task = _information(B, B, unseen, left, entries) / len(S)
        variances = _inverse_of_information(information, one_task)
        bias = np.zeros(len(variances))
        if not restricted:
            share = np.append(_of_entries(N.sum(axis=0), entries), (fixed * second).sum())
            bias = 0.5 * variances @ share
        units = np.append(np.full(len(variances) - 1, noise), components.noise)
        return cls(noise * fixed, np.outer(units, units) * variances, units * bias)

    def entries(self, q: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows and columns of the entries of D."""
        return places(q, diagonal=len(self.variances) == q + 1)

    def fault(self, p: int, q: int) -> str:
        """Return what is wrong with an uncertainty that a file holds, and nothing where all is well."""
        n = len(self.bias) if self.bias.ndim == 1 else 0
        if self.fixed.shape != (p, p) or n not in (q + 1, q * (q + 1) // 2 + 1) or self.variances.shape != (n, n):
            return "coefficients and their uncertainty differ in number"
        parts = self.fixed, self.variances, self.bias
        return "" if all(np.isfinite(part).all() for part in parts) else "an uncertainty is not finite"


def places(q: int, *, diagonal: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the entries of D that are estimated."""
    return (np.arange(q), np.arange(q)) if diagonal else np.tril_indices(q)


def _of_entries(matrix: Array, entries: tuple[NDArray[np.intp], NDArray[np.intp]]) -> Array:
    """Return the traces of symmetric matrices, over the first axes, times each :math:`E_a`."""
    i, j = entries
    return np.asarray(np.where(i == j, 1.0, 2.0) * matrix[..., i, j])


def _information(
    B: Array, left: Array, unseen: Array, of_noise: float, entries: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> Array:
    r"""Return the information of the entries of D and of the noise, in units of the noise.

    Parameters
    ----------
    B, left, unseen : ndarray of shape (n_tasks, q, q)
        :math:`B_t`, what fixed coefficients leave of it, and the share of coefficients that rows do not tell.
    of_noise : float
    entries : tuple of ndarray
    """
    i, j = entries
    result = np.zeros((len(i) + 1, len(i) + 1))
    half = np.where(i == j, 0.5, 1.0)
    size = max(1, CHUNK_VALUES // len(i) ** 2)
    for first in range(0, len(B), size):
        X, Y = B[first : first + size], left[first : first + size]
        for a, b in ((i, j), (j, i)):
            for c, d in ((i, j), (j, i)):
                result[:-1, :-1] += np.einsum("tab,tab->ab", X[:, b][:, :, c], Y[:, a][:, :, d])
    result[:-1, :-1] *= 0.5 * np.outer(half, half)
    across = (unseen @ left).sum(axis=0)
    result[:-1, -1] = result[-1, :-1] = 0.5 * _of_entries((across + across.T) / 2, entries)
    result[-1, -1] = 0.5 * of_noise
    return (result + result.T) / 2


def _inverse_of_information(information: Array, one_task: Array) -> Array:
    """Return the covariance of estimates, of which each direction is told by a task of the average kind at least."""
    size = np.sqrt(np.maximum(np.diag(one_task), np.finfo(np.float64).tiny))
    values, vectors = np.linalg.eigh(one_task / np.outer(size, size))
    told = values > UNTOLD * values.max()
    root = vectors[:, told] / np.sqrt(values[told]) / size[:, None]
    tasks, turned = np.linalg.eigh(root.T @ information @ root)
    root = root @ turned
    return np.asarray((root / np.maximum(tasks, 1.0)) @ root.T)
