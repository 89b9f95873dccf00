"""The function of a MAP search: the constants of many tasks are searched in one call.

The text holds no algorithm of its own: how an equation is evaluated, which step is proposed, whether it is accepted and
what a curvature is are programs traced from torch. Here they are called in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from metaest.functional.equations.hierarchical import DIFFERENCE
from metaest.jit.codegen.groups import over_groups
from metaest.jit.codegen.search_steps import SearchSteps, reduce_or
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
        evaluate = partial(layout.at_trial, newton=name == "newton")
        text, size = over_groups(name, given, outputs, shared, layout.search(evaluate), vector, layout.size)
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
    return definitions(vector) + head + reduce_or(vector) + "\n".join([*texts, text]), max(size, other) * vector.lanes


class _Layout(SearchSteps):
    """Memory layout of a group of tasks, and the text that works on it."""

    def __init__(self, programs: SearchPrograms, vector: VectorType, arena: int) -> None:
        m = programs.m
        state = m + m + 1 + m * m
        more = {"moved": state, "around": 2 * m * m, "true": m * m}
        super().__init__(programs.all(), m, vector, arena, more)
        self.more = MORE[: len(programs.evaluate.inputs) - 6]

    @property
    def _rows(self) -> list[str]:
        return ["%center_v", "%X_v", "%y_v", *(f"%{name}_v" for name in self.more), "%factor", "%sigma"]

    def at_trial(self, w: Writer, *, newton: bool) -> None:
        """Evaluate at the trial's u."""
        if newton:
            given = ", ".join(f"ptr {pointer}" for pointer in (*self._rows, "%constants", "%arena"))
            w.do(f"call void @at_true_curvature({given})")
        else:
            self.call(w, "evaluate", self.place(w, "trial"), *self._rows, self.place(w, "trial", self.m))

    def at_true_curvature(self) -> str:
        """Write a function that evaluates at the trial's u, and all around it."""
        w, m = Writer(self.vector), self.m
        trial, moved = self.place(w, "trial"), self.place(w, "moved")
        self.at_trial(w, newton=False)
        for i in range(2 * m):
            self.copy(w, trial, moved, m)
            k, shift = i % m, DIFFERENCE if i < m else -DIFFERENCE
            there = w.arithmetic("fadd", w.load(moved, str(k), shared=False), self.vector.splat(shift))
            w.store(there, moved, str(k))
            self.call(w, "evaluate", moved, *self._rows, self.place(w, "moved", m))
            self.copy(w, self.place(w, "moved", m), self.place(w, "around", i * m), m)
        matrix = self.place(w, "trial", 2 * m + 1)
        self.call(w, "curvature", self.place(w, "around"), matrix, self.place(w, "true"))
        self.copy(w, self.place(w, "true"), matrix, m * m)
        given = ", ".join(f"ptr {pointer}" for pointer in (*self._rows, "%constants", "%arena"))
        body = "\n".join(w.lines)
        return f"define internal void @at_true_curvature({given}) noinline {{\nentry:\n{body}\n  ret void\n}}\n"

    def curved(self) -> str:
        """Write what ``@curved`` does with a group."""
        w = Writer(self.vector, block="body")
        self.copy(w, "%u_v", self.place(w, "trial"), self.m)
        self.at_trial(w, newton=True)
        self.copy(w, self.place(w, "trial", self.m), "%rest_v", self.rest)
        w.do("br label %scattered")
        return "\n".join(w.lines)

    def informed(self) -> str:
        """Write what ``@informed`` does with a group."""
        w = Writer(self.vector, block="body")
        rows = [pointer for pointer in self._rows if pointer != "%factor"]
        self.call(w, "inform", *rows, "%rest_v")
        w.do("br label %scattered")
        return "\n".join(w.lines)
