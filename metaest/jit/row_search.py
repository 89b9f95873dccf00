"""Compiled search of tasks with any number of rows: one program serves all data sets of an equation."""

from __future__ import annotations

import ctypes
import threading
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import Observations, SolveCode
from metaest.functional.equations.gauss_newton import SearchState, accept_step, propose_step
from metaest.functional.equations.hierarchical import Information
from metaest.jit.codegen.row_search import row_search_text
from metaest.jit.ir import OPERATIONS_PER_CALL, Program
from metaest.jit.llvm.compile import aligned, compile_function, native_vector
from metaest.jit.rows import CompiledRows
from metaest.jit.trace.graph import program_of

__all__ = ["CompiledRowSearch"]

Array = NDArray[np.float64]
_searches: WeakKeyDictionary[CompiledRows, dict[int, CompiledRowSearch]] = WeakKeyDictionary()


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
        programs = {"row": row, **_programs(p, m)}
        vector = native_vector(64)
        self._lanes = vector.lanes
        text, self._size = row_search_text(programs, p, m, features, vector, weighted=rows.weighted)
        self._search = compile_function(text, "search", [ctypes.c_void_p] * 15 + [ctypes.c_int64] * 2)
        self._constants = np.array([c for program in programs.values() for c in program.constants] or [0.0])
        self._of_row = row.operations()
        self._memory = threading.local()

    @classmethod
    def of(cls, rows: CompiledRows, m: int) -> CompiledRowSearch:
        """Return the search by such programs, made when it is first asked for.

        Raises
        ------
        UnavailableError
            When LLVM fails.
        """
        searches = _searches.setdefault(rows, {})
        if m not in searches:
            searches[m] = cls(rows, m)
        return searches[m]

    def search(
        self, most: int, tol: float, center: Array, factor: Array, noise: Array, observations: Observations, u: Array
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Search every task from u.

        Parameters
        ----------
        most : int
            Evaluations.
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
        """
        rows, tasks = observations.y.shape
        at_once = self._lanes * max(1, OPERATIONS_PER_CALL // max(1, self._of_row * rows * most))
        if tasks > at_once:  # Ctrl-C is heard between calls
            parts = [
                self.search(most, tol, center[:, i : i + at_once], factor, noise, observations.take(numbers), u[:, i : i + at_once])
                for i, numbers in ((int(cut[0]), cut) for cut in torch.arange(tasks).split(at_once))
            ]  # fmt: skip
            us, losses, codes = zip(*parts, strict=True)
            return np.concatenate(us, axis=1), np.concatenate(losses), np.concatenate(codes)
        if tasks < self._lanes:
            few = np.minimum(np.arange(self._lanes), tasks - 1)
            more = observations.take(torch.from_numpy(few))
            found, height, code = self.search(most, tol, center[:, few], factor, noise, more, u[:, few])
            return found[:, :tasks], height[:tasks], code[:tasks]
        memory = self._memory
        if not hasattr(memory, "arena"):  # of each thread its own
            memory.arena = aligned(self._size, np.dtype(np.float64))
            memory.place = memory.arena.ctypes.data
        found, height, ended = np.empty((self.m, tasks)), np.empty(tasks), np.empty(tasks)
        given = [np.ascontiguousarray(each) for each in (u, center)]
        shared = [np.ascontiguousarray(factor), noise, self._constants]
        weight = torch.ones_like(observations.y) if observations.weight is None else observations.weight
        tensors = [each.contiguous() for each in (observations.X.T, observations.y, observations.mask, weight)]
        count, tolerance = np.array([rows]), np.array([tol])
        self._search(
            *(each.ctypes.data for each in (*given, found, height, ended, *shared)),
            *(each.data_ptr() for each in tensors),
            *(count.ctypes.data, tolerance.ctypes.data, memory.place, tasks, most),
        )
        return found, height, ended.astype(np.int64)


@lru_cache(maxsize=32)
def _programs(p: int, m: int) -> dict[str, Program]:
    """Trace what a search does beside its rows, for one task."""
    n = 2 * m + 1 + m * m

    def constants(u: Tensor, center: Tensor, factor: Tensor) -> list[Tensor]:
        return [center + factor @ u]

    def finish(u: Tensor, sums: Tensor, factor: Tensor) -> list[Tensor]:
        information = Information(sums[0], sums[1 : 1 + p], sums[1 + p :].reshape(p, p, 1))
        return [SearchState.at(u, information.in_random_directions(factor, u)).packed[m:]]

    def begin(packed: Tensor) -> list[Tensor]:
        code = torch.where(SearchState(packed, m).finite, float(SolveCode.MAX_ITER), float(SolveCode.NOT_FINITE))
        return [code]

    def propose(packed: Tensor, damping: Tensor, code: Tensor, tol: Tensor) -> list[Tensor]:
        state, step, expected, code = propose_step(SearchState(packed, m), damping, code, tol)
        return [state.packed, state.u + step, expected, code]

    def accept(packed: Tensor, trial: Tensor, damping: Tensor, code: Tensor, expected: Tensor) -> list[Tensor]:
        state, damping = accept_step(SearchState(packed, m), SearchState(trial, m), damping, code, expected)
        return [state.packed, damping]

    state, one = torch.ones(n, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    factor, center = torch.ones(p, m, dtype=torch.float64), torch.ones(p, 1, dtype=torch.float64)
    sums = torch.ones(1 + p + p * p, 1, dtype=torch.float64)
    return {
        "constants": program_of(constants, [state[:m], center, factor], [False, False, True]),
        "finish": program_of(finish, [state[:m], sums, factor], [False, False, True]),
        "begin": program_of(begin, [state], [False]),
        "propose": program_of(propose, [state, one, one, one], [False] * 3 + [True]),
        "accept": program_of(accept, [state, state, one, one, one], [False] * 5),
    }
