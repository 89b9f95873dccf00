r"""Integrate a stiff differential equation for every row, with error control.

.. math:: \frac{dx}{dt} = f(t, x; \theta), \qquad x \mapsto x + b\,\theta_j \text{ at given times}

Radau's implicit collocation method (Hairer and Wanner, 1999, :doi:`10.1016/S0377-0427(99)00134-X`) is stable however
stiff the equation is. In each step the solution is a polynomial that satisfies the differential equation at its nodes.
The last Legendre coefficients of this polynomial bound its error relative to the greatest value so far, and determine
the length of the next step. Explicit methods, adaptive ones included, need steps as short as the fastest decay, even
long after that decay is over.

Every trajectory has individual steps, and its numbers do not depend on other trajectories. Derivatives treat the
lengths of steps and the positions of rows in them as constants. First and second derivatives are exactly those of the
collocation polynomials (`radau_slopes.py`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_jacobi

__all__ = ["Mesh", "Partials", "System", "solve"]

Array = NDArray[np.float64]

# collocation nodes of a step
N_NODES = 11
# tolerance of the last Legendre coefficient of a step, relative to the greatest value so far; the error is well below
TOLERANCE = 1e-8
# weights of the last three Legendre coefficients, which are compared with the tolerance: a single one may vanish
TRUST = np.array([0.01, 0.1, 1.0])
# tolerance of the last iteration within a step, relative to the greatest value so far
ITERATION_TOLERANCE = 1e-11
# iterations within a step after which a shorter step is tried
MOST_ITERATIONS = 15
# attempted steps of a trajectory between two stops after which it is given up
MOST_ATTEMPTS = 1000
# smallest factor from the length of one attempted step to the next
SHRINK = 0.1
# greatest factor from the length of one attempted step to the next
GROW = 8.0


@dataclass(frozen=True)
class Partials:
    """Partial derivatives of f at the nodes of many steps; s nodes, n steps and p parameters.

    Attributes
    ----------
    x, xx : ndarray of shape (s, n)
    theta, x_theta : ndarray of shape (p, s, n)
    theta_theta : ndarray of shape (p, p, s, n)
    """

    x: Array
    xx: Array
    theta: Array
    x_theta: Array
    theta_theta: Array


class System(ABC):
    """A differential equation for each of n trajectories, smooth in time between stops.

    A trajectory begins with x = 0 at its first stop. Its driving term has a closed form in a few numbers at the start
    of a step, the memory. Times `tau` count from the start of a step.

    Attributes
    ----------
    stops : ndarray of shape (n_stops, n)
        Rising times for each trajectory; padded with infinity.
    jump_by : int
        The parameter that scales jumps of x at stops.
    """

    stops: Array
    jump_by: ClassVar[int]

    @abstractmethod
    def first_memory(self) -> Array:
        """Return the memory before the first stop, of shape (n_numbers, n)."""

    @abstractmethod
    def pass_stop(self, number: NDArray[np.int64], due: NDArray[np.bool_], memory: Array) -> tuple[Array, Array]:
        """Return the jumps, of shape (n,), and the memory after stop `number` for those that are due."""

    @abstractmethod
    def fastest(self, memory: Array, theta: Array) -> Array:
        """Return the fastest rate at which the driving term changes, of shape (n,)."""

    @abstractmethod
    def drive(self, tau: Array, memory: Array, theta: Array) -> Array:
        """Return the driving term at times of shape (s, n)."""

    @abstractmethod
    def slope(self, x: Array, drive: Array, theta: Array) -> tuple[Array, Array]:
        """Return f and its derivative with respect to x, of shape (s, n)."""

    @abstractmethod
    def advance(self, h: Array, memory: Array, theta: Array) -> Array:
        """Return the memory after steps of lengths h, of shape (n,)."""

    @abstractmethod
    def partials(self, x: Array, tau: Array, memory: Array, theta: Array) -> Partials:
        """Return the partial derivatives of f."""

    @abstractmethod
    def take(self, chosen: NDArray[Any]) -> "System":
        """Return the system of the chosen trajectories."""


@dataclass(frozen=True)
class Mesh:
    """The accepted steps of n trajectories, n_steps in total, in the order in which they were taken.

    Attributes
    ----------
    trajectory : integer ndarray of shape (n_steps,)
    rounds : list of slice
        Steps of different trajectories that were taken at the same time.
    t, h, x, jump : ndarray of shape (n_steps,)
        Start and length of a step, x after the jump at its start, and the factor of that jump.
    memory : ndarray of shape (n_numbers, n_steps)
    z : ndarray of shape (s, n_steps)
        The solution at the nodes; the last node is the end of the step.
    reached : ndarray of shape (n,)
        Time at which a trajectory was given up; infinite if it was completed.
    """

    trajectory: NDArray[np.int64]
    rounds: list[slice]
    t: Array
    h: Array
    x: Array
    jump: Array
    memory: Array
    z: Array
    reached: Array


class _Collocation:
    """Radau's nodes on (0, 1], the last of which is 1, and matrices that follow from them.

    Attributes
    ----------
    c : ndarray of shape (s,)
    A : ndarray of shape (s, s)
        Integrals from 0 to each node of the polynomials that are 1 at one node and 0 at the others.
    """

    def __init__(self, s: int) -> None:
        inner = 0.5 * (roots_jacobi(s - 1, 1, 0)[0] + 1)
        self.c = np.append(inner, 1.0)
        self.points = np.append(0.0, self.c)
        self.middle = s // 2
        legendre = np.polynomial.legendre.Legendre
        basis = [legendre.basis(k, domain=[0, 1]) for k in range(s + 1)]
        at_nodes = np.stack([polynomial(self.c) for polynomial in basis[:s]], axis=1)
        integrals = np.stack([polynomial.integ(lbnd=0)(self.c) for polynomial in basis[:s]], axis=1)
        self.A = integrals @ np.linalg.inv(at_nodes)
        # matrices from values at 0 and the nodes to Legendre coefficients, and to the highest of them
        self.basis = basis
        self.coefficients = np.linalg.inv(np.stack([polynomial(self.points) for polynomial in basis], axis=1))
        self.last = TRUST[:, None] * self.coefficients[-len(TRUST) :]
        # A = V diag(eigenvalues) V^-1; of two conjugate eigenvalues only one is kept, and counted twice
        eigenvalues, V = np.linalg.eig(self.A)
        kept = eigenvalues.imag >= 0
        twice = np.where(eigenvalues.imag[kept] > 0, 2.0, 1.0)
        rows = np.linalg.inv(V)[kept]
        self.eigenvalues = eigenvalues[kept][:, None]
        self.forward = np.concatenate([rows.real, rows.imag])
        self.back = np.concatenate([V.real[:, kept] * twice, -V.imag[:, kept] * twice], axis=1)

    def interpolation(self, position: Array, order: int = 0) -> Array:
        """Return weights of the values at 0 and the nodes, of shape (s + 1, rows), for a derivative of some order."""
        columns = np.stack([(polynomial.deriv(order) if order else polynomial)(position) for polynomial in self.basis])
        return combined(self.coefficients.T, columns)


def combined(matrix: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return ``matrix @ values``; every column is summed in the same order, whatever the number of columns."""
    if values.shape[-1] == 1:
        return combined(matrix, np.repeat(values, 2, axis=-1))[..., :1]
    return np.asarray(np.einsum("ij,j...->i...", matrix, values))


COLLOCATION = _Collocation(N_NODES)


def _nodes(x: Array, h: Array, drive: Array, system: System, theta: Array, peak: Array) -> tuple[Array, Array, Array]:
    """Solve the collocation equations of one step; return values at nodes, the greatest value, and convergence."""
    rule = COLLOCATION
    z = np.repeat(x[None], len(rule.c), axis=0)
    half = len(rule.eigenvalues)
    done = np.zeros(x.shape, dtype=bool)
    before = np.full(x.shape, np.finfo(float).tiny)
    for _ in range(MOST_ITERATIONS):
        f, slope = system.slope(z, drive, theta)
        transformed = combined(rule.forward, x + h * combined(rule.A, f) - z)
        # the slope at the middle node replaces those of all nodes, so that one basis diagonalises all trajectories
        scaled = (transformed[:half] + 1j * transformed[half:]) / (1 - h * slope[rule.middle] * rule.eigenvalues)
        step = combined(rule.back, np.concatenate([scaled.real, scaled.imag]))
        step[:, done] = 0.0
        z += step
        scale = np.maximum(peak, np.maximum.reduce(np.abs(z)))
        size = np.maximum.reduce(np.abs(step))
        # steps shrink by about the same factor each time, which predicts the size of the next one
        done |= size * np.minimum(1.0, size / before) <= ITERATION_TOLERANCE * scale
        before = np.maximum(size, np.finfo(float).tiny)
        if done.all():
            break
    return z, scale, done


@np.errstate(all="ignore")
def solve(system: System, theta: Array, until: Array) -> Mesh:
    """Integrate trajectories, each until its steps cover a given time.

    Parameters
    ----------
    system : System
    theta : ndarray of shape (p, n)
        Parameters of each trajectory.
    until : ndarray of shape (n,)
        Time to be covered by each trajectory.

    Returns
    -------
    Mesh
    """
    reached = np.where(np.isfinite(theta).all(axis=0), np.inf, -np.inf)
    index = np.flatnonzero((system.stops[0] <= until) & (reached > 0))
    system = system.take(index)
    theta = theta[:, index]
    until = until[index]
    t = system.stops[0].copy()
    number = np.zeros(len(index), dtype=np.int64)
    memory = system.first_memory()
    x, peak, h, jump = (np.zeros(len(index)) for _ in range(4))
    attempts = np.zeros(len(index), dtype=np.int64)
    steps: list[tuple[NDArray[Any], ...]] = []
    while len(index):
        columns = np.arange(len(index))
        following = _next_stop(system, number, columns)
        fresh = following <= t
        if fresh.any():
            due = fresh
            while due.any():
                by, memory = system.pass_stop(number, due, memory)
                jump = jump + by
                x = x + by * theta[system.jump_by]
                number = number + due
                following = _next_stop(system, number, columns)
                due = following <= t
            peak = np.maximum(peak, np.abs(x))
            h = np.where(fresh, _first_step(system, x, memory, theta, peak), h)
            attempts[fresh] = 0
        left = following - t
        pieces = np.maximum(np.ceil(np.minimum(left / h, 9.0)), 1.0)
        tried = np.where(pieces < 3, np.minimum(left, np.finfo(float).max) / pieces, h)
        drive = system.drive(COLLOCATION.c[:, None] * tried, memory, theta)
        z, scale, converged = _nodes(x, tried, drive, system, theta, peak)
        last = np.maximum.reduce(np.abs(combined(COLLOCATION.last, np.concatenate([x[None], z]))))
        error = np.divide(last, TOLERANCE * scale, out=np.zeros_like(last), where=scale > 0)
        accepted = converged & (error <= 1)
        factor = np.minimum(np.maximum(0.9 * np.maximum(error, 1e-30) ** (-1 / N_NODES), SHRINK), GROW)
        h = tried * np.where(converged, factor, SHRINK)
        taken: tuple[NDArray[Any], ...] = (index, t, tried, x, jump, memory, z)
        attempts += 1
        end = np.where(pieces <= 1, following, t + tried)
        if accepted.all():
            steps.append(taken)
            t, memory, x, jump, peak = end, system.advance(tried, memory, theta), z[-1], np.zeros_like(x), scale
        else:
            steps.append(tuple(part[..., accepted] for part in taken))
            t = np.where(accepted, end, t)
            memory = np.where(accepted, system.advance(tried, memory, theta), memory)
            x = np.where(accepted, z[-1], x)
            jump = np.where(accepted, 0.0, jump)
            peak = np.where(accepted, scale, peak)
        going = t <= until
        given_up = going & ((attempts > MOST_ATTEMPTS) | (~accepted & ((t + h <= t) | ~np.isfinite(h))))
        reached[index[given_up]] = t[given_up]
        going &= ~given_up
        if not going.all():
            index = index[going]
            theta = theta[:, going]
            until = until[going]
            t = t[going]
            number = number[going]
            memory = memory[:, going]
            x = x[going]
            peak = peak[going]
            h = h[going]
            jump = jump[going]
            attempts = attempts[going]
            system = system.take(going)
    return _mesh(steps, len(system.first_memory()), reached)


def _next_stop(system: System, number: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    last = len(system.stops) - 1
    return np.asarray(np.where(number <= last, system.stops[np.minimum(number, last), columns], np.inf))


def _first_step(system: System, x: Array, memory: Array, theta: Array, peak: Array) -> Array:
    """Return a step in which neither x nor the driving term changes by more than its size."""
    f, slope = (part[0] for part in system.slope(x[None], system.drive(0 * x[None], memory, theta), theta))
    rate = np.abs(slope) + system.fastest(memory, theta)
    rate += np.divide(np.abs(f), peak, out=np.zeros_like(f), where=peak > 0)
    return np.asarray(np.divide(1.0, rate, out=np.full_like(rate, np.inf), where=rate > 0))


def _mesh(steps: list[tuple[NDArray[Any], ...]], n_numbers: int, reached: Array) -> Mesh:
    if not steps:
        empty = np.zeros(0)
        none = np.zeros(0, dtype=np.int64)
        return Mesh(none, [], empty, empty, empty, empty, np.zeros((n_numbers, 0)), np.zeros((N_NODES, 0)), reached)
    ends = np.cumsum([0, *(len(step[0]) for step in steps)]).tolist()
    rounds = [slice(a, b) for a, b in pairwise(ends) if b > a]
    parts = [np.concatenate(column, axis=-1) for column in zip(*steps, strict=True)]
    trajectory, t, h, x, jump, memory, z = parts
    return Mesh(trajectory.astype(np.int64), rounds, t, h, x, jump, memory, z, reached)
