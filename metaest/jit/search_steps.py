"""Programs of the steps of a damped search: how it begins, which step it proposes, and whether it takes that."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from metaest.functional import SolveCode
from metaest.functional.equations.gauss_newton import SearchState, accept_step, propose_step
from metaest.jit.ir import Program
from metaest.jit.trace.graph import program_of

__all__ = ["step_programs"]


@lru_cache(maxsize=32)
def step_programs(m: int) -> dict[str, Program]:
    """Trace ``begin``, ``propose`` and ``accept`` of a search for m constants of one task."""

    def begin(packed: Tensor) -> list[Tensor]:
        code = torch.where(SearchState(packed, m).finite, float(SolveCode.MAX_ITER), float(SolveCode.NOT_FINITE))
        return [code]

    def propose(packed: Tensor, damping: Tensor, code: Tensor, tol: Tensor) -> list[Tensor]:
        state, step, expected, code = propose_step(SearchState(packed, m), damping, code, tol)
        return [state.packed, state.u + step, expected, code]

    def accept(packed: Tensor, trial: Tensor, damping: Tensor, code: Tensor, expected: Tensor) -> list[Tensor]:
        state, damping = accept_step(SearchState(packed, m), SearchState(trial, m), damping, code, expected)
        return [state.packed, damping]

    state, one = torch.ones(2 * m + 1 + m * m, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return {
        "begin": program_of(begin, [state], [False]),
        "propose": program_of(propose, [state, one, one, one], [False] * 3 + [True]),
        "accept": program_of(accept, [state, state, one, one, one], [False] * 5),
    }
