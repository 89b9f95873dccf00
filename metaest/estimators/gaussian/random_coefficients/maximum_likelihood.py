r"""Variance components of random coefficients by maximum likelihood.

Steps of expectation-maximisation (Laird, Ware, 1982, :doi:`10.2307/2529876`), with the noise profiled out, come near
from any start. L-BFGS on the factor :math:`\Lambda`, in units of where they end, arrives even where a variance is zero,
a place that such steps never reach.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from metaest.estimators.gaussian.random_coefficients.likelihood import Profile, profiled
from metaest.estimators.gaussian.random_coefficients.statistics import TaskStatistics

__all__ = ["Components", "covariance_root", "maximum_likelihood", "searched"]

EM_STEPS = 20
# share of the rows' precision at which the first standard deviations are set (Pinheiro, Bates, 2000, section 3.1.1,
# doi:10.1007/b98882)
START = 0.375
# slope of the deviance per row below which the search ends
TOLERANCE = 1e-9
# slope of the deviance in a vanished variance, per row, that sends the search on
LEAVING = 1e-6
SEARCHES = 6
MOST_STEPS = 500
# logarithms of tau between which it is sought
LEAST_TAU = -12.0
MOST_TAU = 12.0


@dataclass(frozen=True)
class Components:
    r"""What maximum likelihood estimates.

    Attributes
    ----------
    beta : ndarray of shape (p,)
        Fixed coefficients.
    covariance : ndarray of shape (q, q)
        :math:`D`.
    noise : float
        :math:`s^2`.
    tau : float
        By which fixed coefficients with a common variance vary, in units of the noise.
    effects : ndarray of shape (n_tasks, q)
        The expected :math:`b_t`.
    log_likelihood : float
    converged : bool
    """

    beta: NDArray[np.float64]
    covariance: NDArray[np.float64]
    noise: float
    tau: float
    effects: NDArray[np.float64]
    log_likelihood: float
    converged: bool


def maximum_likelihood(
    statistics: TaskStatistics, shrunk: NDArray[np.bool_], *, diagonal: bool, restricted: bool = False
) -> Components:
    r"""Return the estimates.

    Parameters
    ----------
    statistics : TaskStatistics
    shrunk : ndarray of bool, shape (p,)
        Which fixed coefficients have a common variance, which is estimated with the others.
    diagonal : bool
        Whether random coefficients are independent of each other.
    restricted : bool, default=False
        Whether the restricted likelihood is the one that is maximised.
    """
    relative, tau = _start(statistics), 1.0
    for _ in range(EM_STEPS):
        relative = profiled(statistics, _root(relative), shrunk, tau).expected_relative()
        relative = np.diag(np.diag(relative)) if diagonal else relative
    best, converged = searched(statistics, shrunk, relative, tau, diagonal=diagonal, restricted=restricted)
    covariance = best.noise * best.relative
    return Components(best.beta, covariance, best.noise, best.tau, best.effects, -best.deviance / 2, converged)


def searched(
    statistics: TaskStatistics,
    shrunk: NDArray[np.bool_],
    relative: NDArray[np.float64],
    tau: float,
    *,
    diagonal: bool,
    restricted: bool = False,
) -> tuple[Profile, bool]:
    r"""Return the greatest likelihood from a start of :math:`D / s^2` on, and whether it is one.

    The slope in :math:`\Lambda` is zero where a variance has vanished, whether or not it should have: there, the slope
    in the variance itself says so, and the search goes on.
    """
    for _ in range(SEARCHES):
        search = _Search(statistics, shrunk, _root(relative), diagonal, restricted)
        best, tau, converged = search.run(tau)
        leaving = search.leaving(best)
        if leaving is None:
            return best, converged
        relative = best.relative + leaving
    return best, False


@dataclass(frozen=True)
class _Search:
    r"""A search for :math:`\Lambda`, the product of a unit and a triangular matrix that starts at one."""

    statistics: TaskStatistics
    shrunk: NDArray[np.bool_]
    unit: NDArray[np.float64]
    diagonal: bool
    restricted: bool

    @property
    def places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the free entries."""
        q = len(self.unit)
        return (np.arange(q), np.arange(q)) if self.diagonal else np.tril_indices(q)

    def run(self, tau: float) -> tuple[Profile, float, bool]:
        """Return where the search ends, the tau there, and whether it converged."""
        rows, columns = self.places
        n, shrinks = self.statistics.n_rows, bool(self.shrunk.any())

        def at(values: NDArray[np.float64]) -> tuple[Profile, NDArray[np.float64]]:
            triangle = np.zeros_like(self.unit)
            triangle[rows, columns] = values[: len(rows)]
            factor = self.unit @ triangle
            tau = float(np.exp(values[-1])) if shrinks else 1.0
            profile = profiled(self.statistics, factor, self.shrunk, tau, restricted=self.restricted)
            slope = (2 * self.unit.T @ profile.steepness @ factor)[rows, columns]
            return profile, np.append(slope, profile.tau_slope) if shrinks else slope

        def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            profile, slope = at(values)
            return profile.deviance / n, slope / n

        begin = (rows == columns).astype(np.float64)
        bounds: list[tuple[float | None, float | None]] = [
            (0.0, None) if i == j else (None, None) for i, j in zip(rows, columns, strict=True)
        ]
        if shrinks:
            begin = np.append(begin, np.log(tau))
            bounds.append((LEAST_TAU, MOST_TAU))
        options = {"maxiter": MOST_STEPS, "gtol": TOLERANCE, "ftol": 1e-15, "maxcor": 30}
        end = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        profile, slope = at(end.x)
        low = np.array([-np.inf if a is None else a for a, _ in bounds])
        held = (end.x <= low) & (slope > 0)
        converged = bool(end.success) or bool(np.abs(np.where(held, 0.0, slope)).max() / n < 1e3 * TOLERANCE)
        return profile, float(np.exp(end.x[-1])) if shrinks else tau, converged

    def leaving(self, profile: Profile) -> NDArray[np.float64] | None:
        r"""Return a variance to add to a :math:`\Lambda\Lambda^T` whose vanished direction should not have vanished."""
        unit = np.sqrt(_start(self.statistics))
        steepness = unit @ profile.steepness @ unit / self.statistics.n_rows
        if self.diagonal:
            steepness = np.diag(np.diag(steepness))
        values, vectors = np.linalg.eigh(steepness)
        if values[0] > -LEAVING:
            return None
        direction = unit @ vectors[:, 0]
        return np.asarray(np.outer(direction, direction))


def _start(statistics: TaskStatistics) -> NDArray[np.float64]:
    """Return variances, relative to the noise, of about what the rows of a task tell."""
    precision = np.diag(statistics.information.mean(axis=0))
    return np.diag(1 / (START**2 * np.where(precision > 0, precision, 1.0)))


def _root(relative: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a triangular factor of a variance, which is lifted a little where it is singular."""
    scale = np.sqrt(np.maximum(np.diag(relative), 1e-300))
    scale = np.maximum(scale, 1e-6 * scale.max())
    correlation = relative / np.outer(scale, scale)
    for lift in (0.0, 1e-10, 1e-8, 1e-6):
        try:
            return np.asarray(scale[:, None] * np.linalg.cholesky(correlation + lift * np.eye(len(scale))))
        except np.linalg.LinAlgError:
            continue
    return np.diag(scale)


def covariance_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a square root of a covariance that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
