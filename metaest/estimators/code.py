"""What a function or a class computes: its syntax, and the values and functions that it takes from elsewhere.

Comments, blank lines, line breaks and docstrings do not matter. Defaults, variables around a function, and what it
reads of its module and of other modules of the user's do. Code of libraries counts by name.
"""

import ast
import dis
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["is_of_library", "name_of_code", "parts_of_class", "parts_of_function"]

# packages whose code is told by name, and whose version is stated elsewhere
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
# attributes of a class of which the values count, and not only how the source writes them
VALUES = (bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, np.ndarray, Tensor)
# how byte code reads what lies outside of a function
_READS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_READS_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")


def is_of_library(thing: Any) -> bool:
    """Tell whether the code of a function, class or module is a library's, and not the user's."""
    module = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
    return str(module or "").split(".")[0] in LIBRARIES


def name_of_code(thing: Any) -> str:
    """Return the name of a function or class of a library."""
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing)}"


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
    # the code of a function that was decorated is that of the decorator, which `inspect` passes over
    written = thing.__code__ if isinstance(thing, types.FunctionType) else thing
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(written)))
    except (OSError, TypeError, SyntaxError):  # typed at a prompt, or in the middle of an expression
        return None
    if getattr(thing, "__name__", "") == "<lambda>":
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
