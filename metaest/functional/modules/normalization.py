r"""Batch normalisation for tasks: statistics of the support rows of the task alone.

.. math:: y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta,

with mean and variance over the rows (and pixels) of the support of one task. While a task adapts they are those of the
rows it adapts on; afterwards they are fixed, so that the prediction of a row does not depend on its neighbours. Padding
is left out of them. Running statistics over tasks are not kept.

torch's own layer has three faults here. Its running statistics leak from task to task; in evaluation mode it uses them
instead of the task's; and nested ``vmap(grad(...))`` through it gives wrong second derivatives without a word (torch
2.13, relative error 1e-3 to 1e-2).
"""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from metaest.functional.types import Params

__all__ = [
    "PER_STEP",
    "TaskBatchNorm",
    "at_step",
    "give",
    "is_statistic",
    "normalization_layer",
    "per_step",
    "population_statistics",
    "take",
    "task_normed",
]

# prefix of the names of statistics among a task's parameters; no module can hold a parameter of such a name
STATISTICS = "norm:"
# the same for statistics of every inner step, which have one more axis
PER_STEP = "norms:"
# least number of channels in a group, where the channels can be divided so
GROUP = 8


class TaskBatchNorm(nn.Module):
    """Batch normalisation by the rows it is shown, or by statistics it is given.

    Parameters
    ----------
    num_features : int
        Channels: the second axis of what it normalises.
    eps : float, default=1e-5
    affine : bool, default=True
        Whether scale and shift are learned.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        self.weight = nn.Parameter(torch.ones(num_features, dtype=torch.float32)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features, dtype=torch.float32)) if affine else None
        self.forget()

    def forget(self) -> None:
        """Go back to the statistics of the rows shown."""
        self.given: tuple[Tensor, Tensor] | None = None
        self.mask: Tensor | None = None
        self.collects = False
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, X: Tensor) -> Tensor:
        """Normalise X of shape (rows, num_features, ...)."""
        if self.given is None and self.mask is None and not self.collects:
            return batch_norm(X, None, None, self.weight, self.bias, training=True, eps=self.eps)
        mean, variance = self.given if self.given is not None else self._statistics(X)
        if self.collects:
            self.seen = mean, variance
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (1, self.num_features, *[1] * (X.ndim - 2))
        return X * scale.view(shape) + shift.view(shape)

    def _statistics(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each channel over the rows in the mask, and over pixels."""
        axes = (0, *range(2, X.ndim))
        if self.mask is None:
            mean = X.mean(dim=axes)
            return mean, (X - mean.view(1, -1, *[1] * (X.ndim - 2))).square().mean(dim=axes)
        counts = (self.mask > 0).to(X).view(-1, *[1] * (X.ndim - 1))
        count = counts.sum().clamp(min=1) * (X[0, 0].numel())
        mean = (X * counts).sum(dim=axes) / count
        away = (X - mean.view(1, -1, *[1] * (X.ndim - 2))) * counts
        return mean, away.square().sum(dim=axes) / count

    def extra_repr(self) -> str:
        """Describe the layer."""
        return f"{self.num_features}, eps={self.eps}"


def normalization_layer(kind: str | None, channels: int) -> nn.Module:
    """Return a layer that normalises the second axis: by batch, over all channels, or over groups of at least 8.

    Parameters
    ----------
    kind : {"batch", "layer", "group"} or None
    channels : int
    """
    if kind == "batch":
        return TaskBatchNorm(channels)
    if kind == "layer":
        return nn.GroupNorm(1, channels, dtype=torch.float32)
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, max(1, channels // GROUP)), channels, dtype=torch.float32)
    return nn.Identity()


def task_normed(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose batch normalisation is that of tasks.

    Scale and shift keep their names and values; running statistics are dropped.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        When it holds instance normalisation with running statistics.
    """
    module = deepcopy(module)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _converted(module)
    for name, child in list(module.named_modules()):
        if isinstance(child, nn.modules.instancenorm._InstanceNorm) and child.track_running_stats:
            raise ValueError(
                f"module: layer {name!r} ({type(child).__name__}) keeps running statistics, which leak between tasks; "
                "set track_running_stats=False."
            )
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            parent, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(parent), attribute, _converted(child))
    return module


def _converted(layer: nn.modules.batchnorm._BatchNorm) -> TaskBatchNorm:
    converted = TaskBatchNorm(layer.num_features, layer.eps, layer.affine)
    converted.weight, converted.bias = layer.weight, layer.bias
    return converted


def is_statistic(name: str) -> bool:
    """Tell whether a task's parameter is a statistic, and no weight."""
    return name.startswith((STATISTICS, PER_STEP))


def at_step(params: Params, step: int) -> Params:
    """Return the parameters with the statistics of one inner step, of the last one for further steps.

    Parameters
    ----------
    params : dict of Tensor, each of shape (tasks, ...)
    step : int
    """
    if not any(name.startswith(PER_STEP) for name in params):
        return params
    return {
        name.replace(PER_STEP, STATISTICS, 1): value[:, min(step, value.shape[1] - 1)]
        if name.startswith(PER_STEP)
        else value
        for name, value in params.items()
    }


def population_statistics(drawn: list[Params]) -> Params:
    r"""Return the statistics of all rows of all tasks from those of each task.

    Each task counts the same: :math:`\mu = \overline{\mu_t}`, :math:`\sigma^2 = \overline{\sigma_t^2}
    + \operatorname{var} \mu_t`.

    Parameters
    ----------
    drawn : list of dict of Tensor, each of shape (tasks, channels)

    Returns
    -------
    dict of Tensor, each of shape (channels,)
    """
    together = {name: torch.cat([statistics[name] for statistics in drawn]) for name in drawn[0]}
    pooled = {name: value.mean(dim=0) for name, value in together.items()}
    for name in list(pooled):
        if name.endswith(":variance"):
            pooled[name] = pooled[name] + together[name.replace(":variance", ":mean")].var(dim=0, correction=0)
    return pooled


def per_step(statistics: list[Params]) -> Params:
    """Return the statistics of every inner step as one dict, with a first axis for the steps."""
    return {
        name.replace(STATISTICS, PER_STEP, 1): torch.stack([step[name] for step in statistics])
        for name in statistics[0]
    }


def give(norms: dict[str, TaskBatchNorm], params: Params, mask: Tensor | None, collects: bool) -> None:
    """Hand the layers of one pass the statistics among the parameters, or the mask of rows to compute them from."""
    for name, layer in norms.items():
        mean = params.get(f"{STATISTICS}{name}:mean")
        layer.given = None if mean is None else (mean, params[f"{STATISTICS}{name}:variance"])
        layer.mask, layer.collects = mask, collects


def take(norms: dict[str, TaskBatchNorm]) -> Params:
    """Return the statistics that the layers computed in a pass."""
    statistics = {}
    for name, layer in norms.items():
        if layer.seen is not None:
            statistics[f"{STATISTICS}{name}:mean"], statistics[f"{STATISTICS}{name}:variance"] = layer.seen
    return statistics
