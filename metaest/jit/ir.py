"""The intermediate representation of a traced function: operands, and the kernels that work on them.

An operand is numbers in memory seen through strides, one number everywhere, or a formula. A kernel is one of a few
kinds of loops over buffers; a program is kernels in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from metaest.jit.errors import UnsupportedError

__all__ = [
    "OPERATIONS_PER_CALL",
    "Buffer",
    "Constant",
    "Fill",
    "Formula",
    "Kernel",
    "Operand",
    "Product",
    "Program",
    "Reduce",
    "View",
    "broadcast",
    "contiguous",
    "map_views",
    "permuted",
    "reads",
    "reshaped",
    "views_of",
]

Shape = tuple[int, ...]


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


def map_views(operand: Operand, shape: Shape, change: Callable[[View], View]) -> Operand:
    """Apply to an operand what `change` does to the strides of numbers in memory."""
    if isinstance(operand, Constant):
        return Constant(operand.value, shape)
    if isinstance(operand, View):
        found = change(operand)
        assert found.shape == shape, (found.shape, shape)
        return found
    return Formula(operand.operation, tuple(map_views(own, shape, change) for own in operand.operands), shape)


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

    return map_views(operand, shape, change)


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
    return map_views(operand, shape, lambda v: replace(v, shape=shape, strides=tuple(v.strides[i] for i in order)))


# operations on vectors in one call of machine code, some 0.05 s: an interrupt is heard between calls
OPERATIONS_PER_CALL = 200_000_000


@dataclass(frozen=True)
class Fill:
    """Numbers of a formula, one after the other."""

    out: View
    value: Operand


@dataclass(frozen=True)
class Reduce:
    """Sum, or largest, over some dimensions of a formula."""

    how: str
    out: View
    value: Operand
    over: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """A matrix product, added to what is given."""

    out: View
    left: View
    right: View
    added: View | None


Kernel = Fill | Reduce | Product


@dataclass(frozen=True)
class Program:
    """Kernels in order, from the buffers of the inputs to those of the outputs.

    Attributes
    ----------
    inputs, outputs : list of Buffer
    constants : list of float
        What `constant` holds.
    constant : Buffer
        Numbers that the traced function has in it, shared by all tasks.
    kernels : list of Kernel
    """

    inputs: list[Buffer]
    outputs: list[Buffer]
    constants: list[float]
    constant: Buffer
    kernels: list[Kernel]

    def operations(self) -> int:
        """Return how many operations on numbers of one task these are."""
        total = 0
        for kernel in self.kernels:
            if isinstance(kernel, Product):
                rows, shared = kernel.left.shape
                total += rows * shared * kernel.right.shape[1]
            else:
                total += _count(kernel.value) * _size(kernel.value)
        return total


def views_of(operand: Operand) -> Iterator[View]:
    """Yield what a formula reads."""
    if isinstance(operand, View):
        yield operand
    elif isinstance(operand, Formula):
        for own in operand.operands:
            yield from views_of(own)


def reads(kernel: Kernel) -> list[View]:
    """Return what a kernel reads."""
    if isinstance(kernel, Product):
        return [kernel.left, kernel.right, *([] if kernel.added is None else [kernel.added])]
    return list(views_of(kernel.value))


def _count(operand: Operand) -> int:
    return 1 + sum(map(_count, operand.operands)) if isinstance(operand, Formula) else 1


def _size(operand: Operand) -> int:
    total = 1
    for own in operand.shape:
        total *= own
    return total
