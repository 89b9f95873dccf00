"""The function of many meta-steps: gather rows, compute meta-gradients in lanes of vectors, take steps of AdamW."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metaest.jit.codegen.task import task_text
from metaest.jit.codegen.vector_math import definitions
from metaest.jit.ir import Program
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["EpisodeShapes", "RowsShape", "StepsText", "steps_text"]

# AdamW's rates of decay of the two moments, and what is added to the root below: those of the paper and of torch
BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8


@dataclass(frozen=True)
class RowsShape:
    """Shape of the support, or of the query, of a program's tasks.

    Attributes
    ----------
    rows : int
        Rows to which a task is padded.
    masked : bool
        True where some tasks have fewer rows, so that the program takes a mask.
    """

    rows: int
    masked: bool


@dataclass(frozen=True)
class EpisodeShapes:
    """Shape of the episodes of every meta-step.

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

    @property
    def columns(self) -> int:
        """Numbers in a row of X."""
        return math.prod(self.features)


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
    program: Program, vector: VectorType, sizes: list[int], shapes: EpisodeShapes, n_weights: int = 0
) -> StepsText:
    """Write the function of many meta-steps.

    Parameters
    ----------
    program : Program
        Inputs: the parameters, then X, y and, where masked, the mask of the support and of the query, then the weights
        of the losses after each inner step where there are some; outputs: a task's loss, and its gradient with respect
        to each parameter.
    vector : VectorType
    sizes : list of int
        Numbers in each parameter.
    shapes : EpisodeShapes
    n_weights : int, default=0
        Numbers that change from one meta-step to the next, in the schedule behind its three.
    """
    task, total = task_text(program, vector), sum(sizes)
    arena = _Arena(vector, task.arena)
    thetas = arena.point_to_parameters(sizes)
    support, query = (
        arena.reserve_rows(name, rows, shapes) for name, rows in (("s", shapes.support), ("q", shapes.query))
    )
    outputs = [arena.reserve("%loss", 1), *(arena.reserve(f"%g{i}", size) for i, size in enumerate(sizes))]
    arena.reserve("%summed", total)
    arena.reserve("%lossed", 1)
    weighted = ["%inner"] if n_weights else []
    arguments = (*thetas, *support, *query, *weighted, *outputs, "%constants", "%arena")
    sections = [
        _begin(vector),
        "\n".join(arena.lines) + "\n  br label %step\n",
        _begin_step(vector, total, 3 + n_weights),
        _begin_group(vector),
        _gather("s", shapes.support, shapes, support, vector) + "\n",
        _gather("q", shapes.query, shapes, query, vector) + "\n",
        f"  call void @task({', '.join(f'ptr {pointer}' for pointer in arguments)})\n",
        _add_gradients(vector, total),
        _sum_over_lanes(vector, total),
        _stop_if_not_finite(vector),
        _clip_and_scale(vector),
        _adamw(vector, total),
        _end(),
    ]
    text = definitions(vector, wide=program.wide) + _declarations(vector) + task.text + "\n" + "".join(sections)
    return StepsText(text, arena.size)


class _Arena:
    """The pointers that a meta-step works with, and the lines that make them.

    Attributes
    ----------
    lines : list of str
    size : int
        Vectors of memory that are reserved.
    """

    def __init__(self, vector: VectorType, size: int) -> None:
        self.vector = vector
        self.size = size
        self.lines: list[str] = []

    def point_to_parameters(self, sizes: list[int]) -> list[str]:
        """Return a pointer to each parameter in %theta."""
        names, first = [], 0
        for i, size in enumerate(sizes):
            self.lines.append(f"  %theta{i} = getelementptr inbounds {self.vector.scalar}, ptr %theta, i64 {first}")
            names.append(f"%theta{i}")
            first += size
        return names

    def reserve(self, name: str, count: int) -> str:
        """Return a pointer of that name to so many vectors."""
        self.lines.append(f"  {name} = getelementptr inbounds {self.vector.floats}, ptr %arena, i64 {self.size}")
        self.size += count
        return name

    def reserve_rows(self, name: str, rows: RowsShape, shapes: EpisodeShapes) -> list[str]:
        """Return pointers to X, y and, where there is one, the mask of a group's support or query."""
        names = [
            self.reserve(f"%{name}X", rows.rows * shapes.columns),
            self.reserve(f"%{name}y", rows.rows * shapes.targets),
        ]
        return [*names, self.reserve(f"%{name}m", rows.rows)] if rows.masked else names


def _begin(vector: VectorType) -> str:
    """Write the signature; arrays come as ``CompiledMetaSteps._run`` hands them over."""
    number = vector.scalar
    return f"""define i64 @steps(ptr noalias %theta, ptr noalias %first, ptr noalias %second, ptr noalias %decay,
    ptr noalias %gradient, ptr noalias %X, ptr noalias %y, ptr noalias %sindex, ptr noalias %scount,
    ptr noalias %qindex, ptr noalias %qcount, ptr noalias %weights, ptr noalias %schedule, ptr noalias %losses,
    ptr noalias %constants, ptr noalias %arena, i64 %steps, i64 %groups, {number} %longest) {{
entry:
"""


def _begin_step(vector: VectorType, total: int, columns: int) -> str:
    """Write the start of a meta-step: its row of the schedule; sums of gradients and loss are zero."""
    align = vector.bits * vector.lanes // 8
    return f"""step:
  %k = phi i64 [ 0, %entry ], [ %k1, %updated ]
  %row = mul nuw nsw i64 %k, {columns}
  %ratep = getelementptr inbounds {vector.scalar}, ptr %schedule, i64 %row
  %inner = getelementptr inbounds {vector.scalar}, ptr %ratep, i64 3
  call void @llvm.memset.p0.i64(ptr align {align} %summed, i8 0, i64 {(total + 1) * align}, i1 false)
  br label %group
"""


def _begin_group(vector: VectorType) -> str:
    """Write the start of a group: as many tasks as a vector has lanes."""
    return f"""group:
  %g = phi i64 [ 0, %step ], [ %gnext, %added ]
  %kg = mul nuw nsw i64 %k, %groups
  %at = add nuw nsw i64 %kg, %g
  %lane0 = mul nuw nsw i64 %at, {vector.lanes}
"""


def _add_gradients(vector: VectorType, total: int) -> str:
    """Write the addition of a group's weighted gradients and losses to the sums."""
    floats, align = vector.floats, vector.bits * vector.lanes // 8
    return f"""  %wplace = getelementptr inbounds {floats}, ptr %weights, i64 %g
  %w = load {floats}, ptr %wplace, align {align}
  br label %add
add:
  %a = phi i64 [ 0, %group_done ], [ %anext, %add ]
  %gp = getelementptr inbounds {floats}, ptr %g0, i64 %a
  %gv = load {floats}, ptr %gp, align {align}
  %sp = getelementptr inbounds {floats}, ptr %summed, i64 %a
  %sv = load {floats}, ptr %sp, align {align}
  %gw = fmul contract {floats} %gv, %w
  %sn = fadd contract {floats} %sv, %gw
  store {floats} %sn, ptr %sp, align {align}
  %anext = add nuw nsw i64 %a, 1
  %amore = icmp ult i64 %anext, {total}
  br i1 %amore, label %add, label %added
added:
  %lv = load {floats}, ptr %loss, align {align}
  %lt = load {floats}, ptr %lossed, align {align}
  %lw = fmul contract {floats} %lv, %w
  %ln = fadd contract {floats} %lt, %lw
  store {floats} %ln, ptr %lossed, align {align}
  %gnext = add nuw nsw i64 %g, 1
  %gmore = icmp ult i64 %gnext, %groups
  br i1 %gmore, label %group, label %reduce
"""


def _sum_over_lanes(vector: VectorType, total: int) -> str:
    """Write the sum of each gradient over lanes, and its squared norm."""
    number, floats, align = vector.scalar, vector.floats, vector.bits * vector.lanes // 8
    return f"""reduce:
  %r = phi i64 [ 0, %added ], [ %rnext, %reduce ]
  %norm2 = phi {number} [ {vector.literal(0.0)}, %added ], [ %norm2next, %reduce ]
  %rp = getelementptr inbounds {floats}, ptr %summed, i64 %r
  %rv = load {floats}, ptr %rp, align {align}
  %rs = call reassoc {number} @llvm.vector.reduce.fadd.{vector.suffix}({number} {vector.literal(-0.0)}, {floats} %rv)
  %ro = getelementptr inbounds {number}, ptr %gradient, i64 %r
  store {number} %rs, ptr %ro
  %square = fmul {number} %rs, %rs
  %norm2next = fadd {number} %norm2, %square
  %rnext = add nuw nsw i64 %r, 1
  %rmore = icmp ult i64 %rnext, {total}
  br i1 %rmore, label %reduce, label %judge
"""


def _stop_if_not_finite(vector: VectorType) -> str:
    """Write the record of the loss, and the return where loss or gradient is not finite."""
    number, floats, align = vector.scalar, vector.floats, vector.bits * vector.lanes // 8
    total = f"call reassoc {number} @llvm.vector.reduce.fadd.{vector.suffix}"
    return f"""judge:
  %lossv = load {floats}, ptr %lossed, align {align}
  %losss = {total}({number} {vector.literal(-0.0)}, {floats} %lossv)
  %lossp = getelementptr inbounds {number}, ptr %losses, i64 %k
  store {number} %losss, ptr %lossp
  %finite = fadd {number} %losss, %norm2next
  %zero = fmul {number} %finite, {vector.literal(0.0)}
  %good = fcmp oeq {number} %zero, {vector.literal(0.0)}
  br i1 %good, label %update, label %stopped
stopped:
  ret i64 %k
"""


def _clip_and_scale(vector: VectorType) -> str:
    """Write the factor that clips the gradient, and the step's rate and bias corrections."""
    number = vector.scalar
    return f"""update:
  %norm = call {number} @llvm.sqrt.f{vector.bits}({number} %norm2next)
  %long = fcmp ogt {number} %norm, %longest
  %ratio = fdiv {number} %longest, %norm
  %clip = select i1 %long, {number} %ratio, {number} {vector.literal(1.0)}
  %rate = load {number}, ptr %ratep
  %biasp = getelementptr inbounds {number}, ptr %ratep, i64 1
  %bias1 = load {number}, ptr %biasp
  %biasq = getelementptr inbounds {number}, ptr %ratep, i64 2
  %bias2 = load {number}, ptr %biasq
  %size = fdiv {number} %rate, %bias1
  %root2 = call {number} @llvm.sqrt.f{vector.bits}({number} %bias2)
  br label %adam
"""


def _adamw(vector: VectorType, total: int) -> str:
    """Write AdamW's update of each parameter."""
    number = vector.scalar
    return f"""adam:
  %p = phi i64 [ 0, %update ], [ %pnext, %adam ]
  %pg = getelementptr inbounds {number}, ptr %gradient, i64 %p
  %raw = load {number}, ptr %pg
  %grad = fmul {number} %raw, %clip
  %pm = getelementptr inbounds {number}, ptr %first, i64 %p
  %m = load {number}, ptr %pm
  %away = fsub {number} %grad, %m
  %awayb = fmul contract {number} %away, {vector.literal(1 - BETA1)}
  %mn = fadd contract {number} %m, %awayb
  store {number} %mn, ptr %pm
  %pv = getelementptr inbounds {number}, ptr %second, i64 %p
  %v = load {number}, ptr %pv
  %vb = fmul contract {number} %v, {vector.literal(BETA2)}
  %gg = fmul {number} %grad, %grad
  %ggb = fmul contract {number} %gg, {vector.literal(1 - BETA2)}
  %vn = fadd contract {number} %vb, %ggb
  store {number} %vn, ptr %pv
  %root = call {number} @llvm.sqrt.f{vector.bits}({number} %vn)
  %scaled = fdiv {number} %root, %root2
  %below = fadd {number} %scaled, {vector.literal(EPSILON)}
  %pt = getelementptr inbounds {number}, ptr %theta, i64 %p
  %t = load {number}, ptr %pt
  %pd = getelementptr inbounds {number}, ptr %decay, i64 %p
  %d = load {number}, ptr %pd
  %rd = fmul {number} %rate, %d
  %keep = fsub {number} {vector.literal(1.0)}, %rd
  %tk = fmul {number} %t, %keep
  %step_m = fmul {number} %mn, %size
  %move = fdiv {number} %step_m, %below
  %tn = fsub {number} %tk, %move
  store {number} %tn, ptr %pt
  %pnext = add nuw nsw i64 %p, 1
  %pmore = icmp ult i64 %pnext, {total}
  br i1 %pmore, label %adam, label %updated
"""


def _end() -> str:
    """Write the end of a meta-step and of the function; it returns how many steps it took."""
    return """updated:
  %k1 = add nuw nsw i64 %k, 1
  %kmore = icmp ult i64 %k1, %steps
  br i1 %kmore, label %step, label %done
done:
  ret i64 %k1
}
"""


def _declarations(vector: VectorType) -> str:
    """Declare what the steps call of LLVM's intrinsics."""
    number, floats = vector.scalar, vector.floats
    return (
        f"declare {number} @llvm.vector.reduce.fadd.{vector.suffix}({number}, {floats})\n"
        f"declare {number} @llvm.sqrt.f{vector.bits}({number})\n"
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n"
    )


def _gather(name: str, side: RowsShape, shapes: EpisodeShapes, pointers: list[str], vector: VectorType) -> str:
    """Write loops that bring rows of a group's tasks into lanes of vectors."""
    number, rows = vector.scalar, side.rows
    copies = []
    for source, out, count in (("X", pointers[0], shapes.columns), ("y", pointers[1], shapes.targets)):
        base = f"%{name}{source}b"
        copies.append(f"  {base} = mul nuw nsw i64 %{name}row, {count}")
        copies.append(f"  {base}o = mul nuw nsw i64 %{name}r, {count * vector.lanes}")
        copies.append(f"  {base}l = add nuw nsw i64 {base}o, %{name}l")
        for c in range(count):
            copies.append(f"  {base}i{c} = add nuw nsw i64 {base}, {c}")
            copies.append(f"  {base}p{c} = getelementptr inbounds {number}, ptr %{source}, i64 {base}i{c}")
            copies.append(f"  {base}v{c} = load {number}, ptr {base}p{c}")
            copies.append(f"  {base}j{c} = add nuw nsw i64 {base}l, {c * vector.lanes}")
            copies.append(f"  {base}q{c} = getelementptr inbounds {number}, ptr {out}, i64 {base}j{c}")
            copies.append(f"  store {number} {base}v{c}, ptr {base}q{c}")
    if side.masked:
        copies += [
            f"  %{name}mo = mul nuw nsw i64 %{name}r, {vector.lanes}",
            f"  %{name}mj = add nuw nsw i64 %{name}mo, %{name}l",
            f"  %{name}mq = getelementptr inbounds {number}, ptr {pointers[2]}, i64 %{name}mj",
            f"  %{name}cp = getelementptr inbounds i32, ptr %{name}count, i64 %{name}lane",
            f"  %{name}c = load i32, ptr %{name}cp",
            f"  %{name}c64 = zext i32 %{name}c to i64",
            f"  %{name}in = icmp ult i64 %{name}r, %{name}c64",
            f"  %{name}mv = select i1 %{name}in, {number} {vector.literal(1.0)}, {number} {vector.literal(0.0)}",
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
  %{name}lmore = icmp ult i64 %{name}ln, {vector.lanes}
  br i1 %{name}lmore, label %{name}lanes, label %{name}rowdone
{name}rowdone:
  %{name}rn = add nuw nsw i64 %{name}r, 1
  %{name}rmore = icmp ult i64 %{name}rn, {rows}
  br i1 %{name}rmore, label %{name}rows, label %{after}
{after}:"""
