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
    """Write ``@search``, ``@screen`` and ``@screen_one``, as `over_groups` has them.

    The first takes u and centre of shape (numbers, tasks) and returns u, loss, code, and 1 where at some u on the way
    the loss was finite and its derivatives were not; the second takes the centre,
    and writes the rows' loss at each of some points u, of shape (points, tasks). Shared are factor, noise constants,
    numbers of the programs, X of shape (features, rows, tasks), y, mask and weights of shape (rows, tasks), and the
    number of rows; then the tolerance, or the points of shape (points, random) and the losses. The third does with one
    task what the second does with many: its groups are points, of shape (random, points), and its centre is shared.

    Parameters
    ----------
    programs : mapping of str to Program
        Those of :class:`~metaest.jit.codegen.search_steps.SearchSteps`; ``constants`` (u, centre, factor ->
        constants), ``row`` (constants, X, y, weight where there is one, noise constants -> loss, slope, weight, curve
        and its p slopes), ``losses`` (the same -> loss), ``finish`` (u, sums of the rows, factor -> gradient, loss and
        second derivative in u) and ``lost`` (the latter, mark -> mark). The sums are loss, gradient and matrix, one
        after the other.
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
    texts.append(layout.at_trial_function())
    given, outputs = {"u": m, "center": p}, {"found": m, "height": 1, "ended": 1, "mark": 1}
    body = layout.search(layout.evaluate, layout.begin)
    search, size = over_groups("search", given, outputs, [*SHARED, "tol"], body, vector, layout.size)
    # groups may overlap: both write the same losses
    screen, other = over_groups(
        "screen", {"center": p}, {}, [*SHARED, "points", "losses"], layout.screen(), vector, layout.size
    )
    one, third = over_groups(
        "screen_one", {"point": m}, {"height": 1}, [*SHARED, "center"], layout.screen_one(), vector, layout.size
    )
    head = "declare i64 @llvm.umin.i64(i64, i64)\n" + reduce_or(vector)
    return definitions(vector) + head + "\n".join([*texts, search, screen, one]), max(size, other, third) * vector.lanes


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
        more = {
            "before": 1,
            "after": 1,
            "u": m,
            "phi": p,
            "x": features,
            "target": 1,
            "weighs": 1,
            "row": 4 + p,
            "sums": 1 + p + p * p,
            "middle": p,
        }
        super().__init__(programs, m, vector, arena, more)
        # where rows are those of one task, and the same in all lanes
        self.one_task = False
        self.p, self.features, self.weighted = p, features, weighted

    def begin(self, w: Writer) -> None:
        """Write that no task is marked."""
        w.store(self.vector.splat(0.0), "%mark_v", "0")

    def evaluate(self, w: Writer) -> None:
        """Write a call of ``@at_trial``."""
        given = ", ".join(f"ptr %{name}" for name in ("center_v", "mark_v", *SHARED, "arena"))
        w.do(f"call void @at_trial({given}, i64 %first, i64 %tasks)")

    def at_trial_function(self) -> str:
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
        behind, before, after = self.place(w, "trial", self.m), self.place(w, "before"), self.place(w, "after")
        self.call(w, "finish", trial, sums, "%factor", behind)
        self.copy(w, "%mark_v", before, 1)
        self.call(w, "lost", behind, before, after)
        self.copy(w, after, "%mark_v", 1)
        given = ", ".join(f"ptr noalias %{name}" for name in ("center_v", "mark_v", *SHARED, "arena"))
        body = "\n".join(w.lines)
        return (
            f"define internal void @at_trial({given}, i64 %first, i64 %tasks) noinline {{\n"
            f"entry:\n{body}\n  ret void\n}}\n"
        )

    def screen(self) -> str:
        """Write what ``@screen`` does with a group, where ``%most`` is the number of points."""
        w, vector = Writer(self.vector, block="body"), self.vector
        u, phi, row = (self.place(w, name) for name in ("u", "phi", "row"))
        with w.loop("%most") as points:
            start = w.put(f"mul i64 {points.counter}, {self.m}")
            for k in range(self.m):
                w.store(w.load("%points", w.put(f"add i64 {start}, {k}"), shared=True), u, str(k))
            self.call(w, "constants", u, "%center_v", "%factor", phi)
            loss = self._loss(w, phi, row)
            at = w.put(f"add i64 {w.put(f'mul i64 {points.counter}, %tasks')}, %first")
            place = w.put(f"getelementptr inbounds {vector.scalar}, ptr %losses, i64 {at}")
            w.do(f"store {vector.floats} {loss}, ptr {place}, align {vector.bits // 8}")
        w.do("br label %scattered")
        return "\n".join(w.lines)

    def screen_one(self) -> str:
        """Write what ``@screen_one`` does with a group of points."""
        w = Writer(self.vector, block="body")
        phi, row, middle = (self.place(w, name) for name in ("phi", "row", "middle"))
        for k in range(self.p):
            w.store(w.load("%center", str(k), shared=True), middle, str(k))
        self.call(w, "constants", "%point_v", middle, "%factor", phi)
        self.one_task = True
        w.store(self._loss(w, phi, row), "%height_v", "0")
        self.one_task = False
        w.do("br label %scattered")
        return "\n".join(w.lines)

    def _loss(self, w: Writer, phi: str, row: str) -> str:
        """Write the sum of the rows' losses of each lane."""
        zero, count = self.vector.splat(0.0), w.put("load i64, ptr %rows, align 8")
        with w.loop(count, carried=(zero,)) as loop:
            self._row(w, loop.counter, count, phi, row, "losses")
            real = self._is_real(w, loop.counter)
            loss = w.select(real, w.load(row, "0", shared=False), zero)
            loop.ends.append(w.arithmetic("fadd", loop.carried[0], loss))
        return loop.ends[0]

    def _row(self, w: Writer, number: str, count: str, phi: str, row: str, program: str = "row") -> None:
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
        self.call(w, program, *given, "%sigma", row)

    def _read(self, w: Writer, base: str, number: str) -> str:
        """Write the load of a number of each task."""
        if self.one_task:
            return w.load(base, number, shared=True)
        at = w.put(f"add i64 {w.put(f'mul i64 {number}, %tasks')}, %first")
        place = w.put(f"getelementptr inbounds {self.vector.scalar}, ptr {base}, i64 {at}")
        return w.put(f"load {self.vector.floats}, ptr {place}, align {self.vector.bits // 8}")

    def _is_real(self, w: Writer, number: str) -> str:
        """Write where a row is no padding."""
        return w.compare("ogt", self._read(w, "%mask", number), self.vector.splat(0.0))

    def _add(self, w: Writer, number: str, sums: str, row: str) -> None:
        """Write the sums of loss, gradient and matrix; padding adds nothing, whatever its numbers are."""
        p, zero = self.p, self.vector.splat(0.0)
        real = self._is_real(w, number)
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
