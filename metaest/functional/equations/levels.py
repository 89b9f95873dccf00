r"""Deviations at several levels: tasks, units within tasks, units within these, and the linear algebra of their tree.

The constants of an innermost unit are :math:`\varphi = M \beta + \sum_l A_l u_l`, with :math:`u_l \sim N(0, I)` of the
unit that it belongs to at level l. Near some deviations the negative log-posterior of a task is a quadratic form whose
matrix has a block for each unit and couples a unit to those it lies in and to those within it, no others. Such a
system is solved by elimination from the innermost level outwards. Since all levels enter the constants by a sum,
what is handed on from a unit is a gradient and a matrix in the constants,

.. math:: H = I + A^\top P A, \quad r = A^\top g + u, \quad
          P \leftarrow P - P A H^{-1} A^\top P, \quad g \leftarrow g - P A H^{-1} r,

summed over the units of a unit; the work is linear in the number of units. With one level this is one Cholesky
factor a task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations import small_matrices

__all__ = ["Eliminated", "Tree", "sum_by"]


class Eliminated(NamedTuple):
    r"""The system of all deviations, factored level by level; lists run from the outermost level inwards.

    Attributes
    ----------
    roots : list of tables of Cholesky factors
        Of H, see :func:`metaest.functional.equations.small_matrices.cholesky`.
    right : list of Tensor of shape (random, units)
        r of the module's formula.
    along : list of Tensor of shape (random, constants, units)
        :math:`A^\top P`.
    damped : list of Tensor of shape (random, units)
        What was added to the diagonal of H.
    """

    roots: list[list[list[Tensor]]]
    right: list[Tensor]
    along: list[Tensor]
    damped: list[Tensor]


class Tree(NamedTuple):
    """The units of all levels.

    Attributes
    ----------
    factors : tuple of Tensor of shape (constants, random)
        A of each level, from the outermost inwards.
    parents : tuple of integer Tensor of shape (units,)
        The unit of the level outside that each unit lies in; one fewer than levels.
    n_tasks : int
    """

    factors: tuple[Tensor, ...]
    parents: tuple[Tensor, ...]
    n_tasks: int

    @property
    def sizes(self) -> list[int]:
        """Number of units of each level."""
        return [self.n_tasks, *(len(parent) for parent in self.parents)]

    def task_of(self, level: int) -> Tensor:
        """Return the task of each unit of a level."""
        task = torch.arange(self.n_tasks)
        for parent in self.parents[:level]:
            task = task[parent]
        return task

    def constants(self, center: Tensor, u: Sequence[Tensor]) -> Tensor:
        """Return the constants of the innermost units, whose prior centers are given, (constants, units)."""
        away = self.factors[0] @ u[0]
        for parent, factor, deviation in zip(self.parents, self.factors[1:], u[1:], strict=True):
            away = away[:, parent] + factor @ deviation
        return center + away

    def prior_loss(self, u: Sequence[Tensor]) -> Tensor:
        """Return half the sum of squares of all deviations of each task."""
        return sum_by(
            [0.5 * deviation.square().sum(dim=0) for deviation in u],
            [self.task_of(level) for level in range(len(u))],
            self.n_tasks,
        )

    def eliminate(
        self, u: Sequence[Tensor], gradient: Tensor, matrix: Tensor, damping: Tensor | None = None
    ) -> Eliminated:
        """Factor the system, from the innermost level outwards.

        Parameters
        ----------
        u : sequence of Tensor of shape (random, units)
        gradient : Tensor of shape (constants, innermost units)
            Of the negative log-likelihood.
        matrix : Tensor of shape (constants, constants, innermost units)
            Its second derivative.
        damping : Tensor of shape (tasks,), optional
            The diagonal of H grows by this share.
        """
        factored: list[tuple[list[list[Tensor]], Tensor, Tensor, Tensor]] = []
        for level in reversed(range(len(self.factors))):
            factor = self.factors[level]
            p, m = factor.shape
            along = (factor.T @ matrix.reshape(p, -1)).reshape(m, p, matrix.shape[2])
            H = (along.transpose(1, 2) @ factor).transpose(1, 2) + torch.eye(m, dtype=factor.dtype)[..., None]
            added = torch.zeros_like(u[level])
            if damping is not None:
                added = damping[self.task_of(level)] * H.diagonal().T
                H = H + torch.diag_embed(added.T).permute(1, 2, 0)
            root, right = small_matrices.cholesky(H), factor.T @ gradient + u[level]
            factored.append((root, right, along, added))
            if level:
                solved = small_matrices.solve(root, torch.cat([along, right[:, None]], dim=1))
                taken = torch.einsum("mjt,mkt->jkt", along, solved)
                matrix, gradient = matrix - taken[:, :p], gradient - taken[:, p]
                parent, n = self.parents[level - 1], u[level - 1].shape[1]
                matrix = matrix.new_zeros(p, p, n).index_add(2, parent, matrix)
                gradient = gradient.new_zeros(p, n).index_add(1, parent, gradient)
        factored.reverse()
        return Eliminated(*(list(part) for part in zip(*factored, strict=True)))

    def step(self, system: Eliminated) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the Newton step of each level, its slope downwards and what damping took from it, of each task."""
        steps: list[Tensor] = []
        slopes, taken, moved = [], [], None
        for level, factor in enumerate(self.factors):
            right = system.right[level]
            if moved is not None:
                moved = moved[:, self.parents[level - 1]]
                right = right + torch.einsum("mpt,pt->mt", system.along[level], moved)
            both = small_matrices.solve(system.roots[level], torch.stack([right, system.right[level]], dim=1))
            s, alone = -both[:, 0], both[:, 1]
            slopes.append((system.right[level] * alone).sum(dim=0))
            taken.append((s.square() * system.damped[level]).sum(dim=0))
            steps.append(s)
            moved = factor @ s if moved is None else moved + factor @ s
        tasks = [self.task_of(level) for level in range(len(steps))]
        return steps, sum_by(slopes, tasks, self.n_tasks), sum_by(taken, tasks, self.n_tasks)

    def solve(self, system: Eliminated, right: Sequence[Tensor]) -> list[Tensor]:
        """Return the solution for right-hand sides of each level, (random, units), differentiable in these."""
        # handed on to all levels outside, as `eliminate` does with its own right-hand side
        handed: list[Tensor] = list(right)
        for level in reversed(range(1, len(self.factors))):
            solved = small_matrices.solve(system.roots[level], handed[level])
            up = torch.einsum("mpt,mt->pt", system.along[level], solved)
            for outer in reversed(range(level)):
                parent = self.parents[outer]
                up = up.new_zeros(len(up), right[outer].shape[1]).index_add(1, parent, up)
                handed[outer] = handed[outer] - self.factors[outer].T @ up
        steps: list[Tensor] = []
        moved: Tensor | None = None
        for level, factor in enumerate(self.factors):
            rest = handed[level]
            if moved is not None:
                moved = moved[:, self.parents[level - 1]]
                rest = rest - torch.einsum("mpt,pt->mt", system.along[level], moved)
            step = small_matrices.solve(system.roots[level], rest)
            steps.append(step)
            moved = factor @ step if moved is None else moved + factor @ step
        return steps

    def log_determinant(self, system: Eliminated) -> Tensor:
        """Return the logarithm of the determinant of each task's matrix."""
        parts = [
            small_matrices.log_determinant(root, right) for root, right in zip(system.roots, system.right, strict=True)
        ]
        return sum_by(parts, [self.task_of(level) for level in range(len(parts))], self.n_tasks)

    def covariances(self, system: Eliminated) -> tuple[list[Tensor], Tensor]:
        """Return the covariance of the deviations of each unit, by level, and of the innermost units' constants."""
        deviations: list[Tensor] = []
        of_path: Tensor | None = None
        for level, factor in enumerate(self.factors):
            along = system.along[level]
            H_inverse = small_matrices.inverse(
                system.roots[level], along.new_zeros(len(along), len(along), along.shape[2])
            )
            if of_path is None:
                deviations.append(H_inverse)
                of_path = small_matrices.sandwich(factor, H_inverse)
                continue
            of_path = of_path[:, :, self.parents[level - 1]]
            # given the path d, the deviation is normal about -K d with K = H^-1 A'P
            gain = torch.einsum("mnt,npt->mpt", H_inverse, along)
            spread = torch.einsum("mpt,pqt->mqt", gain, of_path)
            deviation = H_inverse + torch.einsum("mqt,nqt->mnt", spread, gain)
            deviations.append(deviation)
            cross = torch.einsum("km,mqt->kqt", factor, spread)
            of_path = of_path - cross - cross.transpose(0, 1) + small_matrices.sandwich(factor, deviation)
        assert of_path is not None
        return deviations, of_path


def sum_by(parts: Sequence[Tensor], tasks: Sequence[Tensor], n_tasks: int) -> Tensor:
    """Return the sum over the units of each task, of all levels."""
    total = parts[0].new_zeros(n_tasks)
    for part, task in zip(parts, tasks, strict=True):
        total = total.index_add(0, task, part)
    return total
