"""The loop of a damped search of a group of tasks: a step is proposed, tried, and taken where it lowers the loss.

Which step is proposed and whether it is taken are programs traced from torch; how the tasks are evaluated is the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metaest.functional import SolveCode
from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import Program
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["SearchSteps", "reduce_or"]


def reduce_or(vector: VectorType) -> str:
    """Return the declaration of the function that tells whether something holds in any lane."""
    return f"declare i1 @llvm.vector.reduce.or.v{vector.lanes}i1({vector.bools})\n"


class SearchSteps:
    """Memory of a group of tasks that are searched, and the text that works on it.

    Parameters
    ----------
    programs : mapping of str to Program
        Among them ``begin`` (state -> code), ``propose`` (state, damping, code, tolerance -> state, next u, expected
        gain, code) and ``accept`` (state, trial, damping, code, expected gain -> state, damping). Their numbers stand
        one after the other in ``%constants``.
    m : int
        Constants that vary.
    vector : VectorType
    arena : int
        Vectors of the arena that the programs need.
    more : mapping of str to int
        Further places of memory, and their vectors.
    """

    def __init__(
        self, programs: Mapping[str, Program], m: int, vector: VectorType, arena: int, more: Mapping[str, int]
    ) -> None:
        self.vector, self.m = vector, m
        # gradient, loss and second derivative
        self.rest = m + 1 + m * m
        state = m + self.rest
        self.places: dict[str, int] = {}
        self.size = arena
        for name, size in {
            "state": state, "next": state, "trial": state, "damping": 1, "damped": 1, "code": 1, "coded": 1,
            "expected": 1, **more,
        }.items():  # fmt: skip
            self.places[name] = self.size
            self.size += size
        self.constants: dict[str, int] = {}
        start = 0
        for name, program in programs.items():
            self.constants[name] = start
            start += len(program.constants)

    def place(self, w: Writer, name: str, more: int = 0) -> str:
        """Write where a part of the memory lies."""
        return w.put(f"getelementptr inbounds {self.vector.floats}, ptr %arena, i64 {self.places[name] + more}")

    def call(self, w: Writer, name: str, *pointers: str) -> None:
        """Write a call of a program."""
        start = self.constants[name]
        constants = w.put(f"getelementptr inbounds {self.vector.scalar}, ptr %constants, i64 {start}")
        given = ", ".join(f"ptr {pointer}" for pointer in (*pointers, constants, "%arena"))
        w.do(f"call void @{name}({given})")

    def copy(self, w: Writer, source: str, target: str, count: int) -> None:
        """Write a copy of vectors."""
        with w.loop(count) as loop:
            w.store(w.load(source, loop.counter, shared=False), target, loop.counter)

    def search(self, evaluate: Callable[[Writer], None], begin: Callable[[Writer], None] | None = None) -> str:
        """Write what a search does with a group, from ``%u_v`` to ``%found_v``, ``%height_v`` and ``%ended_v``.

        Parameters
        ----------
        evaluate : callable(Writer)
            Writes an evaluation at the u of ``trial``, to what stands behind it.
        begin : callable(Writer), optional
            Writes what comes before the first evaluation.
        """
        w, m, vector = Writer(self.vector, block="body"), self.m, self.vector
        places = {name: self.place(w, name) for name in self.places}
        self.copy(w, "%u_v", places["trial"], m)
        if begin is not None:
            begin(w)
        evaluate(w)
        self.copy(w, places["trial"], places["state"], m + self.rest)
        self.call(w, "begin", places["state"], places["code"])
        w.store(vector.splat(0.0), places["damping"], "0")
        before = w.block
        w.do("br label %looking")
        w.enter("looking")
        head = len(w.lines)
        self.call(
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
        evaluate(w)
        self.call(
            w, "accept", places["next"], places["trial"], places["damping"], places["code"], places["expected"],
            places["state"], places["damped"],
        )  # fmt: skip
        w.store(w.load(places["damped"], "0", shared=False), places["damping"], "0")
        w.do("%turns = add nuw nsw i64 %turn, 1")
        w.do("br label %looking")
        w.lines.insert(head, f"  %turn = phi i64 [ 1, %{before} ], [ %turns, %{w.block} ]")
        w.enter("found_it")
        self.copy(w, places["next"], "%found_v", m)
        w.store(w.load(places["next"], str(2 * m), shared=False), "%height_v", "0")
        w.store(w.load(places["code"], "0", shared=False), "%ended_v", "0")
        w.do("br label %scattered")
        return "\n".join(w.lines)
