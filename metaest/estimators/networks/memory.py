"""How many tasks go through torch at once, so that memory stays within a bound."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metaest.functional import ModuleForward, Params
from metaest.functional.generator import undrawn

__all__ = ["adapted_at_once", "saved_bytes", "tasks_at_once"]

# times that parameters of a task are in memory while it adapts: before and after a step, their gradient, the result
COPIES = 4


def saved_bytes(evaluate: Callable[[], Any]) -> int:
    """Return the bytes that torch keeps, for the backward pass, of what is evaluated."""
    # the tensors are held until all are counted, so that none takes the place of another; detached, because a node of
    # the graph that holds its own result is a cycle through C++, which Python's collector cannot free
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        detached = tensor.detach()
        kept[tensor.untyped_storage().data_ptr()] = detached
        return detached

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        evaluate()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def tasks_at_once(max_batch_bytes: int | None, of_one: int) -> int | None:
    """Return how many tasks of so many bytes fit into the bound, at least one; None where there is no bound."""
    return None if max_batch_bytes is None else max(1, int(max_batch_bytes) // max(1, of_one))


def adapted_at_once(max_batch_bytes: int | None, forward: ModuleForward, params: Params, X: Tensor) -> int | None:
    """Return how many tasks are adapted, or predicted, at once.

    Parameters
    ----------
    max_batch_bytes : int or None
    forward : ModuleForward
    params : dict of Tensor
        Of one task.
    X : Tensor of shape (rows, ...)
        Rows of one task, as many as any has.
    """
    if max_batch_bytes is None:
        return None
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    own = sum(value.numel() * value.element_size() for value in params.values())
    with undrawn():  # a module may draw: what it draws here must not matter
        of_one = saved_bytes(lambda: forward(leaves, X))
    return tasks_at_once(max_batch_bytes, COPIES * own + of_one)
