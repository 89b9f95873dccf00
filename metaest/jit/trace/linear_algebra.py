"""Lowering rules of Cholesky's factor and of triangular systems."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import Constant, Factor, Fill, Operand, Substitute, View, permuted
from metaest.jit.trace.elementwise import formula
from metaest.jit.trace.registry import ProgramBuilder, lowers
from metaest.jit.trace.views import diagonal, select

__all__: list[str] = []


@lowers("linalg_cholesky_ex.default")
def _cholesky(builder: ProgramBuilder, x: Operand, *, upper: bool = False, check_errors: bool = False) -> Any:
    if upper or check_errors:
        raise UnsupportedError("an upper Cholesky factor, or one that raises errors")
    matrices = builder.stored(x)
    out = builder.allocate(x.shape)
    builder.kernels.append(Fill(out, Constant(0.0, x.shape)))
    for matrix, factor in _matrices(builder, matrices, out):
        builder.kernels.append(Factor(factor, matrix))
    # after a pivot that is not positive, the last one is not a number
    last = select(builder, diagonal(builder, out, 0, -2, -1), -1, -1)
    return [out, formula("ne", last, last)]


@lowers("linalg_solve_triangular.default")
def _solve_triangular(
    builder: ProgramBuilder, a: Operand, b: Operand, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Operand:
    if unitriangular:
        raise UnsupportedError("a triangle with ones on its diagonal")
    if left:
        return _solved(builder, a, b, upper=upper)
    return _transposed(_solved(builder, _transposed(a), _transposed(b), upper=not upper))


@lowers("cholesky_solve.default")
def _cholesky_solve(builder: ProgramBuilder, b: Operand, factor: Operand, upper: bool = False) -> Operand:
    factor = _transposed(builder.stored(factor)) if upper else builder.stored(factor)
    return _solved(builder, _transposed(factor), _solved(builder, factor, b, upper=False), upper=True)


def _solved(builder: ProgramBuilder, a: Operand, b: Operand, *, upper: bool) -> Operand:
    """Solve systems of a triangle; an upper one is a lower one from its last row to its first."""
    if a.shape[:-2] != b.shape[:-2]:
        raise UnsupportedError(f"triangular systems of shapes {a.shape} and {b.shape}")
    triangles, rights, out = builder.stored(a), builder.stored(b), builder.allocate(b.shape)
    for triangle, right, solution in _matrices(builder, triangles, rights, out):
        parts = [solution, triangle, right]
        if upper:
            parts = [_reversed(solution, 0), _reversed(_reversed(triangle, 0), 1), _reversed(right, 0)]
        builder.kernels.append(Substitute(*parts))
    return out


def _matrices(builder: ProgramBuilder, *stacks: View) -> Iterator[list[View]]:
    """Yield the matrices of stacks of equal length, together."""
    for place in itertools.product(*map(range, stacks[0].shape[:-2])):
        matrices: list[Any] = list(stacks)
        for index in place:
            matrices = [select(builder, each, 0, index) for each in matrices]
        yield matrices


def _transposed(x: Operand) -> Operand:
    order = list(range(len(x.shape)))
    return permuted(x, [*order[:-2], order[-1], order[-2]])


def _reversed(view: View, dim: int) -> View:
    """Return a view from the last index of a dimension to the first."""
    strides = (*view.strides[:dim], -view.strides[dim], *view.strides[dim + 1 :])
    return replace(view, strides=strides, offset=view.offset + (view.shape[dim] - 1) * view.strides[dim])
