"""Steps of the damped searches of many tasks, in numpy; see `metaest.functional.equations.gauss_newton`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.estimators import matrices
from metaest.functional import SolveCode
from metaest.functional.equations.gauss_newton import FIRST_DAMPING, GREATEST_DAMPING

__all__ = ["NumpySearchState", "accept", "propose", "store"]

Array = NDArray[np.float64]
# members of an enumeration are slow to compare with arrays
CONVERGED = int(SolveCode.CONVERGED)
UNFINISHED = int(SolveCode.MAX_ITER)
STALLED = int(SolveCode.STALLED)
# of a dozen tasks, numpy's method takes half as long again
add = np.add.reduce


class NumpySearchState(NamedTuple):
    """The negative log-posterior of u with its gradient and second derivative, the tasks along the last axis.

    Attributes
    ----------
    u, gradient : ndarray of shape (random, tasks)
    loss : ndarray of shape (tasks,)
    matrix : ndarray of shape (random, random, tasks)
    root : ndarray of shape (random, random, tasks)
        Cholesky's factor of the matrix; its entries above the diagonal are zero.
    """

    u: Array
    loss: Array
    gradient: Array
    matrix: Array
    root: Array

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether loss, gradient and matrix of each task are finite."""
        finite: NDArray[np.bool_] = np.isfinite(self.loss + add(self.gradient) + add(self.matrix, axis=(0, 1)))
        return finite

    def where(self, chosen: NDArray[np.bool_], other: "NumpySearchState") -> "NumpySearchState":
        """Return this for the chosen tasks, and the other for the rest."""
        return NumpySearchState(*(np.where(chosen, a, b) for a, b in zip(self, other, strict=True)))

    def take(self, tasks: NDArray[np.intp]) -> "NumpySearchState":
        """Return the state of the chosen tasks."""
        return NumpySearchState(*(part[..., tasks] for part in self))


def propose(
    state: NumpySearchState, damping: Array, code: NDArray[np.int64], tol: float
) -> tuple[NumpySearchState, Array, Array, Array, NDArray[np.int64]]:
    """Return the next step of each search, and which searches end; see `gauss_newton.propose_step`."""
    damped = bool(damping.any())
    step = matrices.solve(matrices.cholesky(state.matrix, damping) if damped else state.root, -state.gradient)
    slope = -add(state.gradient * step)
    decrement, expected = slope, 0.5 * slope
    if damped:
        curvature = damping * add(step**2 * state.matrix.diagonal().T)
        decrement, expected = slope * (1 + damping), 0.5 * (slope + curvature)
    running = code == UNFINISHED
    small_step = (decrement < tol) & (damping < 1) & running
    stuck = (damping > GREATEST_DAMPING) & ~small_step & running
    if small_step.any():
        moved = np.where(small_step, step, 0.0)
        state = state._replace(u=state.u + moved, loss=state.loss - np.where(small_step, expected, 0.0))
        code = np.where(small_step, CONVERGED, code)
    if stuck.any():
        code = np.where(stuck, STALLED, code)
    return state, step, expected, decrement, code


def accept(
    state: NumpySearchState, trial: NumpySearchState, damping: Array, running: NDArray[np.bool_], expected: Array
) -> tuple[NumpySearchState, Array]:
    """Return the states from which the searches continue, and their damping; see `gauss_newton.accept_step`."""
    better = (trial.loss <= state.loss + 1e-13 * np.abs(state.loss)) & trial.finite & running
    gain = (state.loss - trial.loss) / np.maximum(expected, 1e-300)
    if better.all() and not damping.any() and (gain >= 0.25).all():
        return trial, damping
    raised = np.maximum(4 * damping, FIRST_DAMPING)
    lowered = np.where(damping <= FIRST_DAMPING, 0.0, damping / 8)
    adjusted = np.where(gain > 0.75, lowered, np.where(gain < 0.25, raised, damping))
    damping = np.where(running, np.where(better, adjusted, 2 * raised), damping)
    return trial.where(better, state), damping


def store(
    result: tuple[Array, Array, NDArray[np.int64]],
    where: NDArray[np.intp],
    state: NumpySearchState,
    code: NDArray[np.int64],
) -> None:
    """Write states and codes of some tasks into the result."""
    result[0][:, where] = state.u
    result[1][where] = state.loss
    result[2][where] = code
