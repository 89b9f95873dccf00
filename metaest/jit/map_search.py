"""Compiled MAP search: the constants of many tasks are searched in one call of machine code."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import torch
from torch import Tensor

from metaest.functional import HierarchicalModel, Observations, SolveCode
from metaest.functional.equations.gauss_newton import MapResult, SearchState
from metaest.functional.equations.hierarchical import Information, true_curvature
from metaest.jit.codegen.map_search import SearchPrograms, search_text
from metaest.jit.ir import OPERATIONS_PER_CALL
from metaest.jit.llvm.compile import aligned, compile_function, native_vector
from metaest.jit.search_steps import step_programs
from metaest.jit.trace.graph import graph_of

__all__ = ["CompiledMapSearch"]


class CompiledMapSearch:
    """The damped Gauss-Newton search of tasks with equally many rows, vectorised over tasks.

    Parameters
    ----------
    model : HierarchicalModel
        A model whose rows do not depend on one another.
    center : Tensor of shape (constants, 1)
    factor : Tensor of shape (constants, random)
    log_sigma : Tensor of shape (noise constants,)
    observations : Observations
        Rows of one task, for their shapes.

    Raises
    ------
    UnsupportedError
        When the equation holds an operation that cannot be compiled.
    UnavailableError
        When LLVM is not installed.
    """

    def __init__(
        self, model: HierarchicalModel, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations
    ) -> None:
        m, self.full = factor.shape[1], observations.full
        self._programs = _programs(model, center, factor, log_sigma, observations)
        self._vector = native_vector(64)
        text, self._size = search_text(self._programs, self._vector)
        inputs, addresses = len(self._given(observations)) + 2, ctypes.c_void_p
        self._calls = {
            name: compile_function(text, name, [addresses] * (inputs + outputs + 5) + [ctypes.c_int64] * 2)
            for name, outputs in (("gauss_newton", 3), ("newton", 3), ("curved", 1))
        }
        self._calls["informed"] = compile_function(text, "informed", [addresses] * (inputs + 3) + [ctypes.c_int64] * 2)
        self._constants = np.array(self._programs.constants or [0.0])
        self._constants_place = self._constants.ctypes.data
        p, rows = len(center), sum(len(array) for array in self._given(observations))
        self._most_numbers = m + p + rows + max(m + 2, m + 1 + m * m, p + 1 + p * p)
        self._tolerances: dict[float, Tensor] = {}
        self.m = m
        self._memory = threading.local()

    def solve(
        self,
        max_iter: int,
        newton_after: int,
        tol: float,
        center: Tensor,
        factor: Tensor,
        log_sigma: Tensor,
        observations: Observations,
        u: Tensor,
    ) -> MapResult:
        """Search every task from u; see :meth:`metaest.functional.GaussNewton.solve`."""
        first = min(max_iter, newton_after)
        result = self._search("gauss_newton", first, tol, center, factor, log_sigma, observations, u)
        left = torch.nonzero(result.code == SolveCode.MAX_ITER)[:, 0]
        if len(left) and max_iter > newton_after:
            again = self._search(
                "newton", max_iter - newton_after, tol, center[:, left], factor, log_sigma, observations.take(left),
                result.u[:, left],
            )  # fmt: skip
            for part, other in zip(result, again, strict=True):
                part[..., left] = other
        return result

    def _search(
        self,
        how: str,
        most: int,
        tol: float,
        center: Tensor,
        factor: Tensor,
        log_sigma: Tensor,
        observations: Observations,
        u: Tensor,
    ) -> MapResult:
        given = [u, center, *self._given(observations)]
        tolerance = self._tolerances.setdefault(tol, torch.tensor([tol], dtype=torch.float64))
        shared = [factor, log_sigma, tolerance]
        u, height, ended = self._call(how, given, (self.m, 1, 1), shared, most)
        return MapResult(u, height[0], ended[0].long())

    def curved(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> Information:
        """Return what :meth:`metaest.functional.HierarchicalModel.posterior_at` does."""
        m = len(u)
        given, shared = [u, center, *self._given(observations)], [factor, log_sigma, log_sigma]
        [rest] = self._call("curved", given, (m + 1 + m * m,), shared, 0)
        return _information(rest, m)

    def informed(self, phi: Tensor, log_sigma: Tensor, observations: Observations) -> Information:
        """Return what :meth:`metaest.functional.HierarchicalModel.information` does."""
        p = len(phi)
        [rest] = self._call("informed", [phi, *self._given(observations)], (p + 1 + p * p,), [log_sigma], 0)
        return _information(rest, p)

    def _given(self, observations: Observations) -> list[Tensor]:
        parts = [observations.X.T.reshape(-1, observations.y.shape[1]), observations.y]
        parts = parts if self.full else [*parts, observations.mask]
        return parts if observations.weight is None else [*parts, observations.weight]

    def _call(
        self, how: str, given: list[Tensor], sizes: tuple[int, ...], shared: list[Tensor], most: int
    ) -> list[Tensor]:
        tasks, lanes = given[0].shape[1], self._vector.lanes
        fixed = [array.detach().to(torch.float64).contiguous() for array in shared]
        memory = self._memory
        if not hasattr(memory, "arena"):  # of each thread its own
            memory.arena = aligned(self._size, np.dtype(np.float64))
            memory.few = aligned(self._most_numbers * lanes, np.dtype(np.float64)).reshape(-1, lanes)
            memory.places = memory.arena.ctypes.data, memory.few.ctypes.data
        if tasks < lanes:
            return self._call_few(how, given, sizes, fixed, most)
        work = self._programs.evaluate.operations() * max(1, most)
        at_once = lanes * max(1, OPERATIONS_PER_CALL // max(1, work))
        if tasks > at_once:
            cuts = [slice(first, first + at_once) for first in range(0, tasks, at_once)]
            parts = [self._call(how, [array[..., cut] for array in given], sizes, shared, most) for cut in cuts]
            return [torch.cat(pieces, dim=-1) for pieces in zip(*parts, strict=True)]
        arrays = [array.detach().to(torch.float64).contiguous() for array in given]
        results = [torch.empty(size, tasks, dtype=torch.float64) for size in sizes]
        places = [array.data_ptr() for array in (*arrays, *results, *fixed)]
        self._calls[how](*places, self._constants_place, memory.places[0], tasks, most)
        return results

    def _call_few(
        self, how: str, given: list[Tensor], sizes: tuple[int, ...], fixed: list[Tensor], most: int
    ) -> list[Tensor]:
        """Call for fewer tasks than lanes, copied to memory that is there already, the first one over again."""
        buffer, (arena, place) = self._memory.few, self._memory.places
        tasks, lanes, row, places = given[0].shape[1], self._vector.lanes, 0, []
        for array in given:
            part = buffer[row : row + len(array)]
            part[:, :tasks] = array.detach().numpy()
            part[:, tasks:] = part[:, :1]
            places.append(place + 8 * lanes * row)
            row += len(array)
        first = row
        for size in sizes:
            places.append(place + 8 * lanes * row)
            row += size
        places += [array.data_ptr() for array in fixed]
        self._calls[how](*places, self._constants_place, arena, lanes, most)
        results = torch.from_numpy(buffer[first:row, :tasks].copy())
        return list(torch.split(results, list(sizes)))


def _information(rest: Tensor, m: int) -> Information:
    return Information(rest[m], rest[:m], rest[m + 1 :].reshape(m, m, -1))


def _programs(
    model: HierarchicalModel, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations
) -> SearchPrograms:
    """Trace the programs of a search, for one task."""
    m = factor.shape[1]

    def evaluate(u: Tensor, center: Tensor, X: Tensor, y: Tensor, *rest: Tensor) -> list[Tensor]:
        *more, factor, log_sigma = rest
        information = model.information(center + factor @ u, log_sigma, observed(X, y, more))
        return [SearchState.at(u, information.in_random_directions(factor, u)).packed[m:]]

    def inform(phi: Tensor, X: Tensor, y: Tensor, *rest: Tensor) -> list[Tensor]:
        *more, log_sigma = rest
        information = model.information(phi, log_sigma, observed(X, y, more))
        return [SearchState.at(phi, information).packed[len(phi) :]]

    def curvature(gradients: Tensor, expected: Tensor) -> list[Tensor]:
        return [true_curvature(gradients, expected)]

    def observed(X: Tensor, y: Tensor, more: list[Tensor]) -> Observations:
        mask = torch.ones_like(y) if observations.full else more[0]
        return Observations(X.T, y, mask, observations.full, None if observations.weight is None else more[-1])

    u = torch.ones(m, 1, dtype=torch.float64)
    more = [] if observations.full else [observations.mask]
    more += [] if observations.weight is None else [observations.weight]
    given = [u, center, observations.X.T.contiguous(), observations.y, *more, factor, log_sigma]
    alone = [False] * (len(given) - 2) + [True] * 2
    gradients = torch.ones(2 * m, m, 1, dtype=torch.float64)
    steps = step_programs(m)
    return SearchPrograms(
        graph_of(evaluate, given, alone)[0],
        steps["begin"],
        steps["propose"],
        steps["accept"],
        graph_of(curvature, [gradients, torch.ones(m, m, 1, dtype=torch.float64)], [False] * 2)[0],
        graph_of(inform, [*given[1:-2], log_sigma], alone[1:-1])[0],
        m,
    )
