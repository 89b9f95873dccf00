"""What a function, a class or a module of the user's computes, as a hash of its source.

Comments, blank lines, line breaks and docstrings do not matter. Numbers and strings that a function takes from where it
was written (defaults, variables around it, constants of its module) do, and so do functions of the same module that it
calls.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import sys
import textwrap
import types
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["name_of", "source_hash"]

PLAIN = (bool, int, float, complex, str, bytes, type(None))


def name_of(thing: Any) -> str:
    """Return the name by which a file refers to something of the user's."""
    if isinstance(thing, functools.partial):
        return name_of(thing.func)
    if isinstance(thing, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        return thing.__qualname__
    return type(thing).__qualname__


def source_hash(thing: Any) -> str:
    """Return the hash of what something computes, as 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(_parts(thing, set())).encode()).hexdigest()[:16]


def _parts(thing: Any, met: set[int]) -> list[str]:
    """Return what tells a thing from another of its name."""
    if isinstance(thing, PLAIN):
        return [repr(thing)]
    if id(thing) in met:
        return ["again"]
    met.add(id(thing))
    if isinstance(thing, (tuple, list)):
        return [type(thing).__name__, *(part for member in thing for part in _parts(member, met))]
    if isinstance(thing, dict):
        return ["dict", *(part for key, own in thing.items() for part in [repr(key), *_parts(own, met)])]
    if isinstance(thing, functools.partial):
        return ["partial", *_parts(thing.func, met), *_parts(thing.args, met), *_parts(thing.keywords, met)]
    if isinstance(thing, types.MethodType):
        return ["method", *_parts(thing.__func__, met), *_parts(thing.__self__, met)]
    if isinstance(thing, types.FunctionType):
        return _of_function(thing, met)
    if isinstance(thing, type):
        return _of_class(thing, met)
    if isinstance(thing, nn.Module):
        classes = {type(layer) for layer in thing.modules()}
        ordered = sorted(classes, key=lambda cls: cls.__qualname__)
        return ["module", repr(thing), *(part for cls in ordered for part in _parts(cls, met))]
    if isinstance(thing, (np.ndarray, Tensor)):
        return [f"{thing.dtype} {tuple(thing.shape)} {thing.tolist()}"]
    if dataclasses.is_dataclass(thing):  # beside its fields it may hold what it worked out
        fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        return ["instance", *_parts(type(thing), met), *_parts(fields, met)]
    if hasattr(thing, "__dict__"):
        return ["instance", *_parts(type(thing), met), *_parts(vars(thing), met)]
    return [type(thing).__qualname__]


def _of_class(cls: type, met: set[int]) -> list[str]:
    if cls.__module__.split(".")[0] in _LIBRARIES:
        return [f"{cls.__module__}.{cls.__qualname__}"]
    text = _tree(cls)
    if text is None:
        members = [own for own in vars(cls).values() if isinstance(own, types.FunctionType)]
        return [cls.__qualname__, *(part for own in members for part in _of_function(own, met))]
    bases = [part for base in cls.__bases__ if base is not object for part in _parts(base, met)]
    return [text, *bases]


def _of_function(function: types.FunctionType, met: set[int]) -> list[str]:
    if function.__module__ is not None and function.__module__.split(".")[0] in _LIBRARIES:
        return [f"{function.__module__}.{function.__qualname__}"]
    code = function.__code__
    parts = [_tree(function) or _of_code(code)]
    parts += _parts(function.__defaults__, met) + _parts(function.__kwdefaults__, met)
    for cell in function.__closure__ or ():
        try:
            parts += _parts(cell.cell_contents, met)
        except ValueError:  # not filled yet
            parts.append("empty")
    for name in sorted(_names(code)):
        value = function.__globals__.get(name)
        near = isinstance(value, types.FunctionType) and value.__module__ == function.__module__
        if near or (name in function.__globals__ and isinstance(value, PLAIN)):
            parts += [name, *_parts(value, met)]
    return parts


def _names(code: types.CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return {*code.co_names, *(name for own in inner for name in _names(own))}


def _tree(thing: Any) -> str | None:
    """Return the syntax of a function or class, or None where its source is not to be had."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, or in the middle of an expression
        return None
    if getattr(thing, "__name__", "") == "<lambda>":
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        return ast.unparse(lambdas[0]) if len(lambdas) == 1 else None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _of_code(code: types.CodeType) -> str:
    """Return the byte code of a function without source; it differs between versions of Python."""
    constants = [_of_code(own) if isinstance(own, types.CodeType) else repr(own) for own in code.co_consts]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return " ".join([version, code.co_code.hex(), *code.co_names, *code.co_varnames, *constants])


# whose source is not the user's
_LIBRARIES = {
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "sklearn",
    "metaest",
    "metaest_domains",
    "builtins",
    *sys.stdlib_module_names,
}
