"""A function of many tasks that stand on the last axis: as many at a time as a vector has lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metaest.jit.llvm.vector_type import VectorType

__all__ = ["over_groups"]


def over_groups(
    name: str,
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    shared: Sequence[str],
    body: str,
    vector: VectorType,
    offset: int,
) -> tuple[str, int]:
    """Write ``@name(ptr inputs..., ptr outputs..., ptr shared..., ptr arena, i64 tasks, i64 most)``.

    The last group overlaps the one before it, so that all loads are whole vectors: there must be at least as many tasks
    as lanes, and no output may lie over an input.

    Parameters
    ----------
    name : str
    inputs, outputs : mapping of str to int
        Names of arrays of shape (numbers, tasks), and their numbers.
    shared : sequence of str
        Pointers to what is the same for all tasks.
    body : str
        What is done with a group: its numbers lie at ``%<name>_v``, one vector each; it starts in a block of its own
        and ends where ``%scattered`` may be jumped to.
    vector : VectorType
    offset : int
        Vectors of the arena that the body needs.

    Returns
    -------
    str
    int
        Vectors that the arena needs.
    """
    floats, places, gathers, scatters = vector.floats, [], [], []
    before = "group"
    for array, size in (*inputs.items(), *outputs.items()):
        places.append(f"  %{array}_v = getelementptr inbounds {floats}, ptr %arena, i64 {offset}")
        offset += size
    for array, size in inputs.items():
        gathers.append(_moved(array, size, before, vector, inwards=True))
        before = f"{array}_done"
    before = "scattered"
    for array, size in outputs.items():
        scatters.append(_moved(array, size, before, vector, inwards=False))
        before = f"{array}_done"
    pointers = ", ".join(f"ptr noalias %{array}" for array in (*inputs, *outputs, *shared, "arena"))
    here, onwards, back = "\n".join(places), "\n".join(gathers), "\n".join(scatters)
    return (
        f"""define void @{name}({pointers}, i64 %tasks, i64 %most) {{
entry:
{here}
  %last = sub i64 %tasks, {vector.lanes}
  br label %group
group:
  %start = phi i64 [ 0, %entry ], [ %next, %{before} ]
  %first = call i64 @llvm.umin.i64(i64 %start, i64 %last)
{onwards}
  br label %body
body:
{body}
scattered:
{back}
  %next = add nuw nsw i64 %start, {vector.lanes}
  %more = icmp ult i64 %next, %tasks
  br i1 %more, label %group, label %end
end:
  ret void
}}
""",
        offset,
    )


def _moved(name: str, size: int, before: str, vector: VectorType, *, inwards: bool) -> str:
    """Write a loop that brings the numbers of a group into the arena, or back."""
    value, align = f"%{name}", vector.bits // 8
    source, target = (f"{value}_p", f"{value}_q") if inwards else (f"{value}_q", f"{value}_p")
    wide = align * vector.lanes
    read, written = (align, wide) if inwards else (wide, align)
    return f"""  br label {value}_next
{name}_next:
  {value}_e = phi i64 [ 0, %{before} ], [ {value}_en, {value}_next ]
  {value}_row = mul nuw nsw i64 {value}_e, %tasks
  {value}_i = add nuw nsw i64 {value}_row, %first
  {value}_p = getelementptr inbounds {vector.scalar}, ptr {value}, i64 {value}_i
  {value}_q = getelementptr inbounds {vector.floats}, ptr {value}_v, i64 {value}_e
  {value}_x = load {vector.floats}, ptr {source}, align {read}
  store {vector.floats} {value}_x, ptr {target}, align {written}
  {value}_en = add nuw nsw i64 {value}_e, 1
  {value}_m = icmp ult i64 {value}_en, {size}
  br i1 {value}_m, label {value}_next, label {value}_done
{name}_done:"""
