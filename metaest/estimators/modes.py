"""A decorator for methods: modes of torch and numpy that the caller has switched on do not change their numbers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch

from metaest.exceptions import TaskError

__all__ = ["in_plain_modes"]

P = ParamSpec("P")
R = TypeVar("R")

# numpy's default handling of floating-point errors
_USUAL = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_CPU = torch.device("cpu")


def in_plain_modes(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method that gives the same numbers in every mode of its caller.

    Served models are usually called inside ``torch.no_grad()`` or ``torch.inference_mode()``, and an adaptation takes
    gradients. Autocasting, a default device and ``numpy.errstate`` would change or end the work as well. All of these
    belong to the thread; they are put back afterwards.

    Raises
    ------
    TaskError
        From the method that is made, when it is called inside ``torch.func`` (vmap, grad or another transform), where
        tensors stand for others.
    """

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch._C._functorch.peek_interpreter_stack() is not None:
            name = f"{type(args[0]).__name__}.{method.__name__}" if args else method.__name__
            raise TaskError(f"{name} was called inside torch.func (vmap, grad or another transform); call it outside.")
        if _plain():
            return method(*args, **kwargs)
        with _plain_modes():
            return method(*args, **kwargs)

    return call


def _autocasting() -> list[str]:
    return [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]


def _plain() -> bool:
    return (
        torch.is_grad_enabled()
        and not torch.is_inference_mode_enabled()
        and not _autocasting()
        # a default device is a mode of functions; asking torch for the device takes longer than many a prediction
        and (torch._C._len_torch_function_stack() == 0 or torch.get_default_device() == _CPU)
        and np.geterr() == _USUAL
    )


@contextmanager
def _plain_modes() -> Iterator[None]:
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.enable_grad())
        for kind in _autocasting():
            modes.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device() != _CPU:
            modes.enter_context(_CPU)
        modes.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield
