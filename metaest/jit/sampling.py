"""Row numbers of the tasks of many meta-steps, by sorting the random numbers drawn for their rows."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.jit.codegen.writer import Writer
from metaest.jit.llvm.compile import compile_function
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["MOST_RANKED_ROWS", "EpisodeDraws", "split_by_keys"]

# rows of a task up to which comparing all pairs is quicker than sorting
MOST_RANKED_ROWS = 32


class EpisodeDraws(NamedTuple):
    """Row numbers of the tasks of some meta-steps.

    Attributes
    ----------
    support, query : ndarray of int32, shape (steps, tasks, rows)
        Padded with a row of the same task.
    support_count, query_count : ndarray of int32, shape (steps, tasks)
        How many of them count.
    rows : tuple of Tensor
        X and y, of which these are row numbers.
    """

    support: NDArray[np.int32]
    support_count: NDArray[np.int32]
    query: NDArray[np.int32]
    query_count: NDArray[np.int32]
    rows: tuple[Tensor, Tensor]

    def part(self, first: int, count: int) -> EpisodeDraws:
        """Return some of the steps."""
        place = slice(first, first + count)
        support, query = self.support[place], self.query[place]
        return EpisodeDraws(support, self.support_count[place], query, self.query_count[place], self.rows)


def split_by_keys(
    keys: NDArray[np.float64],
    sizes: NDArray[np.intp],
    starts: NDArray[np.intp],
    n_support: NDArray[np.intp],
    n_steps: int,
    width_support: int,
    width_query: int,
    rows: tuple[Tensor, Tensor],
) -> EpisodeDraws:
    """Take as support of each task the rows with the smallest keys, and as query the others.

    Parameters
    ----------
    keys : ndarray of shape (n_steps * n_tasks, n_columns)
        Infinite beyond a task's rows.
    sizes, starts, n_support : ndarray of int, shape (n_steps * n_tasks,)
        Rows of each task, the number of its first one, and how many are support.
    n_steps : int
    width_support, width_query : int
        To which they are padded.
    rows : tuple of Tensor
        X and y of all tasks.

    Returns
    -------
    EpisodeDraws
    """
    shape = n_steps, len(sizes) // n_steps
    support, query = (np.empty((*shape, width), dtype=np.int32) for width in (width_support, width_query))
    given = [np.ascontiguousarray(own, dtype=np.int64) for own in (sizes, starts, n_support)]
    arrays: tuple[NDArray[Any], ...] = (np.ascontiguousarray(keys), *given, support, query)
    call = compile_function(_text(keys.shape[1]), "order", [ctypes.c_void_p] * 6 + [ctypes.c_int64] * 3)
    call(*(own.ctypes.data for own in arrays), len(sizes), width_support, width_query)
    counts = [own.astype(np.int32).reshape(shape) for own in (n_support, sizes - n_support)]
    return EpisodeDraws(support, counts[0], query, counts[1], rows)


@cache
def _text(columns: int) -> str:
    """Write a function that ranks the rows of eight tasks at a time: of each pair, one is after the other."""
    kind = VectorType(64, 8)
    w, longs = Writer(kind), kind.integers
    tasks = [w.put(f"call i64 @llvm.umin.i64(i64 %t{lane}, i64 %last)") for lane in range(8)]
    rows = [w.put(f"mul nuw nsw i64 {task}, {columns}") for task in tasks]
    keys, ranks = [], ["zeroinitializer"] * columns
    for i in range(columns):
        key = "poison"
        for lane, row in enumerate(rows):
            at = w.linear([(row, 1)], i)
            place = w.put(f"getelementptr inbounds double, ptr %keys, i64 {at}")
            own = w.put(f"load double, ptr {place}")
            key = w.put(f"insertelement {kind.vector} {key}, double {own}, i64 {lane}")
        keys.append(key)
    for i in range(columns):
        for j in range(i + 1, columns):
            first = w.put(f"zext {kind.bools} {w.compare('ole', keys[i], keys[j])} to {longs}")
            ranks[j] = w.put(f"add {longs} {ranks[j]}, {first}")
            # one is added to the other: there are as many pairs as it has rows behind it
            ranks[i] = w.put(f"sub {longs} {ranks[i]}, {first}")
        ranks[i] = w.put(f"add {longs} {ranks[i]}, {kind.splat_integer(columns - 1 - i)}")
    for i, rank in enumerate(ranks):
        place = w.put(f"getelementptr inbounds {longs}, ptr %ranks, i64 {i}")
        w.do(f"store {longs} {rank}, ptr {place}, align 64")
    numbers = "\n".join(f"  %t{lane} = add nuw nsw i64 %t0, {lane}" for lane in range(1, 8))
    body = "\n".join(w.lines)
    return f"""
declare i64 @llvm.umin.i64(i64, i64)
define void @order(ptr noalias %keys, ptr noalias %sizes, ptr noalias %starts, ptr noalias %counts,
    ptr noalias %support, ptr noalias %query, i64 %tasks, i64 %ws, i64 %wq) {{
entry:
  %ranks = alloca [{columns} x {longs}], align 64
  %nowhere = alloca i32
  %last = sub i64 %tasks, 1
  br label %eight
eight:
  %t0 = phi i64 [ 0, %entry ], [ %next, %done ]
{numbers}
{body}
  br label %task
task:
  %lane = phi i64 [ 0, %eight ], [ %lane_n, %task_done ]
  %t_raw = add nuw nsw i64 %t0, %lane
  %t = call i64 @llvm.umin.i64(i64 %t_raw, i64 %last)
  %size_p = getelementptr inbounds i64, ptr %sizes, i64 %t
  %size = load i64, ptr %size_p
  %start_p = getelementptr inbounds i64, ptr %starts, i64 %t
  %start = load i64, ptr %start_p
  %start32 = trunc i64 %start to i32
  %count_p = getelementptr inbounds i64, ptr %counts, i64 %t
  %count = load i64, ptr %count_p
  %s0 = mul nuw nsw i64 %t, %ws
  %sup = getelementptr inbounds i32, ptr %support, i64 %s0
  %q0 = mul nuw nsw i64 %t, %wq
  %que = getelementptr inbounds i32, ptr %query, i64 %q0
  br label %pad_s
pad_s:
  %ps = phi i64 [ 0, %task ], [ %psn, %pad_s ]
  %psp = getelementptr inbounds i32, ptr %sup, i64 %ps
  store i32 %start32, ptr %psp
  %psn = add nuw nsw i64 %ps, 1
  %psm = icmp ult i64 %psn, %ws
  br i1 %psm, label %pad_s, label %pad_q
pad_q:
  %pq = phi i64 [ 0, %pad_s ], [ %pqn, %pad_q ]
  %pqp = getelementptr inbounds i32, ptr %que, i64 %pq
  store i32 %start32, ptr %pqp
  %pqn = add nuw nsw i64 %pq, 1
  %pqm = icmp ult i64 %pqn, %wq
  br i1 %pqm, label %pad_q, label %row
row:
  %i = phi i64 [ 0, %pad_q ], [ %in, %row ]
  %i8 = mul nuw nsw i64 %i, 8
  %ri = add nuw nsw i64 %i8, %lane
  %rp = getelementptr inbounds i64, ptr %ranks, i64 %ri
  %rank = load i64, ptr %rp
  %number = add nuw nsw i64 %start, %i
  %row32 = trunc i64 %number to i32
  %is_support = icmp ult i64 %rank, %count
  %behind = sub nsw i64 %rank, %count
  %at = select i1 %is_support, i64 %rank, i64 %behind
  %side = select i1 %is_support, ptr %sup, ptr %que
  %place = getelementptr i32, ptr %side, i64 %at
  %there = icmp ult i64 %i, %size
  %out = select i1 %there, ptr %place, ptr %nowhere
  store i32 %row32, ptr %out
  %in = add nuw nsw i64 %i, 1
  %im = icmp ult i64 %in, {columns}
  br i1 %im, label %row, label %task_done
task_done:
  %lane_n = add nuw nsw i64 %lane, 1
  %lane_m = icmp ult i64 %lane_n, 8
  br i1 %lane_m, label %task, label %done
done:
  %next = add nuw nsw i64 %t0, 8
  %more = icmp ult i64 %next, %tasks
  br i1 %more, label %eight, label %end
end:
  ret void
}}
"""
