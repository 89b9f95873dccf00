r"""The likelihood of random coefficients, with noise variance and fixed coefficients profiled out.

With :math:`D = s^2 \Lambda\Lambda^T` the variance of a task's rows is :math:`s^2 V_t`, and minus twice the
log-likelihood at the best :math:`\beta` and :math:`s^2` is

.. math:: \sum_t \log|I + \Lambda^T Z_t^T Z_t \Lambda| + n \left(1 + \log \frac{2\pi\,r^2(\Lambda)}{n}\right),

with :math:`r^2` the least of :math:`\sum_t (y_t - C_t\beta)^T V_t^{-1} (y_t - C_t\beta)` (Bates, Maechler, Bolker,
Walker, 2015, :doi:`10.18637/jss.v067.i01`). Its slope is :math:`2(M - G / s^2)\Lambda`, where :math:`M` is the sum of
:math:`B_t = Z_t^T V_t^{-1} Z_t` and :math:`G` that of :math:`g_t g_t^T`, :math:`g_t = Z_t^T V_t^{-1} (y_t - C_t\beta)`.
Everything is a matrix of the size of :math:`b_t`, and a vanished variance (a singular :math:`\Lambda`) divides by
nothing.

Some fixed coefficients may be shrunk: :math:`\beta_j \sim N(0, s^2\tau^2)`, which are integrated out. The restricted
likelihood integrates the others out as well, from a flat prior (Patterson, Thompson, 1971,
:doi:`10.1093/biomet/58.3.545`): variances are then not too small for the coefficients that were estimated beside them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.gaussian.random_coefficients.statistics import TaskStatistics

__all__ = ["Profile", "inverted", "profiled"]

# eigenvalues of the scaled normal equations below this share of the greatest: the columns are collinear
COLLINEAR = 1e-13
# the noise variance is held above this, in units of standardised targets, so that its logarithm exists
LEAST_NOISE = 1e-28


@dataclass(frozen=True)
class Profile:
    r"""The likelihood at one :math:`\Lambda`.

    Attributes
    ----------
    deviance : float
        Minus twice the log-likelihood.
    steepness : ndarray of shape (q, q)
        :math:`M - G / s^2`, half the slope in :math:`\Lambda\Lambda^T`.
    tau_slope : float
        Slope in :math:`\log\tau`.
    beta : ndarray of shape (p,)
    noise : float
        :math:`s^2`.
    tau : float
    effects : ndarray of shape (n_tasks, q)
        The expected :math:`b_t`, given the rows of the tasks.
    relative : ndarray of shape (q, q)
        :math:`\Lambda\Lambda^T`.
    shrinking : ndarray of shape (n_tasks, q, q)
        :math:`B_t`.
    """

    deviance: float
    steepness: NDArray[np.float64]
    tau_slope: float
    beta: NDArray[np.float64]
    noise: float
    tau: float
    effects: NDArray[np.float64]
    relative: NDArray[np.float64]
    shrinking: NDArray[np.float64]

    def expected_relative(self) -> NDArray[np.float64]:
        r"""Return the mean over tasks of the expected :math:`b_t b_t^T / s^2`: a step of expectation-maximisation."""
        D = self.relative
        means = self.effects.T @ self.effects / (len(self.effects) * self.noise)
        return np.asarray(means + D - D @ self.shrinking.mean(axis=0) @ D)


def profiled(
    statistics: TaskStatistics,
    factor: NDArray[np.float64],
    shrunk: NDArray[np.bool_],
    tau: float,
    *,
    restricted: bool = False,
) -> Profile:
    r"""Return the likelihood at :math:`\Lambda`.

    Parameters
    ----------
    statistics : TaskStatistics
    factor : ndarray of shape (q, q)
        :math:`\Lambda`.
    shrunk : ndarray of bool, shape (p,)
        Which fixed coefficients are drawn from :math:`N(0, s^2\tau^2)`.
    tau : float
        :math:`\tau`, which has no effect where none is shrunk.
    restricted : bool, default=False
        Whether the likelihood is the restricted one.
    """
    S = statistics.information
    relative = factor @ factor.T
    scaled = factor.T @ S @ factor + np.eye(len(factor))
    B = np.linalg.solve(np.eye(len(factor)) + S @ relative, S)
    B = (B + B.transpose(0, 2, 1)) / 2
    seen = B @ statistics.fixed  # Z' V^-1 C
    rest, last = statistics.rest[:, :-1], statistics.rest[:, -1]
    normal = rest.T @ rest + np.einsum("tqp,tqr->pr", statistics.fixed, seen)
    moment = rest.T @ last + np.einsum("tqp,tq->p", seen, statistics.target)
    penalty = np.where(shrunk, 1 / tau**2, 0.0)
    beta = _solved(normal + np.diag(penalty), moment)
    left = statistics.target - statistics.fixed @ beta
    gradients = np.einsum("tqr,tr->tq", B, left)
    squares = np.square(last - rest @ beta).sum() + (left * gradients).sum() + (penalty * beta**2).sum()
    integrated = shrunk | restricted
    inverse, logdet, rank = inverted((normal + np.diag(penalty))[np.ix_(integrated, integrated)])
    n_left = statistics.n_rows - (rank - int(shrunk.sum()))
    noise = max(float(squares) / n_left, LEAST_NOISE)
    deviance = float(np.linalg.slogdet(scaled)[1].sum()) + n_left * (1 + math.log(2 * math.pi * noise))
    M = B.sum(axis=0)
    tau_slope = 0.0
    if integrated.any():
        deviance += logdet + 2 * int(shrunk.sum()) * math.log(tau)
        of_integrated = seen[..., integrated]
        M = M - np.einsum("tqp,pr,tsr->qs", of_integrated, inverse, of_integrated)
    if shrunk.any():
        told = float(shrunk.sum() - np.diag(inverse)[shrunk[integrated]].sum() / tau**2)
        tau_slope = 2 * told - 2 * float((penalty * beta**2).sum()) / noise
    steepness = M - gradients.T @ gradients / noise
    return Profile(deviance, steepness, tau_slope, beta, noise, tau, gradients @ relative, relative, B)


def inverted(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, int]:
    """Return inverse, logarithm of the determinant and rank of normal equations, which may be collinear."""
    scale = np.sqrt(np.diag(matrix))
    scale = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    present = values > COLLINEAR * values.max(initial=0.0)
    inverse = np.where(present, 1 / np.where(present, values, 1.0), 0.0)
    rank = int(present.sum())
    if rank == len(matrix):
        logdet = float(np.log(values).sum() + 2 * np.log(scale).sum())
    else:  # of the eigenvalues that there are, in units that are the same at every variance
        logdet = float(np.log(np.linalg.eigvalsh(matrix)[len(matrix) - rank :]).sum())
    return (vectors * inverse) @ vectors.T / np.outer(scale, scale), logdet, rank


def _solved(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve normal equations; of collinear columns, the solution that is shortest in units of the columns."""
    return np.asarray(inverted(matrix)[0] @ vector)
