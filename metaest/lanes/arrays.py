"""What a traced operation works on: numbers in memory seen through strides, one number everywhere, or a formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

__all__ = [
    "Buffer",
    "Constant",
    "Formula",
    "MomentaryError",
    "Operand",
    "UnsupportedError",
    "View",
    "broadcast",
    "contiguous",
    "permuted",
    "reshaped",
    "viewed",
]

Shape = tuple[int, ...]


class UnsupportedError(Exception):
    """A traced function does something that lanes do not know; the message says what."""


class MomentaryError(UnsupportedError):
    """Tracing failed for want of memory, or because another thread traced; the next attempt may succeed."""


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory of `size` numbers for each task, or, where it is shared, for all tasks together."""

    size: int
    shared: bool = False


@dataclass(frozen=True)
class View:
    """Numbers of a buffer, by offset and strides."""

    buffer: Buffer
    shape: Shape
    strides: Shape
    offset: int = 0


@dataclass(frozen=True)
class Constant:
    """The same number everywhere."""

    value: float
    shape: Shape


@dataclass(frozen=True)
class Formula:
    """An operation on numbers of equal shape that is worked out where it is used."""

    operation: str
    operands: tuple[Operand, ...]
    shape: Shape


Operand = View | Constant | Formula


def contiguous(shape: Shape) -> Shape:
    """Return the strides of rows one after the other."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def viewed(operand: Operand, shape: Shape, change: Callable[[View], View]) -> Operand:
    """Apply to an operand what `change` does to the strides of numbers in memory."""
    if isinstance(operand, Constant):
        return Constant(operand.value, shape)
    if isinstance(operand, View):
        found = change(operand)
        assert found.shape == shape, (found.shape, shape)
        return found
    return Formula(operand.operation, tuple(viewed(own, shape, change) for own in operand.operands), shape)


def broadcast(operand: Operand, shape: Shape) -> Operand:
    """Return an operand at a larger shape, each number standing for several."""
    if operand.shape == shape:
        return operand

    def change(view: View) -> View:
        ahead = len(shape) - len(view.shape)
        strides = [0] * ahead
        for size, stride, wanted in zip(view.shape, view.strides, shape[ahead:], strict=True):
            if size not in (wanted, 1):
                raise UnsupportedError(f"shapes {view.shape} and {shape}")
            strides.append(stride if size == wanted else 0)
        return replace(view, shape=shape, strides=tuple(strides))

    return viewed(operand, shape, change)


def reshaped(view: View, shape: Shape) -> View | None:
    """Return the same numbers in another shape, or None where strides cannot say it."""
    if math.prod(shape) != math.prod(view.shape):
        raise UnsupportedError(f"a view of shape {shape} on {view.shape}")
    # dimensions of one number say nothing; of the others, those that run on as one are taken together
    runs: list[list[int]] = []
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = [runs[-1][0] * size, stride]
        else:
            runs.append([size, stride])
    strides: list[int] = []
    left = list(reversed(runs))
    for size in reversed(shape):
        if size == 1:
            strides.insert(0, 0)
            continue
        if not left or left[0][0] % size:
            return None
        strides.insert(0, left[0][1])
        left[0] = [left[0][0] // size, left[0][1] * size]
        if left[0][0] == 1:
            left.pop(0)
    return replace(view, shape=shape, strides=tuple(strides))


def permuted(operand: Operand, order: Sequence[int]) -> Operand:
    """Return an operand with its dimensions in another order."""
    shape = tuple(operand.shape[i] for i in order)
    return viewed(operand, shape, lambda v: replace(v, shape=shape, strides=tuple(v.strides[i] for i in order)))
