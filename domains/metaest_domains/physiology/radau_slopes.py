"""Values of rows on integrated trajectories, with first and second derivatives in parameters and time.

A step maps x at its start and the parameters to the values at its nodes; the derivatives of that map solve linear
systems with one matrix for each step, which are solved together. The chain rule propagates them from step to step.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from metaest_domains.physiology.radau import COLLOCATION, Array, Mesh, Partials, System, solve

__all__ = ["Trajectories", "check_integrated", "integrate"]

# trajectories that are integrated together: the arrays of one step fit into the cache of a processor
BLOCK = 2048


class Trajectories:
    """Integrated trajectories and the rows that lie on them.

    Parameters
    ----------
    system : System
        The system of n trajectories.
    theta : ndarray of shape (p, n)
        Parameters of each trajectory.
    owner : integer ndarray of shape (n_rows,)
        The trajectory of each row.
    time : ndarray of shape (n_rows,)
        The time of each row.
    """

    def __init__(self, system: System, theta: Array, owner: NDArray[np.int64], time: Array) -> None:
        self.theta = theta
        self.owner = owner
        self.time = time
        until = np.full(theta.shape[1], -np.inf)
        np.maximum.at(until, owner, time)
        self.mesh: Mesh = solve(system, theta, until)
        self.system = system.take(self.mesh.trajectory)
        self.rows, self.step = self._find_steps()
        self.position = (time[self.rows] - self.mesh.t[self.step]) / self.mesh.h[self.step]

    def _find_steps(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows after the first stop of their trajectory, and the step that contains each of them."""
        mesh = self.mesh
        n = self.theta.shape[1]
        order = np.argsort(mesh.trajectory, kind="stable")
        first = np.searchsorted(mesh.trajectory[order], np.arange(n + 1))
        place = first[self.owner]
        end = first[self.owner + 1] - 1
        rows = np.flatnonzero(place <= end)
        place = place[rows]
        end = end[rows]
        time = self.time[rows]
        start = mesh.t[order]
        inside = start[place] <= time
        rows = rows[inside]
        place = place[inside]
        end = end[inside]
        time = time[inside]
        # bisect for the step that contains the time of each row
        for power in reversed(range(len(order).bit_length())):
            later = np.minimum(place + 2**power, end)
            place = np.where(start[later] <= time, later, place)
        return rows, order[place]

    def _fill(self, at_rows: Array) -> Array:
        """Return values for all rows: 0 before the first stop, NaN after a trajectory was given up."""
        filled = np.zeros((*at_rows.shape[:-1], len(self.time)))
        filled[..., self.rows] = at_rows
        filled[..., self.time >= self.mesh.reached[self.owner]] = np.nan
        return filled

    def _polynomial(self, at_nodes: Array, order: int = 0) -> Array:
        """Evaluate polynomials given at 0 and the nodes, of shape (..., s + 1, n_steps), at the rows."""
        weights = COLLOCATION.interpolation(self.position, order)
        rows = self.step
        if len(rows) == 1:  # two columns, so that numpy sums in the same order as for many
            rows = np.repeat(rows, 2)
            weights = np.repeat(weights, 2, axis=-1)
        summed = np.add.reduce(at_nodes[..., rows] * weights, axis=-2)[..., : len(self.step)]
        return np.asarray(summed / self.mesh.h[self.step] ** order)

    @cached_property
    def _points(self) -> Array:
        return np.concatenate([self.mesh.x[None], self.mesh.z])

    @np.errstate(all="ignore")
    def values(self) -> Array:
        """Return x at the rows, of shape (n_rows,)."""
        return self._fill(self._polynomial(self._points))

    @cached_property
    def _partials(self) -> Partials:
        mesh = self.mesh
        theta = self.theta[:, mesh.trajectory]
        return self.system.partials(mesh.z, COLLOCATION.c[:, None] * mesh.h, mesh.memory, theta)

    @cached_property
    def _factors(self) -> Array:
        """Factors of I - h A diag(df/dx), lower and upper, of shape (s, s, n_steps)."""
        s = len(self.mesh.z)
        matrix = np.eye(s)[..., None] - COLLOCATION.A[..., None] * (self.mesh.h * self._partials.x)
        for k in range(s - 1):
            matrix[k + 1 :, k] /= matrix[k, k]
            matrix[k + 1 :, k + 1 :] -= matrix[k + 1 :, k, None] * matrix[k, k + 1 :]
        return matrix

    def _at_nodes(self, right: Array) -> Array:
        """Solve for right-hand sides of shape (..., s, n_steps)."""
        matrix = self._factors
        right = right.copy()
        for k in range(len(matrix) - 1):
            right[..., k + 1 :, :] -= matrix[k + 1 :, k] * right[..., k, None, :]
        for k in reversed(range(len(matrix))):
            right[..., k, :] /= matrix[k, k]
            right[..., :k, :] -= matrix[:k, k] * right[..., k, None, :]
        return right

    def _integrals(self, slopes: Array) -> Array:
        """Return h A times slopes of shape (..., s, n_steps)."""
        return np.asarray(np.moveaxis(np.tensordot(COLLOCATION.A, slopes, axes=(1, -2)), 0, -2) * self.mesh.h)

    @cached_property
    def _step_slopes(self) -> Array:
        """Derivatives of the nodes with respect to x at the start and theta, of shape (1 + p, s, n_steps)."""
        in_x = np.ones_like(self.mesh.z)[None]
        return self._at_nodes(np.concatenate([in_x, self._integrals(self._partials.theta)]))

    @cached_property
    def _carried(self) -> tuple[Array, Array]:
        """Derivatives with respect to theta of x at the start of each step, of shape (p, n_steps), and of the nodes."""
        mesh = self.mesh
        (p, n) = self.theta.shape
        now = np.zeros((p, n))
        starts = np.zeros((p, len(mesh.t)))
        in_x = self._step_slopes[0]
        in_theta = self._step_slopes[1:]
        for part in mesh.rounds:
            moving = mesh.trajectory[part]
            begin = now[:, moving]
            begin[self.system.jump_by] += mesh.jump[part]
            starts[:, part] = begin
            now[:, moving] = in_x[-1, part] * begin + in_theta[:, -1, part]
        return starts, in_x * starts[:, None] + in_theta

    @np.errstate(all="ignore")
    def slopes(self) -> Array:
        """Return first derivatives at the rows in time and theta, of shape (1 + p, n_rows)."""
        starts, nodes = self._carried
        in_time = self._polynomial(self._points, 1)
        in_theta = self._polynomial(np.concatenate([starts[:, None], nodes], axis=1))
        return self._fill(np.concatenate([in_time[None], in_theta]))

    @np.errstate(all="ignore")
    def curvatures(self) -> Array:
        """Return second derivatives at the rows in time and theta, of shape (1 + p, 1 + p, n_rows)."""
        mesh = self.mesh
        (p, n) = self.theta.shape
        partial = self._partials
        starts, nodes = self._carried
        # along the trajectory, for a fixed x at the start of the step
        forcing = partial.xx * nodes[:, None] * nodes + partial.theta_theta
        mixed = partial.x_theta[:, None] * nodes
        forcing = forcing + mixed + mixed.swapaxes(0, 1)
        held = self._at_nodes(self._integrals(forcing))
        now = np.zeros((p, p, n))
        second = np.zeros((p, p, len(mesh.t)))
        in_x = self._step_slopes[0]
        for part in mesh.rounds:
            moving = mesh.trajectory[part]
            second[..., part] = now[..., moving]
            now[..., moving] = in_x[-1, part] * now[..., moving] + held[:, :, -1, part]
        at_nodes = in_x * second[:, :, None] + held
        result = np.empty((1 + p, 1 + p, len(self.rows)))
        result[0, 0] = self._polynomial(self._points, 2)
        result[0, 1:] = result[1:, 0] = self._polynomial(np.concatenate([starts[:, None], nodes], axis=1), 1)
        result[1:, 1:] = self._polynomial(np.concatenate([second[:, :, None], at_nodes], axis=2))
        return self._fill(result)


class _Values(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, time: Tensor, theta: Tensor, trajectories: Trajectories) -> Tensor:
        ctx.save_for_backward(time, theta)
        ctx.trajectories = trajectories
        return torch.from_numpy(trajectories.values())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        slopes = _Slopes.apply(*ctx.saved_tensors, ctx.trajectories)  # type: ignore[no-untyped-call]
        return gradient * slopes[0], gradient * slopes[1:], None


class _Slopes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, time: Tensor, theta: Tensor, trajectories: Trajectories) -> Tensor:
        ctx.trajectories = trajectories
        return torch.from_numpy(trajectories.slopes())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        curvatures = torch.from_numpy(ctx.trajectories.curvatures())
        together = (gradient[:, None] * curvatures).sum(dim=0)
        return together[0], together[1:], None


def integrate(time: Tensor, theta: Tensor, inputs: Tensor, system_of: Callable[[Array], System]) -> Tensor:
    """Return the solution of every row at its time; rows with equal parameters and inputs share a trajectory.

    Parameters
    ----------
    time : Tensor of shape (n_rows,)
    theta : Tensor of shape (p, n_rows)
    inputs : Tensor of shape (n_rows, n_inputs)
        Further inputs of a trajectory, in double precision.
    system_of : callable
        Returns the :class:`~metaest_domains.physiology.radau.System` of trajectories from their inputs, of shape (n,
        n_inputs).

    Returns
    -------
    Tensor of shape (n_rows,)
        Twice differentiable with respect to `time` and `theta`. NaN if a parameter is not finite, or if the tolerance
        was not met between the first stop of the trajectory and the time of the row.

    Raises
    ------
    NotImplementedError
        While torch traces or maps the equation.
    """
    try:
        keys = np.ascontiguousarray(torch.cat([theta.detach().T, inputs.detach()], dim=1).numpy())
    except (RuntimeError, TypeError) as error:  # a traced or mapped tensor has no numbers
        raise NotImplementedError(
            "steps with error control depend on the values, so this equation cannot be traced or mapped."
        ) from error
    whole = keys.view(np.dtype((np.void, keys.itemsize * keys.shape[1])))[:, 0]
    _, first, owner = np.unique(whole, return_index=True, return_inverse=True)
    parts = []
    places = []
    for start in range(0, len(first), BLOCK):
        chosen = first[start : start + BLOCK]
        rows = np.flatnonzero((owner >= start) & (owner < start + BLOCK))
        place = torch.from_numpy(rows)
        block_theta = theta[:, place]
        block_time = time[place]
        trajectories = Trajectories(
            system_of(inputs.detach().numpy()[chosen]),
            theta.detach().numpy()[:, chosen],
            owner[rows] - start,
            block_time.detach().numpy(),
        )
        parts.append(_Values.apply(block_time, block_theta, trajectories))  # type: ignore[no-untyped-call]
        places.append(place)
    return torch.cat(parts)[torch.argsort(torch.cat(places))]


def check_integrated(time: NDArray[Any], values: NDArray[Any], what: str) -> None:
    """Raise a ValueError that names the first row that could not be integrated to the tolerance.

    Parameters
    ----------
    time, values : ndarray of shape (n_rows,)
    what : str
        Name of the integrated quantity, for the message.
    """
    failed = np.flatnonzero(~np.isfinite(values))
    if len(failed):
        raise ValueError(
            f"the {what} at time {time[failed[0]]:g} (row {failed[0]}) cannot be integrated to the tolerance at these "
            "constants; check the units of times and amounts, the time of this row, and the bounds of the constants."
        )
