r"""Adapt by the most probable constants: damped Gauss-Newton on the posterior of each task.

The inner problem of a task is

.. math:: J(u) = -\log p(y \mid \varphi = c + A u) + \tfrac12 \lVert u \rVert^2,

and a step solves :math:`(H + \lambda\,\mathrm{diag} H)\,\delta = -\nabla J` with the expected second derivative H
(Levenberg, 1944, :doi:`10.1090/qam/10666`; Marquardt, 1963, :doi:`10.1137/0111030`). It is taken where it lowers J,
each task with a damping of its own that starts at zero, so that a linear equation is solved in one step. Gauss-Newton
steps swing slowly into place where the residuals are large against the curve's slopes; the few tasks not done after
some of them go on with the true second derivative wherever that is positive definite (Newton's method).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional import small_matrices
from metaest.functional.equations import Observations
from metaest.functional.hierarchical import HierarchicalModel, Information

__all__ = ["GaussNewton", "MapResult", "SolveCode"]

FIRST_DAMPING, GREATEST_DAMPING = 0.1, 1e12


class SolveCode(IntEnum):
    """How the search for a task's constants ended."""

    CONVERGED = 0
    MAX_ITER = 1
    STALLED = 2
    NOT_FINITE = 3


class MapResult(NamedTuple):
    """Where the search ended, for each task.

    Attributes
    ----------
    u : Tensor of shape (random, tasks)
    loss : Tensor of shape (tasks,)
        J of the module's formula.
    code : integer Tensor of shape (tasks,)
        A :class:`SolveCode`.
    n_iter : integer Tensor of shape (tasks,)
        Evaluations of the equation.
    """

    u: Tensor
    loss: Tensor
    code: Tensor
    n_iter: Tensor


class _State(NamedTuple):
    """Where the search of each task stands, in one tensor: u, the gradient, the loss, and the second derivative."""

    packed: Tensor
    m: int

    @property
    def u(self) -> Tensor:
        return self.packed[: self.m]

    @property
    def gradient(self) -> Tensor:
        return self.packed[self.m : 2 * self.m]

    @property
    def loss(self) -> Tensor:
        return self.packed[2 * self.m]

    @property
    def matrix(self) -> Tensor:
        return self.packed[2 * self.m + 1 :].reshape(self.m, self.m, self.packed.shape[1])

    @property
    def finite(self) -> Tensor:
        # a sum is finite where all its terms are, unless it overflows, and then a step is not worth taking either
        return torch.isfinite(self.packed.sum(dim=0))

    def finish(self, chosen: Tensor, step: Tensor, gain: Tensor) -> None:
        """Take a last step, in place, that is too small to need another look at the equation."""
        self.u.add_(torch.where(chosen, step, 0.0))
        self.loss.sub_(torch.where(chosen, gain, 0.0))

    def where(self, chosen: Tensor, other: "_State") -> "_State":
        return _State(torch.where(chosen, self.packed, other.packed), self.m)

    def take(self, tasks: Tensor) -> "_State":
        return _State(self.packed[:, tasks], self.m)


class _Problem(NamedTuple):
    """The posteriors of some tasks."""

    model: HierarchicalModel
    center: Tensor
    factor: Tensor
    log_sigma: Tensor
    observations: Observations

    def take(self, tasks: Tensor) -> "_Problem":
        return self._replace(center=self.center[:, tasks], observations=self.observations.take(tasks))

    def at(self, u: Tensor) -> _State:
        """Evaluate with the expected second derivative."""
        found = self.model.information(self.center + self.factor @ u, self.log_sigma, self.observations)
        return _packed(u, found.in_random_directions(self.factor, u))

    def at_with_true_curvature(self, u: Tensor) -> _State:
        """Evaluate with the true second derivative where it is positive definite."""
        return _packed(u, self.model.posterior_at(self.center, self.factor, self.log_sigma, self.observations, u))


def _packed(u: Tensor, inner: Information) -> _State:
    m, tasks = u.shape
    return _State(torch.cat([u, inner.gradient, inner.loss[None], inner.matrix.reshape(m * m, tasks)]), m)


@dataclass(frozen=True)
class GaussNewton:
    """The damped Gauss-Newton search for the most probable constants.

    Parameters
    ----------
    max_iter : int, default=100
        Evaluations of the equation and its slopes.
    tol : float, default=1e-4
        The search of a task ends when the squared length of the next step, in units of the posterior, is below this;
        that step is still taken, which leaves an error of about a thousandth of a posterior standard deviation.
    newton_after : int, default=6
        Evaluations after which the true second derivative takes over.
    """

    max_iter: int = 100
    tol: float = 1e-4
    newton_after: int = 6

    def solve(
        self,
        model: HierarchicalModel,
        center: Tensor,
        factor: Tensor,
        log_sigma: Tensor,
        observations: Observations,
        start: Tensor | None = None,
    ) -> MapResult:
        """Find the most probable u of every task.

        Parameters
        ----------
        model : HierarchicalModel
        center : Tensor of shape (constants, tasks)
        factor : Tensor of shape (constants, random)
        log_sigma : Tensor of shape (noise constants,)
        observations : Observations
        start : Tensor of shape (random, tasks), optional
            Zeros by default: the centre of the prior.

        Returns
        -------
        MapResult
            Detached.
        """
        with torch.no_grad():
            tasks = center.shape[1]
            u = center.new_zeros(factor.shape[1], tasks) if start is None else start.detach().clone()
            whole = _Problem(model, center.detach(), factor.detach(), log_sigma.detach(), observations)
            result = MapResult(u, center.new_empty(tasks), _codes(tasks), _codes(tasks))
            everyone = torch.arange(tasks, device=center.device)
            self._search(result, everyone, whole, whole.at, min(self.max_iter, self.newton_after))
            left = torch.nonzero(result.code == SolveCode.MAX_ITER)[:, 0]
            if len(left) and self.max_iter > self.newton_after:
                problem = whole.take(left)
                steps = self.max_iter - self.newton_after
                self._search(result, left, problem, problem.at_with_true_curvature, steps)
        return result

    def _search(
        self,
        result: MapResult,
        active: Tensor,
        problem: _Problem,
        evaluate: Callable[[Tensor], _State],
        max_iter: int,
    ) -> None:
        """Search from where `result` stands for the active tasks, and write into it where that ends."""
        newton = evaluate == problem.at_with_true_curvature
        state = evaluate(result.u[:, active])
        damping = torch.zeros_like(state.loss)
        done = ~state.finite
        code = torch.where(done, SolveCode.NOT_FINITE, SolveCode.MAX_ITER)
        for iteration in range(1, max_iter + 1):
            step, decrement, expected = _step(state, damping)
            small = (decrement < self.tol) & (damping < 1) & ~done
            state.finish(small, step, expected)
            stuck = (damping > GREATEST_DAMPING) & ~small & ~done
            code = torch.where(small, SolveCode.CONVERGED, torch.where(stuck, SolveCode.STALLED, code))
            done = done | small | stuck
            n_done = int(done.sum())
            if n_done == len(active) or iteration == max_iter:
                break
            if 3 * n_done > len(active):  # leave out those that are finished, once it is worth the copying
                _store(result, active[done], state.take(done), code[done], iteration)
                left = torch.nonzero(~done)[:, 0]
                active, code, damping, done = active[left], code[left], damping[left], done[left]
                state, problem, step, expected = state.take(left), problem.take(left), step[:, left], expected[left]
                evaluate = problem.at_with_true_curvature if newton else problem.at
            trial = evaluate(state.u + step)
            # rounding alone may raise a loss that is at its lowest
            better = (trial.loss <= state.loss + 1e-13 * state.loss.abs()) & trial.finite & ~done
            # a step that gains far less than the quadratic model promised is on its way to swing back and forth
            gain = (state.loss - trial.loss) / expected.clamp(min=1e-300)
            raised = torch.clamp(4 * damping, min=FIRST_DAMPING)
            lowered = torch.where(damping <= FIRST_DAMPING, 0.0, damping / 8)
            kept = torch.where(gain > 0.75, lowered, torch.where(gain < 0.25, raised, damping))
            damping = torch.where(done, damping, torch.where(better, kept, 2 * raised))
            state = trial.where(better, state)
        _store(result, active, state, code, iteration)


def _step(state: _State, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the damped step, its squared length in units of the posterior, and what it should gain."""
    m = state.m
    if m == 0:
        zero = torch.zeros_like(state.loss)
        return state.u, zero, zero
    step = small_matrices.solve(small_matrices.cholesky(state.matrix, damping), -state.gradient)
    slope = -(state.gradient * step).sum(dim=0)
    curvature = sum(step[k].square() * state.matrix[k, k] for k in range(m)) * damping
    # (H + damping diag H) step = -gradient, so step' H step = slope - curvature
    # with damping the step is shorter than the undamped one: blow it up, the search only asks whether it is small
    return step, slope * (1 + damping), 0.5 * (slope + curvature)


def _codes(tasks: int) -> Tensor:
    return torch.zeros(tasks, dtype=torch.int64)


def _store(result: MapResult, where: Tensor, state: _State, code: Tensor, iteration: int) -> None:
    result.u[:, where] = state.u
    result.loss[where] = state.loss
    result.code[where] = code
    result.n_iter[where] += iteration
