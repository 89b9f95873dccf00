"""What tells one fit from another: hashes of data, settings, and whatever else its numbers depend on."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import platform
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest.tasks import TaskSet

__all__ = ["digest", "digest_of_tasks", "engine"]

# packages whose code is told by their version, and not by their source
LIBRARIES = {"metaest", "metaest_domains", "torch", "numpy", "scipy", "sklearn", "builtins"}
PLAIN = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType)


def digest(value: Any) -> str:
    """Return a hash of a setting: of numbers and arrays by value, of functions and classes by their source.

    The source of a function is followed to functions and plain values of its module that it names, to its defaults and
    to the variables around it. Functions and classes of the libraries that `engine` names count by name.
    """
    return _hash(value, {}).hex()


def digest_of_tasks(tasks: TaskSet) -> str:
    """Return a hash of all that a fit reads of its tasks."""
    support = [tasks.support_of(i) for i in range(len(tasks))]
    names = [tasks.names.tolist(), tasks.feature_names, tasks.target_names]
    return digest([tasks.X, tasks.y, tasks.offsets, tasks.sample_weight, support, names])


def engine() -> dict[str, str]:
    """Return what else decides the bits of a fit: versions of libraries, and the processor as they see it."""
    versions = {name: _version(name) for name in ("metaest", "torch", "numpy", "scipy", "llvmlite")}
    return versions | {
        "machine": platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
    }


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@functools.cache
def _processor() -> str:
    if importlib.util.find_spec("llvmlite") is None:
        return platform.processor()
    import llvmlite.binding

    name: str = llvmlite.binding.get_host_cpu_name()
    return name


def _hash(value: Any, met: dict[int, tuple[Any, bytes]]) -> bytes:
    """Return the hash of a value from those of its members; `met` has what was met before, and holds it in memory."""
    if id(value) in met:
        return met[id(value)][1]
    hashed = hashlib.blake2b(type(value).__qualname__.encode() + b":", digest_size=16)
    if isinstance(value, PLAIN):
        hashed.update(repr(value).encode())
        return hashed.digest()
    if isinstance(value, Tensor):
        hashed.update(_hash(value.detach().cpu().numpy(), met))
        return hashed.digest()
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        hashed.update(f"{value.dtype} {value.shape}:".encode())
        hashed.update(np.ascontiguousarray(value).tobytes())
        return hashed.digest()
    met[id(value)] = value, b"met again inside itself"
    for member in _members(value):
        hashed.update(_hash(member, met))
    met[id(value)] = value, hashed.digest()
    return hashed.digest()


def _members(value: Any) -> list[Any]:
    """Return what a value is made of."""
    if isinstance(value, Mapping):
        return [own for pair in value.items() for own in pair]
    if isinstance(value, (set, frozenset)):
        return sorted(map(digest, value))
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, type):
        return [_name(value), *([] if _is_installed(value) else [_source(value), *value.__bases__])]
    if isinstance(value, types.FunctionType):
        return [_name(value), *([] if _is_installed(value) else _of_function(value))]
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_names, value.co_consts]
    if isinstance(value, np.random.RandomState):
        return [value.get_state()]
    if hasattr(value, "__dict__"):
        return [type(value), vars(value)]
    text = repr(value)  # of an object without attributes; its place in memory says nothing
    return [_name(type(value)) if " at 0x" in text else text]


def _of_function(function: types.FunctionType) -> list[Any]:
    code, around = function.__code__, []
    for cell in function.__closure__ or ():
        try:
            around.append(cell.cell_contents)
        except ValueError:  # not filled yet
            around.append("empty")
    named = [(name, function.__globals__[name]) for name in _names(code) if name in function.__globals__]
    near = [
        pair
        for pair in named
        if isinstance(pair[1], (*PLAIN, tuple, np.ndarray, Tensor))
        or (isinstance(pair[1], (types.FunctionType, type)) and pair[1].__module__ == function.__module__)
    ]
    return [_source(function), function.__defaults__, function.__kwdefaults__, around, near]


def _names(code: types.CodeType) -> list[str]:
    inner = [own for own in code.co_consts if isinstance(own, types.CodeType)]
    return sorted({*code.co_names, *(name for own in inner for name in _names(own))})


def _source(thing: Any) -> Any:
    """Return the source of a function or class; where there is none, its code."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        members = [own for own in vars(thing).values() if isinstance(own, types.FunctionType)]
        return getattr(thing, "__code__", members)


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing)}"


def _is_installed(thing: Any) -> bool:
    root = (getattr(thing, "__module__", "") or "").split(".")[0]
    return root in LIBRARIES
