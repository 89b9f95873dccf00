"""Tracing without torch's compiler: the operations of a function are recorded as torch carries them out.

``make_fx`` needs a second to import and a millisecond for an operation; this needs ten microseconds for one. It holds
for functions of few plain operations, as an equation and its derivatives; for everything else, `graph_of` asks torch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metaest.jit.errors import UnsupportedError

__all__ = ["Recorded", "WritesError", "record"]


class WritesError(UnsupportedError):
    """A function writes over a tensor."""


def record(function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor]) -> Recorded:
    """Return the graph of the operations that a function applies to its arguments, its backward passes among them.

    Tensors that do not come of the arguments are numbers of the graph.

    Raises
    ------
    UnsupportedError
        When it looks at a number, writes over a tensor, draws at random, leaves torch on the way, or fails.
    """
    recorder = _Recorder(examples)
    try:
        with recorder, np.errstate(all="ignore"):
            results = function(*examples)
    except UnsupportedError:
        raise
    except Exception as error:  # whatever a user's function does on being traced
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UnsupportedError(f"torch cannot trace it ({reason})") from error
    return recorder.finish(results)


class Recorded(torch.nn.Module):
    """A graph, and the numbers that it holds as attributes."""

    graph: torch.fx.Graph


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, examples: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.root = Recorded()
        self.root.graph = self.graph = torch.fx.Graph()
        # a node by the id of its tensor, and the tensors themselves, so that no id is used twice
        self.nodes: dict[int, torch.fx.Node] = {}
        self.tensors: list[Tensor] = []
        for i, example in enumerate(examples):
            self._remember(example, self.graph.placeholder(f"arg{i}"))

    def _remember(self, tensor: Tensor, node: torch.fx.Node) -> None:
        node.meta["val"] = tensor
        self.nodes[id(tensor)] = node
        self.tensors.append(tensor)

    def dispatched(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise UnsupportedError(f"{func} draws at random")
        result = func(*args, **kwargs)
        if not any(id(each) in self.nodes for each in _tensors((args, kwargs))):
            return result  # a number of the function
        if func._schema.is_mutable:
            raise WritesError(f"{func} writes over a tensor")
        parts = result if isinstance(result, (tuple, list)) else (result,)
        if not all(isinstance(part, Tensor) for part in parts):
            raise UnsupportedError(f"it looks at a number ({func})")
        node = self.graph.call_function(func, self._named(args), {key: self._named(v) for key, v in kwargs.items()})
        if parts is result:
            node.meta["val"] = result
            for i, part in enumerate(parts):
                self._remember(part, self.graph.call_function(operator.getitem, (node, i)))
        else:
            self._remember(result, node)
        return result

    def _named(self, value: Any) -> Any:
        """Return arguments with nodes in place of tensors."""
        if isinstance(value, Tensor):
            return self._node(value)
        return type(value)(map(self._named, value)) if type(value) in (tuple, list) else value

    def _node(self, tensor: Tensor) -> torch.fx.Node:
        if id(tensor) not in self.nodes:
            if tensor.requires_grad:
                raise UnsupportedError("a part of it is not done by torch")
            name = f"number{len(self.tensors)}"
            self.root.register_buffer(name, tensor.detach())
            self._remember(tensor, self.graph.get_attr(name))
        return self.nodes[id(tensor)]

    def finish(self, results: Sequence[Tensor]) -> Recorded:
        """Return the graph that ends with these results."""
        self.graph.output(tuple(self._node(result) for result in results))
        return self.root


# torch wraps the method of a subclass so that its compiler leaves it alone, and imports the compiler for that
_Recorder.__torch_dispatch__ = _Recorder.dispatched  # type: ignore[method-assign, assignment]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, (tuple, list)) else []
