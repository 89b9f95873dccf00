"""Compiled adaptation: from the support rows of many tasks to the parameters of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import (
    InnerSolver,
    Loss,
    ModuleForward,
    Params,
    Rows,
    with_statistics,
)
from metaest.functional.inner.damping import highest_loss
from metaest.functional.modules.forward import alone
from metaest.jit.function import CompiledFunction

__all__ = ["CompiledAdaptation"]


class CompiledAdaptation:
    """Gradient steps on the support of many tasks, vectorised over tasks.

    Parameters
    ----------
    forward : ModuleForward
    loss : callable
    solver : InnerSolver
    start : dict of Tensor
        Parameters from which every task starts.
    n_rows : int
        Rows to which supports are padded.
    like : Rows
        Support rows of one task, for their shapes.

    Raises
    ------
    UnsupportedError
        When the module holds an operation that cannot be compiled.
    UnavailableError
        When LLVM is not installed.
    """

    def __init__(
        self, forward: ModuleForward, loss: Loss, solver: InnerSolver, start: Params, n_rows: int, like: Rows
    ) -> None:
        one, names = alone(forward), list(start)
        self.n_rows = n_rows
        self.names: list[str] = []

        def adapt(*arguments: Tensor) -> list[Tensor]:
            params = {name: value[None] for name, value in zip(names, arguments, strict=False)}
            support = Rows(*(rows[None] for rows in arguments[len(names) :]))
            with torch.enable_grad():
                adapted = solver.solve(one, loss, params, support)
                before, after = (loss(one(weights, support), support.y, support.mask) for weights in (params, adapted))
                adapted = with_statistics(one, adapted, support)
            self.names = list(adapted)
            return [before[0].detach(), after[0].detach(), *(value[0].detach() for value in adapted.values())]

        blank = next(iter(start.values()))
        examples = [value.detach().clone() for value in start.values()]
        examples += [blank.new_ones(n_rows, *rows.shape[2:]) for rows in like]
        self._function = CompiledFunction(adapt, examples, [True] * len(names) + [False] * 3)
        self._function.fix([value.detach().numpy() for value in start.values()])

    def __call__(self, support: Rows) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """Adapt to support rows of shape (tasks, n_rows, ...).

        Returns
        -------
        dict of ndarray, each of shape (tasks, ...)
        ndarray of bool, shape (tasks,)
            Tasks whose loss did not rise; the others need a smaller rate, and their parameters are not to be used.
        """
        before, after, *adapted = self._function([rows.numpy() for rows in support], len(support.X))
        good = after <= highest_loss(before)
        return dict(zip(self.names, adapted, strict=True)), good
