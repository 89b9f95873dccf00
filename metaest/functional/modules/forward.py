"""From a module to a pure function of its parameters, and from one task to a batch of tasks.

The forward pass alone is mapped over the tasks; gradients are taken outside by ``torch.autograd.grad`` on the summed
task losses. Nested ``torch.func`` transforms of the gradient itself give silently wrong second derivatives through
batch statistics (torch 2.13), mapping the forward pass does not. The loop over tasks gives the same numbers for
modules that cannot be mapped.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metaest.functional.modules.attention import differentiable_attention
from metaest.functional.modules.builtin import MLP
from metaest.functional.modules.normalization import TaskBatchNorm, give, is_statistic, take
from metaest.functional.types import BatchForward, Forward, Params, Rows

__all__ = [
    "ModuleForward",
    "alone",
    "at_shared",
    "batch_statistics",
    "looped",
    "mapped",
    "repeat_for_tasks",
    "with_statistics",
]


class ModuleForward:
    """A module as a pure function of its trainable parameters.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters with ``requires_grad=False`` and buffers are constants: neither meta-learned nor adapted.
    n_outputs : int or None
        Predictions a row; None where their number follows from the parameters.
    last : str, optional
        Name of the layer the module ends in, where there is one.

    Attributes
    ----------
    names : tuple of str
        Names of the trainable parameters.
    norms : dict of TaskBatchNorm
        The layers that normalise by statistics of a task.

    Notes
    -----
    ``functional_call`` lends the module its parameters for the time of the call, so a lock keeps threads apart.
    """

    def __init__(self, module: nn.Module, n_outputs: int | None, last: str | None = None) -> None:
        self.module = module
        self.n_outputs = n_outputs
        self.last = last
        self.norms = {name: layer for name, layer in module.named_modules() if isinstance(layer, TaskBatchNorm)}
        self._lock = threading.Lock()
        frozen = [(name, value) for name, value in module.named_parameters() if not value.requires_grad]
        self._constants = {name: value.detach() for name, value in [*frozen, *module.named_buffers()]}
        # read here once: during a call in another thread the module has no parameters of its own
        self.names = tuple(self.parameters())
        self._aliases = _aliases(module)

    def parameters(self) -> Params:
        """Return detached copies of the trainable parameters."""
        return {name: value.detach().clone() for name, value in self.module.named_parameters() if value.requires_grad}

    def __call__(self, params: Params, X: Tensor, mask: Tensor | None = None) -> Tensor:
        """Predict one task: X of shape (rows, ...) -> (rows, n_outputs); statistics are of the rows in the mask."""
        return self.run(params, X, mask)[0]

    def run(
        self, params: Params, X: Tensor, mask: Tensor | None = None, collects: bool = False
    ) -> tuple[Tensor, Params]:
        """Predict one task, and return the statistics its layers normalised by, if these are to be collected."""
        constants = {
            # a copy: a module that writes into its buffers must not carry anything from one call to the next
            name: value.to(X.device, X.dtype if value.is_floating_point() else value.dtype, copy=True)
            for name, value in self._constants.items()
        }
        if not self.norms:
            with self._lock, self._attention():
                output = self._call(constants, params, X)
            return self._checked(output, X), {}
        weights = {name: value for name, value in params.items() if not is_statistic(name)}
        with self._lock, self._attention():
            give(self.norms, params, mask, collects)
            try:
                output = self._call(constants, weights, X)
                return self._checked(output, X), take(self.norms)
            finally:
                for layer in self.norms.values():
                    layer.forget()

    def _attention(self) -> AbstractContextManager[None]:
        """Return the scope of calls: a network of linear layers has no attention, and pays for no switch."""
        return nullcontext() if type(self.module) is MLP else differentiable_attention

    def _call(self, constants: Params, weights: Params, X: Tensor) -> Any:
        values = {**constants, **weights}
        values |= {alias: values[name] for alias, name in self._aliases.items()}
        # torch's own search for shared weights costs as much as a small network does, and leaves the weights of one
        # call behind in a layer that stands in the module twice (torch 2.13)
        return functional_call(self.module, values, (X,), tie_weights=False)

    def _checked(self, output: Any, X: Tensor) -> Tensor:
        """Return outputs of shape (rows, n_outputs), or raise an error that names what came instead."""
        wanted = (X.shape[0], self.n_outputs)
        if not isinstance(output, Tensor):
            raise TypeError(f"the module returned {type(output).__name__}; a tensor of shape {wanted} is wanted.")
        if output.dtype != X.dtype and not _as_precise(output.dtype, X.dtype):
            raise TypeError(f"the module returned {output.dtype} for rows of {X.dtype}; it must keep their precision.")
        if output.shape == wanted[:1] and self.n_outputs == 1:
            return output[:, None]
        if output.shape != wanted and (self.n_outputs is not None or output.shape[:-1] != wanted[:1]):
            raise ValueError(
                f"the module returned shape {tuple(output.shape)} for {X.shape[0]} rows and {self.n_outputs} "
                f"target{'s' * (self.n_outputs != 1)}; {wanted} is wanted."
            )
        return output

    def as_module(self, params: Params) -> nn.Module:
        """Return a copy of the module that holds these parameters."""
        module = deepcopy(self).module
        for name in self.names:
            if module.get_parameter(name).shape != params[name].shape:  # a head for another number of classes
                parent, _, attribute = name.rpartition(".")
                layer = module.get_submodule(parent)
                setattr(layer, attribute, nn.Parameter(params[name].detach().clone()))
                setattr(layer, "out_features", len(params[name]))  # noqa: B010
        module.load_state_dict({name: params[name] for name in self.names}, strict=False)
        return module

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "n_outputs": self.n_outputs, "last": self.last}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _as_precise(given: torch.dtype, wanted: torch.dtype) -> bool:
    return given.is_floating_point and torch.finfo(given).eps <= torch.finfo(wanted).eps


def _aliases(module: nn.Module) -> dict[str, str]:
    """Return further names of weights and buffers that several layers share, with the first name of each."""
    first: dict[int, str] = {}
    aliases = {}
    for prefix, layer in module.named_modules():
        for attribute, value in [*layer._parameters.items(), *layer._buffers.items()]:
            name = f"{prefix}.{attribute}" if prefix else attribute
            if value is not None and first.setdefault(id(value), name) != name:
                aliases[name] = first[id(value)]
    return aliases


@dataclass(frozen=True)
class _Batch:
    """A forward pass of many tasks, at once or one after the other."""

    forward: Any
    how: str

    def __call__(self, params: Params, rows: Rows) -> Tensor:
        """Predict rows of shape (tasks, rows, ...) -> (tasks, rows, outputs)."""
        normed = bool(getattr(self.forward, "norms", None))
        if self.how == "one":
            return self.forward(*_only(params, rows))[None]  # type: ignore[no-any-return]
        if self.how == "loop":
            outputs = [_padded(self.forward(params_i, X), places, rows) for params_i, X, places in _each(params, rows)]
            return torch.stack(outputs)
        if not normed:
            plain: Tensor = _over_tasks(self.forward)(params, rows.X)
            return plain
        normalised: Tensor = _over_tasks(self.forward)(params, rows.X, rows.mask)
        return normalised

    def statistics(self, params: Params, rows: Rows) -> Params:
        """Return the statistics of these rows at these parameters, each of shape (tasks, ...)."""
        if not getattr(self.forward, "norms", None):
            return {}

        def of_one(params: Params, X: Tensor, mask: Tensor | None = None) -> Params:
            statistics: Params = self.forward.run(params, X, mask, collects=True)[1]
            return statistics

        if self.how == "one":
            return {name: value[None] for name, value in of_one(*_only(params, rows)).items()}
        if self.how == "map":
            mapped_statistics: Params = _over_tasks(of_one)(params, rows.X, rows.mask)
            return mapped_statistics
        tasks = [of_one(params_i, X) for params_i, X, _ in _each(params, rows)]
        return {name: torch.stack([statistics[name] for statistics in tasks]) for name in tasks[0]}


def _over_tasks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map over the first axis of everything, with other random draws for each task."""
    mapped_function: Callable[..., Any] = vmap(function, randomness="different")
    return mapped_function


def _each(params: Params, rows: Rows) -> Any:
    """Yield parameters, rows without padding and their places, one task after the other."""
    for i in range(rows.X.shape[0]):
        places = torch.nonzero(rows.mask[i])[:, 0]
        params_i = {name: value[i] for name, value in params.items()}
        if len(places) == rows.X.shape[1]:
            yield params_i, rows.X[i], None
        else:
            # a task without a row still needs an output of the right shape; its loss is masked
            yield params_i, rows.X[i, places] if len(places) else rows.X[i, :1], places


def _only(params: Params, rows: Rows) -> tuple[Params, Tensor, Tensor]:
    """Return parameters, rows and mask of the only task of a batch."""
    return {name: value[0] for name, value in params.items()}, rows.X[0], rows.mask[0]


def _padded(output: Tensor, places: Tensor | None, rows: Rows) -> Tensor:
    """Return the outputs of a task's rows with zeros for its padding."""
    if places is None:
        return output
    return output.new_zeros(rows.X.shape[1], output.shape[1]).index_copy(0, places, output[: len(places)])


def mapped(forward: Forward) -> BatchForward:
    """Evaluate a batch of tasks by ``torch.vmap`` over parameters and rows, with other random draws for each task."""
    return _Batch(forward, "map")


def looped(forward: Forward) -> BatchForward:
    """Evaluate a batch of tasks one after the other, each on its own rows without the padding."""
    return _Batch(forward, "loop")


def alone(forward: Forward) -> BatchForward:
    """Evaluate a batch of one task with its padding, by operations that do not depend on values."""
    return _Batch(forward, "one")


def with_statistics(forward: BatchForward, params: Params, support: Rows) -> Params:
    """Add to adapted parameters the statistics by which layers normalise the task from now on: those of its support.

    Parameters that have them already are returned as they are.
    """
    if any(map(is_statistic, params)):
        return params
    return {**params, **batch_statistics(forward, params, support)}


def batch_statistics(forward: BatchForward, params: Params, rows: Rows) -> Params:
    """Return the statistics by which layers normalise these rows, each of shape (tasks, channels); {} without any."""
    return forward.statistics(params, rows) if isinstance(forward, _Batch) else {}


def repeat_for_tasks(params: Params, n_tasks: int) -> Params:
    """Give shared parameters a task axis, as views that pass their gradients back to the shared ones."""
    return {name: value.expand(n_tasks, *value.shape) for name, value in params.items()}


def at_shared(forward: BatchForward, params: Params, rows: Rows) -> Tensor:
    """Evaluate rows of a batch of tasks at parameters that all of them share, each of shape (1, ...).

    Where tasks are mapped, rows do not see each other, and those of all tasks go through the module as if of one: its
    products are larger and fewer, and the slopes of its weights are not held for each task.
    """
    n_tasks, n_rows = rows.mask.shape
    one = {name: value[0] for name, value in params.items()}
    if isinstance(forward, _Batch) and forward.how == "map" and not getattr(forward.forward, "norms", None):
        output: Tensor = forward.forward(one, rows.X.flatten(0, 1))
        return output.reshape(n_tasks, n_rows, -1)
    return forward(repeat_for_tasks(one, n_tasks), rows)
