"""Cholesky's factor and triangular systems as loops in LLVM's text.

Both go from the first column, or row, to the last; what is left of a number is worked out for some rows, or columns, at
a time, which keeps their sums in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import Factor, Substitute, View

__all__ = ["write_factor", "write_substitute"]

Index = int | str
# rows of a factor that are worked out together: enough for the latency of a sum
ROWS = 8
# products that are written out without a loop
UNROLLED = 8


class Emitter(Protocol):
    """The interface of what writes loops: a function's text, and access to the numbers of views."""

    w: Writer
    straight: bool

    def load(self, view: View, at: Sequence[Index], more: Sequence[int] | None = None) -> str:
        """Read a number at an index, or so much further on."""

    def store(self, value: str, view: View, at: Sequence[Index], more: Sequence[int] | None = None) -> None:
        """Store a number at an index, or so much further on."""


def write_factor(emitter: Emitter, kernel: Factor) -> None:
    """Write a Cholesky factor, one column after the other."""
    n = kernel.out.shape[0]
    _write_column(emitter, kernel, 0)
    if emitter.straight:
        for j in range(1, n):
            _write_column(emitter, kernel, j)
        return
    if n > 2:
        with emitter.w.loop(n - 2) as loop:
            _write_column(emitter, kernel, emitter.w.linear([(loop.counter, 1)], 1))
    if n > 1:
        _write_column(emitter, kernel, n - 1)


def _write_column(emitter: Emitter, kernel: Factor, j: Index) -> None:
    """Write the pivot of a column, and the numbers below it."""
    w, factor, matrix = emitter.w, kernel.out, kernel.matrix
    n = factor.shape[0]

    def products(rows: Sequence[Index]) -> Callable[[Index], list[tuple[str, str]]]:
        def at(k: Index) -> list[tuple[str, str]]:
            pivot = emitter.load(factor, [j, k])
            return [(emitter.load(factor, [row, k]), pivot) for row in rows]

        return at

    [left] = _less(emitter, [emitter.load(matrix, [j, j])], j, products([j]))
    pivot = w.intrinsic("sqrt", left)
    emitter.store(pivot, factor, [j, j])
    inverse = w.arithmetic("fdiv", w.vector.splat(1.0), pivot)

    def write_rows(rows: Sequence[Index]) -> None:
        totals = _less(emitter, [emitter.load(matrix, [row, j]) for row in rows], j, products(rows))
        for row, total in zip(rows, totals, strict=True):
            emitter.store(w.arithmetic("fmul", total, inverse), factor, [row, j])

    if isinstance(j, int) and (emitter.straight or n - 1 - j <= ROWS):
        for first in range(j + 1, n, ROWS):
            write_rows(range(first, min(first + ROWS, n)))
        return
    above = j if isinstance(j, str) else str(j)
    below = w.put(f"sub nuw nsw i64 {n - 2 + ROWS}, {above}")
    with w.loop(w.put(f"udiv i64 {below}, {ROWS}")) as loop:
        rows = []
        for more in range(1, 1 + ROWS):
            # the last row may be worked out more than once
            row = w.linear([(above, 1), (loop.counter, ROWS)], more)
            inside = w.put(f"icmp ult i64 {row}, {n - 1}")
            rows.append(w.put(f"select i1 {inside}, i64 {row}, i64 {n - 1}"))
        write_rows(rows)


def write_substitute(emitter: Emitter, kernel: Substitute, first: Index, width: int) -> None:
    """Write the solution of a lower triangular system for `width` columns from the first on."""
    w, out, triangle = emitter.w, kernel.out, kernel.triangle
    n, columns = triangle.shape[0], range(width)

    def load(view: View, row: Index, column: int) -> str:
        return emitter.load(view, [row, first], [0, column])

    def products(row: Index) -> Callable[[Index], list[tuple[str, str]]]:
        def at(k: Index) -> list[tuple[str, str]]:
            factor = emitter.load(triangle, [row, k])
            return [(factor, load(out, k, column)) for column in columns]

        return at

    def write_row(row: Index) -> None:
        totals = _less(emitter, [load(kernel.right, row, column) for column in columns], row, products(row))
        inverse = w.arithmetic("fdiv", w.vector.splat(1.0), emitter.load(triangle, [row, row]))
        for column, total in zip(columns, totals, strict=True):
            emitter.store(w.arithmetic("fmul", total, inverse), out, [row, first], [0, column])

    write_row(0)
    if emitter.straight:
        for row in range(1, n):
            write_row(row)
    elif n > 1:
        with w.loop(n - 1) as loop:
            write_row(w.linear([(loop.counter, 1)], 1))


def _less(
    emitter: Emitter, totals: list[str], count: Index, products: Callable[[Index], list[tuple[str, str]]]
) -> list[str]:
    """Write numbers less sums of products over an index below `count`."""
    w = emitter.w

    def step(k: Index, before: Sequence[str]) -> list[str]:
        return [
            w.arithmetic("fsub", total, w.arithmetic("fmul", left, right))
            for total, (left, right) in zip(before, products(k), strict=True)
        ]

    if isinstance(count, int) and (emitter.straight or count <= UNROLLED):
        for k in range(count):
            totals = step(k, totals)
        return totals
    with w.loop(count, carried=tuple(totals)) as loop:
        loop.ends.extend(step(loop.counter, loop.carried))
    return loop.ends
