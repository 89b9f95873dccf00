"""Compiled search of tasks with any number of rows: one program serves all data sets of an equation."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Iterator
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

__all__ = ["CompiledRowSearch", "SearchRows"]

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
        self._screen_one = compile_function(text, "screen_one", [ctypes.c_void_p] * 12 + [ctypes.c_int64] * 2)
        self._constants = np.array([c for program in programs.values() for c in program.constants] or [0.0])
        self._of_row = row.operations() + 3 * p * p
        self._of_step = sum(program.operations() for name, program in programs.items() if name not in ("row", "losses"))
        self._constants_place = self._constants.ctypes.data
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
        self, max_evaluations: int, tol: float, center: Array, factor: Array, noise: Array, rows: SearchRows, u: Array
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
        rows : SearchRows
        u : ndarray of shape (random, tasks)

        Returns
        -------
        u : ndarray of shape (random, tasks)
        loss, code : ndarray of shape (tasks,)
        lost : ndarray of bool, shape (tasks,)
            Where the loss was finite on the way, and its derivatives were not: the step there was not taken.
        """
        parts, (p, m) = [], factor.shape
        for tasks, real, part in self._calls(rows, max_evaluations):
            n = part.tasks
            # one array holds all numbers of the call, since each address that is asked for takes time
            numbers = np.empty((2 * m + p + 3) * n + p * m + len(noise) + 1)
            table, rest = numbers[: (2 * m + p + 3) * n].reshape(-1, n), numbers[(2 * m + p + 3) * n :]
            table[:m, :real], table[m : m + p, :real] = u[:, tasks], center[:, tasks]
            if real < n:
                table[: m + p, real:] = table[: m + p, real - 1 : real]
            rest[: p * m], rest[p * m : -1], rest[-1] = factor.reshape(-1), noise, tol
            at = _place(numbers)
            lines = [at + 8 * n * k for k in (0, m, m + p, 2 * m + p, 2 * m + p + 1, 2 * m + p + 2)]
            at += 8 * n * len(table)
            shared = [at, at + 8 * p * m, self._constants_place, *part.places]
            self._search(*lines, *shared, at + 8 * len(rest) - 8, self._arena(), n, max_evaluations)
            parts.append(table[m + p :, :real])
        found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return found[:m], found[m], found[m + 1].astype(np.int64), found[m + 2] > 0

    def losses(self, center: Array, factor: Array, noise: Array, rows: SearchRows, points: Array) -> Array:
        """Return the rows' loss of each task at some deviations, of shape (points, tasks).

        Parameters
        ----------
        center, factor, noise, rows
            As `search` takes them.
        points : ndarray of shape (points, random)
        """
        if rows.real == 1 and len(points) >= self._lanes:
            return self._losses_of_one(center[:, :1], factor, noise, rows, points)
        parts, points, factor = [], np.ascontiguousarray(points), np.ascontiguousarray(factor)
        for tasks, real, part in self._calls(rows, len(points)):
            n = part.tasks
            centers, losses = np.empty((len(center), n)), np.empty((len(points), n))
            centers[:, :real], centers[:, real:] = center[:, tasks], center[:, tasks][:, -1:]
            shared = [_place(factor), _place(noise), self._constants_place, *part.places]
            self._screen(_place(centers), *shared, _place(points), _place(losses), self._arena(), n, len(points))
            parts.append(losses[:, :real])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _losses_of_one(self, center: Array, factor: Array, noise: Array, rows: SearchRows, points: Array) -> Array:
        """Return what `losses` does of one task: a point in each lane, not the same task in all of them."""
        part, parts = SearchRows.of(rows.observations.take(torch.arange(1)), 1), []
        center, factor = np.ascontiguousarray(center), np.ascontiguousarray(factor)
        shared = [_place(factor), _place(noise), self._constants_place, *part.places, _place(center), self._arena()]
        at_once = self._lanes * max(1, OPERATIONS_PER_CALL // max(1, self._of_row * part.observations.y.shape[0]))
        for first in range(0, len(points), at_once):
            real = min(at_once, len(points) - first)
            # the last call takes as many as there are lanes
            chosen = np.ascontiguousarray(points[max(0, min(first, len(points) - self._lanes)) : first + real].T)
            losses = np.empty(chosen.shape[1])
            self._screen_one(_place(chosen), _place(losses), *shared, len(losses), 0)
            parts.append(losses[-real:])
        return np.concatenate(parts)[:, None]

    def rows_of(self, observations: Observations) -> SearchRows:
        """Return rows as `search` takes them."""
        tasks = observations.y.shape[1]
        if tasks < self._lanes:  # a call takes at least so many: the last task is repeated, and its repeats are dropped
            observations = observations.take(torch.arange(self._lanes).clamp(max=tasks - 1))
        return SearchRows.of(observations, tasks)

    def _calls(self, rows: SearchRows, evaluations: int) -> Iterator[tuple[slice, int, SearchRows]]:
        """Yield the tasks of each call, how many these are, and their rows: Ctrl-C is heard between calls."""
        work = evaluations * (self._of_row * rows.observations.y.shape[0] + self._of_step)
        at_once = self._lanes * max(1, OPERATIONS_PER_CALL // max(1, work))
        if rows.real <= at_once:
            yield slice(None), rows.real, rows
            return
        for first in range(0, rows.real, at_once):
            chosen = torch.arange(first, min(first + at_once, rows.real))
            yield slice(first, first + at_once), len(chosen), self.rows_of(rows.observations.take(chosen))

    def _arena(self) -> int:
        """Return where the memory of this thread lies."""
        memory = self._memory
        if not hasattr(memory, "arena"):
            memory.arena = aligned(self._size, np.dtype(np.float64))
            memory.place = memory.arena.ctypes.data
        place: int = memory.place
        return place


class SearchRows(NamedTuple):
    """Rows of tasks as machine code reads them.

    Attributes
    ----------
    observations : Observations
        Rows, padded to the longest task.
    real : int
        Number of tasks; those after them are repeats.
    places : list of int
        Where X, y, mask, weight and the number of rows lie.
    kept : list
        What lies there, which has to outlive the call.
    """

    observations: Observations
    real: int
    places: list[int]
    kept: list[Any]

    @classmethod
    def of(cls, observations: Observations, real: int) -> SearchRows:
        """Return rows with the places where they lie."""
        weight = torch.ones_like(observations.y) if observations.weight is None else observations.weight
        numbers = [observations.X.T, observations.y, observations.mask, weight, torch.tensor([observations.y.shape[0]])]
        kept = [each.contiguous() for each in numbers]
        return cls(observations, real, [each.data_ptr() for each in kept], kept)

    @property
    def tasks(self) -> int:
        """Number of tasks with the repeats."""
        return self.observations.y.shape[1]


def _place(array: NDArray[Any]) -> int:
    """Return where an array lies, in a fifth of the time of ``array.ctypes.data``."""
    return torch.from_numpy(array).data_ptr()


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
