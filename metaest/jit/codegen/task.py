"""The function of one pass: what a traced program does to as many tasks as a vector has lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from metaest.jit.codegen.loops import Emitter, last_uses
from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import Buffer, Fill, Formula, Kernel, Operand, Product, Program, Reduce, View, reads
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["TaskText", "task_text"]

# operations of one task up to which a program is written out without loops
STRAIGHT = 6000


@dataclass(frozen=True)
class TaskText:
    """Text of a pass.

    Attributes
    ----------
    text : str
        Functions; ``@name(ptr inputs..., ptr outputs..., ptr constants, ptr arena)`` is the one to call.
    arena : int
        Vectors of memory it needs.
    """

    text: str
    arena: int


def task_text(program: Program, vector: VectorType, name: str = "task") -> TaskText:
    """Write the function of one pass, under a name."""
    names = {own: f"%i{i}" for i, own in enumerate(program.inputs)}
    names |= {own: f"%o{i}" for i, own in enumerate(program.outputs)}
    names[program.constant] = "%constants"
    given = ", ".join(f"ptr noalias {name}" for name in names.values())
    head = f"define internal void @{name}({given}, ptr noalias %arena) {{\nentry:\n"
    straight = program.operations() <= STRAIGHT
    w = Writer(vector)
    offsets, size = ({}, 0) if straight else _planned(program, set(names))
    inside = {view.buffer for kernel in program.kernels for view in (*reads(kernel), kernel.out)} - set(names)
    for i, own in enumerate(_in_order(program, inside)):
        names[own] = f"%b{i}"
        if straight:
            w.do(f"%b{i} = alloca [{max(own.size, 1)} x {vector.floats}], align {vector.bits * vector.lanes // 8}")
        else:
            w.do(f"%b{i} = getelementptr inbounds {vector.floats}, ptr %arena, i64 {offsets[own]}")
    if straight:
        emitter = Emitter(w, names, straight=True)
        for kernel in program.kernels:
            emitter.emit(kernel)
        return TaskText(head + "\n".join(w.lines) + "\n  ret void\n}\n", 0)
    functions: dict[str, str] = {}
    for kernel in program.kernels:
        _call(kernel, w, names, functions, name)
    texts = [text.replace("@KERNEL", f"@{own}") for text, own in functions.items()]
    return TaskText("\n".join(texts) + head + "\n".join(w.lines) + "\n  ret void\n}\n", size)


def _in_order(program: Program, wanted: set[Buffer]) -> dict[Buffer, None]:
    """Return buffers as they come: the text, by which code is kept, has to be the same each time."""
    own = (view.buffer for kernel in program.kernels for view in (*reads(kernel), kernel.out))
    return {buffer: None for buffer in own if buffer in wanted}


def _planned(program: Program, given: set[Buffer]) -> tuple[dict[Buffer, int], int]:
    """Return where in the arena each buffer is, memory used again as soon as it is free, and the arena's size."""
    last, offsets, size = last_uses(program), {}, 0
    free: list[tuple[int, int]] = []
    for i, kernel in enumerate(program.kernels):
        own = kernel.out.buffer
        if own not in offsets and own not in given:
            fitting = [slot for slot in free if slot[1] >= own.size]
            if fitting:
                slot = min(fitting, key=lambda slot: slot[1])
                free.remove(slot)
                offsets[own] = slot[0]
                if slot[1] > own.size:
                    free.append((slot[0] + own.size, slot[1] - own.size))
            else:
                offsets[own] = size
                size += own.size
        for buffer in {view.buffer for view in (*reads(kernel), kernel.out)}:
            if buffer in offsets and last[buffer] == i:
                free = _joined([*free, (offsets[buffer], buffer.size)])
    return offsets, size


def _joined(free: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, length in sorted(free):
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((start, length))
    return found


def _call(kernel: Kernel, w: Writer, names: dict[Buffer, str], functions: dict[str, str], task: str) -> None:
    """Write a call of a kernel's function; kernels that do the same to other memory share it."""
    own: dict[View, View] = {}

    def stand_in(view: View) -> View:
        key = replace(view, shape=(), strides=())
        if key not in own:
            own[key] = View(Buffer(0, view.buffer.shared), (), ())
        return View(own[key].buffer, view.shape, view.strides)

    general = _with_views(kernel, stand_in)
    places = {view.buffer: f"%p{i}" for i, view in enumerate(own.values())}
    inner = Writer(w.vector)
    Emitter(inner, places, straight=False).emit(general)
    given = ", ".join(f"ptr noalias {name}" for name in places.values())
    text = f"define internal void @KERNEL({given}) noinline {{\nentry:\n" + "\n".join(inner.lines) + "\n  ret void\n}\n"
    name = functions.setdefault(text, f"{task}_kernel{len(functions)}")
    pointers = []
    for view in own:
        pointer = names[view.buffer]
        if view.offset:
            unit = w.vector.scalar if view.buffer.shared else w.vector.floats
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
    if isinstance(kernel, Reduce):
        return Reduce(kernel.how, out, through(kernel.value), kernel.over)
    return Fill(out, through(kernel.value))
