"""One thread where more would wait for each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from metaest.functional import Episodes, Params

__all__ = ["FEW", "scoped_threads"]

# parameters times rows of a meta-batch, below which the calls of a step are too short to be shared out
FEW = 20_000_000


@contextmanager
def scoped_threads(module: nn.Module, params: Params, episodes: Episodes) -> Iterator[None]:
    """Let torch use one thread where calls are short, and then as many as before.

    It counts operations and asks no clock. Threads are counted for each thread of Python, so that others keep theirs;
    convolutions, which gain from every thread there is, are left as they are.
    """
    before = torch.get_num_threads()
    rows = sum(side.mask.numel() for side in episodes)
    n_parameters = sum(value.numel() for value in params.values())
    if before == 1 or rows * n_parameters >= FEW or _convolves(module):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _convolves(module: Any) -> bool:
    return any(isinstance(child, nn.modules.conv._ConvNd) for child in module.modules())
