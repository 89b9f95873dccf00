"""The function of many meta-steps: draw tasks, work out their meta-gradients in lanes, and take steps of AdamW."""

from __future__ import annotations

from dataclasses import dataclass

from metaest.jit.codegen.task import task_text
from metaest.jit.codegen.vector_math import definitions
from metaest.jit.ir import Program
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["EpisodeShapes", "RowsShape", "StepsText", "steps_text"]


@dataclass(frozen=True)
class RowsShape:
    """Support or query of a program's tasks.

    Attributes
    ----------
    rows : int
        To which a task is padded.
    masked : bool
        Whether the program takes a mask: where some tasks have fewer rows.
    """

    rows: int
    masked: bool


@dataclass(frozen=True)
class EpisodeShapes:
    """What the episodes of every meta-step look like.

    Parameters
    ----------
    support, query : RowsShape
    features : tuple of int
        Shape of a row of X.
    targets : int
    """

    support: RowsShape
    query: RowsShape
    features: tuple[int, ...]
    targets: int


@dataclass(frozen=True)
class StepsText:
    """Text of ``@steps`` and how much memory it works in.

    Attributes
    ----------
    text : str
    arena : int
        Vectors.
    """

    text: str
    arena: int


def steps_text(
    program: Program, kind: VectorType, sizes: list[int], sides: tuple[RowsShape, RowsShape], columns: int, targets: int
) -> StepsText:
    """Write the function of many meta-steps.

    Parameters
    ----------
    program : Program
        Inputs: the parameters, then X, y and, where masked, the mask of the support and of the query; outputs: a task's
        loss, and its gradient with respect to each parameter.
    kind : VectorType
    sizes : list of int
        Numbers in each parameter.
    sides : tuple of RowsShape
    columns, targets : int
        In X and in y.
    """
    task, vector, number = task_text(program, kind), kind.vector, kind.scalar
    align = kind.bits * kind.lanes // 8
    total = sum(sizes)
    lines: list[str] = []
    put = lines.append
    offset = task.arena

    def place(name: str, count: int) -> str:
        nonlocal offset
        put(f"  {name} = getelementptr inbounds {vector}, ptr %arena, i64 {offset}")
        offset += count
        return name

    inputs, first = [], 0
    for i, size in enumerate(sizes):
        put(f"  %theta{i} = getelementptr inbounds {number}, ptr %theta, i64 {first}")
        inputs.append(f"%theta{i}")
        first += size
    gathers = []
    for name, side in zip("sq", sides, strict=True):
        own = [place(f"%{name}X", side.rows * columns), place(f"%{name}y", side.rows * targets)]
        own += [place(f"%{name}m", side.rows)] if side.masked else []
        inputs += own
        gathers.append((name, side, own))
    outputs = [place("%loss", 1), *(place(f"%g{i}", size) for i, size in enumerate(sizes))]
    gradient = outputs[1]
    summed, lossed = place("%summed", total), place("%lossed", 1)
    given = ", ".join(f"ptr {own}" for own in (*inputs, *outputs, "%constants", "%arena"))

    body = "\n".join(lines)
    gather = "\n".join(_gather(name, side, columns, targets, own, kind) for name, side, own in gathers)
    text = f"""
define i64 @steps(ptr noalias %theta, ptr noalias %first, ptr noalias %second, ptr noalias %decay,
    ptr noalias %gradient, ptr noalias %X, ptr noalias %y, ptr noalias %sindex, ptr noalias %scount,
    ptr noalias %qindex, ptr noalias %qcount, ptr noalias %weights, ptr noalias %schedule, ptr noalias %losses,
    ptr noalias %constants, ptr noalias %arena, i64 %steps, i64 %groups, {number} %longest) {{
entry:
{body}
  br label %step
step:
  %k = phi i64 [ 0, %entry ], [ %k1, %updated ]
  call void @llvm.memset.p0.i64(ptr align {align} {summed}, i8 0, i64 {(total + 1) * align}, i1 false)
  br label %group
group:
  %g = phi i64 [ 0, %step ], [ %gnext, %added ]
  %kg = mul nuw nsw i64 %k, %groups
  %at = add nuw nsw i64 %kg, %g
  %lane0 = mul nuw nsw i64 %at, {kind.lanes}
{gather}
  call void @task({given})
  %wplace = getelementptr inbounds {vector}, ptr %weights, i64 %g
  %w = load {vector}, ptr %wplace, align {align}
  br label %add
add:
  %a = phi i64 [ 0, %group_done ], [ %anext, %add ]
  %gp = getelementptr inbounds {vector}, ptr {gradient}, i64 %a
  %gv = load {vector}, ptr %gp, align {align}
  %sp = getelementptr inbounds {vector}, ptr {summed}, i64 %a
  %sv = load {vector}, ptr %sp, align {align}
  %gw = fmul contract {vector} %gv, %w
  %sn = fadd contract {vector} %sv, %gw
  store {vector} %sn, ptr %sp, align {align}
  %anext = add nuw nsw i64 %a, 1
  %amore = icmp ult i64 %anext, {total}
  br i1 %amore, label %add, label %added
added:
  %lv = load {vector}, ptr %loss, align {align}
  %lt = load {vector}, ptr {lossed}, align {align}
  %lw = fmul contract {vector} %lv, %w
  %ln = fadd contract {vector} %lt, %lw
  store {vector} %ln, ptr {lossed}, align {align}
  %gnext = add nuw nsw i64 %g, 1
  %gmore = icmp ult i64 %gnext, %groups
  br i1 %gmore, label %group, label %reduce
reduce:
  %r = phi i64 [ 0, %added ], [ %rnext, %reduce ]
  %norm2 = phi {number} [ {kind.literal(0.0)}, %added ], [ %norm2next, %reduce ]
  %rp = getelementptr inbounds {vector}, ptr {summed}, i64 %r
  %rv = load {vector}, ptr %rp, align {align}
  %rs = call reassoc {number} @llvm.vector.reduce.fadd.{kind.suffix}({number} {kind.literal(-0.0)}, {vector} %rv)
  %ro = getelementptr inbounds {number}, ptr %gradient, i64 %r
  store {number} %rs, ptr %ro
  %square = fmul {number} %rs, %rs
  %norm2next = fadd {number} %norm2, %square
  %rnext = add nuw nsw i64 %r, 1
  %rmore = icmp ult i64 %rnext, {total}
  br i1 %rmore, label %reduce, label %judge
judge:
  %lossv = load {vector}, ptr {lossed}, align {align}
  %losss = call reassoc {number} @llvm.vector.reduce.fadd.{kind.suffix}({number} {kind.literal(-0.0)}, {vector} %lossv)
  %lossp = getelementptr inbounds {number}, ptr %losses, i64 %k
  store {number} %losss, ptr %lossp
  %finite = fadd {number} %losss, %norm2next
  %zero = fmul {number} %finite, {kind.literal(0.0)}
  %good = fcmp oeq {number} %zero, {kind.literal(0.0)}
  br i1 %good, label %update, label %stopped
stopped:
  ret i64 %k
update:
  %norm = call {number} @llvm.sqrt.f{kind.bits}({number} %norm2next)
  %long = fcmp ogt {number} %norm, %longest
  %ratio = fdiv {number} %longest, %norm
  %clip = select i1 %long, {number} %ratio, {number} {kind.literal(1.0)}
  %row = mul nuw nsw i64 %k, 3
  %ratep = getelementptr inbounds {number}, ptr %schedule, i64 %row
  %rate = load {number}, ptr %ratep
  %biasp = getelementptr inbounds {number}, ptr %ratep, i64 1
  %bias1 = load {number}, ptr %biasp
  %biasq = getelementptr inbounds {number}, ptr %ratep, i64 2
  %bias2 = load {number}, ptr %biasq
  %size = fdiv {number} %rate, %bias1
  %root2 = call {number} @llvm.sqrt.f{kind.bits}({number} %bias2)
  br label %adam
adam:
  %p = phi i64 [ 0, %update ], [ %pnext, %adam ]
  %pg = getelementptr inbounds {number}, ptr %gradient, i64 %p
  %raw = load {number}, ptr %pg
  %grad = fmul {number} %raw, %clip
  %pm = getelementptr inbounds {number}, ptr %first, i64 %p
  %m = load {number}, ptr %pm
  %away = fsub {number} %grad, %m
  %awayb = fmul contract {number} %away, {kind.literal(1 - 0.9)}
  %mn = fadd contract {number} %m, %awayb
  store {number} %mn, ptr %pm
  %pv = getelementptr inbounds {number}, ptr %second, i64 %p
  %v = load {number}, ptr %pv
  %vb = fmul contract {number} %v, {kind.literal(0.999)}
  %gg = fmul {number} %grad, %grad
  %ggb = fmul contract {number} %gg, {kind.literal(1 - 0.999)}
  %vn = fadd contract {number} %vb, %ggb
  store {number} %vn, ptr %pv
  %root = call {number} @llvm.sqrt.f{kind.bits}({number} %vn)
  %scaled = fdiv {number} %root, %root2
  %below = fadd {number} %scaled, {kind.literal(1e-8)}
  %pt = getelementptr inbounds {number}, ptr %theta, i64 %p
  %t = load {number}, ptr %pt
  %pd = getelementptr inbounds {number}, ptr %decay, i64 %p
  %d = load {number}, ptr %pd
  %rd = fmul {number} %rate, %d
  %keep = fsub {number} {kind.literal(1.0)}, %rd
  %tk = fmul {number} %t, %keep
  %step_m = fmul {number} %mn, %size
  %move = fdiv {number} %step_m, %below
  %tn = fsub {number} %tk, %move
  store {number} %tn, ptr %pt
  %pnext = add nuw nsw i64 %p, 1
  %pmore = icmp ult i64 %pnext, {total}
  br i1 %pmore, label %adam, label %updated
updated:
  %k1 = add nuw nsw i64 %k, 1
  %kmore = icmp ult i64 %k1, %steps
  br i1 %kmore, label %step, label %done
done:
  ret i64 %k1
}}
"""
    declarations = (
        f"declare {number} @llvm.vector.reduce.fadd.{kind.suffix}({number}, {vector})\n"
        f"declare {number} @llvm.sqrt.f{kind.bits}({number})\n"
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n"
    )
    return StepsText(definitions(kind) + declarations + task.text + text, offset)


def _gather(name: str, side: RowsShape, columns: int, targets: int, own: list[str], kind: VectorType) -> str:
    """Write loops that bring rows of a group's tasks into lanes."""
    number, rows = kind.scalar, side.rows
    copies = []
    for source, out, count in (("X", own[0], columns), ("y", own[1], targets)):
        base = f"%{name}{source}b"
        copies.append(f"  {base} = mul nuw nsw i64 %{name}row, {count}")
        copies.append(f"  {base}o = mul nuw nsw i64 %{name}r, {count * kind.lanes}")
        copies.append(f"  {base}l = add nuw nsw i64 {base}o, %{name}l")
        for c in range(count):
            copies.append(f"  {base}i{c} = add nuw nsw i64 {base}, {c}")
            copies.append(f"  {base}p{c} = getelementptr inbounds {number}, ptr %{source}, i64 {base}i{c}")
            copies.append(f"  {base}v{c} = load {number}, ptr {base}p{c}")
            copies.append(f"  {base}j{c} = add nuw nsw i64 {base}l, {c * kind.lanes}")
            copies.append(f"  {base}q{c} = getelementptr inbounds {number}, ptr {out}, i64 {base}j{c}")
            copies.append(f"  store {number} {base}v{c}, ptr {base}q{c}")
    if side.masked:
        copies += [
            f"  %{name}mo = mul nuw nsw i64 %{name}r, {kind.lanes}",
            f"  %{name}mj = add nuw nsw i64 %{name}mo, %{name}l",
            f"  %{name}mq = getelementptr inbounds {number}, ptr {own[2]}, i64 %{name}mj",
            f"  %{name}cp = getelementptr inbounds i32, ptr %{name}count, i64 %{name}lane",
            f"  %{name}c = load i32, ptr %{name}cp",
            f"  %{name}c64 = zext i32 %{name}c to i64",
            f"  %{name}in = icmp ult i64 %{name}r, %{name}c64",
            f"  %{name}mv = select i1 %{name}in, {number} {kind.literal(1.0)}, {number} {kind.literal(0.0)}",
            f"  store {number} %{name}mv, ptr %{name}mq",
        ]
    before, after = ("group", "sdone") if name == "s" else ("sdone", "group_done")
    inner = "\n".join(copies)
    return f"""  br label %{name}rows
{name}rows:
  %{name}r = phi i64 [ 0, %{before} ], [ %{name}rn, %{name}rowdone ]
  br label %{name}lanes
{name}lanes:
  %{name}l = phi i64 [ 0, %{name}rows ], [ %{name}ln, %{name}lanes ]
  %{name}lane = add nuw nsw i64 %lane0, %{name}l
  %{name}i0 = mul nuw nsw i64 %{name}lane, {rows}
  %{name}i1 = add nuw nsw i64 %{name}i0, %{name}r
  %{name}ip = getelementptr inbounds i32, ptr %{name}index, i64 %{name}i1
  %{name}i = load i32, ptr %{name}ip
  %{name}row = zext i32 %{name}i to i64
{inner}
  %{name}ln = add nuw nsw i64 %{name}l, 1
  %{name}lmore = icmp ult i64 %{name}ln, {kind.lanes}
  br i1 %{name}lmore, label %{name}lanes, label %{name}rowdone
{name}rowdone:
  %{name}rn = add nuw nsw i64 %{name}r, 1
  %{name}rmore = icmp ult i64 %{name}rn, {rows}
  br i1 %{name}rmore, label %{name}rows, label %{after}
{after}:"""
