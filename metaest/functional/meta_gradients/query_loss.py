r"""The meta-objective of gradient-based meta-learning, and the ways its gradient flows back.

Each task starts at the shared parameters, adapts on its support rows, and is judged on its query rows:

.. math:: M(\theta) = \frac{1}{T}\sum_t L_t^\mathrm{query}\bigl(\theta_t'(\theta)\bigr), \qquad
          \theta_t' = \mathrm{solve}\bigl(\theta, \mathrm{support}_t\bigr).

How the query loss flows back to :math:`\theta` is a choice beside the inner solver:

* ``"exact"`` differentiates the solve, Hessians and all (MAML: Finn, Abbeel and Levine, 2017, arXiv:1703.03400);
* ``"first-order"`` takes its Jacobian as the identity, so the gradient of each task is that of its query loss at the
  adapted parameters (the same paper);
* ``"reptile"`` and ``"implicit"`` do not go through the steps: see :mod:`metaest.functional.meta_gradients.reptile` and
  :mod:`metaest.functional.meta_gradients.implicit`.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from metaest.functional.inner.gradient_descent import GradientDescent
from metaest.functional.meta_gradients.implicit import implicit_losses
from metaest.functional.meta_gradients.reptile import reptile_losses
from metaest.functional.modules.forward import repeat_for_tasks, with_statistics
from metaest.functional.types import BatchForward, Episodes, Loss, Params

__all__ = ["MetaGradient", "task_losses"]

MetaGradient = Literal["exact", "first-order", "reptile", "implicit"]


def task_losses(
    forward: BatchForward,
    loss: Loss,
    solver: GradientDescent,
    params: Params,
    episodes: Episodes,
    meta_gradient: MetaGradient = "exact",
    step_weights: Sequence[float] | None = None,
) -> Tensor:
    """Query loss of each task after adapting on its support; differentiate the mean for the meta-gradient.

    Parameters
    ----------
    forward : callable
        Predictions of a batch of tasks.
    loss : callable
        One loss for each task.
    solver : GradientDescent
    params : dict of Tensor
        The shared initial parameters, without a task axis.
    episodes : Episodes
    meta_gradient : {"exact", "first-order", "reptile", "implicit"}
    step_weights : sequence of float of length steps, optional
        Weights of the query losses after each step (the multi-step loss of MAML++, arXiv:1810.09502); by default the
        last step alone counts. For "exact" and "first-order" only.

    Returns
    -------
    Tensor of shape (tasks,)
        Its values are query losses; its gradient is the meta-gradient of the kind asked for.
    """
    start = repeat_for_tasks(params, episodes.support.X.shape[0])
    if meta_gradient == "reptile":
        return reptile_losses(forward, loss, solver, start, episodes)
    if meta_gradient == "implicit" and solver.steps:  # without a step there is no minimum, but joint training
        return implicit_losses(forward, loss, solver, start, episodes)
    exact, query = meta_gradient == "exact", episodes.query
    if step_weights is None:
        adapted = solver.solve(forward, loss, start, episodes.support, differentiable=exact)
        if solver.steps:
            adapted = with_statistics(forward, adapted, episodes.support)
        return loss(forward(adapted, query), query.y, query.mask)
    path = solver.path(forward, loss, start, episodes.support, differentiable=exact)
    next(path)
    total = start[next(iter(start))].new_zeros(query.mask.shape[0])
    for weight, adapted in zip(step_weights, path, strict=True):
        if weight:
            adapted = with_statistics(forward, adapted, episodes.support)
            total = total + weight * loss(forward(adapted, query), query.y, query.mask)
    return total
