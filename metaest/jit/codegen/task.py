"""The function of one pass: a traced program on as many tasks as a vector has lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from metaest.jit.codegen.loops import Emitter, last_uses
from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import (
    Buffer,
    Factor,
    Fill,
    Formula,
    Kernel,
    Operand,
    Product,
    Program,
    Reduce,
    Substitute,
    View,
    reads,
)
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["TaskText", "task_text"]

# most operations of one task for which a program is written out without loops
STRAIGHT = 6000


@dataclass(frozen=True)
class TaskText:
    """Text of a pass.

    Attributes
    ----------
    text : str
        Functions; ``@name(ptr inputs..., ptr outputs..., ptr constants, ptr arena)`` is the one to call.
    arena : int
        Vectors of memory that it needs.
    """

    text: str
    arena: int


def task_text(program: Program, vector: VectorType, name: str = "task") -> TaskText:
    """Write the function of one pass, under a name."""
    names = {buffer: f"%i{i}" for i, buffer in enumerate(program.inputs)}
    names |= {buffer: f"%o{i}" for i, buffer in enumerate(program.outputs)}
    names[program.constant] = "%constants"
    given = ", ".join(f"ptr noalias {name}" for name in names.values())
    head = f"define internal void @{name}({given}, ptr noalias %arena) {{\nentry:\n"
    straight = program.operations() <= STRAIGHT
    w = Writer(vector)
    offsets, size = ({}, 0) if straight else _planned(program, set(names))
    inside = {view.buffer for kernel in program.kernels for view in (*reads(kernel), kernel.out)} - set(names)
    for i, buffer in enumerate(_in_order(program, inside)):
        names[buffer] = f"%b{i}"
        if straight:
            kept = vector.doubled if buffer.wide else vector
            w.do(f"%b{i} = alloca [{max(buffer.size, 1)} x {kept.floats}], align {kept.align}")
        else:
            w.do(f"%b{i} = getelementptr inbounds {vector.floats}, ptr %arena, i64 {offsets[buffer]}")
    if straight:
        emitter = Emitter(w, names, straight=True)
        for kernel in program.kernels:
            emitter.emit(kernel)
        return TaskText(head + "\n".join(w.lines) + "\n  ret void\n}\n", 0)
    functions: dict[str, str] = {}
    for kernel in program.kernels:
        _call(kernel, w, names, functions, name)
    texts = [text.replace("@KERNEL", f"@{function}") for text, function in functions.items()]
    return TaskText("\n".join(texts) + head + "\n".join(w.lines) + "\n  ret void\n}\n", size)


def _in_order(program: Program, wanted: set[Buffer]) -> dict[Buffer, None]:
    """Return buffers in order of use: the text, by which code is cached, has to be the same each time."""
    buffers = (view.buffer for kernel in program.kernels for view in (*reads(kernel), kernel.out))
    return {buffer: None for buffer in buffers if buffer in wanted}


def _planned(program: Program, given: set[Buffer]) -> tuple[dict[Buffer, int], int]:
    """Return each buffer's offset in the arena, where memory is reused once it is free, and the arena's size."""
    last, offsets, size = last_uses(program), {}, 0

    def units(buffer: Buffer) -> int:
        return (1 + buffer.wide) * buffer.size

    free: list[tuple[int, int]] = []
    for i, kernel in enumerate(program.kernels):
        out = kernel.out.buffer
        if out not in offsets and out not in given:
            wanted = units(out)
            fitting = [slot for slot in free if slot[1] >= wanted]
            if fitting:
                slot = min(fitting, key=lambda slot: slot[1])
                free.remove(slot)
                offsets[out] = slot[0]
                if slot[1] > wanted:
                    free.append((slot[0] + wanted, slot[1] - wanted))
            else:
                offsets[out] = size
                size += wanted
        for buffer in {view.buffer for view in (*reads(kernel), kernel.out)}:
            if buffer in offsets and last[buffer] == i:
                free = _joined([*free, (offsets[buffer], units(buffer))])
    return offsets, size


def _joined(free: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, length in sorted(free):
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return joined


def _call(kernel: Kernel, w: Writer, names: dict[Buffer, str], functions: dict[str, str], task: str) -> None:
    """Write a call of a kernel's function; kernels that do the same to other memory share it."""
    general_views: dict[View, View] = {}

    def stand_in(view: View) -> View:
        key = replace(view, shape=(), strides=())
        if key not in general_views:
            general_views[key] = View(Buffer(0, view.buffer.shared, view.buffer.wide), (), ())
        return View(general_views[key].buffer, view.shape, view.strides)

    general = _with_views(kernel, stand_in)
    places = {view.buffer: f"%p{i}" for i, view in enumerate(general_views.values())}
    inner = Writer(w.vector)
    Emitter(inner, places, straight=False).emit(general)
    given = ", ".join(f"ptr noalias {name}" for name in places.values())
    text = f"define internal void @KERNEL({given}) noinline {{\nentry:\n" + "\n".join(inner.lines) + "\n  ret void\n}\n"
    name = functions.setdefault(text, f"{task}_kernel{len(functions)}")
    pointers = []
    for view in general_views:
        pointer = names[view.buffer]
        if view.offset:
            kept = w.vector.doubled if view.buffer.wide else w.vector
            unit = kept.scalar if view.buffer.shared else kept.floats
            pointer = w.put(f"getelementptr inbounds {unit}, ptr {pointer}, i64 {view.offset}")
        pointers.append(f"ptr {pointer}")
    w.do(f"call void @{name}({', '.join(pointers)})")


def _with_views(kernel: Kernel, change: Callable[[View], View]) -> Kernel:
    def through(operand: Operand) -> Operand:
        if isinstance(operand, View):
            return change(operand)
        if isinstance(operand, Formula):
            return replace(operand, operands=tuple(map(through, operand.operands)))
        return operand

    out = through(kernel.out)
    assert isinstance(out, View)
    if isinstance(kernel, Product):
        left, right = through(kernel.left), through(kernel.right)
        added = None if kernel.added is None else through(kernel.added)
        assert isinstance(left, View)
        assert isinstance(right, View)
        assert added is None or isinstance(added, View)
        return Product(out, left, right, added)
    if isinstance(kernel, Factor):
        matrix = through(kernel.matrix)
        assert isinstance(matrix, View)
        return Factor(out, matrix)
    if isinstance(kernel, Substitute):
        triangle, right = through(kernel.triangle), through(kernel.right)
        assert isinstance(triangle, View)
        assert isinstance(right, View)
        return Substitute(out, triangle, right)
    if isinstance(kernel, Reduce):
        return Reduce(kernel.how, out, through(kernel.value), kernel.over)
    return Fill(out, through(kernel.value))
