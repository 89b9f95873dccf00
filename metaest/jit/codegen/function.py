"""The function of many tasks on the first axis: the same program on each group of them."""

from __future__ import annotations

from metaest.jit.codegen.task import task_text
from metaest.jit.codegen.vector_math import definitions
from metaest.jit.ir import Program
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["function_text"]


def function_text(program: Program, vector: VectorType) -> tuple[str, int]:
    """Write ``@many(ptr inputs..., ptr outputs..., ptr constants, ptr arena, i64 tasks)``.

    Arrays that are not shared by all tasks have shape (tasks, numbers).

    Parameters
    ----------
    program : Program
    vector : VectorType

    Returns
    -------
    str
        A module.
    int
        Numbers of memory that its arena needs.
    """
    task, floats = task_text(program, vector), vector.floats
    offset, places, given = task.arena, [], []
    gathers, scatters, before = [], [], "group"
    for i, buffer in enumerate(program.inputs):
        if buffer.shared:
            given.append(f"%in{i}")
            continue
        places.append(f"  %ip{i} = getelementptr inbounds {floats}, ptr %arena, i64 {offset}")
        offset += buffer.size
        given.append(f"%ip{i}")
        gathers.append(_moved(f"i{i}", buffer.size, f"%in{i}", f"%ip{i}", before, vector, inwards=True))
        before = f"i{i}_done"
    gathers.append("  br label %work\nwork:")
    before = "work"
    for i, buffer in enumerate(program.outputs):
        places.append(f"  %op{i} = getelementptr inbounds {floats}, ptr %arena, i64 {offset}")
        offset += buffer.size
        given.append(f"%op{i}")
        scatters.append(_moved(f"o{i}", buffer.size, f"%op{i}", f"%out{i}", before, vector, inwards=False))
        before = f"o{i}_done"
    pointers = [f"ptr noalias %in{i}" for i in range(len(program.inputs))]
    pointers += [f"ptr noalias %out{i}" for i in range(len(program.outputs))]
    call = ", ".join(f"ptr {pointer}" for pointer in (*given, "%constants", "%arena"))
    here, onwards, back, work = "\n".join(places), "\n".join(gathers), "\n".join(scatters), task.text
    return (
        f"""{definitions(vector, wide=program.wide)}
declare i64 @llvm.umin.i64(i64, i64)
{work}
define void @many({", ".join(pointers)}, ptr noalias %constants, ptr noalias %arena, i64 %tasks) {{
entry:
{here}
  %last = sub i64 %tasks, 1
  br label %group
group:
  %first = phi i64 [ 0, %entry ], [ %next, %{before} ]
  %left = sub i64 %tasks, %first
  %width = call i64 @llvm.umin.i64(i64 %left, i64 {vector.lanes})
{onwards}
  call void @task({call})
{back}
  %next = add nuw nsw i64 %first, {vector.lanes}
  %more = icmp ult i64 %next, %tasks
  br i1 %more, label %group, label %end
end:
  ret void
}}
""",
        offset * vector.lanes,
    )


def _moved(name: str, size: int, source: str, target: str, before: str, vector: VectorType, *, inwards: bool) -> str:
    """Write loops that bring numbers of tasks into lanes, or back; without tasks left, lanes repeat the last one."""
    number, lanes = vector.scalar, str(vector.lanes) if inwards else "%width"
    flat = f"{name}flat"
    reading, writing = (f"%{flat}", f"%{name}lane") if inwards else (f"%{name}lane", f"%{flat}")
    return f"""  br label %{name}_task
{name}_task:
  %{name}l = phi i64 [ 0, %{before} ], [ %{name}ln, %{name}_next ]
  %{name}t0 = add nuw nsw i64 %first, %{name}l
  %{name}t = call i64 @llvm.umin.i64(i64 %{name}t0, i64 %last)
  %{name}base = mul nuw nsw i64 %{name}t, {size}
  br label %{name}_number
{name}_number:
  %{name}e = phi i64 [ 0, %{name}_task ], [ %{name}en, %{name}_number ]
  %{flat} = add nuw nsw i64 %{name}base, %{name}e
  %{name}el = mul nuw nsw i64 %{name}e, {vector.lanes}
  %{name}lane = add nuw nsw i64 %{name}el, %{name}l
  %{name}from = getelementptr inbounds {number}, ptr {source}, i64 {reading}
  %{name}v = load {number}, ptr %{name}from
  %{name}to = getelementptr inbounds {number}, ptr {target}, i64 {writing}
  store {number} %{name}v, ptr %{name}to
  %{name}en = add nuw nsw i64 %{name}e, 1
  %{name}emore = icmp ult i64 %{name}en, {size}
  br i1 %{name}emore, label %{name}_number, label %{name}_next
{name}_next:
  %{name}ln = add nuw nsw i64 %{name}l, 1
  %{name}lmore = icmp ult i64 %{name}ln, {lanes}
  br i1 %{name}lmore, label %{name}_task, label %{name}_done
{name}_done:"""
