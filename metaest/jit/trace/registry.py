"""Who lowers which operation of torch, and what they need for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from metaest.jit.ir import Buffer, Constant, Fill, Kernel, Operand, View, contiguous

__all__ = ["RULES", "VIEWS", "ProgramBuilder", "Rule", "lowers"]

Rule = Callable[..., Operand]
RULES: dict[str, Rule] = {}
VIEWS: set[str] = set()
"""Operations whose result is their operand seen in another way."""


@dataclass
class ProgramBuilder:
    """The kernels of a program, as far as they are known.

    Attributes
    ----------
    kernels : list of Kernel
    constants : list of float
        Numbers of the program itself.
    constant : Buffer
        Where they are.
    node : torch.fx.Node
        The operation that is lowered at present.
    """

    kernels: list[Kernel] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    constant: Buffer = field(default_factory=lambda: Buffer(0, shared=True))
    node: Any = None

    def stored(self, value: Operand) -> View:
        """Return numbers in memory, as rows one after the other if they were not there before."""
        if isinstance(value, View):
            return value
        out = self.allocate(value.shape)
        self.kernels.append(Fill(out, value))
        return out

    def constant_tensor(self, tensor: torch.Tensor) -> Operand:
        """Return a tensor that is known when the program is written."""
        values, shape = tensor.detach().double().reshape(-1).tolist(), tuple(tensor.shape)
        if len(set(values)) == 1:
            return Constant(values[0], shape)
        view = View(self.constant, shape, contiguous(shape), len(self.constants))
        self.constants.extend(values)
        return view

    def allocate(self, shape: tuple[int, ...]) -> View:
        """Return memory for an operation's result."""
        return View(Buffer(math.prod(shape)), shape, contiguous(shape))


def lowers(*names: str, view: bool = False) -> Callable[[Rule], Rule]:
    """Say that a function lowers these operations."""

    def register(handler: Rule) -> Rule:
        for name in names:
            RULES[name] = handler
            if view:
                VIEWS.add(name)
        return handler

    return register
