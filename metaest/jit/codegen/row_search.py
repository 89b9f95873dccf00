"""The function of a search of tasks that may have any number of rows: these are evaluated one after the other.

The programs of a row and of the steps of a search are traced from torch; here they are called in turn, and the rows of
a task are summed.
"""

from __future__ import annotations

from collections.abc import Mapping

from metaest.jit.codegen.groups import over_groups
from metaest.jit.codegen.search_steps import SearchSteps, reduce_or
from metaest.jit.codegen.task import task_text
from metaest.jit.codegen.vector_math import definitions
from metaest.jit.codegen.writer import Writer
from metaest.jit.ir import Program
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["row_search_text"]


def row_search_text(
    programs: Mapping[str, Program], p: int, m: int, features: int, vector: VectorType, *, weighted: bool
) -> tuple[str, int]:
    """Write ``@search``, which takes u and centre of shape (numbers, tasks) and returns u, loss and code, as `over_groups` has it.

    Shared are factor, noise constants, tolerance, numbers of the programs, X of shape (features, rows, tasks), y, mask
    and weights of shape (rows, tasks), and the number of rows.

    Parameters
    ----------
    programs : mapping of str to Program
        Those of :class:`~metaest.jit.codegen.search_steps.SearchSteps`; ``constants`` (u, centre, factor ->
        constants), ``row`` (constants, X, y, weight where there is one, noise constants -> loss, slope, weight, curve
        and its p slopes) and ``finish`` (u, sums of the rows, factor -> gradient, loss and second derivative in u). The
        sums are loss, gradient and matrix, one after the other.
    p, m, features : int
        Constants, those that vary, and columns of X.
    vector : VectorType
    weighted : bool
        Whether rows have weights.

    Returns
    -------
    str
    int
        Numbers of memory that its arena needs.
    """
    texts, arena = [], 0
    for name, program in programs.items():
        task = task_text(program, vector, name)
        texts.append(task.text)
        arena = max(arena, task.arena)
    layout = _Rows(programs, p, m, features, vector, arena, weighted)
    texts.append(layout.at_trial())
    given, outputs = {"u": m, "center": p}, {"found": m, "height": 1, "ended": 1}
    text, size = over_groups(
        "search", given, outputs, [*SHARED, "tol"], layout.search(layout.evaluate), vector, layout.size
    )
    head = "declare i64 @llvm.umin.i64(i64, i64)\n" + reduce_or(vector)
    return definitions(vector) + head + "\n".join([*texts, text]), size * vector.lanes


# what all tasks share, and where their rows lie
SHARED = ("factor", "sigma", "constants", "X", "y", "mask", "weight", "rows")


class _Rows(SearchSteps):
    """Memory layout of a group of tasks, and the text that evaluates their rows."""

    def __init__(
        self,
        programs: Mapping[str, Program],
        p: int,
        m: int,
        features: int,
        vector: VectorType,
        arena: int,
        weighted: bool,
    ) -> None:
        more = {"phi": p, "x": features, "target": 1, "weighs": 1, "row": 4 + p, "sums": 1 + p + p * p}
        super().__init__(programs, m, vector, arena, more)
        self.p, self.features, self.weighted = p, features, weighted

    def evaluate(self, w: Writer) -> None:
        """Write a call of ``@at_trial``."""
        given = ", ".join(f"ptr %{name}" for name in ("center_v", *SHARED, "arena"))
        w.do(f"call void @at_trial({given}, i64 %first, i64 %tasks)")

    def at_trial(self) -> str:
        """Write a function that evaluates all rows at the trial's u."""
        w, p = Writer(self.vector), self.p
        trial, phi, sums, row = (self.place(w, name) for name in ("trial", "phi", "sums", "row"))
        self.call(w, "constants", trial, "%center_v", "%factor", phi)
        with w.loop(1 + p + p * p) as loop:
            w.store(self.vector.splat(0.0), sums, loop.counter)
        count = w.put("load i64, ptr %rows, align 8")
        with w.loop(count) as loop:
            self._row(w, loop.counter, count, phi, row)
            self._add(w, loop.counter, sums, row)
        self.call(w, "finish", trial, sums, "%factor", self.place(w, "trial", self.m))
        given = ", ".join(f"ptr noalias %{name}" for name in ("center_v", *SHARED, "arena"))
        body = "\n".join(w.lines)
        return (
            f"define internal void @at_trial({given}, i64 %first, i64 %tasks) noinline {{\n"
            f"entry:\n{body}\n  ret void\n}}\n"
        )

    def _row(self, w: Writer, number: str, count: str, phi: str, row: str) -> None:
        """Write the evaluation of a row of each task."""
        x, target = self.place(w, "x"), self.place(w, "target")
        for k in range(self.features):
            at = number if k == 0 else w.put(f"add i64 {number}, {w.put(f'mul i64 {count}, {k}')}")
            w.store(self._read(w, "%X", at), x, str(k))
        w.store(self._read(w, "%y", number), target, "0")
        given = [phi, x, target]
        if self.weighted:
            weighs = self.place(w, "weighs")
            w.store(self._read(w, "%weight", number), weighs, "0")
            given.append(weighs)
        self.call(w, "row", *given, "%sigma", row)

    def _read(self, w: Writer, base: str, row: str) -> str:
        """Write the load of a number of each task."""
        at = w.put(f"add i64 {w.put(f'mul i64 {row}, %tasks')}, %first")
        place = w.put(f"getelementptr inbounds {self.vector.scalar}, ptr {base}, i64 {at}")
        return w.put(f"load {self.vector.floats}, ptr {place}, align {self.vector.bits // 8}")

    def _add(self, w: Writer, number: str, sums: str, row: str) -> None:
        """Write the sums of loss, gradient and matrix; padding adds nothing, whatever its numbers are."""
        p, zero = self.p, self.vector.splat(0.0)
        real = w.compare("ogt", self._read(w, "%mask", number), zero)
        loss, slope, weight = (w.load(row, str(k), shared=False) for k in range(3))
        slopes = [w.load(row, str(4 + k), shared=False) for k in range(p)]

        def add(value: str, *places: int) -> None:
            before = w.load(sums, str(places[0]), shared=False)
            after = w.arithmetic("fadd", before, w.select(real, value, zero))
            for place in places:
                w.store(after, sums, str(place))

        add(loss, 0)
        for k in range(p):
            add(w.arithmetic("fmul", slope, slopes[k]), 1 + k)
            weighted = w.arithmetic("fmul", weight, slopes[k])
            for j in range(k + 1):
                places = {1 + p + p * k + j, 1 + p + p * j + k}
                add(w.arithmetic("fmul", weighted, slopes[j]), *sorted(places))
