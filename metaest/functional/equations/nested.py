r"""The most probable deviations of units at several levels, and the evidence of their tasks.

Laplace's approximation of :mod:`metaest.functional.equations.evidence` for constants that vary between tasks and
between the units within them: the rows of an innermost unit share their constants, and
:class:`~metaest.functional.equations.levels.Tree` solves for the deviations of all levels together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.equation import Observations
from metaest.functional.equations.gauss_newton import GREATEST_DAMPING, GaussNewton, SolveCode, judge_step
from metaest.functional.equations.hierarchical import DIFFERENCE, Design, HierarchicalModel
from metaest.functional.equations.levels import Eliminated, Tree, sum_by

__all__ = [
    "NestedResult",
    "information_of_coefficients",
    "negative_log_evidence_of_units",
    "path",
    "response",
    "search_units",
    "sums_within",
]


class NestedResult(NamedTuple):
    """The end of the search of each task.

    Attributes
    ----------
    u : list of Tensor of shape (random, units)
        By level, from the outermost inwards.
    loss : Tensor of shape (tasks,)
        Negative log-posterior of the deviations, without the constant of their prior.
    code : integer Tensor of shape (tasks,)
        A :class:`~metaest.functional.SolveCode`.
    """

    u: list[Tensor]
    loss: Tensor
    code: Tensor


class _State(NamedTuple):
    """The posterior of all tasks at some deviations."""

    u: list[Tensor]
    loss: Tensor
    gradient: Tensor
    matrix: Tensor

    def where(self, chosen: Tensor, other: "_State", tree: Tree) -> "_State":
        """Return this for the chosen tasks, and the other for the rest."""
        of_level = [chosen[tree.task_of(level)] for level in range(len(self.u))]
        u = [torch.where(at, mine, theirs) for at, mine, theirs in zip(of_level, self.u, other.u, strict=True)]
        inner = of_level[-1]
        return _State(
            u,
            torch.where(chosen, self.loss, other.loss),
            torch.where(inner, self.gradient, other.gradient),
            torch.where(inner, self.matrix, other.matrix),
        )


def search_units(
    solver: GaussNewton,
    model: HierarchicalModel,
    tree: Tree,
    center: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    u: Sequence[Tensor] | None = None,
) -> NestedResult:
    """Find the most probable deviations of all units by damped Gauss-Newton steps, and Newton's where these swing.

    Parameters
    ----------
    solver : GaussNewton
        Its settings.
    model : HierarchicalModel
    tree : Tree
    center : Tensor of shape (constants, innermost units)
    log_sigma : Tensor of shape (noise constants,)
    observations : Observations
        The rows of each innermost unit, as those of a task.
    u : sequence of Tensor of shape (random, units), optional
        Where the search starts; zeros by default.
    """
    with torch.no_grad():
        if u is None:
            u = [center.new_zeros(factor.shape[1], n) for factor, n in zip(tree.factors, tree.sizes, strict=True)]
        damping = center.new_zeros(tree.n_tasks)
        state = _at(model, tree, center, log_sigma, observations, [part.detach() for part in u], True)
        code = torch.where(_finite(state, tree), SolveCode.MAX_ITER, SolveCode.NOT_FINITE)
        for iteration in range(1, solver.max_iter + 1):
            expected_curvature = iteration <= solver.newton_after
            system = tree.eliminate(state.u, state.gradient, state.matrix, damping)
            steps, slope, taken = tree.step(system)
            gain = 0.5 * (slope + taken)
            running = code == SolveCode.MAX_ITER
            small = (slope * (1 + damping) < solver.tol) & (damping < 1) & running
            stuck = (damping > GREATEST_DAMPING) & ~small & running
            lost = torch.isnan(slope) & running  # no Cholesky factor: the true curvature was not definite
            moved = [part + step for part, step in zip(state.u, steps, strict=True)]
            last = small.to(state.loss)
            state = state._replace(
                u=[torch.where(small[tree.task_of(k)], moved[k], state.u[k]) for k in range(len(moved))],
                loss=state.loss - last * torch.where(small, gain, 0.0),
            )
            code = code.masked_fill(small, int(SolveCode.CONVERGED)).masked_fill(stuck, int(SolveCode.STALLED))
            if bool((code != SolveCode.MAX_ITER).all()):
                break
            trial = _at(model, tree, center, log_sigma, observations, moved, expected_curvature)
            running = code == SolveCode.MAX_ITER
            usable = _finite(trial, tree) & running & ~lost
            better, damping = judge_step(state.loss, trial.loss, usable, damping, gain, running)
            state = trial if bool(better.all()) else trial.where(better, state, tree)
    return NestedResult(state.u, state.loss, code)


def _finite(state: _State, tree: Tree) -> Tensor:
    inner = torch.isfinite(state.gradient.sum(dim=0) + state.matrix.sum(dim=(0, 1)))
    task = tree.task_of(len(state.u) - 1)
    if bool(inner.all()):
        return torch.isfinite(state.loss)
    failed = torch.zeros(tree.n_tasks, dtype=torch.float64).index_add(0, task, (~inner).double())
    return torch.isfinite(state.loss) & (failed == 0)


def _at(
    model: HierarchicalModel,
    tree: Tree,
    center: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    u: list[Tensor],
    expected: bool,
) -> _State:
    """Return the posterior at u, with the expected second derivative, or the true one where it is definite."""
    phi = tree.constants(center, u)
    if expected:
        information = model.information(phi, log_sigma, observations)
        loss, gradient, matrix = information
    else:
        loss, gradient, matrix = true_information(model, tree, phi, log_sigma, observations, u)
    task = tree.task_of(len(u) - 1)
    return _State(u, tree.prior_loss(u).index_add(0, task, loss), gradient, matrix)


def true_information(
    model: HierarchicalModel, tree: Tree, phi: Tensor, log_sigma: Tensor, observations: Observations, u: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, gradient and true second derivative in the constants, by differences where they are not known.

    Where the matrix of a task is not positive definite with it, the expected one stands in its place.
    """
    direct = model.information_and_curvature(phi, log_sigma, observations)
    if direct is not None:
        (loss, gradient, expected), true = direct
        definite = _definite(tree, u, gradient, true)
        return loss, gradient, true if bool(definite.all()) else torch.where(definite, true, expected)
    p, units = phi.shape
    step = DIFFERENCE * torch.cat([factor.detach() for factor in tree.factors], dim=1).square().sum(dim=1).sqrt()
    shifts = torch.diag(torch.where(step > 0, step, 1.0))
    points = torch.cat([phi[:, None], phi[:, None] + shifts[..., None], phi[:, None] - shifts[..., None]], dim=1)
    numbers = torch.arange(units).repeat(1 + 2 * p)
    around = model.information(points.reshape(p, -1), log_sigma, observations.take(numbers))
    gradients = around.gradient.reshape(p, 1 + 2 * p, units)
    size = shifts.diagonal()[None, :, None]
    true = (gradients[:, 1 : 1 + p] - gradients[:, 1 + p :]) / (2 * size)
    true = 0.5 * (true + true.transpose(0, 1))
    varies = (step > 0).to(phi)
    true = true * varies[:, None, None] * varies[None, :, None]
    expected = around.matrix[..., :units]
    definite = _definite(tree, u, gradients[:, 0], true)
    return around.loss[:units], gradients[:, 0], torch.where(definite, true, expected)


def _definite(tree: Tree, u: Sequence[Tensor], gradient: Tensor, matrix: Tensor) -> Tensor:
    """Return for each innermost unit whether the matrix of its task is positive definite."""
    system = tree.eliminate(u, gradient, matrix)
    return torch.isfinite(tree.log_determinant(system))[tree.task_of(len(u) - 1)]


def negative_log_evidence_of_units(
    model: HierarchicalModel,
    tree: Tree,
    center: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    u: Sequence[Tensor],
) -> Tensor:
    """Return the negative logarithm of the Laplace-approximate evidence of each task, differentiable in the population.

    Parameters
    ----------
    model, tree, center, log_sigma, observations : as in :func:`search_units`
    u : sequence of Tensor of shape (random, units)
        The most probable deviations.

    Returns
    -------
    Tensor of shape (tasks,)
    """
    u = _follow(model, tree, center, log_sigma, observations, [part.detach() for part in u])
    phi = tree.constants(center, u)
    loss, gradient, matrix = model.information(phi, log_sigma, observations, differentiable=True)
    system = tree.eliminate(u, gradient, matrix)
    height = sum_by([loss], [tree.task_of(len(u) - 1)], tree.n_tasks) + tree.prior_loss(u)
    return height + 0.5 * tree.log_determinant(system)


def _follow(
    model: HierarchicalModel,
    tree: Tree,
    center: Tensor,
    log_sigma: Tensor,
    observations: Observations,
    u: list[Tensor],
) -> list[Tensor]:
    """Return the most probable deviations with the graph of their dependence on the population: one Newton step."""
    fixed = tree._replace(factors=tuple(factor.detach() for factor in tree.factors))
    with torch.no_grad():
        at = fixed.constants(center.detach(), u)
        _, _, curvature = true_information(model, fixed, at, log_sigma.detach(), observations, u)
        system = fixed.eliminate(u, torch.zeros_like(at), curvature)
    phi = tree.constants(center, u)
    gradient = model.information(phi, log_sigma, observations, differentiable=True).gradient
    right = [
        factor.T @ within + part
        for factor, within, part in zip(tree.factors, sums_within(tree, gradient), u, strict=True)
    ]
    steps = fixed.solve(system, right)
    # where a task's matrix is not definite, its step is none, as that of `evidence.follow`
    level_tasks = [fixed.task_of(level) for level in range(len(u))]
    lost = u[0].new_zeros(tree.n_tasks)
    for task, step in zip(level_tasks, steps, strict=True):
        lost = lost.index_add(0, task, (~torch.isfinite(step.detach()).all(dim=0)).to(lost))
    usable = [(lost == 0)[task] for task in level_tasks]
    taken = [torch.where(at, step, torch.zeros_like(step)) for at, step in zip(usable, steps, strict=True)]
    return [part - step for part, step in zip(u, taken, strict=True)]


def sums_within(tree: Tree, values: Tensor) -> list[Tensor]:
    """Return values of the innermost units, (constants, units), summed over those within each unit, by level."""
    sums = [values]
    for level in reversed(range(len(tree.parents))):
        sums.append(values.new_zeros(len(values), tree.sizes[level]).index_add(1, tree.parents[level], sums[-1]))
    return sums[::-1]


def path(tree: Tree, u: Sequence[Tensor]) -> Tensor:
    """Return by how much the constants of the innermost units differ from their centers, (constants, units)."""
    return tree.constants(u[0].new_zeros(len(tree.factors[0]), 1), u)


def response(tree: Tree, design: Design, matrix: Tensor, system: Eliminated) -> Tensor:
    r"""Return by how much the most probable constants of the units move with the coefficients, to first order.

    It is :math:`M - A H^{-1} A^\top P M` with all units of a task in one system: without rows a constant moves as its
    center does, and where rows say all it does not move.

    Parameters
    ----------
    tree : Tree
    design : Design
        Of the innermost units.
    matrix : Tensor of shape (constants, constants, units)
        Information of the rows about the constants.
    system : Eliminated
        Of this tree with this matrix.

    Returns
    -------
    Tensor of shape (coefficients, constants, units)
    """
    moved = []
    for constant, multiplier in zip(design.constant.tolist(), design.multiplier, strict=True):
        entering = matrix.new_zeros(matrix.shape[1:])
        entering[constant] = multiplier
        pulled = torch.einsum("pqt,qt->pt", matrix, entering)
        right = [factor.T @ part for factor, part in zip(tree.factors, sums_within(tree, pulled), strict=True)]
        moved.append(entering - path(tree, tree.solve(system, right)))
    return torch.stack(moved)


def information_of_coefficients(design: Design, matrix: Tensor, moved: Tensor) -> Tensor:
    """Return the information about the coefficients, given covariances and noise, from their :func:`response`."""
    of_units = torch.einsum("pqt,bqt->bpt", matrix, moved)
    return torch.einsum("at,bat->ab", design.multiplier, of_units[:, design.constant])
