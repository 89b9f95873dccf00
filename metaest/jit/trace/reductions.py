"""Operations that make one number of many: sums, the largest, matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import Constant, Operand, Product, Reduce, View, broadcast, permuted
from metaest.jit.trace.elementwise import formula
from metaest.jit.trace.registry import Building, handles
from metaest.jit.trace.views import select, unsqueeze

__all__ = ["REDUCTIONS"]

REDUCTIONS = {"sum.default", "prims.sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "amax.default"}


@handles("sum.default", "sum.dim_IntList", "prims.sum.default")
def _sum(own: Building, x: Operand, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Operand:
    return _reduced(own, "sum", x, dims, keepdim)


@handles("mean.default", "mean.dim")
def _mean(own: Building, x: Operand, dims: Sequence[int] | None = None, keepdim: bool = False, **_: Any) -> Operand:
    total = _reduced(own, "sum", x, dims, keepdim)
    count = math.prod(x.shape) / max(1, math.prod(total.shape))
    return formula("mul", total, Constant(1 / count, total.shape))


@handles("prims.var.default")
def _var(own: Building, x: Operand, dims: Sequence[int], correction: float = 1, **_: Any) -> Operand:
    x = own.stored(x)  # it is read twice
    mean = _mean(own, x, dims, keepdim=True)
    mean = mean if isinstance(mean, Constant) else own.stored(mean)
    away = own.stored(formula("sub", x, broadcast(mean, x.shape)))
    total = _reduced(own, "sum", formula("mul", away, away), dims, False)
    count = math.prod(x.shape) / max(1, math.prod(total.shape)) - correction
    return formula("div", total, count)


@handles("amax.default")
def _amax(own: Building, x: Operand, dims: Sequence[int] = (), keepdim: bool = False) -> Operand:
    return _reduced(own, "max", x, dims or None, keepdim)


def _reduced(own: Building, how: str, x: Operand, dims: Sequence[int] | None, keepdim: bool) -> Operand:
    over = tuple(sorted({d % len(x.shape) for d in dims})) if dims else tuple(range(len(x.shape)))
    kept = tuple(size for i, size in enumerate(x.shape) if i not in over)
    shape = tuple(1 if i in over else size for i, size in enumerate(x.shape)) if keepdim else kept
    if isinstance(x, Constant):
        value = x.value * math.prod(x.shape[i] for i in over) if how == "sum" else x.value
        return Constant(value, shape)
    if all(x.shape[i] == 1 for i in over):
        found = permuted(x, [i for i in range(len(x.shape)) if i not in over])
    else:
        found = own.fresh(kept)
        own.kernels.append(Reduce(how, found, x, over))
    if not keepdim:
        return found
    for i in over:
        found = unsqueeze(own, found, i)
    return found


@handles("mm.default")
def _mm(own: Building, a: Operand, b: Operand) -> Operand:
    return _product(own, a, b, None)


@handles("addmm.default")
def _addmm(own: Building, c: Operand, a: Operand, b: Operand, beta: float = 1, alpha: float = 1) -> Operand:
    if (beta, alpha) != (1, 1):
        raise UnsupportedError("addmm with factors")
    return _product(own, a, b, own.stored(broadcast(c, (a.shape[0], b.shape[1]))))


@handles("bmm.default")
def _bmm(own: Building, a: Operand, b: Operand) -> Operand:
    out = own.fresh((a.shape[0], a.shape[1], b.shape[2]))
    for i in range(a.shape[0]):
        left, right = (own.stored(select(own, each, 0, i)) for each in (a, b))
        part = select(own, out, 0, i)
        assert isinstance(part, View)
        own.kernels.append(Product(part, left, right, None))
    return out


@handles("mv.default")
def _mv(own: Building, a: Operand, x: Operand) -> Operand:
    return select(own, _product(own, a, unsqueeze(own, x, 1), None), 1, 0)


@handles("dot.default")
def _dot(own: Building, a: Operand, b: Operand) -> Operand:
    return _reduced(own, "sum", formula("mul", a, b), None, False)


def _product(own: Building, a: Operand, b: Operand, added: View | None) -> Operand:
    left, right = own.stored(a), own.stored(b)
    if left.shape[1] == 1:  # an outer product is a formula
        shape = (left.shape[0], right.shape[1])
        outer = formula("mul", broadcast(left, shape), broadcast(right, shape))
        return own.stored(outer if added is None else formula("add", outer, added))
    out = own.fresh((left.shape[0], right.shape[1]))
    own.kernels.append(Product(out, left, right, added))
    return out
