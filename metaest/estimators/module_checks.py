"""What a user's module must be, tried on a few rows before anything is learned."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from metaest.exceptions import warn
from metaest.functional.attention import differentiable_attention

__all__ = ["check_module", "check_weights"]


def check_module(module: nn.Module, X: Tensor) -> None:
    """Raise, or warn, where a module cannot do what is asked of it.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed: copies are run. Whether it takes such rows is left to whoever runs it next.
    X : Tensor of shape (rows, ...)

    Raises
    ------
    TypeError
        When it returns no tensor.
    ValueError
        When it writes into its rows, its outputs are not one for each row, or do not
        depend on its weights.

    Warns
    -----
    UserWarning
        When it draws random numbers in evaluation mode, or keeps statistics in buffers.
    """
    rows = X.clone()
    try:
        with torch.no_grad(), differentiable_attention:
            once = deepcopy(module).eval()(rows)
        _check_output(once, X)
        if not torch.equal(rows, X):
            raise ValueError(
                "module writes into the rows it is given, which are yours; let it work on a copy: X = X.clone()."
            )
        with torch.no_grad(), differentiable_attention:
            twice = deepcopy(module).eval()(X.clone())
        trained = deepcopy(module).train()
        before = {name: value.clone() for name, value in trained.named_buffers()}
        with torch.enable_grad(), differentiable_attention:
            depends = trained(X.clone()).requires_grad
    except (RuntimeError, IndexError):
        return
    if not depends:
        raise ValueError(
            "module: its outputs do not depend on its trainable weights; is there a torch.no_grad() or a .detach() "
            "in it?"
        )
    if not torch.allclose(once, twice, equal_nan=True):
        warn(
            "module returns other outputs for the same rows in evaluation mode; it draws random numbers (dropout that "
            "stays on?), and so predictions are random."
        )
    written = [name for name, value in trained.named_buffers() if not torch.equal(before.get(name, value), value)]
    if written:
        warn(
            f"module writes into its buffers in training ({', '.join(written[:3])}); what it writes is dropped after "
            "every call, since it must not pass from one task to the next. Statistics that it keeps there stay as "
            "they are."
        )


def check_weights(module: nn.Module) -> None:
    """Raise where a module is no plain one, or its weights hold no numbers yet."""
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError("module is compiled by TorchScript; pass the plain torch.nn.Module.")
    for name, value in module.named_parameters():
        if isinstance(value, UninitializedParameter):
            raise ValueError(
                f"module: the shape of {name!r} is not settled yet; run the module on a row once, before fit."
            )
        if value.is_meta:
            raise ValueError(
                f"module: {name!r} is on the device 'meta' and holds no numbers; use module.to_empty first."
            )


def _check_output(output: object, X: Tensor) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(f"the module returned {type(output).__name__}; a tensor of shape (rows, outputs) is wanted.")
    if output.ndim == 0 or len(output) != len(X):
        raise ValueError(
            f"the module returned shape {tuple(output.shape)} for {len(X)} rows; one output, or one row of outputs, is "
            "wanted for each row."
        )
