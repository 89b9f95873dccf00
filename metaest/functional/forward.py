"""From a module to a pure function of its parameters, and from one task to a batch of tasks.

The forward pass alone is mapped over the tasks; gradients are taken outside by ``torch.autograd.grad`` on the summed
task losses. Nested ``torch.func`` transforms of the gradient itself give silently wrong second derivatives through
batch statistics (torch 2.13), mapping the forward pass does not. The loop over tasks gives the same numbers for
modules that cannot be mapped.
"""

import threading
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from metaest.functional.types import BatchForward, Forward, Params, Rows

__all__ = ["ModuleForward", "looped", "mapped", "repeat_for_tasks"]


class ModuleForward:
    """A module as a pure function of its trainable parameters.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters with ``requires_grad=False`` and buffers are constants: neither meta-learned nor adapted.
    n_outputs : int
        Predictions a row.
    last : str, optional
        The layer the module ends in, where there is one and somebody asks for it.

    Attributes
    ----------
    names : tuple of str
        Of the trainable parameters.

    Notes
    -----
    ``functional_call`` lends the module its parameters for the time of the call, so a lock keeps threads apart.
    """

    def __init__(self, module: nn.Module, n_outputs: int, last: str | None = None) -> None:
        self.module = module
        self.n_outputs = n_outputs
        self.last = last
        self._lock = threading.Lock()
        frozen = [(name, value) for name, value in module.named_parameters() if not value.requires_grad]
        self._constants = {name: value.detach() for name, value in [*frozen, *module.named_buffers()]}
        # read here once: during a call in another thread the module has no parameters of its own
        self.names = tuple(self.parameters())
        # looking for shared weights at every call costs as much as a small network does
        names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
        self._tied = len(names) > len(list(module.named_parameters()))

    def parameters(self) -> Params:
        """Return detached copies of the trainable parameters."""
        return {name: value.detach().clone() for name, value in self.module.named_parameters() if value.requires_grad}

    def __call__(self, params: Params, X: Tensor) -> Tensor:
        """Predict one task: X of shape (rows, features) -> (rows, n_outputs)."""
        constants = {
            # a copy: a module that writes into its buffers must not carry anything from one call to the next
            name: value.to(X.device, X.dtype if value.is_floating_point() else value.dtype, copy=True)
            for name, value in self._constants.items()
        }
        with self._lock:
            output = functional_call(self.module, {**constants, **params}, (X,), tie_weights=self._tied)
        wanted = (X.shape[0], self.n_outputs)
        if not isinstance(output, Tensor):
            raise TypeError(f"the module returned {type(output).__name__}; a tensor of shape {wanted} is wanted.")
        if output.shape == wanted[:1] and self.n_outputs == 1:
            return output[:, None]
        if output.shape != wanted:
            raise ValueError(
                f"the module returned shape {tuple(output.shape)} for {X.shape[0]} rows and {self.n_outputs} "
                f"target{'s' * (self.n_outputs != 1)}; {wanted} is wanted."
            )
        return output

    def as_module(self, params: Params) -> nn.Module:
        """Return a copy of the module that holds these parameters."""
        module = deepcopy(self).module
        module.load_state_dict({name: params[name] for name in self.names}, strict=False)
        return module

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "n_outputs": self.n_outputs, "last": self.last}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def mapped(forward: Forward) -> BatchForward:
    """Evaluate a batch of tasks by ``torch.vmap`` over parameters and rows, with other random draws for each task."""
    batched = vmap(forward, in_dims=(0, 0), randomness="different")

    def run(params: Params, rows: Rows) -> Tensor:
        return batched(params, rows.X)

    return run


def looped(forward: Forward) -> BatchForward:
    """Evaluate a batch of tasks one after the other, each on its own rows without the padding."""

    def run(params: Params, rows: Rows) -> Tensor:
        outputs = []
        for i in range(rows.X.shape[0]):
            own = torch.nonzero(rows.mask[i])[:, 0]
            params_i = {name: value[i] for name, value in params.items()}
            if len(own) == rows.X.shape[1]:
                outputs.append(forward(params_i, rows.X[i]))
                continue
            # a task without a row still needs an output of the right shape; its loss is masked
            output = forward(params_i, rows.X[i, own] if len(own) else rows.X[i, :1])
            padded = output.new_zeros(rows.X.shape[1], output.shape[1])
            outputs.append(padded.index_copy(0, own, output[: len(own)]))
        return torch.stack(outputs)

    return run


def repeat_for_tasks(params: Params, n_tasks: int) -> Params:
    """Give shared parameters a task axis, as views that pass their gradients back to the shared ones."""
    return {name: value.expand(n_tasks, *value.shape) for name, value in params.items()}
