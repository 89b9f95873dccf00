"""Lowering rules of sums, maxima and matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import Constant, Fill, Operand, Product, Reduce, View, broadcast, permuted
from metaest.jit.trace.elementwise import formula
from metaest.jit.trace.registry import ProgramBuilder, lowers
from metaest.jit.trace.views import narrowed, select, unsqueeze

__all__ = ["REDUCTIONS"]

REDUCTIONS = {"sum.default", "prims.sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "amax.default"}


@lowers("sum.default", "sum.dim_IntList", "prims.sum.default")
def _sum(
    builder: ProgramBuilder, x: Operand, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any
) -> Operand:
    return _reduced(builder, "sum", x, dims, keepdim)


@lowers("mean.default", "mean.dim")
def _mean(
    builder: ProgramBuilder, x: Operand, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any
) -> Operand:
    total = _reduced(builder, "sum", x, dims, keepdim)
    count = math.prod(x.shape) / max(1, math.prod(total.shape))
    return formula("mul", total, Constant(1 / count, total.shape))


@lowers("prims.var.default")
def _var(builder: ProgramBuilder, x: Operand, dims: Sequence[int], correction: float = 1, **_: Any) -> Operand:
    x = builder.stored(x)  # it is read twice
    mean = _mean(builder, x, dims, keepdim=True)
    mean = mean if isinstance(mean, Constant) else builder.stored(mean)
    away = builder.stored(formula("sub", x, broadcast(mean, x.shape)))
    total = _reduced(builder, "sum", formula("mul", away, away), dims, False)
    count = math.prod(x.shape) / max(1, math.prod(total.shape)) - correction
    return formula("div", total, count)


@lowers("amax.default")
def _amax(builder: ProgramBuilder, x: Operand, dims: Sequence[int] = (), keepdim: bool = False) -> Operand:
    return _reduced(builder, "max", x, dims or None, keepdim)


def _reduced(builder: ProgramBuilder, how: str, x: Operand, dims: Sequence[int] | None, keepdim: bool) -> Operand:
    over = tuple(sorted({d % len(x.shape) for d in dims})) if dims else tuple(range(len(x.shape)))
    kept = tuple(size for i, size in enumerate(x.shape) if i not in over)
    shape = tuple(1 if i in over else size for i, size in enumerate(x.shape)) if keepdim else kept
    if isinstance(x, Constant):
        value = x.value * math.prod(x.shape[i] for i in over) if how == "sum" else x.value
        return Constant(value, shape)
    if all(x.shape[i] == 1 for i in over):
        result = permuted(x, [i for i in range(len(x.shape)) if i not in over])
    else:
        result = builder.allocate(kept)
        builder.kernels.append(Reduce(how, result, x, over))
    if not keepdim:
        return result
    for i in over:
        result = unsqueeze(builder, result, i)
    return result


@lowers("all.default", "all.dim")
def _all(builder: ProgramBuilder, x: Operand, dim: int | None = None, keepdim: bool = False) -> Operand:
    dims = None if dim is None else [dim]
    return formula("not", _reduced(builder, "max", formula("not", x), dims, keepdim))


@lowers("mm.default")
def _mm(builder: ProgramBuilder, a: Operand, b: Operand) -> Operand:
    return _product(builder, a, b, None)


@lowers("addmm.default")
def _addmm(builder: ProgramBuilder, c: Operand, a: Operand, b: Operand, beta: float = 1, alpha: float = 1) -> Operand:
    if (beta, alpha) != (1, 1):
        raise UnsupportedError("addmm with factors")
    return _product(builder, a, b, builder.stored(broadcast(c, (a.shape[0], b.shape[1]))))


@lowers("bmm.default")
def _bmm(builder: ProgramBuilder, a: Operand, b: Operand) -> Operand:
    out = builder.allocate((a.shape[0], a.shape[1], b.shape[2]))
    for i in range(a.shape[0]):
        left, right = (builder.stored(select(builder, each, 0, i)) for each in (a, b))
        part = select(builder, out, 0, i)
        assert isinstance(part, View)
        builder.kernels.append(Product(part, left, right, None))
    return out


@lowers("mv.default")
def _mv(builder: ProgramBuilder, a: Operand, x: Operand) -> Operand:
    return select(builder, _product(builder, a, unsqueeze(builder, x, 1), None), 1, 0)


@lowers("dot.default")
def _dot(builder: ProgramBuilder, a: Operand, b: Operand) -> Operand:
    return _reduced(builder, "sum", formula("mul", a, b), None, False)


def _product(builder: ProgramBuilder, a: Operand, b: Operand, added: View | None) -> Operand:
    if added is None and _is_identity(builder, b):
        return _widened(builder, a, b.shape[1])
    if added is None and _is_identity(builder, a):
        return permuted(_widened(builder, permuted(b, [1, 0]), a.shape[0]), [1, 0])
    left, right = builder.stored(a), builder.stored(b)
    if left.shape[1] == 1:  # an outer product is a formula
        shape = (left.shape[0], right.shape[1])
        outer = formula("mul", broadcast(left, shape), broadcast(right, shape))
        return builder.stored(outer if added is None else formula("add", outer, added))
    out = builder.allocate((left.shape[0], right.shape[1]))
    builder.kernels.append(Product(out, left, right, added))
    return out


def _is_identity(builder: ProgramBuilder, x: Operand) -> bool:
    """Tell whether a matrix is the program's, with ones on its diagonal and zeros elsewhere."""
    if not isinstance(x, View) or x.buffer is not builder.constant:
        return False
    rows, columns = x.shape
    return all(
        builder.constants[x.offset + i * x.strides[0] + j * x.strides[1]] == (i == j)
        for i in range(rows)
        for j in range(columns)
    )


def _widened(builder: ProgramBuilder, x: Operand, columns: int) -> Operand:
    """Return the first columns of a matrix, and zeros behind its last: what a product with an identity gives."""
    if columns <= x.shape[1]:
        return narrowed(builder, x, 1, 0, columns)
    out = builder.allocate((x.shape[0], columns))
    builder.kernels.append(Fill(out, Constant(0.0, out.shape)))
    place = narrowed(builder, out, 1, 0, x.shape[1])
    assert isinstance(place, View)
    builder.kernels.append(Fill(place, x))
    return out
