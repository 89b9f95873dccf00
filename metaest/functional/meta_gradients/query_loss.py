r"""The meta-objective of gradient-based meta-learning: the loss of query rows after adapting on support rows.

Each task starts at the shared parameters, adapts on its support rows, and is judged on its query rows:

.. math:: M(\theta) = \frac{1}{T}\sum_t L_t^\mathrm{query}\bigl(\theta_t'(\theta)\bigr), \qquad
          \theta_t' = \mathrm{solve}\bigl(\theta, \mathrm{support}_t\bigr).

The exact gradient differentiates the solve, Hessians and all (MAML: Finn, Abbeel and Levine, 2017, arXiv:1703.03400).
The first-order one takes its Jacobian as the identity, so that the gradient of each task is that of its query loss at
the adapted parameters (the same paper).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from metaest.functional.inner.solver import InnerSolver
from metaest.functional.meta_gradients.meta_gradient import MetaGradient
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Episodes, Loss, Params

__all__ = ["QueryLoss"]


@dataclass(frozen=True)
class QueryLoss(MetaGradient):
    """The gradient of the query loss, through the inner steps.

    Parameters
    ----------
    exact : bool, default=True
        Whether each step is differentiated exactly; otherwise its gradient counts as a constant.
    """

    exact: bool = True

    through_steps = True
    takes_step_weights = True

    @property
    def name(self) -> str:
        """The name of the setting."""
        return "exact" if self.exact else "first-order"

    @property
    def first_order(self) -> MetaGradient:
        """The same without second derivatives."""
        return QueryLoss(exact=False)

    @property
    def second_derivatives(self) -> bool:
        """Whether the steps are differentiated exactly."""
        return self.exact

    def losses(
        self,
        forward: BatchForward,
        loss: Loss,
        solver: InnerSolver,
        start: Params,
        episodes: Episodes,
        step_weights: Sequence[float | Tensor] | None = None,
    ) -> Tensor:
        """Return the query loss of each task after adapting; with `step_weights`, the weighted sum over steps."""
        support, query = episodes
        if step_weights is None:
            adapted = solver.solve(forward, loss, start, support, differentiable=self.exact)
            if solver.steps:
                adapted = with_statistics(forward, adapted, support)
            return loss(forward(adapted, query), query.y, query.mask)
        path = solver.path(forward, loss, start, support, differentiable=self.exact)
        next(path)
        total = start[next(iter(start))].new_zeros(query.mask.shape[0])
        for weight, adapted in zip(step_weights, path, strict=True):
            if isinstance(weight, Tensor) or weight:
                adapted = with_statistics(forward, adapted, support)
                total = total + weight * loss(forward(adapted, query), query.y, query.mask)
        return total
