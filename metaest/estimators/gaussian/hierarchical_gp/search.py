"""The most probable hyperparameters of curves of tasks: L-BFGS on the evidence with weak priors, from some starts.

What is rough in the rows may be noise, the shared curve, or the curves of tasks; each explanation may be an optimum of
its own, and each is where one of the first three starts lies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from metaest.estimators.gaussian.hierarchical_gp.evidence import Curves
from metaest.functional.progress import progress

__all__ = ["Optimum", "improved", "most_probable"]

Array = NDArray[np.float64]

# centres and standard deviations of the normal priors of logarithms, for standardised columns and targets: of the
# noise variance, of the variances of the parts of the shared kernel and of the tasks' kernel, and of length scales
NOISE = (np.log(0.05), 2.0)
SHARED = ((0.0, 2.0), (np.log(0.1), 2.0), (0.0, 2.0))
TASK = ((np.log(0.1), 2.0), (np.log(0.05), 2.0), (np.log(0.1), 2.0))
LENGTH = (0.0, 1.0)
# the prior of a length scale of the shared curve along a column that does not vary within tasks: of so few values a
# rough dependence cannot be told from the curves of tasks, and would take their place
COVARIATE = (np.log(5.0), 0.5)
# distance from the centre of a prior, in its standard deviations, that no logarithm exceeds
WIDEST = 6.0
# spread of further starts around the centres, in standard deviations of the priors
SPREAD = 0.7
# logarithms of length scale and noise variance, from the centres of their priors, where a curve is rough
ROUGH = -1.4
QUIET = -2.5
# slope of the loss, in a logarithm, below which a search that rounding ended counts as converged
FLAT = 0.1
# loss where a covariance is singular to rounding
SINGULAR = 1e10


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where a search ended.

    Attributes
    ----------
    logs : ndarray
        Logarithms of the hyperparameters.
    log_posterior : float
        Evidence and log prior there.
    log_evidence : float
    n_iter : int
    converged : bool
    """

    logs: Array
    log_posterior: float
    log_evidence: float
    n_iter: int
    converged: bool


def priors(curves: Curves) -> tuple[Array, Array]:
    """Return centres and standard deviations of the priors of all logarithms."""
    lengths = [LENGTH] * curves.X.shape[1]
    of_shared = [COVARIATE if covariate else LENGTH for covariate in curves.covariates]
    table = np.array([NOISE, *SHARED, *of_shared, *TASK, *lengths])
    return table[:, 0], table[:, 1]


def most_probable(
    curves: Curves, n_starts: int, max_iter: int, rng: np.random.Generator, *, verbose: bool = False
) -> Optimum:
    """Return the best of the optima that are reached from several starts.

    Parameters
    ----------
    curves : Curves
    n_starts : int
    max_iter : int
        Iterations of each search.
    rng : Generator
    verbose : bool, default=False
        Whether to show a progress bar.
    """
    center, sd = priors(curves)
    starts = _starts(n_starts, center, sd, rng)
    optima = [_search(curves, start, center, sd, max_iter) for start in progress(starts, verbose, "starts", "start")]
    return max(optima, key=lambda optimum: optimum.log_posterior)


def improved(curves: Curves, logs: Array, max_iter: int) -> Optimum:
    """Return the optimum that is reached from given logarithms of hyperparameters."""
    return _search(curves, logs, *priors(curves), max_iter)


def _starts(n_starts: int, center: Array, sd: Array, rng: np.random.Generator) -> list[Array]:
    """Return starts: all is smooth, the shared curve is rough, the curves of tasks are rough, and draws."""
    half = len(center) // 2
    rough_shared, rough_tasks = center.copy(), center.copy()
    rough_shared[0], rough_shared[4 : 1 + half] = center[0] + QUIET, center[4 : 1 + half] + ROUGH
    rough_tasks[0], rough_tasks[4 + half :] = center[0] + QUIET, center[4 + half :] + ROUGH
    drawn = [center + SPREAD * sd * rng.standard_normal(len(center)) for _ in range(n_starts - 3)]
    return [center, rough_shared, rough_tasks, *drawn][:n_starts]


def _search(curves: Curves, start: Array, center: Array, sd: Array, max_iter: int) -> Optimum:
    """Maximise evidence and log prior from one start."""

    def loss(logs: Array) -> tuple[float, Array]:
        try:
            evidence, slopes = curves.evidence_and_slopes(logs)
        except np.linalg.LinAlgError:
            return SINGULAR, np.zeros(len(logs))  # the line search steps back
        z = (logs - center) / sd
        return -evidence + 0.5 * float(z @ z), -slopes + z / sd

    bounds = list(zip(center - WIDEST * sd, center + WIDEST * sd, strict=True))
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iter})
    logs = np.asarray(result.x, dtype=np.float64)
    evidence = curves.log_evidence(logs)
    converged = bool(result.success) or float(np.abs(result.jac).max()) < FLAT
    return Optimum(logs, -float(result.fun), evidence, int(result.nit), converged)
