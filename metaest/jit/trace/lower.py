"""From a traced graph of torch's operations to kernels over buffers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch

import metaest.jit.trace.linear_algebra  # noqa: F401  # it registers its rules
from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import Buffer, Fill, Formula, Operand, Program, View, contiguous
from metaest.jit.trace.elementwise import ELEMENTWISE
from metaest.jit.trace.record import Recorded
from metaest.jit.trace.reductions import REDUCTIONS
from metaest.jit.trace.registry import RULES, VIEWS, ProgramBuilder

__all__ = ["lower"]


def lower(graph: torch.fx.GraphModule | Recorded, shared: Sequence[bool]) -> Program:
    """Lower a graph whose inputs and outputs are tensors.

    Parameters
    ----------
    graph : GraphModule or Recorded
        As ``make_fx`` or `record` traces it.
    shared : sequence of bool
        True for inputs that are the same for all tasks.

    Raises
    ------
    UnsupportedError
        When it holds an operation without a lowering rule.
    """
    return _Lowering(graph).run(shared)


class _Lowering(ProgramBuilder):
    def __init__(self, graph: torch.fx.GraphModule | Recorded) -> None:
        super().__init__()
        self.graph = graph
        self.operands: dict[torch.fx.Node, Operand] = {}

    def run(self, shared: Sequence[bool]) -> Program:
        for node in self.graph.graph.nodes:
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise UnsupportedError(f"{_name(node)} draws at random")
        inputs: list[Buffer] = []
        outputs: list[Buffer] = []
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                shape = tuple(node.meta["val"].shape)
                self.single |= node.meta["val"].dtype == torch.float32
                inputs.append(Buffer(math.prod(shape), shared[len(inputs)]))
                self.operands[node] = View(inputs[-1], shape, contiguous(shape))
            elif node.op == "get_attr":
                self.operands[node] = self.constant_tensor(getattr(self.graph, node.target))
            elif node.op == "call_function":
                self.operands[node] = self._call(node)
            elif node.op == "output":
                for value_node in node.args[0]:
                    value = self.operands[value_node]
                    outputs.append(Buffer(math.prod(value.shape)))
                    self.kernels.append(Fill(View(outputs[-1], value.shape, contiguous(value.shape)), value))
        return Program(inputs, outputs, self.constants, self.constant, self.kernels)

    def _call(self, node: torch.fx.Node) -> Operand:
        name = _name(node)
        rule = RULES.get(name) or ELEMENTWISE.get(name)
        if rule is None:
            raise UnsupportedError(f"the operation {name} cannot be compiled")
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.is_complex():
            raise UnsupportedError("complex numbers")
        if isinstance(value, torch.Tensor) and value.dtype == torch.bool and name.startswith("add."):
            raise UnsupportedError("a sum of truth values")
        if isinstance(value, torch.Tensor) and value.numel() == 0:
            raise UnsupportedError("an empty tensor")  # a loop over it would run once
        self.node = node
        arguments = [self._operand(argument) for argument in node.args]
        settings = {key: self._operand(argument) for key, argument in node.kwargs.items()}
        try:
            result = rule(self, *arguments, **settings) if name in RULES else rule(*arguments, **settings)
        except (TypeError, ValueError) as error:  # an argument that its operation seldom has
            raise UnsupportedError(f"the operation {name} as it is called ({error})") from error
        if isinstance(result, Formula) and name not in VIEWS and not self._inlined(node):
            return self.stored(result)
        return result

    def _inlined(self, node: torch.fx.Node) -> bool:
        """Tell whether a formula is used once, where it can be worked out as it is used, in its own precision."""
        uses = list(_uses(node))
        if len(uses) != 1 or self.is_wide(uses[0]) != self.is_wide(node):
            return False
        name = _name(uses[0]) if uses[0].op == "call_function" else ""
        return uses[0].op == "output" or name in ELEMENTWISE or name in REDUCTIONS

    def _operand(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return self.operands[argument]
        if isinstance(argument, (list, tuple)):
            return [self._operand(each) for each in argument]
        return argument


def _name(node: torch.fx.Node) -> str:
    """Return the name of a node's operation; where it writes over what nobody else reads, of the one that does not."""
    if node.target is operator.getitem:
        return "getitem"
    name = str(node.target).removeprefix("aten.")
    kind, _, form = name.partition(".")
    if not kind.endswith("_"):
        return name
    over = node.args[0]
    assert isinstance(over, torch.fx.Node)
    plain = over.op == "call_function" and str(over.target).removeprefix("aten.") not in VIEWS
    return f"{kind[:-1]}.{form}" if plain and list(over.users) == [node] else name


def _uses(node: torch.fx.Node) -> list[torch.fx.Node]:
    uses = []
    for user in node.users:
        name = _name(user) if user.op == "call_function" else ""
        # an operand that occurs twice is used twice
        times = sum(operand is node for operand in user.all_input_nodes) if user.op != "output" else 1
        times = max(times, sum(operand is node for operand in user.args if isinstance(operand, torch.fx.Node)))
        uses += _uses(user) if name in VIEWS else [user] * times
    return uses
