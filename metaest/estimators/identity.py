"""What tells one fit from another: hashes of data, settings, and whatever else its numbers depend on."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import platform
import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaest.estimators.code import is_of_library, name_of_code, parts_of_class, parts_of_function
from metaest.tasks import TaskSet

__all__ = ["digest", "digest_of_tasks", "engine"]

PLAIN = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType)


def digest(value: Any) -> str:
    """Return a hash of a setting: of numbers and arrays by value, of functions and classes by what they compute.

    A function is followed to its defaults, to the variables around it, and to the values, functions and classes that it
    reads of its module and of other modules of the user's. Functions and classes of libraries count by name.
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
        return [part for pair in value.items() for part in pair]
    if isinstance(value, (set, frozenset)):
        return sorted(map(digest, value))
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, (type, types.FunctionType)):
        if is_of_library(value):
            return [name_of_code(value)]
        return parts_of_class(value) if isinstance(value, type) else parts_of_function(value)
    if isinstance(value, types.ModuleType):
        return [value.__name__]
    if isinstance(getattr(value, "__wrapped__", None), types.FunctionType):  # with a cache of results
        return [value.__wrapped__]
    if isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType)):
        return [name_of_code(value), getattr(value, "__self__", None)]
    return _state_of(value)


def _state_of(value: Any) -> list[Any]:
    """Return class and attributes of an object."""
    if isinstance(value, logging.Logger):  # its level is the process's affair
        return []
    if isinstance(value, np.random.RandomState):
        return [value.get_state()]
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        names = [str(value.dtypes), list(value.columns)] if isinstance(value, pd.DataFrame) else [str(value.dtype)]
        return [*names, pd.util.hash_pandas_object(value).to_numpy()]
    if dataclasses.is_dataclass(value):  # beside its fields it may hold what it worked out
        return [type(value), [getattr(value, field.name, None) for field in dataclasses.fields(value)]]
    cls = type(value)
    attributes = dict(getattr(value, "__dict__", {}))
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        names = [slots] if isinstance(slots, str) else slots
        attributes |= {name: getattr(value, name) for name in names if name != "__weakref__" and hasattr(value, name)}
    standard = cls.__module__.split(".")[0] in sys.stdlib_module_names
    if not is_of_library(cls) or (attributes and not standard):
        return [cls, attributes]
    text = repr(value)  # of an object without attributes; its place in memory says nothing
    return [name_of_code(cls) if " at 0x" in text else text]
