"""Kernels as loops in LLVM's text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from metaest.jit.codegen.triangular import write_factor, write_substitute
from metaest.jit.codegen.vector_math import FUNCTIONS
from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import (
    Buffer,
    Constant,
    Factor,
    Fill,
    Formula,
    Kernel,
    Operand,
    Product,
    Program,
    Reduce,
    Substitute,
    View,
    reads,
)
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["Emitter", "last_uses"]

# most operations of one kernel that is written out, without a loop
UNROLLED = 64
COMPARISONS = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
# results of a product that are kept in registers at once, by bits of a vector
BLOCKS = {512: 20, 256: 8, 128: 8}


class Emitter:
    """Writes kernels into a function.

    Parameters
    ----------
    w : Writer
    names : dict of Buffer -> str
        Pointers to the buffers.
    straight : bool
        If True, loops are unrolled, so that LLVM can keep all numbers in registers.
    """

    def __init__(self, w: Writer, names: dict[Buffer, str], *, straight: bool) -> None:
        self.w = w
        self.names = names
        self.straight = straight
        self.vector = w.vector

    def emit(self, kernel: Kernel) -> None:
        """Write one kernel, in the precision of the numbers that it stores."""
        self.w.vector = self._type(kernel.out.buffer)
        self._emit(kernel)
        self.w.vector = self.vector

    def _type(self, buffer: Buffer) -> VectorType:
        return self.vector.doubled if buffer.wide else self.vector

    def _emit(self, kernel: Kernel) -> None:
        if isinstance(kernel, Fill):
            self._fill(kernel)
        elif isinstance(kernel, Reduce):
            self._reduce(kernel)
        elif isinstance(kernel, Product):
            self._product(kernel)
        elif isinstance(kernel, Factor):
            write_factor(self, kernel)
        else:
            self._substitute(kernel)

    def _fill(self, kernel: Fill) -> None:
        def body(at: Sequence[int | str]) -> None:
            self.store(self.value(kernel.value, at), kernel.out, at)

        self._each(kernel.out.shape, body)

    def _reduce(self, kernel: Reduce) -> None:
        shape, over = kernel.value.shape, kernel.over
        kept = [i for i in range(len(shape)) if i not in over]
        inner = [shape[i] for i in over]

        def join(total: str | None, term: str) -> str:
            if total is None:
                return term
            return self.w.arithmetic("fadd", total, term) if kernel.how == "sum" else self._larger(total, term)

        def body(at: Sequence[int | str]) -> None:
            whole: list[int | str] = [0] * len(shape)
            for i, index in zip(kept, at, strict=True):
                whole[i] = index

            def term(place: Sequence[int | str]) -> str:
                for i, index in zip(over, place, strict=True):
                    whole[i] = index
                return self.value(kernel.value, whole)

            self.store(self._total(inner, term, join, kernel.how), kernel.out, at)

        self._each(kernel.out.shape, body)

    def _total(
        self,
        shape: Sequence[int],
        term: Callable[[Sequence[int | str]], str],
        join: Callable[[str | None, str], str],
        how: str,
    ) -> str:
        """Write a sum over an index; all but its first turns may be a loop."""
        if self.straight or math.prod(shape) <= UNROLLED:
            total = None
            for place in itertools.product(*map(range, shape)):
                total = join(total, term(place))
            assert total is not None
            return total
        start = self.w.vector.splat(0.0 if how == "sum" else -math.inf)

        def nest(dims: Sequence[int], place: list[int | str], total: str) -> str:
            if not dims:
                return join(total, term(place))
            with self.w.loop(dims[0], carried=(total,)) as loop:
                loop.ends.append(nest(dims[1:], [*place, loop.counter], loop.carried[0]))
            return loop.ends[0]

        return nest(shape, [], start)

    def _each(self, shape: Sequence[int], body: Callable[[Sequence[int | str]], None]) -> None:
        """Write a body for every index of a shape."""
        if self.straight or math.prod(shape) <= UNROLLED // 4:
            for place in itertools.product(*map(range, shape)):
                body(place)
            return

        def nest(dims: Sequence[int], place: list[int | str]) -> None:
            if math.prod(dims) <= UNROLLED // 8:
                for rest in itertools.product(*map(range, dims)):
                    body([*place, *rest])
                return
            with self.w.loop(dims[0]) as loop:
                nest(dims[1:], [*place, loop.counter])

        nest(shape, [])

    def _product(self, kernel: Product) -> None:
        (rows, shared), columns = kernel.left.shape, kernel.right.shape[1]
        limit = self.registers()
        high, wide = block(rows, columns, limit)
        for i, n_rows in parts(rows, high):
            for j, n_columns in parts(columns, wide):
                self._tiles(kernel, (i, n_rows), (j, n_columns), (high, wide), shared)

    def _substitute(self, kernel: Substitute) -> None:
        columns = kernel.right.shape[1]
        wide = min(columns, self.registers())
        for j, n_columns in parts(columns, wide):
            width = min(n_columns, wide)
            if self.straight or n_columns == width:
                for first in range(j, j + n_columns, width):
                    write_substitute(self, kernel, first, width)
                continue
            with self.w.loop(n_columns // width) as loop:
                write_substitute(self, kernel, self.w.linear([(loop.counter, width)], j), width)

    def registers(self) -> int:
        """Return how many results are kept in registers at once."""
        limit = BLOCKS[self.vector.bits * self.vector.lanes]
        return limit * self.vector.bits // self.w.vector.bits

    def _tiles(
        self,
        kernel: Product,
        rows: tuple[int, int],
        columns: tuple[int, int],
        size: tuple[int, int],
        shared: int,
    ) -> None:
        """Write tiles of equal size: so many of them down and across, from a first row and column."""
        high, wide = min(rows[1], size[0]), min(columns[1], size[1])

        def tile(i: int | str, j: int | str) -> None:
            self._tile(kernel, i, j, high, wide, shared)

        down, across = rows[1] // high, columns[1] // wide
        if self.straight or down * across == 1:
            for a, b in itertools.product(range(down), range(across)):
                tile(rows[0] + a * high, columns[0] + b * wide)
            return
        with self.w.loop(down) as outer, self.w.loop(across) as inner:
            i = self.w.linear([(outer.counter, high)], rows[0])
            j = self.w.linear([(inner.counter, wide)], columns[0])
            tile(i, j)

    def _tile(self, kernel: Product, i: int | str, j: int | str, high: int, wide: int, shared: int) -> None:
        w, places = self.w, list(itertools.product(range(high), range(wide)))

        def at(view: View, row: tuple[int | str, int], column: tuple[int | str, int]) -> str:
            return self.load(view, [row[0], column[0]], [row[1], column[1]])

        if kernel.added is None:
            totals = [w.vector.splat(0.0)] * len(places)
        else:
            totals = [at(kernel.added, (i, a), (j, b)) for a, b in places]

        def step(k: int | str, totals: Sequence[str]) -> list[str]:
            left = [at(kernel.left, (i, a), (k, 0)) for a in range(high)]
            right = [at(kernel.right, (k, 0), (j, b)) for b in range(wide)]
            return [
                w.arithmetic("fadd", w.arithmetic("fmul", left[a], right[b]), total)
                for (a, b), total in zip(places, totals, strict=True)
            ]

        if self.straight or shared * len(places) <= UNROLLED:
            for k in range(shared):
                totals = step(k, totals)
        else:
            with w.loop(shared, carried=tuple(totals)) as loop:
                totals = step(loop.counter, loop.carried)
                loop.ends.extend(totals)
        for (a, b), total in zip(places, totals, strict=True):
            self.store(total, kernel.out, [i, j], [a, b])

    def load(self, view: View, at: Sequence[int | str], more: Sequence[int] | None = None) -> str:
        """Read a number at an index, or so much further on."""
        more = more or [0] * len(at)
        place = self._linear(list(zip(at, view.strides, more, strict=True)), view.offset)
        here, self.w.vector = self.w.vector, self._type(view.buffer)
        value = self.w.load(self.names[view.buffer], place, shared=view.buffer.shared)
        source, self.w.vector = self.w.vector, here
        return self.w.convert(value, source)

    def store(self, value: str, view: View, at: Sequence[int | str], more: Sequence[int] | None = None) -> None:
        """Store a number at an index, or so much further on."""
        more = more or [0] * len(at)
        place = self._linear(list(zip(at, view.strides, more, strict=True)), view.offset)
        self.w.store(value, self.names[view.buffer], place)

    def _linear(self, terms: Sequence[tuple[int | str, int, int]], offset: int) -> str:
        names: list[tuple[str, int]] = []
        for index, stride, more in terms:
            offset += stride * more
            if isinstance(index, int):
                offset += stride * index
            else:
                names.append((index, stride))
        return self.w.linear(names, offset)

    def value(self, operand: Operand, at: Sequence[int | str]) -> str:
        """Write what a number at an index comes to."""
        if isinstance(operand, Constant):
            return self.w.vector.splat(operand.value)
        if isinstance(operand, View):
            return self.load(operand, at)
        if operand.operation == "where":
            condition, yes, no = operand.operands
            return self.w.select(self._truth(condition, at), self.value(yes, at), self.value(no, at))
        if operand.operation in COMPARISONS or operand.operation in ("and", "or", "not"):
            return self.w.select(self._truth(operand, at), self.w.vector.splat(1.0), self.w.vector.splat(0.0))
        return self._operation(operand, at)

    def _truth(self, operand: Operand, at: Sequence[int | str]) -> str:
        """Write a condition."""
        bools = self.w.vector.bools
        if isinstance(operand, Formula) and operand.operation in COMPARISONS:
            a, b = (self.value(inner, at) for inner in operand.operands)
            return self.w.compare(COMPARISONS[operand.operation], a, b)
        if isinstance(operand, Formula) and operand.operation in ("and", "or"):
            a, b = (self._truth(inner, at) for inner in operand.operands)
            return self.w.put(f"{operand.operation} {bools} {a}, {b}")
        if isinstance(operand, Formula) and operand.operation == "not":
            return self.w.put(f"xor {bools} {self._truth(operand.operands[0], at)}, splat (i1 true)")
        return self.w.compare("une", self.value(operand, at), self.w.vector.splat(0.0))

    def _operation(self, operand: Formula, at: Sequence[int | str]) -> str:
        w, name = self.w, operand.operation
        values = [self.value(inner, at) for inner in operand.operands]
        if name in ARITHMETIC:
            return w.arithmetic(ARITHMETIC[name], *values)
        if name in FUNCTIONS:
            return w.function(name, *values)
        if name == "neg":
            return w.put(f"fneg {w.vector.floats} {values[0]}")
        if name in ("sqrt", "floor", "abs", "sin", "cos"):
            return w.intrinsic("fabs" if name == "abs" else name, *values)
        if name == "max":
            return self._larger(*values)
        if name == "min":
            return w.select(w.compare("ogt", *values), values[1], values[0])
        assert name == "pow", name
        exponent = operand.operands[1]
        if isinstance(exponent, Constant) and exponent.value == int(exponent.value) and 2 <= exponent.value <= 8:
            result = values[0]
            for _ in range(int(exponent.value) - 1):
                result = w.arithmetic("fmul", result, values[0])
            return result
        return w.function("pow", *values)

    def _larger(self, a: str, b: str) -> str:
        return self.w.select(self.w.compare("olt", a, b), b, a)


def block(rows: int, columns: int, limit: int) -> tuple[int, int]:
    """Return how high and wide a tile is: as many results as registers hold, and few rows and columns left over."""
    best, chosen = -1.0, (1, 1)
    for high in range(1, min(rows, limit) + 1):
        for wide in range(1, min(columns, limit // high) + 1):
            # what is read for each product, and how even the tiles are
            even = rows * columns / (math.ceil(rows / high) * high * math.ceil(columns / wide) * wide)
            score = even * min(high * wide / (high + wide), 4) * (1 if high * wide >= min(limit // 2, rows) else 0.5)
            if score > best:
                best, chosen = score, (high, wide)
    return chosen


def parts(size: int, step: int) -> list[tuple[int, int]]:
    """Split a dimension into its whole steps and what is left."""
    whole = size // step * step
    return [part for part in ((0, whole), (whole, size - whole)) if part[1]]


def last_uses(program: Program) -> dict[Buffer, int]:
    """Return the index of the last kernel that uses each buffer."""
    last: dict[Buffer, int] = {}
    for i, kernel in enumerate(program.kernels):
        for view in (*reads(kernel), kernel.out):
            last[view.buffer] = i
    return last
