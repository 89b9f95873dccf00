"""Values of many rows with derivatives, a block of rows at a time: memory does not grow with what a row keeps.

An equation whose rows carry amounts through many events keeps much for its derivatives. Each block is evaluated and
differentiated at once, and evaluated again where second derivatives are asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["by_blocks"]

# evaluates the rows of a slice for constants of each of its rows
Evaluate = Callable[[slice, Sequence[Tensor]], Tensor]


def by_blocks(evaluate: Evaluate, constants: Sequence[Tensor], n_rows: int, size: int) -> Tensor:
    """Return the values of all rows; what a row gives may depend on its own constants alone.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(rows, constants)`` returns the values of the rows of a slice.
    constants : sequence of Tensor of shape (n_rows,)
    n_rows : int
    size : int
        Rows of a block.

    Returns
    -------
    Tensor of shape (n_rows,)
        Twice differentiable in the constants.
    """
    blocks = [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]
    if len(blocks) < 2:
        return evaluate(slice(0, n_rows), constants)
    slopes_too = torch.is_grad_enabled() and any(constant.requires_grad for constant in constants)
    values: Tensor = _Values.apply(evaluate, blocks, slopes_too, *constants)[0]  # type: ignore[no-untyped-call]
    return values


class _Values(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, evaluate: Evaluate, blocks: list[slice], slopes_too: bool, *constants: Tensor
    ) -> tuple[Tensor, ...]:
        parts, slopes = [], []
        for block in blocks:
            leaves = [constant[block].detach().requires_grad_(slopes_too) for constant in constants]
            with torch.set_grad_enabled(slopes_too):
                part = evaluate(block, leaves)
                total = part.sum()
            parts.append(part.detach())
            if slopes_too:
                slopes.append(_gradients(total, leaves, create_graph=False))
        ctx.problem = evaluate, blocks
        stacked = [torch.cat(each) for each in zip(*slopes, strict=True)]
        ctx.save_for_backward(*constants, *stacked)
        return (torch.cat(parts),)

    @staticmethod
    def backward(ctx: Any, of_values: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        constants, slopes = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        if torch.is_grad_enabled():
            slopes = _Slopes.apply(*ctx.problem, len(constants), *constants, *slopes)  # type: ignore[no-untyped-call]
        return None, None, None, *(of_values * slope for slope in slopes)


class _Slopes(torch.autograd.Function):
    """The derivatives that are known already, and theirs."""

    @staticmethod
    def forward(ctx: Any, evaluate: Evaluate, blocks: list[slice], n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.problem = evaluate, blocks
        ctx.save_for_backward(*tensors[:n])
        return tuple(slope.clone() for slope in tensors[n:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_slopes: Tensor) -> tuple[Any, ...]:
        evaluate, blocks = ctx.problem
        constants, parts = ctx.saved_tensors, []
        for block in blocks:
            leaves = [constant[block].detach().requires_grad_() for constant in constants]
            with torch.enable_grad():
                first = _gradients(evaluate(block, leaves).sum(), leaves, create_graph=True)
                terms = [(each * given[block]).sum() for each, given in zip(first, of_slopes, strict=True)]
                total = torch.stack(terms).sum()
            parts.append(_gradients(total, leaves, create_graph=False))
        joined = [torch.cat(each) for each in zip(*parts, strict=True)]
        return None, None, None, *joined, *(None for _ in constants)


def _gradients(value: Tensor, leaves: list[Tensor], *, create_graph: bool) -> tuple[Tensor, ...]:
    if not value.requires_grad:
        return tuple(torch.zeros_like(leaf) for leaf in leaves)
    return torch.autograd.grad(value, leaves, create_graph=create_graph, materialize_grads=True)
