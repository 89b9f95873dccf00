r"""MAML on an equation: gradient steps on its constants, each with a learned rate.

.. math:: \varphi_{s+1} = \varphi_s - \alpha \odot \nabla_\varphi \frac1n \sum_i
          \bigl(y_i - f(x_i, g(\varphi_s))\bigr)^2 \big/ s_i^2,

with learned rates :math:`\alpha` (Li and others, 2017, arXiv:1707.09835), zero for shared constants. The scale
:math:`s_i` is one for all rows for additive noise; otherwise it grows with the size of the observation. Where rows have
weights, the mean is a weighted one.
"""

import torch
from torch import Tensor

from metaest.functional.equations.equation import Observations
from metaest.functional.equations.gauss_newton import SolveCode
from metaest.functional.equations.hierarchical import HierarchicalModel
from metaest.functional.inner.damping import solve_damped
from metaest.functional.inner.gradient_descent import GradientDescent
from metaest.functional.losses import squared_error
from metaest.functional.meta_gradients.meta_gradient import MetaGradient
from metaest.functional.meta_gradients.task_losses import as_meta_gradient
from metaest.functional.types import BatchForward, Episodes, Loss, Params, Rows

__all__ = ["constant_losses", "descend"]


def constant_losses(
    model: HierarchicalModel,
    solver: GradientDescent,
    unit: float,
    center: Tensor,
    support: Observations,
    query: Observations,
    meta_gradient: str | MetaGradient,
) -> Tensor:
    """Return the query loss of each task after gradient steps of its constants on the support.

    Parameters
    ----------
    model : HierarchicalModel
    solver : GradientDescent
        With a rate for each constant, by name.
    unit : float
        The scale s of additive noise, the same for all tasks.
    center : Tensor of shape (constants, tasks)
        Where each task starts.
    support, query : Observations
    meta_gradient : {"exact", "first-order"} or MetaGradient

    Returns
    -------
    Tensor of shape (tasks,)
        Differentiable in the centre and the rates.
    """
    episodes = Episodes(_rows(support), _rows(query))
    start = _named(model, center)
    return as_meta_gradient(meta_gradient).losses(_forward(model), _loss(model, unit), solver, start, episodes)


def descend(
    model: HierarchicalModel, solver: GradientDescent, unit: float, center: Tensor, observations: Observations
) -> tuple[Tensor, Tensor]:
    """Adapt the constants of every task, at lower rates where the learned ones overshoot.

    Parameters
    ----------
    model, solver, unit, center
        As :func:`constant_losses` takes them.
    observations : Observations

    Returns
    -------
    phi : Tensor of shape (constants, tasks)
    code : integer Tensor of shape (tasks,)
        A :class:`~metaest.functional.SolveCode`: converged where the steps were taken at their rates, stalled where
        these overshot and were lowered.
    """
    start = _named(model, center.detach())
    adapted, halvings = solve_damped(_forward(model), _loss(model, unit), solver, start, _rows(observations))
    phi = torch.stack([adapted[name] for name in model.equation.names])
    code = torch.where(halvings > 0, int(SolveCode.STALLED), int(SolveCode.CONVERGED))
    finite = torch.isfinite(phi).all(dim=0)
    return torch.where(finite, phi, center), torch.where(finite, code, int(SolveCode.NOT_FINITE))


def _named(model: HierarchicalModel, phi: Tensor) -> Params:
    """Return the constants of each task by their names."""
    return dict(zip(model.equation.names, phi, strict=True))


def _rows(observations: Observations) -> Rows:
    """Return observations with the task axis first, and weights of rows in the mask."""
    mask = observations.mask.T
    if observations.weight is not None:  # a loss is a mean: weights add up to the number of rows
        weighed = mask * observations.weight.T
        mask = weighed * (mask.sum(dim=1) / weighed.sum(dim=1).clamp(min=1e-300))[:, None]
    return Rows(observations.by_task(), observations.y.T[..., None], mask)


def _forward(model: HierarchicalModel) -> BatchForward:
    """Return the forward pass of a batch of tasks."""

    def forward(params: Params, rows: Rows) -> Tensor:
        phi = torch.stack([params[name] for name in model.equation.names])
        return model.curve(phi, Observations.stack(rows.X, rows.y[..., 0], rows.mask)).T[..., None]

    return forward


def _loss(model: HierarchicalModel, unit: float) -> Loss:
    """Return the squared error in units of the noise."""

    def loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        scale = unit if model.noise.kind == "additive" else (target.square() + model.noise.delta**2).sqrt()
        return squared_error(prediction / scale, target / scale, mask)

    return loss
