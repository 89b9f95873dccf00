"""Adapted weights as their distance from the model's, in units of the last digit: the same bits in fewer bytes.

Sign, exponent and first digits of a weight seldom change in an adaptation. Floating-point numbers of one sign stand in
the order of their bits read as whole numbers, so that the difference of those is small, and its high bytes are zero.
All first bytes are written together, then all second ones, which a general compressor makes short.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest.exceptions import ModelFileError

__all__ = ["change", "changed", "is_near"]

_BITS: dict[torch.dtype, Any] = {torch.float32: np.uint32, torch.float64: np.uint64}


def is_near(tensor: Any, base: Any) -> bool:
    """Tell whether a tensor can be written as a change of another one."""
    both = isinstance(tensor, Tensor) and isinstance(base, Tensor)
    return both and tensor.dtype in _BITS and (tensor.dtype, tensor.shape) == (base.dtype, base.shape)


def change(tensor: Tensor, base: Tensor) -> Tensor | None:
    """Return the bytes that lead from `base` to `tensor`, or None where both have the same bits."""
    bits, before = _bits(tensor), _bits(base)
    if np.array_equal(bits, before):
        return None
    away = bits - before
    top = away.dtype.type(8 * away.itemsize - 1)
    # small numbers of either sign become small numbers: 0, -1, 1, -2 ... are written 0, 1, 2, 3 ...
    folded = (away << 1) ^ (-(away >> top)).astype(away.dtype)
    return torch.from_numpy(folded.view(np.uint8).reshape(-1, away.itemsize).T.copy())


def changed(base: Tensor, by: Tensor) -> Tensor:
    """Return the tensor that `change` led to.

    Raises
    ------
    ModelFileError
        When the change is one of another tensor.
    """
    before = _bits(base)
    if by.dtype != torch.uint8 or tuple(by.shape) != (before.itemsize, before.size):
        raise ModelFileError("a change of weights does not have the shape of the model's weights.")
    folded = by.numpy().T.copy().view(before.dtype).reshape(-1)
    away = (folded >> 1) ^ (-(folded & 1)).astype(folded.dtype)
    bits = (before + away).view(np.float32 if before.itemsize == 4 else np.float64)
    return torch.from_numpy(bits).reshape(base.shape).to(base.device)


def _bits(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).numpy().view(_BITS[tensor.dtype])
