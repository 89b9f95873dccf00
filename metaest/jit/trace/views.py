"""Lowering rules of views, slices, concatenations and constants."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import Constant, Fill, Formula, Operand, View, broadcast, map_views, permuted, reshaped
from metaest.jit.trace.elementwise import formula
from metaest.jit.trace.registry import ProgramBuilder, lowers

__all__ = ["diagonal", "narrowed", "select", "unsqueeze"]


@lowers("detach.default", "alias.default", "lift_fresh_copy.default", "lift_fresh.default", view=True)
def _same(builder: ProgramBuilder, x: Operand) -> Operand:
    return x


@lowers("clone.default", "contiguous.default", "_to_copy.default", view=True)
def _copy(builder: ProgramBuilder, x: Operand, **settings: Any) -> Operand:
    if settings.get("dtype") not in (None, torch.float32, torch.float64, torch.bool):
        raise UnsupportedError(f"numbers of {settings['dtype']}")
    if settings.get("dtype") == torch.bool:
        return formula("ne", x, 0.0)
    return x


@lowers("prims.convert_element_type.default", view=True)
def _convert(builder: ProgramBuilder, x: Operand, dtype: torch.dtype) -> Operand:
    return _copy(builder, x, dtype=dtype)


@lowers("view.default", "_unsafe_view.default", "reshape.default", view=True)
def _view(builder: ProgramBuilder, x: Operand, shape: Sequence[int]) -> Operand:
    given = -math.prod(shape) if -1 in shape else 1
    wanted = tuple(math.prod(x.shape) // given if size == -1 else size for size in shape)
    if isinstance(x, Formula):
        x = builder.stored(x)
    if isinstance(x, View) and reshaped(x, wanted) is None:
        out = builder.allocate(x.shape)
        builder.kernels.append(Fill(out, x))
        x = out
    return map_views(x, wanted, lambda v: reshaped(v, wanted) or v)


@lowers("as_strided.default")
def _as_strided(
    builder: ProgramBuilder, x: Operand, shape: Sequence[int], strides: Sequence[int], offset: int = 0
) -> Operand:
    value = builder.node.args[0].meta["val"]
    if not value.is_contiguous() or value.storage_offset():
        raise UnsupportedError("as_strided of a view")  # its numbers lie elsewhere than here
    out = builder.allocate(x.shape)
    builder.kernels.append(Fill(out, x))
    return View(out.buffer, tuple(shape), tuple(strides), offset or 0)


@lowers("expand.default", view=True)
def _expand(builder: ProgramBuilder, x: Operand, shape: Sequence[int], **_: Any) -> Operand:
    ahead = len(shape) - len(x.shape)
    wanted = tuple(x.shape[i - ahead] if size == -1 else size for i, size in enumerate(shape))
    return broadcast(x, wanted)


@lowers("permute.default", view=True)
def _permute(builder: ProgramBuilder, x: Operand, order: Sequence[int]) -> Operand:
    return permuted(x, [i % len(x.shape) for i in order])


@lowers("transpose.int", view=True)
def _transpose(builder: ProgramBuilder, x: Operand, a: int, b: int) -> Operand:
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    return permuted(x, order)


@lowers("t.default", view=True)
def _t(builder: ProgramBuilder, x: Operand) -> Operand:
    return permuted(x, range(len(x.shape))[::-1])


@lowers("unsqueeze.default", view=True)
def unsqueeze(builder: ProgramBuilder, x: Operand, dim: int) -> Operand:
    """Insert a dimension of size 1."""
    at = dim % (len(x.shape) + 1)
    shape = (*x.shape[:at], 1, *x.shape[at:])
    return map_views(x, shape, lambda v: replace(v, shape=shape, strides=(*v.strides[:at], 0, *v.strides[at:])))


@lowers("squeeze.dim", "squeeze.dims", view=True)
def _squeeze(builder: ProgramBuilder, x: Operand, dims: int | Sequence[int]) -> Operand:
    asked = {d % max(len(x.shape), 1) for d in ([dims] if isinstance(dims, int) else dims)}
    kept = [i for i, size in enumerate(x.shape) if i not in asked or size != 1]
    return permuted(x, kept)


@lowers("squeeze.default", view=True)
def _squeeze_all(builder: ProgramBuilder, x: Operand) -> Operand:
    return permuted(x, [i for i, size in enumerate(x.shape) if size != 1])


@lowers("prims.broadcast_in_dim.default", view=True)
def _broadcast_in_dim(builder: ProgramBuilder, x: Operand, shape: Sequence[int], places: Sequence[int]) -> Operand:
    between = tuple(x.shape[places.index(i)] if i in places else 1 for i in range(len(shape)))

    def change(v: View) -> View:
        strides = tuple(v.strides[places.index(i)] if i in places else 0 for i in range(len(shape)))
        return replace(v, shape=between, strides=strides)

    return broadcast(map_views(x, between, change), tuple(shape))


@lowers("fill.Scalar")
def _fill(builder: ProgramBuilder, x: Operand, value: float) -> Operand:
    return Constant(float(value), x.shape)


@lowers("select.int", view=True)
def select(builder: ProgramBuilder, x: Operand, dim: int, index: int) -> Operand:
    """Take one index of a dimension."""
    dim, index = dim % len(x.shape), index % x.shape[dim]
    shape = (*x.shape[:dim], *x.shape[dim + 1 :])

    def change(v: View) -> View:
        strides = (*v.strides[:dim], *v.strides[dim + 1 :])
        return View(v.buffer, shape, strides, v.offset + index * v.strides[dim])

    return map_views(x, shape, change)


@lowers("unbind.int", view=True)
def _unbind(builder: ProgramBuilder, x: Operand, dim: int = 0) -> Any:
    return [select(builder, x, dim, i) for i in range(x.shape[dim])]


@lowers("split.Tensor", view=True)
def _split(builder: ProgramBuilder, x: Operand, size: int, dim: int = 0) -> Any:
    length = x.shape[dim]
    return [narrowed(builder, x, dim, first, min(first + size, length)) for first in range(0, length, size)]


@lowers("split_with_sizes.default", view=True)
def _split_with_sizes(builder: ProgramBuilder, x: Operand, sizes: Sequence[int], dim: int = 0) -> Any:
    ends = list(itertools.accumulate(sizes))
    return [narrowed(builder, x, dim, end - size, end) for end, size in zip(ends, sizes, strict=True)]


@lowers("getitem", view=True)
def _getitem(builder: ProgramBuilder, parts: Sequence[Operand], index: int) -> Operand:
    return parts[index]


@lowers("slice.Tensor", view=True)
def _slice(
    builder: ProgramBuilder, x: Operand, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Operand:
    dim = dim % len(x.shape)
    first, last, step = slice(start, end, step).indices(x.shape[dim])
    return narrowed(builder, x, dim, first, last, step)


def narrowed(builder: ProgramBuilder, x: Operand, dim: int, first: int, last: int, step: int = 1) -> Operand:
    """Take some indices of a dimension."""
    dim = dim % len(x.shape)
    shape = (*x.shape[:dim], len(range(first, last, step)), *x.shape[dim + 1 :])

    def change(v: View) -> View:
        strides = (*v.strides[:dim], v.strides[dim] * step, *v.strides[dim + 1 :])
        return View(v.buffer, shape, strides, v.offset + first * v.strides[dim])

    return map_views(x, shape, change)


@lowers("select_backward.default")
def _select_backward(builder: ProgramBuilder, x: Operand, shape: Sequence[int], dim: int, index: int) -> Operand:
    wanted = tuple(shape)
    dim = dim % len(wanted)
    return _set_in_zeros(builder, unsqueeze(builder, x, dim), wanted, dim, index % wanted[dim], 1)


@lowers("slice_backward.default")
def _slice_backward(
    builder: ProgramBuilder, x: Operand, shape: Sequence[int], dim: int, start: int, end: int, step: int
) -> Operand:
    wanted = tuple(shape)
    dim = dim % len(wanted)
    first, _, step = slice(start, end, step).indices(wanted[dim])
    return _set_in_zeros(builder, x, wanted, dim, first, step)


def _set_in_zeros(
    builder: ProgramBuilder, x: Operand, shape: tuple[int, ...], dim: int, first: int, step: int
) -> Operand:
    if x.shape == shape:
        return x
    out = builder.allocate(shape)
    builder.kernels.append(Fill(out, Constant(0.0, shape)))
    strides = (*out.strides[:dim], out.strides[dim] * step, *out.strides[dim + 1 :])
    builder.kernels.append(Fill(View(out.buffer, x.shape, strides, first * out.strides[dim]), x))
    return out


@lowers("cat.default")
def _cat(builder: ProgramBuilder, parts: Sequence[Operand], dim: int = 0) -> Operand:
    dim = dim % len(parts[0].shape)
    shape = (*parts[0].shape[:dim], sum(part.shape[dim] for part in parts), *parts[0].shape[dim + 1 :])
    out, first = builder.allocate(shape), 0
    for part in parts:
        builder.kernels.append(Fill(View(out.buffer, part.shape, out.strides, first * out.strides[dim]), part))
        first += part.shape[dim]
    return out


@lowers("stack.default")
def _stack(builder: ProgramBuilder, parts: Sequence[Operand], dim: int = 0) -> Operand:
    at = dim % (len(parts[0].shape) + 1)
    return _cat(builder, [unsqueeze(builder, part, at) for part in parts], at)


@lowers("empty_like.default")
def _empty_like(builder: ProgramBuilder, x: Operand, **_: Any) -> Operand:
    return Constant(math.nan, x.shape)  # NaN shows where it is read by mistake


@lowers("full.default", "new_full.default")
def _full(builder: ProgramBuilder, *arguments: Any, **_: Any) -> Operand:
    shape, value = arguments[-2:]
    return Constant(float(value), tuple(shape))


@lowers("full_like.default")
def _full_like(builder: ProgramBuilder, x: Operand, value: float, **_: Any) -> Operand:
    return Constant(float(value), x.shape)


@lowers("ones.default", "new_ones.default")
def _ones(builder: ProgramBuilder, *arguments: Any, **_: Any) -> Operand:
    return Constant(1.0, tuple(arguments[-1]))


@lowers("zeros.default", "new_zeros.default")
def _zeros(builder: ProgramBuilder, *arguments: Any, **_: Any) -> Operand:
    return Constant(0.0, tuple(arguments[-1]))


@lowers("ones_like.default")
def _ones_like(builder: ProgramBuilder, x: Operand, **_: Any) -> Operand:
    return Constant(1.0, x.shape)


@lowers("zeros_like.default")
def _zeros_like(builder: ProgramBuilder, x: Operand, **_: Any) -> Operand:
    return Constant(0.0, x.shape)


@lowers("scalar_tensor.default")
def _scalar_tensor(builder: ProgramBuilder, value: float, **_: Any) -> Operand:
    return Constant(float(value), ())


@lowers("diagonal.default", view=True)
def diagonal(builder: ProgramBuilder, x: Operand, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Operand:
    """Take the main diagonal of two dimensions, as the last one."""
    if offset:
        raise UnsupportedError("a diagonal beside the main one")
    pair = dim1 % len(x.shape), dim2 % len(x.shape)
    kept = [i for i in range(len(x.shape)) if i not in pair]
    shape = (*(x.shape[i] for i in kept), min(x.shape[i] for i in pair))

    def change(v: View) -> View:
        strides = (*(v.strides[i] for i in kept), sum(v.strides[i] for i in pair))
        return View(v.buffer, shape, strides, v.offset)

    return map_views(x, shape, change)


@lowers("diag_embed.default")
def _diag_embed(builder: ProgramBuilder, x: Operand, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Operand:
    if (offset, dim1, dim2) != (0, -2, -1):
        raise UnsupportedError("a diagonal beside the main one")
    return _diagonal_scatter(builder, Constant(0.0, (*x.shape, x.shape[-1])), x, offset, dim1, dim2)


@lowers("diagonal_scatter.default")
def _diagonal_scatter(
    builder: ProgramBuilder, x: Operand, part: Operand, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Operand:
    out = builder.allocate(x.shape)
    builder.kernels.append(Fill(out, x))
    place = diagonal(builder, out, offset, dim1, dim2)
    assert isinstance(place, View)
    builder.kernels.append(Fill(place, part))
    return out


@lowers("tril.default", "triu.default")
def _triangle(builder: ProgramBuilder, x: Operand, offset: int = 0) -> Operand:
    part = torch.triu if "triu" in str(builder.node.target) else torch.tril
    mask = builder.constant_tensor(part(torch.ones(x.shape[-2:]), offset))
    return formula("where", mask, x, 0.0)


@lowers("eye.default", "eye.m")
def _eye(builder: ProgramBuilder, rows: int, columns: int | None = None, **_: Any) -> Operand:
    return builder.constant_tensor(torch.eye(rows, rows if columns is None else columns))
