"""Hashes of the source of functions, classes and modules that users wrote."""

import functools
import types
from typing import Any

from torch import nn

from metaest.estimators.fingerprint import digest

__all__ = ["is_code", "layers_hash", "name_of", "source_hash"]

# what users write as code, and not as an object of a class of theirs
_CODE = (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def name_of(thing: Any) -> str:
    """Return the name by which a file refers to something of the user's."""
    if isinstance(thing, functools.partial):
        return name_of(thing.func)
    if is_code(thing):
        return str(thing.__qualname__)
    return type(thing).__qualname__


def is_code(thing: Any) -> bool:
    """Tell whether something is a function, a method or a class, and not an object made of one."""
    return isinstance(thing, _CODE)


def source_hash(thing: Any) -> str:
    """Return the hash of what something computes, as 16 hexadecimal digits.

    The weights and buffers of a module do not count, since a file holds them.
    """
    return digest(_structure(thing) if isinstance(thing, nn.Module) else thing)[:16]


def layers_hash(module: nn.Module) -> str:
    """Return the hash of layers and their classes; attributes, which a forward pass may change, do not count."""
    return digest([repr(module), *(type(layer) for layer in module.modules())])[:16]


def _structure(module: nn.Module) -> list[Any]:
    """Return layers, classes, attributes and hooks of a module."""
    usual = vars(nn.Module())
    parts: list[Any] = [repr(module)]
    for name, layer in module.named_modules():
        parts += [name, type(layer)]
        parts += [[key, value] for key, value in vars(layer).items() if key not in usual]
        parts += [[key, buffer] for key, buffer in layer.named_buffers(recurse=False) if _is_left_out(layer, key)]
        parts += [list(layer._forward_pre_hooks.values()), list(layer._forward_hooks.values())]
    return parts


def _is_left_out(layer: nn.Module, buffer: str) -> bool:
    return buffer in layer._non_persistent_buffers_set
