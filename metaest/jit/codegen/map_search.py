"""The function of a MAP search: the constants of many tasks are searched in one call.

The text holds no algorithm of its own: how an equation is evaluated, which step is proposed, whether it is accepted and
what a curvature is are programs traced from torch. Here they are called in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaest.functional import SolveCode
from metaest.functional.equations.hierarchical import DIFFERENCE
from metaest.jit.codegen.groups import over_groups
from metaest.jit.codegen.task import task_text
from metaest.jit.codegen.vector_math import definitions
from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import Program
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["SearchPrograms", "search_text"]


# rows of a task beside X and y, in this order and as many as there are: mask, weights
MORE = ("third", "fourth")


@dataclass(frozen=True)
class SearchPrograms:
    """The programs of a search.

    Attributes
    ----------
    evaluate : Program
        u, centre, X, y, mask and weight where there are such, factor, log_sigma -> gradient, loss and second
        derivative, one after the other.
    begin : Program
        State -> code.
    propose : Program
        State, damping, code, tolerance -> state, next u, expected gain, code.
    accept : Program
        State, trial, damping, code, expected gain -> state, damping.
    curvature : Program
        Gradients around u, expected second derivative -> second derivative.
    inform : Program
        Constants, X, y, mask, log_sigma -> what the rows alone say of them, as `evaluate` has it.
    m : int
        Constants that vary.
    """

    evaluate: Program
    begin: Program
    propose: Program
    accept: Program
    curvature: Program
    inform: Program
    m: int

    def all(self) -> dict[str, Program]:
        """Return the programs by name."""
        names = ("evaluate", "begin", "propose", "accept", "curvature", "inform")
        return {name: getattr(self, name) for name in names}

    @property
    def constants(self) -> list[float]:
        """Numbers of all programs, one after the other."""
        return [value for program in self.all().values() for value in program.constants]


def search_text(programs: SearchPrograms, vector: VectorType) -> tuple[str, int]:
    """Write ``@gauss_newton``, ``@newton``, ``@curved`` and ``@informed``, as ``over_groups`` has them.

    The first two take u, centre, X, y and mask and return u, loss and code; the third returns gradient, loss and second
    derivative at u, the true one where it is definite. The last takes constants, X, y and mask.

    Returns
    -------
    str
    int
        Numbers of memory that their arena needs.
    """
    texts, arena = [], 0
    for name, program in programs.all().items():
        task = task_text(program, vector, name)
        texts.append(task.text)
        arena = max(arena, task.arena)
    layout = _Layout(programs, vector, arena)
    texts.append(layout.at_true_curvature())
    sizes = [buffer.size for buffer in programs.evaluate.inputs]
    m, given = programs.m, dict(zip(("u", "center", "X", "y", *MORE), sizes[:-2], strict=False))
    shared = ["factor", "sigma", "tol", "constants"]
    size = 0
    for name in ("gauss_newton", "newton"):
        outputs = {"found": m, "height": 1, "ended": 1}
        text, size = over_groups(
            name, given, outputs, shared, layout.search(newton=name == "newton"), vector, layout.size
        )
        texts.append(text)
    text, other = over_groups("curved", given, {"rest": layout.rest}, shared, layout.curved(), vector, layout.size)
    texts.append(text)
    size, p = max(size, other), sizes[1]
    given = {name: size for name, size in given.items() if name != "u"}
    outputs = {"rest": p + 1 + p * p}
    text, other = over_groups(
        "informed", given, outputs, ["sigma", "constants"], layout.informed(), vector, layout.size
    )
    head = "declare i64 @llvm.umin.i64(i64, i64)\n"
    head += f"declare i1 @llvm.vector.reduce.or.v{vector.lanes}i1({vector.bools})\n"
    return definitions(vector) + head + "\n".join([*texts, text]), max(size, other) * vector.lanes


class _Layout:
    """Memory layout of a group of tasks, and the text that works on it."""

    def __init__(self, programs: SearchPrograms, vector: VectorType, arena: int) -> None:
        self.programs, self.vector = programs, vector
        m = self.m = programs.m
        self.rest = m + 1 + m * m
        state = m + self.rest
        self.places: dict[str, int] = {}
        self.size = arena
        for name, size in {
            "state": state, "next": state, "trial": state, "moved": state, "around": 2 * m * m, "true": m * m,
            "damping": 1, "damped": 1, "code": 1, "coded": 1, "expected": 1,
        }.items():  # fmt: skip
            self.places[name] = self.size
            self.size += size
        self.constants: dict[str, int] = {}
        start = 0
        for name, program in programs.all().items():
            self.constants[name] = start
            start += len(program.constants)
        self.more = MORE[: len(programs.evaluate.inputs) - 6]

    def _place(self, w: Writer, name: str, more: int = 0) -> str:
        return w.put(f"getelementptr inbounds {self.vector.floats}, ptr %arena, i64 {self.places[name] + more}")

    def _call(self, w: Writer, name: str, *pointers: str) -> None:
        start = self.constants[name]
        constants = w.put(f"getelementptr inbounds {self.vector.scalar}, ptr %constants, i64 {start}")
        given = ", ".join(f"ptr {pointer}" for pointer in (*pointers, constants, "%arena"))
        w.do(f"call void @{name}({given})")

    @property
    def _rows(self) -> list[str]:
        return ["%center_v", "%X_v", "%y_v", *(f"%{name}_v" for name in self.more), "%factor", "%sigma"]

    def _copy(self, w: Writer, source: str, target: str, count: int) -> None:
        with w.loop(count) as loop:
            w.store(w.load(source, loop.counter, shared=False), target, loop.counter)

    def _evaluate(self, w: Writer, *, newton: bool) -> None:
        """Evaluate at the trial's u."""
        if newton:
            given = ", ".join(f"ptr {pointer}" for pointer in (*self._rows, "%constants", "%arena"))
            w.do(f"call void @at_true_curvature({given})")
        else:
            self._call(w, "evaluate", self._place(w, "trial"), *self._rows, self._place(w, "trial", self.m))

    def at_true_curvature(self) -> str:
        """Write a function that evaluates at the trial's u, and all around it."""
        w, m = Writer(self.vector), self.m
        trial, moved = self._place(w, "trial"), self._place(w, "moved")
        self._evaluate(w, newton=False)
        for i in range(2 * m):
            self._copy(w, trial, moved, m)
            k, shift = i % m, DIFFERENCE if i < m else -DIFFERENCE
            there = w.arithmetic("fadd", w.load(moved, str(k), shared=False), self.vector.splat(shift))
            w.store(there, moved, str(k))
            self._call(w, "evaluate", moved, *self._rows, self._place(w, "moved", m))
            self._copy(w, self._place(w, "moved", m), self._place(w, "around", i * m), m)
        matrix = self._place(w, "trial", 2 * m + 1)
        self._call(w, "curvature", self._place(w, "around"), matrix, self._place(w, "true"))
        self._copy(w, self._place(w, "true"), matrix, m * m)
        given = ", ".join(f"ptr {pointer}" for pointer in (*self._rows, "%constants", "%arena"))
        body = "\n".join(w.lines)
        return f"define internal void @at_true_curvature({given}) noinline {{\nentry:\n{body}\n  ret void\n}}\n"

    def curved(self) -> str:
        """Write what ``@curved`` does with a group."""
        w = Writer(self.vector, block="body")
        self._copy(w, "%u_v", self._place(w, "trial"), self.m)
        self._evaluate(w, newton=True)
        self._copy(w, self._place(w, "trial", self.m), "%rest_v", self.rest)
        w.do("br label %scattered")
        return "\n".join(w.lines)

    def informed(self) -> str:
        """Write what ``@informed`` does with a group."""
        w = Writer(self.vector, block="body")
        rows = [pointer for pointer in self._rows if pointer != "%factor"]
        self._call(w, "inform", *rows, "%rest_v")
        w.do("br label %scattered")
        return "\n".join(w.lines)

    def search(self, *, newton: bool) -> str:
        """Write what a search does with a group."""
        w, m, vector = Writer(self.vector, block="body"), self.m, self.vector
        places = {name: self._place(w, name) for name in self.places}
        self._copy(w, "%u_v", places["trial"], m)
        self._evaluate(w, newton=newton)
        self._copy(w, places["trial"], places["state"], m + self.rest)
        self._call(w, "begin", places["state"], places["code"])
        w.store(vector.splat(0.0), places["damping"], "0")
        before = w.block
        w.do("br label %looking")
        w.enter("looking")
        head = len(w.lines)
        self._call(
            w, "propose", places["state"], places["damping"], places["code"], "%tol",
            places["next"], places["trial"], places["expected"], places["coded"],
        )  # fmt: skip
        code = w.load(places["coded"], "0", shared=False)
        w.store(code, places["code"], "0")
        goes_on = w.compare("oeq", code, vector.splat(float(SolveCode.MAX_ITER)))
        some = w.put(f"call i1 @llvm.vector.reduce.or.v{vector.lanes}i1({vector.bools} {goes_on})")
        early = w.put("icmp ult i64 %turn, %most")
        onwards = w.put(f"and i1 {some}, {early}")
        w.do(f"br i1 {onwards}, label %trying, label %found_it")
        w.enter("trying")
        self._evaluate(w, newton=newton)
        self._call(
            w, "accept", places["next"], places["trial"], places["damping"], places["code"], places["expected"],
            places["state"], places["damped"],
        )  # fmt: skip
        w.store(w.load(places["damped"], "0", shared=False), places["damping"], "0")
        w.do("%turns = add nuw nsw i64 %turn, 1")
        w.do("br label %looking")
        w.lines.insert(head, f"  %turn = phi i64 [ 1, %{before} ], [ %turns, %{w.block} ]")
        w.enter("found_it")
        self._copy(w, places["next"], "%found_v", m)
        w.store(w.load(places["next"], str(2 * m), shared=False), "%height_v", "0")
        w.store(w.load(places["code"], "0", shared=False), "%ended_v", "0")
        w.do("br label %scattered")
        return "\n".join(w.lines)
