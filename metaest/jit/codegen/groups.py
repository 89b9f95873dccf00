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
    for own, size in (*inputs.items(), *outputs.items()):
        places.append(f"  %{own}_v = getelementptr inbounds {floats}, ptr %arena, i64 {offset}")
        offset += size
    for own, size in inputs.items():
        gathers.append(_moved(own, size, before, vector, inwards=True))
        before = f"{own}_done"
    before = "scattered"
    for own, size in outputs.items():
        scatters.append(_moved(own, size, before, vector, inwards=False))
        before = f"{own}_done"
    pointers = ", ".join(f"ptr noalias %{own}" for own in (*inputs, *outputs, *shared, "arena"))
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
    own, align = f"%{name}", vector.bits // 8
    source, target = (f"{own}_p", f"{own}_q") if inwards else (f"{own}_q", f"{own}_p")
    wide = align * vector.lanes
    read, written = (align, wide) if inwards else (wide, align)
    return f"""  br label {own}_next
{name}_next:
  {own}_e = phi i64 [ 0, %{before} ], [ {own}_en, {own}_next ]
  {own}_row = mul nuw nsw i64 {own}_e, %tasks
  {own}_i = add nuw nsw i64 {own}_row, %first
  {own}_p = getelementptr inbounds {vector.scalar}, ptr {own}, i64 {own}_i
  {own}_q = getelementptr inbounds {vector.floats}, ptr {own}_v, i64 {own}_e
  {own}_x = load {vector.floats}, ptr {source}, align {read}
  store {vector.floats} {own}_x, ptr {target}, align {written}
  {own}_en = add nuw nsw i64 {own}_e, 1
  {own}_m = icmp ult i64 {own}_en, {size}
  br i1 {own}_m, label {own}_next, label {own}_done
{name}_done:"""
