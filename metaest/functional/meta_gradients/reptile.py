r"""Reptile (Nichol, Achiam and Schulman, 2018, arXiv:1803.02999): move towards the adapted parameters.

.. math:: g_t = \theta - \theta_t',

where :math:`\theta_t'` is reached by gradient steps on **all** rows of the task, since Reptile keeps none back. No
Hessian is needed, and nothing of the steps is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaest.functional.inner.solver import InnerSolver
from metaest.functional.meta_gradients.meta_gradient import MetaGradient
from metaest.functional.meta_gradients.query_loss import QueryLoss
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Episodes, Loss, Params, Rows

__all__ = ["Reptile", "with_gradient"]


@dataclass(frozen=True)
class Reptile(MetaGradient):
    """The direction from the adapted parameters back to the start.

    Its values are losses of query rows that the adaptation has seen; on held-out tasks :attr:`validation` has those of
    unseen rows.
    """

    name = "reptile"
    trains_only_what_moves = True

    @property
    def validation(self) -> MetaGradient:
        """The query loss after adapting on the support alone."""
        return QueryLoss(exact=False)

    def losses(
        self,
        forward: BatchForward,
        loss: Loss,
        solver: InnerSolver,
        start: Params,
        episodes: Episodes,
        step_weights: Sequence[float | Tensor] | None = None,
    ) -> Tensor:
        """Return the query loss of each task after adapting on all of its rows, with Reptile's gradient."""
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
