"""Checks of a user's module on a few rows before training."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from metaest.exceptions import warn
from metaest.functional import ModuleForward
from metaest.functional.generator import seeded
from metaest.functional.modules.attention import differentiable_attention

__all__ = ["check_module", "check_second_derivative", "check_weights"]

# rows on which second derivatives are compared with differences, in double precision
ROWS = 8
# step of the differences, for weights of order 1
STEP = 1e-7
# relative difference above which second derivatives count as wrong
TOLERANCE = 1e-2


def check_module(module: nn.Module, X: Tensor) -> None:
    """Raise, or warn, where a module breaks an assumption of meta-learning.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed: copies are run. Errors of a forward pass on these rows are not raised here, since the caller
        runs it next.
    X : Tensor of shape (rows, ...)

    Raises
    ------
    TypeError
        When it returns no tensor.
    ValueError
        When it writes into its rows, its outputs are not one for each row, or do not depend on its weights.

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
        if not torch.allclose(rows, X, rtol=0, atol=0, equal_nan=True):  # rows may be padded by NaN
            raise ValueError("module writes into the rows it is given; let it work on a copy: X = X.clone().")
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
    """Raise where a module is compiled by TorchScript, or its weights are not initialised."""
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


def check_second_derivative(forward: ModuleForward, X: Tensor) -> None:
    """Warn where torch's second derivative differs from differences of gradients.

    torch silently takes the gradient for a constant where it comes from a backward pass that it cannot differentiate.

    Parameters
    ----------
    forward : ModuleForward
        One that can be evaluated in double precision.
    X : Tensor of shape (rows, ...)
    """
    X = X[:ROWS].double()
    generator = torch.Generator().manual_seed(0)
    params = {name: value.double() for name, value in forward.parameters().items()}
    along = [torch.randn(value.shape, generator=generator, dtype=torch.float64).to(X) for value in params.values()]

    def slopes(step: float, again: bool) -> tuple[list[Tensor], list[Tensor]]:
        moved = [value + step * direction for value, direction in zip(params.values(), along, strict=True)]
        leaves = [value.detach().requires_grad_() for value in moved]
        with seeded(0):  # a module that draws must draw the same every time
            total = forward(dict(zip(params, leaves, strict=True)), X).square().mean()
        return leaves, list(torch.autograd.grad(total, leaves, create_graph=again, materialize_grads=True))

    training = forward.module.training
    forward.module.eval()
    try:
        with torch.enable_grad():
            leaves, first = slopes(0.0, again=True)
            product = torch.stack(
                [(slope * direction).sum() for slope, direction in zip(first, along, strict=True)]
            ).sum()
            if product.requires_grad:
                second = torch.autograd.grad(product, leaves, materialize_grads=True)
            else:
                second = tuple(torch.zeros_like(leaf) for leaf in leaves)
            repeated, ahead, behind = (slopes(step, again=False)[1] for step in (0.0, STEP, -STEP))
    except (RuntimeError, NotImplementedError):
        return  # torch has no second derivative at all, and the fit raises an error
    finally:
        forward.module.train(training)
    if not all(torch.equal(one, other) for one, other in zip(first, repeated, strict=True)):
        return  # the module changes from call to call, so that differences say nothing of its derivative
    differences = [(one - other) / (2 * STEP) for one, other in zip(ahead, behind, strict=True)]
    away = _length([one - other for one, other in zip(differences, second, strict=True)])
    if away > TOLERANCE * max(_length(differences), _length(second)) + TOLERANCE**2 * _length(first):
        warn(
            "module: torch's second derivative differs from differences of gradients, because a custom backward pass "
            "or a .detach() hides a part of it, so that meta_gradient='exact' is not exact; "
            "meta_gradient='first-order' needs no second derivative."
        )


def _length(parts: Sequence[Tensor]) -> float:
    return float(torch.stack([part.detach().square().sum() for part in parts]).sum().sqrt())
