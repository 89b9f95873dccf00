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
    "Factor",
    "Fill",
    "Formula",
    "Kernel",
    "Operand",
    "Product",
    "Program",
    "Reduce",
    "Substitute",
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
    """Memory of `size` numbers for each task, or, where it is shared, for all tasks together.

    `wide` are numbers of double precision in a program of single precision.
    """

    size: int
    shared: bool = False
    wide: bool = False


@dataclass(frozen=True)
class View:
    """Numbers of a buffer, addressed by offset and strides."""

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
    """An operation on operands of equal shape, evaluated where it is used."""

    operation: str
    operands: tuple[Operand, ...]
    shape: Shape


Operand = View | Constant | Formula


def contiguous(shape: Shape) -> Shape:
    """Return the strides of a row-major array."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def map_views(operand: Operand, shape: Shape, change: Callable[[View], View]) -> Operand:
    """Apply a change of strides to every view in an operand."""
    if isinstance(operand, Constant):
        return Constant(operand.value, shape)
    if isinstance(operand, View):
        view = change(operand)
        assert view.shape == shape, (view.shape, shape)
        return view
    return Formula(operand.operation, tuple(map_views(inner, shape, change) for inner in operand.operands), shape)


def broadcast(operand: Operand, shape: Shape) -> Operand:
    """Return an operand broadcast to a larger shape."""
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
    """Return the same numbers in another shape, or None where no strides express it."""
    if math.prod(shape) != math.prod(view.shape):
        raise UnsupportedError(f"a view of shape {shape} on {view.shape}")
    # drop dimensions of size 1, and merge neighbours that are contiguous
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


# operations on vectors in one call of machine code, about 0.05 s: Python handles Ctrl-C between calls only
OPERATIONS_PER_CALL = 200_000_000


@dataclass(frozen=True)
class Fill:
    """Evaluate a formula and store its numbers."""

    out: View
    value: Operand


@dataclass(frozen=True)
class Reduce:
    """Store the sum, or the maximum, over some dimensions of a formula."""

    how: str
    out: View
    value: Operand
    over: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """Store a matrix product, added to a matrix where one is given."""

    out: View
    left: View
    right: View
    added: View | None


@dataclass(frozen=True)
class Factor:
    """Store the lower Cholesky factor of a matrix below and on the diagonal; NaN where there is none.

    What lies above the diagonal is left as it is.
    """

    out: View
    matrix: View


@dataclass(frozen=True)
class Substitute:
    """Store the solution of a lower triangular system for the columns of a matrix."""

    out: View
    triangle: View
    right: View


Kernel = Fill | Reduce | Product | Factor | Substitute
"""Loops over buffers, worked out in the precision of the numbers that they store."""


@dataclass(frozen=True)
class Program:
    """Kernels in order, from the buffers of the inputs to those of the outputs.

    Attributes
    ----------
    inputs, outputs : list of Buffer
    constants : list of float
        Numbers that `constant` holds.
    constant : Buffer
        Memory of the numbers that the traced function contains, shared by all tasks.
    kernels : list of Kernel
    """

    inputs: list[Buffer]
    outputs: list[Buffer]
    constants: list[float]
    constant: Buffer
    kernels: list[Kernel]

    def operations(self) -> int:
        """Return the number of scalar operations for one task."""
        return sum(map(_operations, self.kernels))

    @property
    def wide(self) -> bool:
        """Whether some numbers are of double precision in a program of single precision."""
        return any(kernel.out.buffer.wide for kernel in self.kernels)


def views_of(operand: Operand) -> Iterator[View]:
    """Yield the views that a formula reads."""
    if isinstance(operand, View):
        yield operand
    elif isinstance(operand, Formula):
        for inner in operand.operands:
            yield from views_of(inner)


def reads(kernel: Kernel) -> list[View]:
    """Return the views that a kernel reads."""
    if isinstance(kernel, Product):
        return [kernel.left, kernel.right, *([] if kernel.added is None else [kernel.added])]
    if isinstance(kernel, Factor):
        return [kernel.matrix]
    if isinstance(kernel, Substitute):
        return [kernel.triangle, kernel.right]
    return list(views_of(kernel.value))


def _operations(kernel: Kernel) -> int:
    if isinstance(kernel, Product):
        rows, shared = kernel.left.shape
        return rows * shared * kernel.right.shape[1]
    if isinstance(kernel, Factor):
        return kernel.matrix.shape[0] ** 3 // 6 + kernel.matrix.shape[0] ** 2
    if isinstance(kernel, Substitute):
        return kernel.triangle.shape[0] ** 2 // 2 * kernel.right.shape[1] + math.prod(kernel.right.shape)
    return _count(kernel.value) * _size(kernel.value)


def _count(operand: Operand) -> int:
    return 1 + sum(map(_count, operand.operands)) if isinstance(operand, Formula) else 1


def _size(operand: Operand) -> int:
    total = 1
    for size in operand.shape:
        total *= size
    return total
