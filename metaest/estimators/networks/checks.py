"""What a fit asks, before its first step, of a loss, an inner solver and a meta-gradient that users wrote."""

from typing import Any

import torch
from torch import Tensor

from metaest.estimators.networks.adaptation import Adaptation, Schedule
from metaest.estimators.networks.network import Network
from metaest.estimators.networks.settings import Settings
from metaest.functional import (
    META_GRADIENTS,
    REGRESSION_LOSSES,
    BatchForward,
    Episodes,
    InnerSolver,
    Params,
    RegressionLoss,
    Rows,
    repeat_for_tasks,
)
from metaest.functional.generator import undrawn

__all__ = ["check_given"]

# the losses and meta-gradients of metaest, whose answers are tested
_TESTED_LOSSES = {type(loss) for loss in REGRESSION_LOSSES.values()}
_TESTED_META_GRADIENTS = {type(gradient) for gradient in META_GRADIENTS.values()}


def check_given(
    settings: Settings,
    network: Network,
    adaptation: Adaptation,
    forward: BatchForward,
    params: Params,
    episodes: Episodes,
) -> None:
    """Try a user's loss, solver and meta-gradient; raise where a fit would misread them or fail on them.

    Parameters
    ----------
    settings : Settings
    network : Network
    adaptation : Adaptation
    forward : callable
    params : dict of Tensor
        Where the fit starts.
    episodes : Episodes
        Tasks of the first meta-step: two to try on, and all to ask the loss of every row.

    Raises
    ------
    TypeError, ValueError
        The message begins with the setting.
    """
    loss, given, gradient = network.loss, settings.inner.given, settings.meta.gradient
    written_loss = loss if isinstance(loss, RegressionLoss) and type(loss) not in _TESTED_LOSSES else None
    written_solver = given if settings.inner.steps else None
    written_gradient = type(gradient) not in _TESTED_META_GRADIENTS and not settings.inner.closed_form
    if written_loss is None and written_solver is None and not written_gradient:
        return
    params = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    parts = episodes.parts(2)
    episodes = parts[0]
    start = _start(adaptation, params, episodes)
    module = network.forward.module
    training = module.training
    module.eval()
    try:
        if written_loss is not None:
            with torch.no_grad():
                output = forward(start, episodes.query)
            written_loss.check(output, episodes.query.y)
            for part in parts:
                _check_values(written_loss, forward, _start(adaptation, params, part), part)
        if written_solver is not None:
            _check_solver(settings, written_solver, loss, forward, start, adaptation.support(params, episodes.support))
        if written_gradient:
            schedule = Schedule(settings.meta, settings.inner, settings.outer.max_iter)
            values = adaptation.losses(forward, loss, params, episodes, schedule.end)
            _require_losses(values, gradient.name, len(episodes.query.mask))
    finally:
        module.train(training)


def _start(adaptation: Adaptation, params: Params, episodes: Episodes) -> Params:
    """Return where the tasks of some episodes start, without a graph."""
    start = repeat_for_tasks(adaptation.start(params, episodes.query), len(episodes.query.mask))
    return {name: value.detach() for name, value in start.items()}


def _check_values(loss: RegressionLoss, forward: BatchForward, start: Params, episodes: Episodes) -> None:
    """Raise where the loss of a support or query row is not finite before the fit."""
    for rows in (episodes.support, episodes.query):
        if rows.mask.any():
            with torch.no_grad(), undrawn():  # draws of a loss or a module must not matter here
                loss.check_values(forward(start, rows), rows.y)


def _check_solver(
    settings: Settings, given: InnerSolver, loss: Any, forward: BatchForward, start: Params, support: Rows
) -> None:
    """Raise unless a solver returns a tensor for each parameter, of its shape and type, that depends on the start."""
    gradient, name = settings.meta.gradient, f"inner_solver={type(given).__name__}"
    start = {key: value.clone().requires_grad_() for key, value in start.items()}
    moving = {key: value * 1 for key, value in start.items()}
    adapted = given.solve(forward, loss, moving, support, differentiable=gradient.second_derivatives)
    if not isinstance(adapted, dict) or set(adapted) != set(start):
        got = f"the names {', '.join(map(str, adapted))}" if isinstance(adapted, dict) else type(adapted).__name__
        raise ValueError(f"{name}: solve returned {got}; a dict with the names {', '.join(start)} is wanted.")
    for key, value in start.items():
        after = adapted[key]
        if not isinstance(after, Tensor):
            raise TypeError(f"{name}: solve returned {type(after).__name__} for {key!r}; a tensor is wanted.")
        if after.shape != value.shape or after.dtype != value.dtype:
            raise ValueError(
                f"{name}: solve returned {after.dtype} of shape {tuple(after.shape)} for {key!r}, which is "
                f"{value.dtype} of shape {tuple(value.shape)}, tasks first."
            )
        if gradient.through_steps and not after.requires_grad:
            raise ValueError(
                f"{name}: what solve returned for {key!r} does not depend on where the task starts, so that "
                f"meta_gradient={gradient.name!r} learns nothing from it; leave out detach() and no_grad()."
            )
    if settings.meta.multi_step_share:
        n_states = len(list(given.path(forward, loss, moving, support, differentiable=gradient.second_derivatives)))
        if n_states != settings.inner.steps + 1:
            raise ValueError(
                f"{name}: its path has {n_states} states and it has {settings.inner.steps} steps; multi_step_share "
                "needs a path with the start and the state after each step."
            )


def _require_losses(values: Any, name: str, n_tasks: int) -> None:
    """Raise unless a meta-gradient returns one loss for each task that can be differentiated."""
    if not isinstance(values, Tensor) or values.shape != (n_tasks,):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"meta_gradient={name}: losses returned {got} for {n_tasks} tasks; a tensor with one loss for each task, "
            f"of shape ({n_tasks},), is wanted."
        )
    if not values.requires_grad:
        raise ValueError(f"meta_gradient={name}: losses returned a tensor that cannot be differentiated.")
