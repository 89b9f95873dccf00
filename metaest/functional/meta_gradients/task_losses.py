"""The meta-gradients by their names, and the loss of each task that carries one of them."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from metaest.functional.inner.solver import InnerSolver
from metaest.functional.meta_gradients.implicit import Implicit
from metaest.functional.meta_gradients.meta_gradient import MetaGradient
from metaest.functional.meta_gradients.query_loss import QueryLoss
from metaest.functional.meta_gradients.reptile import Reptile
from metaest.functional.modules.forward import repeat_for_tasks
from metaest.functional.types import BatchForward, Episodes, Loss, Params

__all__ = ["META_GRADIENTS", "MetaGradientName", "as_meta_gradient", "task_losses"]

MetaGradientName = Literal["exact", "first-order", "reptile", "implicit"]

META_GRADIENTS: dict[str, MetaGradient] = {
    "exact": QueryLoss(exact=True),
    "first-order": QueryLoss(exact=False),
    "reptile": Reptile(),
    "implicit": Implicit(),
}


def as_meta_gradient(setting: object) -> MetaGradient:
    """Return the meta-gradient that a name stands for; an object as it is.

    Raises
    ------
    ValueError
        When no meta-gradient has such a name.
    TypeError
        When it is neither a name nor a MetaGradient.
    """
    if isinstance(setting, MetaGradient):
        return setting
    names = ", ".join(map(repr, META_GRADIENTS))
    if not isinstance(setting, str):
        got = f"the class {setting.__name__}" if isinstance(setting, type) else type(setting).__name__
        raise TypeError(f"meta_gradient must be one of {names}, or a MetaGradient object; got {got}.")
    if setting not in META_GRADIENTS:
        raise ValueError(f"meta_gradient must be one of {names}, or a MetaGradient object; got {setting!r}.")
    return META_GRADIENTS[setting]


def task_losses(
    forward: BatchForward,
    loss: Loss,
    solver: InnerSolver,
    params: Params,
    episodes: Episodes,
    meta_gradient: str | MetaGradient = "exact",
    step_weights: Sequence[float | Tensor] | None = None,
) -> Tensor:
    """Return the query loss of each task after adapting on its support.

    Differentiate the mean of the result for the meta-gradient.

    Parameters
    ----------
    forward, loss, solver
        As :meth:`MetaGradient.losses` takes them.
    params : dict of Tensor
        The shared initial parameters, without a task axis.
    episodes : Episodes
    meta_gradient : {"exact", "first-order", "reptile", "implicit"} or MetaGradient, default="exact"
    step_weights : sequence of float or Tensor of length steps, optional
        Weights of the query losses after each step (the multi-step loss of MAML++, arXiv:1810.09502); by default the
        last step alone counts. For meta-gradients that take them, as "exact" and "first-order" do.

    Returns
    -------
    Tensor of shape (tasks,)
        Its values are query losses; its gradient is the meta-gradient of the kind asked for.
    """
    gradient = as_meta_gradient(meta_gradient)
    if step_weights is not None and not gradient.takes_step_weights:
        raise ValueError(f"the meta-gradient {gradient.name!r} takes no step_weights.")
    if step_weights is not None and not solver.yields_each_step:
        raise ValueError(f"step_weights need a solver that overrides path; {type(solver).__name__} does not.")
    start = repeat_for_tasks(params, episodes.support.X.shape[0])
    return gradient.losses(forward, loss, solver, start, episodes, step_weights)
