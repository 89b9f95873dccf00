"""The function that draws the rows of tasks: it ranks random keys, of which the smallest become the support."""

from __future__ import annotations

from functools import cache

from metaest.jit.codegen.writer import Writer
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["row_order_text"]


@cache
def row_order_text(columns: int) -> str:
    """Write ``@order(ptr keys, sizes, starts, counts, support, query, i64 tasks, ws, wq)``.

    Eight tasks at a time are ranked in the lanes of vectors, then one after the other is written out: the rows with the
    smallest `counts` keys to `support`, which has room for `ws` rows of a task, and the others to `query`.

    Parameters
    ----------
    columns : int
        Most rows of a task, as many as it has keys.
    """
    return "\n" + _begin(columns) + _rank_eight_tasks(columns) + _begin_task() + _pad() + _place_rows(columns) + _end()


def _rank_eight_tasks(columns: int) -> str:
    """Write the ranks of the rows of eight tasks: of each pair of rows, one is after the other."""
    vector = VectorType(64, 8)
    w, longs = Writer(vector), vector.integers
    tasks = [w.put(f"call i64 @llvm.umin.i64(i64 %t{lane}, i64 %last)") for lane in range(8)]
    rows = [w.put(f"mul nuw nsw i64 {task}, {columns}") for task in tasks]
    keys, ranks = [], ["zeroinitializer"] * columns
    for i in range(columns):
        key = "poison"
        for lane, row in enumerate(rows):
            at = w.linear([(row, 1)], i)
            place = w.put(f"getelementptr inbounds double, ptr %keys, i64 {at}")
            number = w.put(f"load double, ptr {place}")
            key = w.put(f"insertelement {vector.floats} {key}, double {number}, i64 {lane}")
        keys.append(key)
    for i in range(columns):
        for j in range(i + 1, columns):
            first = w.put(f"zext {vector.bools} {w.compare('ole', keys[i], keys[j])} to {longs}")
            ranks[j] = w.put(f"add {longs} {ranks[j]}, {first}")
            # one is added to the other: there are as many pairs as it has rows behind it
            ranks[i] = w.put(f"sub {longs} {ranks[i]}, {first}")
        ranks[i] = w.put(f"add {longs} {ranks[i]}, {vector.splat_integer(columns - 1 - i)}")
    for i, rank in enumerate(ranks):
        place = w.put(f"getelementptr inbounds {longs}, ptr %ranks, i64 {i}")
        w.do(f"store {longs} {rank}, ptr {place}, align 64")
    numbers = "\n".join(f"  %t{lane} = add nuw nsw i64 %t0, {lane}" for lane in range(1, 8))
    return "\n".join([numbers, *w.lines]) + "\n  br label %task\n"


def _begin(columns: int) -> str:
    """Write the signature, and the start of a group of eight tasks."""
    longs = VectorType(64, 8).integers
    return f"""declare i64 @llvm.umin.i64(i64, i64)
define void @order(ptr noalias %keys, ptr noalias %sizes, ptr noalias %starts, ptr noalias %counts,
    ptr noalias %support, ptr noalias %query, i64 %tasks, i64 %ws, i64 %wq) {{
entry:
  %ranks = alloca [{columns} x {longs}], align 64
  %nowhere = alloca i32
  %last = sub i64 %tasks, 1
  br label %eight
eight:
  %t0 = phi i64 [ 0, %entry ], [ %next, %done ]
"""


def _begin_task() -> str:
    """Write the start of a task: the places of its rows, and of its support and query."""
    return """task:
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
"""


def _pad() -> str:
    """Write the first row of a task to all places, of which some are not written again."""
    return _pad_part("s", "sup", "task", "pad_q") + _pad_part("q", "que", "pad_s", "row")


def _pad_part(part: str, places: str, before: str, after: str) -> str:
    """Write the first row of a task to all places of its support or of its query, between two other blocks."""
    return f"""pad_{part}:
  %p{part} = phi i64 [ 0, %{before} ], [ %p{part}n, %pad_{part} ]
  %p{part}p = getelementptr inbounds i32, ptr %{places}, i64 %p{part}
  store i32 %start32, ptr %p{part}p
  %p{part}n = add nuw nsw i64 %p{part}, 1
  %p{part}m = icmp ult i64 %p{part}n, %w{part}
  br i1 %p{part}m, label %pad_{part}, label %{after}
"""


def _place_rows(columns: int) -> str:
    """Write each row of a task to the place of its rank."""
    return f"""row:
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
"""


def _end() -> str:
    """Write the ends of the loops over tasks."""
    return """task_done:
  %lane_n = add nuw nsw i64 %lane, 1
  %lane_m = icmp ult i64 %lane_n, 8
  br i1 %lane_m, label %task, label %done
done:
  %next = add nuw nsw i64 %t0, 8
  %more = icmp ult i64 %next, %tasks
  br i1 %more, label %eight, label %end
end:
  ret void
}
"""
