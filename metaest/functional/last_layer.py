"""Which layer a module ends in: found by running it, since the order of declaration says nothing."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from metaest.functional.attention import differentiable_attention

__all__ = ["last_layer", "layer_of"]


def layer_of(name: str) -> str:
    """Return the layer a parameter belongs to; what stands for a weight (weight normalisation) is the layer's own."""
    parts = name.split(".")
    return ".".join(parts[: parts.index("parametrizations")] if "parametrizations" in parts else parts[:-1])


def last_layer(module: nn.Module, X: Tensor) -> str | None:
    """Return the name of the layer with trainable parameters that a module runs last.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed: a copy is run, in evaluation mode.
    X : Tensor of shape (rows, columns)
        A few rows to run it on.

    Returns
    -------
    str or None
        None where some of the outputs do not depend on that layer: the module does not end in one layer.

    Raises
    ------
    ValueError
        When the module does not take such rows.
    """
    module = deepcopy(module).eval()
    owners = {layer_of(name) for name, value in module.named_parameters() if value.requires_grad}
    entered: list[str] = []
    for name, layer in module.named_modules():
        if name in owners:
            layer.register_forward_pre_hook(lambda *_, own=name: entered.append(own))
    before = _run(module, X)
    if not entered:
        return None
    last = entered[-1]
    inside = f"{last}." if last else ""
    if any(name.startswith(inside) and name not in entered for name in owners):
        return None  # attention reads the weights of a layer inside it without running that layer
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.requires_grad and layer_of(name) == last:
                value.add_(torch.randn(value.shape, generator=generator, dtype=torch.float32).to(value))
    changed = (_run(module, X) != before).any(dim=0)
    return last if bool(changed.all()) else None


def _run(module: nn.Module, X: Tensor) -> Tensor:
    """Return outputs of shape (rows, outputs)."""
    try:
        with torch.no_grad(), differentiable_attention:
            output: Tensor = module(X)
    except RuntimeError as error:
        raise ValueError(f"module: it does not take rows of {X.shape[1]} columns: {error}") from error
    return output.reshape(len(X), -1)
