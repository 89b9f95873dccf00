"""From a function of one task, written in torch, to a graph of its operations and to a program."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metaest.functional.compiler import import_compiler, process_kept
from metaest.functional.equations.row_function import RowFunction, answered_by
from metaest.functional.interrupts import interrupts_raised
from metaest.jit.errors import MomentaryError, UnsupportedError
from metaest.jit.ir import Program
from metaest.jit.trace.lower import lower
from metaest.jit.trace.record import WritesError, record

__all__ = ["graph_of", "program_of"]


# operations that torch decomposes into simpler ones
DECOMPOSED = [
    "_log_softmax", "_log_softmax_backward_data", "_softmax", "_softmax_backward_data", "logsumexp",
    "native_layer_norm", "native_layer_norm_backward", "native_group_norm", "native_group_norm_backward",
    "native_batch_norm", "native_batch_norm_backward", "var", "var_mean", "std", "elu", "elu_backward", "celu",
    "selu", "leaky_relu", "leaky_relu_backward", "hardtanh", "hardtanh_backward", "silu", "silu_backward", "mish",
    "mish_backward", "softplus", "softplus_backward", "hardswish", "hardswish_backward", "hardsigmoid",
    "hardsigmoid_backward", "log_sigmoid_forward", "log_sigmoid_backward", "logit", "mse_loss", "mse_loss_backward",
    "smooth_l1_loss", "huber_loss", "lerp", "square", "norm", "trace", "diagonal_backward",
    "baddbmm",
]  # fmt: skip


def graph_of(
    function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], shared: Sequence[bool]
) -> tuple[Program, list[tuple[int, ...]]]:
    """Trace a function of tensors of one task; return its program, and the shapes of what it returns.

    Raises
    ------
    UnsupportedError
        When torch cannot trace it, or it holds an operation that cannot be compiled.
    """
    import_compiler()  # a slow import that only compiling needs
    with process_kept(), interrupts_raised(), answered_by(_refused):
        graph = _traced_twice(function, examples)
    _forget_source(graph)
    _merge(graph.graph)
    graph.graph.eliminate_dead_code()
    [end] = [node for node in graph.graph.nodes if node.op == "output"]
    shapes = [tuple(value.meta["val"].shape) for value in end.args[0]]
    return lower(graph, shared), shapes


def program_of(
    function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], shared: Sequence[bool]
) -> Program:
    """Return the program of a function of few plain operations, without torch's compiler where that is possible.

    Raises
    ------
    UnsupportedError
        When torch cannot trace it, or it holds an operation that cannot be compiled.
    """
    try:
        recorded = record(function, [example.clone() for example in examples])
    except WritesError:  # which torch's compiler may know to avoid
        return graph_of(function, examples, shared)[0]
    _merge(recorded.graph)
    recorded.graph.eliminate_dead_code()
    names = {str(node.target).split(".")[1] for node in recorded.graph.nodes if "." in str(node.target)}
    if names & set(DECOMPOSED):
        return graph_of(function, examples, shared)[0]  # torch's compiler takes these operations apart
    return lower(recorded, shared)


def _traced_twice(function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor]) -> torch.fx.GraphModule:
    """Trace by torch, and once more where that fails: the same error twice is not due to another thread.

    torch patches itself while it traces: a user's thread that traces at the same time makes it fail.

    Raises
    ------
    UnsupportedError
        When both attempts failed with the same error.
    MomentaryError
        When they failed with different errors, or for lack of memory.
    """
    from torch._decomp import get_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    table: Any = get_decompositions([getattr(torch.ops.aten, name) for name in DECOMPOSED])
    table[torch.ops.aten._efficientzerotensor.default] = _zeros
    reasons = []
    for _ in range(2):
        try:
            return make_fx(function, table, "fake", _allow_non_fake_inputs=True)(
                *(example.clone() for example in examples)
            )
        except Exception as error:  # whatever a user's module does on being traced
            reasons.append((str(error) or type(error).__name__).strip().splitlines()[0])
            last = error
    if reasons[0] != reasons[1] or isinstance(last, MemoryError) or "allocate memory" in reasons[1]:
        raise MomentaryError(f"torch failed to trace it at this moment ({reasons[1]})") from last
    raise UnsupportedError(f"torch cannot trace it ({reasons[1]})") from last


def _refused(function: RowFunction, *_: Any) -> Tensor:
    raise UnsupportedError(f"it calls a row function, {type(function).__name__}")


def _zeros(size: Sequence[int], **options: Any) -> Tensor:
    """Return zeros in place of those without memory, which are the derivative of a sign.

    torch takes the latter for tensors of another device while it traces, and refuses to add to them (torch 2.13).
    """
    return torch.zeros(size, **options)


def _forget_source(module: torch.fx.GraphModule) -> None:
    """Remove the source text that torch keeps of every traced module until the process ends."""
    key = type(module).forward.__code__.co_filename
    linecache.cache.pop(key, None)
    getattr(getattr(torch.fx.graph_module, "_loader", None), "eval_cache", {}).pop(key, None)


def _merge(graph: torch.fx.Graph) -> None:
    """Merge calls of the same operation on the same arguments."""
    calls = [node for node in graph.nodes if node.op == "call_function"]
    if any(node.target._schema.is_mutable for node in calls if hasattr(node.target, "_schema")):
        return  # memory is written over: the same operation later may give another result
    firsts: dict[Any, torch.fx.Node] = {}
    for node in calls:
        key = (node.target, _fixed(node.args), _fixed(node.kwargs))
        first = firsts.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            graph.erase_node(node)


def _fixed(argument: Any) -> Any:
    """Return arguments as a key."""
    if isinstance(argument, dict):
        return tuple((name, _fixed(each)) for name, each in argument.items())
    if isinstance(argument, (list, tuple)):
        return tuple(map(_fixed, argument))
    return argument if isinstance(argument, torch.fx.Node) else repr(argument)
