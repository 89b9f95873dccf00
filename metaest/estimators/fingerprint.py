"""Hashes that tell one fit from another: of data, settings, code, versions, and the processor.

Of a function or a class, what it computes counts: its syntax, and the values and functions that it takes from
elsewhere. Comments, blank lines, line breaks and docstrings do not matter. Defaults, variables around a function, and
what it reads of its module and of other modules of the user's do. Code of libraries counts by name.
"""

import ast
import dataclasses
import dis
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import linecache
import logging
import platform
import re
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaest.tasks import TaskSet

__all__ = ["digest", "digest_of_tasks", "engine"]

PLAIN = (bool, int, float, complex, str, bytes, types.NoneType, types.EllipsisType)
# packages whose code is hashed by name; their versions are part of `engine`
LIBRARIES = {
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "sklearn",
    "metaest",
    "metaest_domains",
    "metaest_datasets",
    *(sys.stdlib_module_names - {"__main__"}),
}
# types of class attributes that are hashed by value, and not only as the source writes them
VALUES = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, np.ndarray, Tensor)
# operations by which byte code reads names outside of a function
_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_READS_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")


def digest(value: Any) -> str:
    """Return a hash of a setting: of numbers and arrays by value, of functions and classes by what they compute.

    The hash of a function covers its defaults, its closure, and the values, functions and classes that it reads from
    its module and from other modules of the user. Functions and classes of libraries are hashed by name.
    """
    return _hash(value, {}).hex()


def digest_of_state(thing: Any) -> str:
    """Return a hash of what an object holds, by value, without the code of its class."""
    return digest(_state_of(thing)[1:])


def digest_of_tasks(tasks: TaskSet) -> str:
    """Return a hash of everything that a fit reads from its tasks."""
    support = [tasks.support_of(i) for i in range(len(tasks))]
    names = [tasks.names.tolist(), tasks.feature_names, tasks.target_names]
    return digest([tasks.X, tasks.y, tasks.offsets, tasks.sample_weight, support, names])


def engine() -> dict[str, str]:
    """Return versions of libraries and the kind of processor, which also decide the bits of a fit."""
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
    """Return the hash of a value from those of its members.

    `met` maps the id of each value hashed so far to the value, which keeps the id in use, and to its hash.
    """
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
    """Return the parts of a value whose hashes make its hash."""
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
    if isinstance(value, logging.Logger):  # its level is a setting of the process
        return []
    if isinstance(value, np.random.RandomState):
        return [value.get_state()]
    if isinstance(value, (pd.DataFrame, pd.Series, pd.Index)):
        names = [str(value.dtypes), list(value.columns)] if isinstance(value, pd.DataFrame) else [str(value.dtype)]
        return [*names, pd.util.hash_pandas_object(value).to_numpy()]
    if dataclasses.is_dataclass(value):  # other attributes may be results that it has cached
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
    text = repr(value)  # for an object without attributes; an address in memory is left out
    return [name_of_code(cls) if " at 0x" in text else text]


def is_of_library(thing: Any) -> bool:
    """Tell whether the code of a function, class or module is a library's, and not the user's."""
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return str(module or "").split(".")[0] in LIBRARIES


# layers of metaest that have moved: how their names begin, and how they began when files of models first had hashes
_FIRST_NAMES = {
    "metaest.functional.modules.builtin.ConvNet": "metaest.functional.conv.ConvNet",
    "metaest.functional.modules.builtin.MLP": "metaest.functional.mlp.MLP",
    "metaest.functional.modules.normalization.": "metaest.functional.normalization.",
    "metaest.functional.modules.recurrent.": "metaest.functional.recurrent.",
}


def name_of_code(thing: Any) -> str:
    """Return the name of a function or class of a library; one of metaest that has moved keeps its first name."""
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing)}"
    for today, first in _FIRST_NAMES.items():
        if name.startswith(today):
            return first + name.removeprefix(today)
    return name


def parts_of_function(function: types.FunctionType) -> list[Any]:
    """Return the syntax of a function and the values that it takes from outside."""
    around: list[Any] = []
    for cell in function.__closure__ or ():
        try:
            around.append(cell.cell_contents)
        except ValueError:  # not filled yet
            around.append("empty")
    outside = [list(pair) for pair in _read_from(function.__globals__, function.__code__)]
    source = _syntax(function) or _byte_code(function.__code__)
    return [source, function.__defaults__, function.__kwdefaults__, around, outside]


def parts_of_class(cls: type) -> list[Any]:
    """Return the syntax of a class, its bases, its functions, and values among its attributes."""
    source, members = _syntax(cls), []
    for name, member in vars(cls).items():
        functions = [getattr(member, attribute, None) for attribute in ("__func__", "fget", "func")]
        member = next((function for function in functions if isinstance(function, types.FunctionType)), member)
        if isinstance(member, types.FunctionType):
            # a data class has functions that Python wrote
            if member.__code__.co_filename != "<string>" or source is None:
                members.append([name, member])
        elif isinstance(member, VALUES) and not name.startswith("__"):
            members.append([name, member])
    return [cls.__qualname__ if source is None else source, cls.__bases__, members]


def _read_from(space: Mapping[str, Any], code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """Return what byte code reads by name; of modules of the user's, what it reads of them."""
    names, attributes = _names(code, _READS_GLOBAL), _names(code, _READS_ATTRIBUTE)
    met: set[int] = set()

    def read(space: Mapping[str, Any], names: set[str]) -> Iterator[tuple[str, Any]]:
        for name in sorted(names & space.keys()):
            value = space[name]
            if not isinstance(value, types.ModuleType):
                yield name, value
            elif is_of_library(value):
                yield name, value.__name__
            elif id(value) not in met:
                met.add(id(value))
                yield from read(vars(value), attributes)

    return read(space, names)


def _names(code: types.CodeType, operations: tuple[str, ...]) -> set[str]:
    names = {str(step.argval) for step in dis.get_instructions(code) if step.opname in operations}
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return names.union(*(_names(one, operations) for one in inner))


def _syntax(thing: Any) -> str | None:
    """Return the syntax of a function or class, or None where its source is not to be had."""
    if isinstance(thing, types.FunctionType):
        # the code of a function that was decorated is that of the decorator, which `inspect` passes over
        return _syntax_of_code(thing.__code__)
    try:
        return _parsed(inspect.getsource(thing), thing.__name__)
    except (OSError, TypeError):  # typed at a prompt
        return None


def _syntax_of_code(code: types.CodeType) -> str | None:
    """Return the syntax that was compiled to some code."""
    linecache.checkcache(code.co_filename)
    # as `inspect.getsource` does, which first looks at the files of all modules
    lines = linecache.getlines(code.co_filename)
    start = min(code.co_firstlineno, len(lines)) - 1
    while start > 0 and not _BEGINS.match(lines[start]):
        start -= 1
    return _parsed("".join(inspect.getblock(lines[start:])), code.co_name) if lines else None


# lines with which the source of a function may begin
_BEGINS = re.compile(r"^(\s*def\s)|(\s*async\s+def\s)|(.*(?<!\w)lambda(:|\s))|^(\s*@)")


def _parsed(source: str, name: str) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:  # in the middle of an expression
        return None
    if name == "<lambda>":
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        return ast.unparse(lambdas[0]) if len(lambdas) == 1 else None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _byte_code(code: types.CodeType) -> list[Any]:
    """Return the byte code of a function without source; it differs between versions of Python."""
    constants = [_byte_code(one) if isinstance(one, types.CodeType) else one for one in code.co_consts]
    return [sys.version_info[:2], code.co_code, code.co_names, code.co_varnames, constants]
