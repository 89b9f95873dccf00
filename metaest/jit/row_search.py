"""Compiled search of tasks with any number of rows: one program serves all data sets of an equation."""

from __future__ import annotations

import ctypes
import logging
import threading
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import Observations
from metaest.functional.equations.gauss_newton import SearchState
from metaest.functional.equations.hierarchical import Information
from metaest.jit.codegen.row_search import row_search_text
from metaest.jit.errors import UnavailableError, UnsupportedError, is_permanent
from metaest.jit.ir import OPERATIONS_PER_CALL, Program
from metaest.jit.llvm.compile import aligned, compile_function, native_vector
from metaest.jit.rows import CompiledRows
from metaest.jit.search_steps import step_programs
from metaest.jit.trace.graph import program_of

__all__ = ["CompiledRowSearch"]

Array = NDArray[np.float64]
_logger = logging.getLogger("metaest.compile")
# None where a search cannot be compiled
_searches: WeakKeyDictionary[CompiledRows, dict[int, CompiledRowSearch | None]] = WeakKeyDictionary()


class CompiledRowSearch:
    """The damped Gauss-Newton search with the expected second derivative, vectorised over tasks.

    Parameters
    ----------
    rows : CompiledRows
        Programs of the rows.
    m : int
        Constants that vary.
    """

    def __init__(self, rows: CompiledRows, m: int) -> None:
        row = rows.programs["first"]
        p, features = row.inputs[0].size, row.inputs[1].size
        self.weighted, self.m = rows.weighted, m
        programs = {"row": row, "losses": rows.programs["losses"], **_programs(p, m)}
        vector = native_vector(64)
        self._lanes = vector.lanes
        text, self._size = row_search_text(programs, p, m, features, vector, weighted=rows.weighted)
        self._search = compile_function(text, "search", [ctypes.c_void_p] * 16 + [ctypes.c_int64] * 2)
        self._screen = compile_function(text, "screen", [ctypes.c_void_p] * 12 + [ctypes.c_int64] * 2)
        self._constants = np.array([c for program in programs.values() for c in program.constants] or [0.0])
        self._of_row = row.operations() + 3 * p * p
        self._of_step = sum(program.operations() for name, program in programs.items() if name not in ("row", "losses"))
        self._memory = threading.local()

    @classmethod
    def of(cls, rows: CompiledRows, m: int) -> CompiledRowSearch | None:
        """Return the search by such programs, made when it is first asked for; None where it cannot be compiled."""
        if len(rows.answers):  # row functions are asked between calls of machine code
            return None
        searches = _searches.setdefault(rows, {})
        if m not in searches:
            try:
                searches[m] = cls(rows, m)
            except (UnavailableError, UnsupportedError) as error:
                _logger.info("tasks are not searched in one call of machine code: %s", error)
                if not is_permanent(error):
                    return None
                searches[m] = None
        return searches[m]

    def search(
        self,
        max_evaluations: int,
        tol: float,
        center: Array,
        factor: Array,
        noise: Array,
        observations: Observations,
        u: Array,
    ) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]:
        """Search every task from u.

        Parameters
        ----------
        max_evaluations : int
            Evaluations of a task's rows.
        tol : float
            As :class:`metaest.functional.GaussNewton` takes it.
        center : ndarray of shape (constants, tasks)
        factor : ndarray of shape (constants, random)
        noise : ndarray
            The logarithms of the noise constants, and the smallest size of the curve.
        observations : Observations
            Rows, padded to the longest task.
        u : ndarray of shape (random, tasks)

        Returns
        -------
        u : ndarray of shape (random, tasks)
        loss, code : ndarray of shape (tasks,)
        lost : ndarray of bool, shape (tasks,)
            Where the loss was finite on the way, and its derivatives were not: the step there was not taken.
        """
        parts = []
        for tasks, n_real in self._calls(observations, max_evaluations):
            n = len(tasks)
            inputs = [np.ascontiguousarray(each[:, tasks]) for each in (u, center)]
            results = np.empty((self.m, n)), np.empty(n), np.empty(n), np.empty(n)
            shared = self._shared(factor, noise, _taken(observations, tasks))
            tolerance = np.array([tol])
            places = [each.ctypes.data for each in (*inputs, *results)]
            self._search(*places, *shared.places, tolerance.ctypes.data, self._arena(), n, max_evaluations)
            parts.append([result[..., :n_real] for result in results])
        u, loss, code, lost = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
        return u, loss, code.astype(np.int64), lost > 0

    def losses(self, center: Array, factor: Array, noise: Array, observations: Observations, points: Array) -> Array:
        """Return the rows' loss of each task at some deviations, of shape (points, tasks).

        Parameters
        ----------
        center, factor, noise, observations
            As `search` takes them.
        points : ndarray of shape (points, random)
        """
        parts, points = [], np.ascontiguousarray(points)
        for tasks, n_real in self._calls(observations, len(points)):
            centers, losses = np.ascontiguousarray(center[:, tasks]), np.empty((len(points), len(tasks)))
            shared = self._shared(factor, noise, _taken(observations, tasks))
            places = [points.ctypes.data, losses.ctypes.data, self._arena()]
            self._screen(centers.ctypes.data, *shared.places, *places, len(tasks), len(points))
            parts.append(losses[:, :n_real])
        return np.concatenate(parts, axis=1)

    def _calls(self, observations: Observations, evaluations: int) -> list[tuple[NDArray[np.intp], int]]:
        """Return the numbers of the tasks of each call, and how many of these count: Ctrl-C is heard between calls.

        A call takes at least as many tasks as there are lanes; the last task is repeated to fill it, and its repeats
        are dropped.
        """
        rows, tasks = observations.y.shape
        work = evaluations * (self._of_row * rows + self._of_step)
        at_once = self._lanes * max(1, OPERATIONS_PER_CALL // max(1, work))
        cuts = [np.arange(first, min(first + at_once, tasks)) for first in range(0, tasks, at_once)]
        return [(np.pad(cut, (0, max(0, self._lanes - len(cut))), mode="edge"), len(cut)) for cut in cuts]

    def _shared(self, factor: Array, noise: Array, observations: Observations) -> _Shared:
        """Return where factor, noise, numbers of the programs and rows lie."""
        rows = np.array([observations.y.shape[0]], dtype=np.int64)
        arrays = [np.ascontiguousarray(factor), noise, self._constants, rows]
        weight = torch.ones_like(observations.y) if observations.weight is None else observations.weight
        tensors = [each.contiguous() for each in (observations.X.T, observations.y, observations.mask, weight)]
        *before, last = (each.ctypes.data for each in arrays)
        return _Shared([*before, *(each.data_ptr() for each in tensors), last], [arrays, tensors])

    def _arena(self) -> int:
        """Return where the memory of this thread lies."""
        memory = self._memory
        if not hasattr(memory, "arena"):
            memory.arena = aligned(self._size, np.dtype(np.float64))
            memory.place = memory.arena.ctypes.data
        place: int = memory.place
        return place


class _Shared(NamedTuple):
    """Where the numbers lie that all tasks share, and these numbers, which have to outlive the call."""

    places: list[int]
    kept: list[Any]


def _taken(observations: Observations, tasks: NDArray[np.intp]) -> Observations:
    """Return the rows of some tasks; all of them as they are."""
    if len(tasks) == observations.y.shape[1]:
        return observations
    return observations.take(torch.from_numpy(tasks))


@lru_cache(maxsize=32)
def _programs(p: int, m: int) -> dict[str, Program]:
    """Trace what a search does beside its rows, for one task."""
    n = 2 * m + 1 + m * m

    def constants(u: Tensor, center: Tensor, factor: Tensor) -> list[Tensor]:
        return [center + factor @ u]

    def finish(u: Tensor, sums: Tensor, factor: Tensor) -> list[Tensor]:
        information = Information(sums[0], sums[1 : 1 + p], sums[1 + p :].reshape(p, p, 1))
        return [SearchState.at(u, information.in_random_directions(factor, u)).packed[m:]]

    def lost(rest: Tensor, mark: Tensor) -> list[Tensor]:
        return [torch.where(torch.isfinite(rest[m]) & ~torch.isfinite(rest.sum(dim=0)), 1.0, mark)]

    state, one = torch.ones(n, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    factor, center = torch.ones(p, m, dtype=torch.float64), torch.ones(p, 1, dtype=torch.float64)
    sums = torch.ones(1 + p + p * p, 1, dtype=torch.float64)
    return {
        "constants": program_of(constants, [state[:m], center, factor], [False, False, True]),
        "finish": program_of(finish, [state[:m], sums, factor], [False, False, True]),
        "lost": program_of(lost, [state[m:], one], [False, False]),
        **step_programs(m),
    }
