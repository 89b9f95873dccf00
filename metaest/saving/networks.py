"""A network in a file: how it is built, and its weights; a module of the user's is built by the user's code."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metaest.exceptions import ModelFileError
from metaest.functional import MLP, ContextForward, ConvNet, HeadForward, ModuleForward, task_normed
from metaest.functional.generator import seeded
from metaest.functional.modules.recurrent import step_by_step

__all__ = ["described", "rebuilt"]

_KINDS: dict[str, type[ModuleForward]] = {"plain": ModuleForward, "context": ContextForward, "head": HeadForward}
_BUILT_IN: dict[str, type[nn.Module]] = {"MLP": MLP, "ConvNet": ConvNet}
# hidden layers of a built-in network beyond which a file is refused
MOST_LAYERS = 1000


def described(forward: ModuleForward, weights: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Return what a forward pass is rebuilt from.

    Parameters
    ----------
    forward : ModuleForward
    weights : dict of str to Tensor or None
        What was learned.
    """
    fields: dict[str, Any] = {
        "kind": next(name for name, cls in _KINDS.items() if type(forward) is cls),
        "n_outputs": forward.n_outputs,
        "last": forward.last,
        "built_in": None,
        "called_with": getattr(forward.module, "_metaest_called_with", None),
    }
    fields |= {name: getattr(forward, name) for name in ("n_hidden", "n_context") if hasattr(forward, name)}
    if direct := getattr(forward, "direct", ()):  # files of other heads stay what they were
        fields["direct"] = list(direct)
    for name, cls in _BUILT_IN.items():
        if type(forward.module) is cls:
            arguments: Any = forward.module.arguments
            fields["built_in"] = {"class": name, "arguments": list(arguments)}
    stored = dict(forward.module.state_dict())
    # those learned are kept once: a module holds the weights that its fit began with, which nobody needs
    same = {
        name: tensor
        for name, tensor in (weights or {}).items()
        if name in stored and tensor.shape == stored[name].shape
    }
    return {**fields, "tensors": {**stored, **same}}


def rebuilt(fields: dict[str, Any], module: Any) -> ModuleForward:
    """Return a forward pass from its description.

    Parameters
    ----------
    fields : dict
        As `described` returns it.
    module : torch.nn.Module, callable or None
        The setting of that name of the estimator.
    """
    tensors: dict[str, Tensor] = fields["tensors"]
    built_in = fields["built_in"]
    if built_in is not None:
        network = _built_in(built_in)
    elif module is not None:
        floating = [tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()]
        network = _of_the_user(module, fields["called_with"]).to(floating[0] if floating else torch.float32)
    else:
        raise ModelFileError("its network is a module of the user's, and its estimator has none.")
    named = dict(network.state_dict())
    missing = {name.rpartition(".")[0] for name in named if name not in tensors}
    if fields["kind"] == "head" and len(missing) == 1:
        # a head in closed form stands where the last layer stood
        name = missing.pop()
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
    try:
        copied = {name: value.clone() for name, value in tensors.items()}
        # layers of a user's module may share weights, which putting others in their place would part
        network.load_state_dict(copied, strict=True, assign=built_in is not None)
    except RuntimeError as error:
        raise ModelFileError(f"its weights are not those of its network: {error}") from error
    further = {name: fields[name] for name in ("n_hidden", "n_context", "direct") if name in fields}
    cls = _KINDS[fields["kind"]]
    network.eval()
    if cls is ModuleForward:
        return ModuleForward(network, fields["n_outputs"], fields["last"])
    return cls(network, fields["n_outputs"], **further)


def _built_in(built_in: dict[str, Any]) -> nn.Module:
    first, n_outputs, hidden, activation, normalization = built_in["arguments"]
    if len(hidden) > MOST_LAYERS:
        raise ModelFileError(f"its network has {len(hidden)} layers; at most {MOST_LAYERS} are read.")
    # without memory for weights: those of the file are put in their place, and have to have their shapes
    with torch.device("meta"):
        return _BUILT_IN[built_in["class"]](first, n_outputs, hidden, activation, normalization)


def _of_the_user(module: Any, called_with: Any) -> nn.Module:
    built = module
    if not isinstance(module, nn.Module):
        with seeded(0):
            built = module(*called_with)
        if not isinstance(built, nn.Module):
            raise ModelFileError(f"module= returned {type(built).__name__}; a torch.nn.Module is wanted.")
    built = step_by_step(task_normed(built))
    if built is not module and called_with is not None:
        built._metaest_called_with = called_with
    return built
