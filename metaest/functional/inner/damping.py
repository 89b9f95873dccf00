r"""Adaptation that lowers the rate for tasks on which it overshoots.

A rate that suits the training tasks may be too large for one unlike them: the largest stable rate is 2 over the
largest eigenvalue of the Hessian of its support loss, and beyond it every step multiplies the error. Where the
support loss has risen at the end of the inner steps, to more than twice its start, the task is adapted anew at half the
rate, and so on. A task that does not overshoot is left exactly as gradient descent leaves it.
"""

from typing import Any

import torch
from torch import Tensor

from metaest.functional.inner.solver import InnerSolver
from metaest.functional.modules.forward import with_statistics
from metaest.functional.types import BatchForward, Loss, Params, Rows

__all__ = ["highest_loss", "solve_damped"]

# times that the rate of a task is halved before it is given up: down to a millionth
MAX_HALVINGS = 20
# rise of the support loss, as a share of its size at the start, beyond which the steps have overshot
ALLOWED_RISE = 1.0
# further rise, in units of the loss: one that starts at zero is reached to rounding only
TOLERANCE = 1e-3


def highest_loss(before: Any) -> Any:
    """Return the support loss, of a tensor or an array of tasks, above which inner steps have overshot.

    A loss may be negative, as that of a policy is: the rise is measured by its size.
    """
    return before + ALLOWED_RISE * abs(before) + TOLERANCE


def solve_damped(
    forward: BatchForward, loss: Loss, solver: InnerSolver, params: Params, support: Rows
) -> tuple[Params, Tensor]:
    """Adapt a batch of tasks, each at the solver's rate or at the largest halved one that does not overshoot.

    Parameters
    ----------
    solver : InnerSolver
        One that cannot be backed off is used as it is.
    forward, loss, params, support
        As :meth:`InnerSolver.solve` takes them.

    Returns
    -------
    params : dict of Tensor, each of shape (tasks, ...)
        Detached; not finite where even the smallest rate tried overshoots.
    halvings : integer Tensor of shape (tasks,)
        How often the rate was halved for each task; 0 where it did not overshoot.
    """
    adapted, halvings = _solve(forward, loss, solver, params, support)
    if solver.steps:
        with torch.no_grad():
            adapted = with_statistics(forward, adapted, support)
    return adapted, halvings


def _solve(
    forward: BatchForward, loss: Loss, solver: InnerSolver, params: Params, support: Rows
) -> tuple[Params, Tensor]:
    """Adapt, and once more at half the rate the tasks that overshoot, until none does."""
    halvings = torch.zeros(support.mask.shape[0], dtype=torch.int64, device=support.mask.device)
    adapted = {name: value.detach() for name, value in solver.solve(forward, loss, params, support).items()}
    if solver.backed_off(2.0) is None:
        return adapted, halvings
    limit = highest_loss(_losses(forward, loss, params, support))
    over = torch.nonzero(~(_losses(forward, loss, adapted, support) <= limit))[:, 0]
    for n in range(1, MAX_HALVINGS + 1):
        slower = solver.backed_off(2**n) if len(over) else None
        if slower is None:
            break
        halvings[over] = n
        rows = Rows(*(part[over] for part in support))
        again = slower.solve(forward, loss, {name: value[over] for name, value in params.items()}, rows)
        for name, value in again.items():
            adapted[name] = adapted[name].index_copy(0, over, value.detach())
        over = over[~(_losses(forward, loss, again, rows) <= limit[over])]
    return adapted, halvings


def _losses(forward: BatchForward, loss: Loss, params: Params, rows: Rows) -> Tensor:
    """Return the loss of each task, without a graph."""
    with torch.no_grad():
        return loss(forward(params, rows), rows.y, rows.mask)
