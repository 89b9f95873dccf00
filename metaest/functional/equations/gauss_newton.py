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

from metaest.functional.equations import small_matrices
from metaest.functional.equations.equation import Observations
from metaest.functional.equations.hierarchical import HierarchicalModel, Information

__all__ = ["GaussNewton", "MapResult", "SearchState", "SolveCode", "accept_step", "judge_step", "propose_step"]

# damping of the first step that is damped, as a share of the diagonal of the second derivative
FIRST_DAMPING = 0.1
# damping beyond which a search has stalled: no step lowers the loss
GREATEST_DAMPING = 1e12


class SolveCode(IntEnum):
    """Outcome of the search for a task's constants; one that converged is at an optimum, and others may be lower."""

    CONVERGED = 0
    MAX_ITER = 1
    STALLED = 2
    NOT_FINITE = 3


class MapResult(NamedTuple):
    """The end of the search of each task.

    Attributes
    ----------
    u : Tensor of shape (random, tasks)
    loss : Tensor of shape (tasks,)
        J of the module's formula.
    code : integer Tensor of shape (tasks,)
        A :class:`SolveCode`.
    """

    u: Tensor
    loss: Tensor
    code: Tensor


class SearchState(NamedTuple):
    """The state of the search of each task, in one tensor: u, the gradient, the loss, and the second derivative.

    Attributes
    ----------
    packed : Tensor of shape (2 m + 1 + m * m, tasks)
    m : int
        Constants that vary.
    """

    packed: Tensor
    m: int

    @classmethod
    def at(cls, u: Tensor, inner: Information) -> "SearchState":
        """Return the state at u, from the posterior of u there."""
        m, tasks = u.shape
        parts = [u, inner.gradient, inner.loss[None], inner.matrix.reshape(m * m, tasks)]
        return cls(torch.cat(parts), m)

    @property
    def u(self) -> Tensor:
        """The constants searched for, of shape (m, tasks)."""
        return self.packed[: self.m]

    @property
    def gradient(self) -> Tensor:
        """The gradient of the loss, of shape (m, tasks)."""
        return self.packed[self.m : 2 * self.m]

    @property
    def loss(self) -> Tensor:
        """The negative log-posterior, of shape (tasks,)."""
        return self.packed[2 * self.m]

    @property
    def matrix(self) -> Tensor:
        """The second derivative of the loss, of shape (m, m, tasks)."""
        return self.packed[2 * self.m + 1 :].reshape(self.m, self.m, self.packed.shape[1])

    @property
    def finite(self) -> Tensor:
        """Tell for each task whether the sum of its numbers is finite: then they all are."""
        return torch.isfinite(self.packed.sum(dim=0))

    def moved(self, step: Tensor, gain: Tensor) -> "SearchState":
        """Return the state after steps too small to need another look at the equation."""
        m = self.m
        parts = [self.u + step, self.gradient, (self.loss - gain)[None], self.packed[2 * m + 1 :]]
        return SearchState(torch.cat(parts), m)

    def where(self, chosen: Tensor, other: "SearchState") -> "SearchState":
        """Return this for the chosen tasks, and the other for the rest."""
        return SearchState(torch.where(chosen, self.packed, other.packed), self.m)

    def take(self, tasks: Tensor) -> "SearchState":
        """Return the state of the chosen tasks."""
        return SearchState(self.packed[:, tasks], self.m)


def propose_step(
    state: SearchState, damping: Tensor, code: Tensor, tol: float | Tensor
) -> tuple[SearchState, Tensor, Tensor, Tensor]:
    """Return the next step of each search, and which searches end.

    Parameters
    ----------
    state : SearchState
    damping : Tensor of shape (tasks,)
    code : Tensor of shape (tasks,)
        ``MAX_ITER`` for a search that goes on.
    tol : float, or Tensor of shape (1,)

    Returns
    -------
    SearchState
        With the last step of searches that end here.
    step : Tensor of shape (m, tasks)
    expected : Tensor of shape (tasks,)
        Decrease of the loss that the quadratic model promises.
    code : Tensor of shape (tasks,)
    """
    step, decrement, expected = _step(state, damping)
    running = code == float(SolveCode.MAX_ITER)
    small = (decrement < tol) & (damping < 1) & running
    stuck = (damping > GREATEST_DAMPING) & ~small & running
    state = state.moved(torch.where(small, step, 0.0), torch.where(small, expected, 0.0))
    code = code.masked_fill(small, float(SolveCode.CONVERGED)).masked_fill(stuck, float(SolveCode.STALLED))
    return state, step, expected, code


def accept_step(
    state: SearchState, trial: SearchState, damping: Tensor, code: Tensor, expected: Tensor
) -> tuple[SearchState, Tensor]:
    """Return the states from which the searches continue, and their damping, given the state at the trial step."""
    running = code == float(SolveCode.MAX_ITER)
    better, damping = judge_step(state.loss, trial.loss, trial.finite & running, damping, expected, running)
    return trial.where(better, state), damping


def judge_step(
    loss: Tensor, tried: Tensor, usable: Tensor, damping: Tensor, expected: Tensor, running: Tensor
) -> tuple[Tensor, Tensor]:
    """Return which trial steps are taken, and the damping of the next ones.

    Parameters
    ----------
    loss, tried : Tensor of shape (tasks,)
        Before the step and after it.
    usable : boolean Tensor of shape (tasks,)
        Whether a step may be taken at all.
    damping : Tensor of shape (tasks,)
    expected : Tensor of shape (tasks,)
        The decrease that the quadratic model promised.
    running : boolean Tensor of shape (tasks,)
        Searches that go on; the damping of the others stays.
    """
    # rounding alone may raise a loss that is at its lowest
    better = (tried <= loss + 1e-13 * loss.abs()) & usable
    # a step that gains far less than the quadratic model promised is on its way to swing back and forth
    gain = (loss - tried) / expected.clamp(min=1e-300)
    raised = torch.clamp(4 * damping, min=FIRST_DAMPING)
    lowered = torch.where(damping <= FIRST_DAMPING, 0.0, damping / 8)
    adjusted = torch.where(gain > 0.75, lowered, torch.where(gain < 0.25, raised, damping))
    return better, torch.where(running, torch.where(better, adjusted, 2 * raised), damping)


class _Problem(NamedTuple):
    """The posteriors of some tasks."""

    model: HierarchicalModel
    center: Tensor
    factor: Tensor
    log_sigma: Tensor
    observations: Observations

    def take(self, tasks: Tensor) -> "_Problem":
        return self._replace(center=self.center[:, tasks], observations=self.observations.take(tasks))

    def at(self, u: Tensor) -> SearchState:
        """Evaluate with the expected second derivative."""
        information = self.model.information(self.center + self.factor @ u, self.log_sigma, self.observations)
        return SearchState.at(u, information.in_random_directions(self.factor, u))

    def at_with_true_curvature(self, u: Tensor) -> SearchState:
        """Evaluate with the true second derivative where it is positive definite."""
        return SearchState.at(
            u, self.model.posterior_at(self.center, self.factor, self.log_sigma, self.observations, u)
        )


@dataclass(frozen=True)
class GaussNewton:
    """The damped Gauss-Newton search for the most probable constants.

    Parameters
    ----------
    max_iter : int, default=100
        Evaluations of the equation and its slopes.
    tol : float, default=1e-6
        The search of a task ends when the squared length of the next step, in units of the posterior, is below this;
        that step is still taken, which leaves an error of about a ten-thousandth of a posterior standard deviation.
    newton_after : int, default=6
        Evaluations after which the true second derivative takes over.
    """

    max_iter: int = 100
    tol: float = 1e-6
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
            u = center.new_zeros(factor.shape[1], tasks) if start is None else start.detach()
            compiled = model.searched(self, center.detach(), factor.detach(), log_sigma.detach(), observations, u)
            if compiled is not None:
                faster: MapResult = compiled
                return faster
            whole = _Problem(model, center.detach(), factor.detach(), log_sigma.detach(), observations)
            result = MapResult(u.clone(), center.new_empty(tasks), torch.zeros(tasks, dtype=torch.int64))
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
        evaluate: Callable[[Tensor], SearchState],
        max_iter: int,
    ) -> None:
        """Search from the u of `result` for the active tasks, and write the end into it."""
        newton = evaluate == problem.at_with_true_curvature
        state = evaluate(result.u[:, active])
        damping = torch.zeros_like(state.loss)
        code = torch.where(state.finite, SolveCode.MAX_ITER, SolveCode.NOT_FINITE)
        for iteration in range(1, max_iter + 1):
            state, step, expected, code = propose_step(state, damping, code, self.tol)
            done = code != SolveCode.MAX_ITER
            n_done = int(done.sum())
            if n_done == len(active) or iteration == max_iter:
                break
            if 3 * n_done > len(active):  # leave out those that are finished, once it is worth the copying
                _store(result, active[done], state.take(done), code[done])
                left = torch.nonzero(~done)[:, 0]
                active, code, damping = active[left], code[left], damping[left]
                state, problem, step, expected = state.take(left), problem.take(left), step[:, left], expected[left]
                evaluate = problem.at_with_true_curvature if newton else problem.at
            state, damping = accept_step(state, evaluate(state.u + step), damping, code, expected)
        _store(result, active, state, code)


def _step(state: SearchState, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the damped step, its squared length in units of the posterior, and the decrease it promises."""
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


def _store(result: MapResult, where: Tensor, state: SearchState, code: Tensor) -> None:
    """Write states and codes of some tasks into the result."""
    result.u[:, where] = state.u
    result.loss[where] = state.loss
    result.code[where] = code
