"""What a lowered program is made of: a few kinds of loops over buffers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from metaest.lanes.arrays import Buffer, Formula, Operand, View

__all__ = ["OPERATIONS_AT_ONCE", "Fill", "Kernel", "Product", "Program", "Reduce", "reads", "views_of"]

# operations on vectors in one call of machine code, some 0.05 s: an interrupt is heard between calls
OPERATIONS_AT_ONCE = 200_000_000


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
