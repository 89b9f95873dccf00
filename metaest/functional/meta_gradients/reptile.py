r"""Reptile (Nichol, Achiam and Schulman, 2018, arXiv:1803.02999): move towards the adapted parameters.

.. math:: g_t = \theta - \theta_t',

where :math:`\theta_t'` is reached by gradient steps on **all** rows of the task, since Reptile keeps none back. No
Hessian is needed, and nothing of the steps is kept.
"""

import torch
from torch import Tensor

from metaest.functional.inner.gradient_descent import GradientDescent
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Episodes, Loss, Params, Rows

__all__ = ["reptile_losses", "with_gradient"]


def reptile_losses(
    forward: BatchForward, loss: Loss, solver: GradientDescent, start: Params, episodes: Episodes
) -> Tensor:
    """Query loss of each task after adapting on all of its rows, with Reptile's direction as its gradient.

    Parameters
    ----------
    forward, loss, solver, episodes
        As :func:`~metaest.functional.task_losses` takes them.
    start : dict of Tensor, each of shape (tasks, ...)

    Returns
    -------
    Tensor of shape (tasks,)
    """
    support, query = episodes
    rows = Rows(*(torch.cat(parts, dim=1) for parts in zip(support, query, strict=True)))
    detached = {name: value.detach() for name, value in start.items()}
    adapted = {name: value.detach() for name, value in solver.solve(forward, loss, detached, rows).items()}
    with torch.no_grad():
        losses = loss(forward(with_statistics(forward, adapted, rows), query), query.y, query.mask)
    return with_gradient(losses, start, {name: value.detach() - adapted[name] for name, value in start.items()})


def with_gradient(values: Tensor, params: Params, gradients: Params) -> Tensor:
    """Return one number a task with a given gradient.

    Parameters
    ----------
    values : Tensor of shape (tasks,)
    params, gradients : dict of Tensor, each of shape (tasks, ...)
        Constants in which the result is linear.

    Returns
    -------
    Tensor of shape (tasks,)
    """
    total = values.detach()
    for name, gradient in gradients.items():
        product = (params[name] * gradient.detach()).reshape(len(gradient), -1).sum(dim=1)
        total = total + product - product.detach()
    return total
