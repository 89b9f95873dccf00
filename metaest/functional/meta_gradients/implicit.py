r"""The implicit meta-gradient (iMAML: Rajeswaran, Finn, Kakade and Levine, 2019, arXiv:1909.04630).

Adaptation minimises the support loss held to its start, and at its minimum the meta-gradient of a task depends on the
adapted parameters alone,

.. math:: \theta_t' = \arg\min_\phi L_t^\mathrm{support}(\phi) + \tfrac{\lambda}{2}\lVert\phi - \theta\rVert^2, \qquad
          g_t = \Bigl(I + \tfrac{1}{\lambda} \nabla^2 L_t^\mathrm{support}(\theta_t')\Bigr)^{-1}
          \nabla L_t^\mathrm{query}(\theta_t'),

solved by conjugate gradients with Hessian-vector products; parameters that do not move add how they shift the minimum.
Nothing of the inner steps is kept, so that memory does not grow with their number; the gradient is as good as the
inner minimum is reached and as the system is solved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaest.functional.inner.solver import InnerSolver
from metaest.functional.meta_gradients.meta_gradient import MetaGradient
from metaest.functional.meta_gradients.query_loss import QueryLoss
from metaest.functional.meta_gradients.reptile import with_gradient
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Episodes, Loss, Params, Rows

__all__ = ["Implicit", "remaining_slope"]

# most steps of conjugate gradients; a Hessian of so many distinct eigenvalues is solved exactly
CG_STEPS = 20
# residual, as a share of the right-hand side, at which a system counts as solved
CG_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Implicit(MetaGradient):
    """The implicit meta-gradient, for solvers with `proximal` above 0."""

    name = "implicit"
    needs_proximal = True
    second_derivatives = True

    def losses(
        self,
        forward: BatchForward,
        loss: Loss,
        solver: InnerSolver,
        start: Params,
        episodes: Episodes,
        step_weights: Sequence[float | Tensor] | None = None,
    ) -> Tensor:
        """Return the query loss of each task after adapting, with the implicit meta-gradient as its gradient.

        Raises
        ------
        ValueError
            When `proximal` is 0: without it the minimum does not depend on the start.
        """
        support, query = episodes
        if not solver.steps:  # without a step there is no minimum, but joint training
            return QueryLoss(exact=False).losses(forward, loss, solver, start, episodes)
        if not solver.proximal:
            raise ValueError("the implicit meta-gradient needs proximal above 0: it is what ties a task to its start.")
        detached = {name: value.detach() for name, value in start.items()}
        adapted = {name: value.detach() for name, value in solver.solve(forward, loss, detached, support).items()}
        moving = [name for name in adapted if solver.moves(name)]
        adapted = {name: value.requires_grad_() for name, value in adapted.items()}
        losses = loss(forward(with_statistics(forward, adapted, support), query), query.y, query.mask)
        gradients = torch.autograd.grad(losses.sum(), list(adapted.values()), materialize_grads=True)
        at_end = dict(zip(adapted, gradients, strict=True))
        slopes = torch.autograd.grad(
            loss(forward(adapted, support), support.y, support.mask).sum(),
            [adapted[name] for name in moving],
            create_graph=True,
            materialize_grads=True,
        )

        def product(vectors: list[Tensor]) -> list[Tensor]:
            total = _inner(slopes, vectors)
            if not total.requires_grad:  # a support loss linear in what moves
                return vectors
            leaves = [adapted[name] for name in moving]
            bent = torch.autograd.grad(total, leaves, retain_graph=True, materialize_grads=True)
            return [vector + curved / solver.proximal for vector, curved in zip(vectors, bent, strict=True)]

        solved = _conjugate_gradients(product, [at_end[name] for name in moving])
        meta = {**at_end, **dict(zip(moving, solved, strict=True))}
        still = [name for name in adapted if not solver.moves(name)]
        if still:
            # parameters that stay change the support loss, and so shift its minimum
            total = _inner(slopes, solved)
            shifts = torch.autograd.grad(total, [adapted[name] for name in still], materialize_grads=True)
            meta |= {name: at_end[name] - shift / solver.proximal for name, shift in zip(still, shifts, strict=True)}
        return with_gradient(losses, start, meta)


def remaining_slope(forward: BatchForward, loss: Loss, solver: InnerSolver, start: Params, support: Rows) -> Tensor:
    """Return how far each task stops from its minimum: its slope at the end over that at the start.

    Parameters
    ----------
    forward, loss, solver, start
        As :meth:`Implicit.losses` takes them.
    support : Rows

    Returns
    -------
    Tensor of shape (tasks,)
    """
    detached = {name: value.detach() for name, value in start.items()}
    ends = detached, solver.solve(forward, loss, detached, support)
    sizes = []
    for params in ends:
        here = {name: value.detach().requires_grad_(solver.moves(name)) for name, value in params.items()}
        moving = [here[name] for name in here if solver.moves(name)]
        total = loss(forward(here, support), support.y, support.mask).sum()
        slopes = torch.autograd.grad(total, moving, materialize_grads=True)
        away = [here[name].detach() - detached[name] for name in here if solver.moves(name)]
        full = [slope + solver.proximal * move for slope, move in zip(slopes, away, strict=True)]
        sizes.append(torch.stack([part.reshape(len(part), -1).square().sum(dim=1) for part in full]).sum(dim=0).sqrt())
    return sizes[1] / sizes[0].clamp(min=torch.finfo(sizes[0].dtype).tiny)


def _inner(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the inner product over all tensors."""
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def _conjugate_gradients(product: Callable[[list[Tensor]], list[Tensor]], right: list[Tensor]) -> list[Tensor]:
    """Solve a symmetric system for every task at once.

    A task stays where it is once it is solved, or once a direction of negative curvature turns up: the support loss is
    not at a minimum then.
    """

    def dot(one: list[Tensor], other: list[Tensor]) -> Tensor:
        return torch.stack([(a * b).reshape(len(a), -1).sum(dim=1) for a, b in zip(one, other, strict=True)]).sum(0)

    def add(one: list[Tensor], scale: Tensor, other: list[Tensor]) -> list[Tensor]:
        return [a + scale.view(-1, *[1] * (a.ndim - 1)) * b for a, b in zip(one, other, strict=True)]

    solution = [torch.zeros_like(part) for part in right]
    residual = right
    direction = residual
    size = dot(residual, residual)
    enough = CG_TOLERANCE**2 * size
    smallest = torch.finfo(size.dtype).tiny
    open_ = size > enough
    for step in range(CG_STEPS):
        if not bool(open_.any()):
            break
        image = product(direction)
        curvature = dot(direction, image)
        convex = curvature > 0
        if step == 0:  # far from a minimum: the query gradient as it is
            solution = [torch.where((open_ & ~convex).view(-1, *[1] * (part.ndim - 1)), part, 0.0) for part in right]
        open_ = open_ & convex
        length = torch.where(open_, size / curvature.clamp(min=smallest), 0.0)
        solution = add(solution, length, direction)
        residual = add(residual, -length, image)
        smaller = dot(residual, residual)
        direction = add(residual, smaller / size.clamp(min=smallest), direction)
        size = smaller
        open_ = open_ & (size > enough)
    return solution
