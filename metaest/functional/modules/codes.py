"""Detection of modules that cast their rows to whole numbers, as an embedding of category codes does."""

import contextlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metaest.functional.compiler import import_compiler
from metaest.functional.modules.attention import differentiable_attention

__all__ = ["casts_of", "first_refused", "made_whole"]

# rows that are evaluated in one call
AT_ONCE = 4096


class _Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the floating numbers that are turned into whole ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sources: list[Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        copies = function is torch.ops.aten._to_copy.default
        if copies and args[0].is_floating_point() and not (result.is_floating_point() or result.is_complex()):
            self.sources.append(args[0].detach().clone())
        return result


def made_whole(module: nn.Module, X: Tensor) -> list[Tensor]:
    """Return the floating-point tensors that a module casts to whole numbers between rows and outputs.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed: a copy is run, in evaluation mode.
    X : Tensor of shape (rows, ...)

    Returns
    -------
    list of Tensor
        One for each ``.long()`` or similar cast; where the module fails on the rows, those before the error.
    """
    with differentiable_attention:
        return casts_of(deepcopy(module).eval(), X)


def casts_of(evaluate: Callable[[Tensor], Any], X: Tensor) -> list[Tensor]:
    """Return the floating-point tensors that are cast to whole numbers between rows and outputs; see `made_whole`."""
    import_compiler()  # torch does when an operation is recorded for the first time
    casts = _Casts()
    with contextlib.suppress(RuntimeError, IndexError), torch.no_grad(), casts:
        evaluate(X)
    return casts.sources


def first_refused(evaluate: Callable[[Tensor], Any], X: Tensor) -> tuple[int, str] | None:
    """Return the first row with a code that the module has no entry for, and torch's message; None without such a row.

    ``torch.vmap`` does not check: it reads a code beyond the end of one task's embedding from that of the next task.

    Parameters
    ----------
    evaluate : callable
        Rows -> outputs.
    X : Tensor of shape (rows, ...)
    """
    size = AT_ONCE
    first = 0
    while first < len(X):
        message = _refusal(evaluate, X[first : first + size])
        if message is None:
            first += size
        elif size == 1:
            return first, message
        else:
            size = max(1, size // 16)
    return None


def _refusal(evaluate: Callable[[Tensor], Any], X: Tensor) -> str | None:
    try:
        with torch.no_grad():
            evaluate(X)
    except (IndexError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None
