"""One thread where more would wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from metaest.functional import Episodes, Params

__all__ = ["FEW", "one_thread", "scoped_threads"]

# parameters times rows of a meta-batch, below which the calls of a step are too short to be shared out
FEW = 20_000_000


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread where it is called from this thread of Python.

    ``torch.set_num_threads`` would also set the number with which threads begin that use torch for the first time.
    """
    if torch.get_num_threads() == 1:
        yield
        return
    with ThreadpoolController().limit(limits=1, user_api="openmp"):
        yield


@contextmanager
def scoped_threads(module: nn.Module, params: Params, episodes: Episodes) -> Iterator[None]:
    """Let torch use one thread where calls are short, and then as many as before.

    It counts operations and asks no clock. Convolutions, which gain from every thread there is, are left as they are.
    """
    rows = sum(side.mask.numel() for side in episodes)
    n_parameters = sum(value.numel() for value in params.values())
    if rows * n_parameters >= FEW or _convolves(module):
        yield
        return
    with one_thread():
        yield


def _convolves(module: Any) -> bool:
    return any(isinstance(child, nn.modules.conv._ConvNd) for child in module.modules())
