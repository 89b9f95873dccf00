r"""Adapt, and take the rate back for tasks on which it overshoots.

A rate that suits the training tasks may be too large for one unlike them: the largest stable rate is 2 over the
largest eigenvalue of the Hessian of its support loss, and beyond it every step multiplies the error. Where the
support loss has risen at the end of the inner steps, to more than twice its start, the task is adapted anew at half the
rate, and so on. A task that does not overshoot is left exactly as gradient descent leaves it.
"""

from typing import Any

import torch
from torch import Tensor

from metaest.functional.inner.closed_form import ClosedForm
from metaest.functional.inner.gradient_descent import GradientDescent
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Loss, Params, Rows

__all__ = ["Solver", "highest_loss", "solve_damped"]

Solver = GradientDescent | ClosedForm

MAX_HALVINGS = 20
ALLOWED_RISE, TOLERANCE = 1.0, 1e-3


def highest_loss(before: Any) -> Any:
    """Return the support loss, of a tensor or an array of tasks, above which inner steps have overshot.

    A loss may be negative, as that of a policy is: the rise is measured by its size.
    """
    return before + ALLOWED_RISE * abs(before) + TOLERANCE


def solve_damped(
    forward: BatchForward, loss: Loss, solver: Solver, params: Params, support: Rows
) -> tuple[Params, Tensor]:
    """Adapt a batch of tasks, each at the solver's rate or as much of it as it bears.

    Parameters
    ----------
    forward : callable
        Predictions of a batch of tasks.
    loss : callable
        One loss for each task.
    solver : GradientDescent or ClosedForm
        What is solved in closed form does not overshoot.
    params : dict of Tensor, each of shape (tasks, ...)
        Where each task starts.
    support : Rows

    Returns
    -------
    params : dict of Tensor, each of shape (tasks, ...)
        Detached; not finite where even the smallest rate tried overshoots.
    halvings : integer Tensor of shape (tasks,)
        How often the rate was halved for each task; 0 where it did not overshoot.
    """
    adapted, halvings = _solve(forward, loss, solver, params, support)
    if isinstance(solver, GradientDescent) and solver.steps:
        with torch.no_grad():
            adapted = with_statistics(forward, adapted, support)
    return adapted, halvings


def _solve(forward: BatchForward, loss: Loss, solver: Solver, params: Params, support: Rows) -> tuple[Params, Tensor]:
    halvings = torch.zeros(support.mask.shape[0], dtype=torch.int64, device=support.mask.device)
    adapted = {name: value.detach() for name, value in solver.solve(forward, loss, params, support).items()}
    if isinstance(solver, ClosedForm) or solver.steps == 0:
        return adapted, halvings
    if isinstance(solver.rate, (int, float)) and solver.rate == 0:
        return adapted, halvings
    limit = highest_loss(_losses(forward, loss, params, support))
    over = torch.nonzero(~(_losses(forward, loss, adapted, support) <= limit))[:, 0]
    for n in range(1, MAX_HALVINGS + 1):
        if not len(over):
            break
        halvings[over] = n
        own = Rows(*(part[over] for part in support))
        slower = solver.slower(2**n)
        again = slower.solve(forward, loss, {name: value[over] for name, value in params.items()}, own)
        for name, value in again.items():
            adapted[name] = adapted[name].index_copy(0, over, value.detach())
        over = over[~(_losses(forward, loss, again, own) <= limit[over])]
    return adapted, halvings


def _losses(forward: BatchForward, loss: Loss, params: Params, rows: Rows) -> Tensor:
    with torch.no_grad():
        return loss(forward(params, rows), rows.y, rows.mask)
