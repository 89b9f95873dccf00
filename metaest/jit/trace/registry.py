"""Registry of lowering rules, and the program under construction that each rule appends to."""

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
"""Operations whose result is a view of their operand."""


@dataclass
class ProgramBuilder:
    """A program under construction.

    Attributes
    ----------
    kernels : list of Kernel
    constants : list of float
        Numbers of the program itself.
    constant : Buffer
        Memory of these numbers.
    node : torch.fx.Node
        The operation that is lowered at present.
    single : bool
        Whether the program's own numbers are of single precision.
    """

    kernels: list[Kernel] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    constant: Buffer = field(default_factory=lambda: Buffer(0, shared=True))
    node: Any = None
    single: bool = False

    def stored(self, value: Operand) -> View:
        """Return an operand as numbers in memory, stored in row-major order unless it is a view."""
        if isinstance(value, View):
            return value
        out = self.allocate(value.shape)
        self.kernels.append(Fill(out, value))
        return out

    def constant_tensor(self, tensor: torch.Tensor) -> Operand:
        """Return a tensor whose numbers are part of the program."""
        values, shape = tensor.detach().double().reshape(-1).tolist(), tuple(tensor.shape)
        if len(set(values)) == 1:
            return Constant(values[0], shape)
        view = View(self.constant, shape, contiguous(shape), len(self.constants))
        self.constants.extend(values)
        return view

    def allocate(self, shape: tuple[int, ...]) -> View:
        """Allocate memory for an operation's result."""
        return View(Buffer(math.prod(shape), wide=self.is_wide(self.node)), shape, contiguous(shape))

    def is_wide(self, node: Any) -> bool:
        """Tell whether a node's numbers are of double precision where the program's own are not.

        Truth values are worked out in the precision of what is compared.
        """
        value = node.meta.get("val") if self.single else None
        value = value[0] if isinstance(value, (list, tuple)) else value
        if not isinstance(value, torch.Tensor):
            return False
        return (
            any(map(self.is_wide, node.all_input_nodes)) if value.dtype == torch.bool else value.dtype == torch.double
        )


def lowers(*names: str, view: bool = False) -> Callable[[Rule], Rule]:
    """Register a function as the lowering rule of these operations."""

    def register(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
            if view:
                VIEWS.add(name)
        return rule

    return register
