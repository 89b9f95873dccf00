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

import torch
from torch import Tensor

from metaest.functional.inner.gradient_descent import GradientDescent
from metaest.functional.meta_gradients.reptile import with_gradient
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Episodes, Loss, Params, Rows

__all__ = ["implicit_losses", "remaining_slope"]

CG_STEPS, CG_TOLERANCE = 20, 1e-10


def implicit_losses(
    forward: BatchForward, loss: Loss, solver: GradientDescent, start: Params, episodes: Episodes
) -> Tensor:
    """Query loss of each task after adapting, with the implicit meta-gradient as its gradient.

    Parameters
    ----------
    forward, loss, episodes
        As :func:`~metaest.functional.task_losses` takes them.
    solver : GradientDescent
        With `proximal` above 0.
    start : dict of Tensor, each of shape (tasks, ...)

    Returns
    -------
    Tensor of shape (tasks,)

    Raises
    ------
    ValueError
        When `proximal` is 0: without it the minimum does not depend on the start.
    """
    if not solver.proximal:
        raise ValueError("the implicit meta-gradient needs proximal above 0: it is what ties a task to its start.")
    support, query = episodes
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
        bent = torch.autograd.grad(total, [adapted[name] for name in moving], retain_graph=True, materialize_grads=True)
        return [vector + own / solver.proximal for vector, own in zip(vectors, bent, strict=True)]

    solved = _conjugate_gradients(product, [at_end[name] for name in moving])
    meta = {**at_end, **dict(zip(moving, solved, strict=True))}
    still = [name for name in adapted if not solver.moves(name)]
    if still:
        # what does not move bends the support loss, and so shifts its minimum
        total = _inner(slopes, solved)
        shifts = torch.autograd.grad(total, [adapted[name] for name in still], materialize_grads=True)
        meta |= {name: at_end[name] - own / solver.proximal for name, own in zip(still, shifts, strict=True)}
    return with_gradient(losses, start, meta)


def remaining_slope(forward: BatchForward, loss: Loss, solver: GradientDescent, start: Params, support: Rows) -> Tensor:
    """Return how far each task stops from its minimum: its slope at the end over that at the start.

    Parameters
    ----------
    forward, loss, solver, start
        As :func:`implicit_losses` takes them.
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
        full = [slope + solver.proximal * own for slope, own in zip(slopes, away, strict=True)]
        sizes.append(torch.stack([own.reshape(len(own), -1).square().sum(dim=1) for own in full]).sum(dim=0).sqrt())
    return sizes[1] / sizes[0].clamp(min=torch.finfo(sizes[0].dtype).tiny)


def _inner(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
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

    found, residual = [torch.zeros_like(own) for own in right], right
    direction, size = residual, dot(residual, residual)
    enough, smallest = CG_TOLERANCE**2 * size, torch.finfo(size.dtype).tiny
    open_ = size > enough
    for step in range(CG_STEPS):
        if not bool(open_.any()):
            break
        image = product(direction)
        curvature = dot(direction, image)
        bends_up = curvature > 0
        if step == 0:  # far from a minimum: the query gradient as it is
            found = [torch.where((open_ & ~bends_up).view(-1, *[1] * (own.ndim - 1)), own, 0.0) for own in right]
        open_ = open_ & bends_up
        length = torch.where(open_, size / curvature.clamp(min=smallest), 0.0)
        found, residual = add(found, length, direction), add(residual, -length, image)
        smaller = dot(residual, residual)
        direction = add(residual, smaller / size.clamp(min=smallest), direction)
        size = smaller
        open_ = open_ & (size > enough)
    return found
