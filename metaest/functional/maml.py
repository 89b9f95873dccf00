r"""The meta-objective of model-agnostic meta-learning (Finn, Abbeel and Levine, 2017, arXiv:1703.03400).

Each task starts at the shared parameters, adapts on its support rows, and is judged on its query rows:

.. math:: M(\theta) = \frac{1}{T}\sum_t L_t^\mathrm{query}\bigl(\theta_t'(\theta)\bigr), \qquad
          \theta_t' = \mathrm{solve}\bigl(\theta, \mathrm{support}_t\bigr).

How the query loss flows back to :math:`\theta` is a choice beside the inner solver: ``"exact"`` differentiates the
solve, Hessians and all; ``"first-order"`` takes its Jacobian as the identity, so the gradient of each task is that
of its query loss at the adapted parameters.
"""

from typing import Literal

from torch import Tensor

from metaest.functional.forward import repeat_for_tasks
from metaest.functional.inner import GradientDescent
from metaest.functional.types import BatchForward, Episodes, Loss, Params

__all__ = ["MetaGradient", "task_losses"]

MetaGradient = Literal["exact", "first-order"]


def task_losses(
    forward: BatchForward,
    loss: Loss,
    solver: GradientDescent,
    params: Params,
    episodes: Episodes,
    meta_gradient: MetaGradient = "exact",
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
    meta_gradient : {"exact", "first-order"}

    Returns
    -------
    Tensor of shape (tasks,)
    """
    start = repeat_for_tasks(params, episodes.support.X.shape[0])
    adapted = solver.solve(forward, loss, start, episodes.support, differentiable=meta_gradient == "exact")
    return loss(forward(adapted, episodes.query), episodes.query.y, episodes.query.mask)
