r"""Inner solvers: from initial parameters and a support set to adapted parameters.

Gradient descent takes `steps` steps on each task's mean support loss,

.. math:: \theta_{s+1} = \theta_s - \alpha \nabla_\theta L_\mathrm{support}(\theta_s).

All tasks of a batch move at once; none sees another's rows, since the parameters carry a task axis.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaest.functional.types import BatchForward, Loss, Params, Rows

__all__ = ["GradientDescent"]


@dataclass(frozen=True)
class GradientDescent:
    """A fixed number of gradient steps at a fixed rate.

    Parameters
    ----------
    steps : int, at least 0
    rate : float, at least 0, or dict of Tensor
        One for all parameters, or one for each name (Meta-SGD, arXiv:1707.09835), which may itself be learned.
    """

    steps: int
    rate: float | dict[str, Tensor]

    def __post_init__(self) -> None:
        if self.steps < 0 or not (isinstance(self.rate, dict) or 0 <= self.rate < math.inf):
            raise ValueError(
                f"inner_steps and inner_lr must be finite and at least 0, got {self.steps} and {self.rate}."
            )

    def slower(self, factor: float) -> "GradientDescent":
        """Return the same at rates divided by `factor`."""
        if isinstance(self.rate, dict):
            return replace(self, rate={name: rate / factor for name, rate in self.rate.items()})
        return replace(self, rate=self.rate / factor)

    def solve(
        self, forward: BatchForward, loss: Loss, params: Params, support: Rows, *, differentiable: bool = False
    ) -> Params:
        """Adapt a batch of tasks.

        Parameters
        ----------
        forward : callable
            Predictions of a batch of tasks.
        loss : callable
            One loss for each task.
        params : dict of Tensor, each of shape (tasks, ...)
            Where each task starts.
        support : Rows
        differentiable : bool, default=False
            Keep the graph of every step, so that the result can be differentiated through the Hessians of the
            support loss; otherwise each step's gradient counts as a constant.

        Returns
        -------
        dict of Tensor, each of shape (tasks, ...)
        """
        if self.steps and not any(value.requires_grad for value in params.values()):
            params = {name: value.detach().requires_grad_() for name, value in params.items()}
        for _ in range(self.steps):
            # the tasks are independent: the gradient of the sum holds each task's own gradient
            total = loss(forward(params, support), support.y, support.mask).sum()
            gradients = torch.autograd.grad(
                total, list(params.values()), create_graph=differentiable, materialize_grads=True
            )
            params = {
                name: value - (self.rate[name] if isinstance(self.rate, dict) else self.rate) * gradient
                for (name, value), gradient in zip(params.items(), gradients, strict=True)
            }
        return params
