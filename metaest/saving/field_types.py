"""Objects made of values from a file: each value is held against the annotation of its field."""

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
from sklearn.base import BaseEstimator

from metaest.exceptions import ModelFileError
from metaest.population import Block, Category, Population, Provenance
from metaest.population.frozen import frozen

__all__ = ["check_fields", "check_state"]

_FURTHER = ("feature_names_in_", "feature_shape_")
# classes whose mappings nobody changes
_FROZEN = (Population, Block, Category, Provenance)


def check_fields(cls: type, fields: dict[str, Any]) -> Any:
    """Return an object of a data class, a named tuple or a class that says which attributes are written."""
    named = issubclass(cls, tuple)
    if hasattr(cls, "_written_fields"):
        names, needed = set(cls._written_fields), set()
    elif named:
        names, needed = set(cls._fields), set(cls._fields)  # type: ignore[attr-defined]
    else:
        init = [field for field in dataclasses.fields(cls) if field.init]
        names = {field.name for field in init} | set(_FURTHER)
        free = dataclasses.MISSING
        needed = {field.name for field in init if field.default is free and field.default_factory is free}
    if not needed <= set(fields) <= names:
        wrong = sorted((needed - set(fields)) | (set(fields) - names))
        raise ModelFileError(f"the fields of its {cls.__name__} are not those of this metaest: {', '.join(wrong)}.")
    hints: Any = _hints(cls)
    for name, value in fields.items():
        if name in hints and not fits(value, hints[name]):
            raise ModelFileError(f"{cls.__name__}.{name} is a {type(value).__name__}; {hints[name]} is wanted.")
    if named:
        return cls(**fields)
    thing: Any = object.__new__(cls)
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            if field.name not in fields and field.default is not dataclasses.MISSING:
                object.__setattr__(thing, field.name, field.default)
            elif field.name not in fields and field.default_factory is not dataclasses.MISSING:
                object.__setattr__(thing, field.name, field.default_factory())
    for name, value in fields.items():
        object.__setattr__(thing, name, frozen(value) if cls in _FROZEN else value)
    for name in ("X_support_", "y_support_", "sample_weight_support_"):
        if isinstance(fields.get(name), np.ndarray):
            fields[name].flags.writeable = False
    return thing


def check_state(estimator: BaseEstimator, fields: dict[str, Any]) -> BaseEstimator:
    """Give an estimator what it has learned."""
    hints: Any = _hints(type(estimator))  # type: ignore[arg-type]
    for name, value in fields.items():
        learned = name.isidentifier() and (name.endswith("_") or name.startswith("_")) and "__" not in name
        if not learned or callable(getattr(type(estimator), name, None)):
            raise ModelFileError(f"{type(estimator).__name__} learns nothing that is called {name!r}.")
        if name in hints and not fits(value, hints[name]):
            raise ModelFileError(f"{name} is a {type(value).__name__}; {hints[name]} is wanted.")
    vars(estimator).update(fields)
    return estimator


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # a class of the user's whose annotations are not to be had here
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotated type; what an annotation leaves open fits."""
    if hint is Any or isinstance(hint, typing.TypeVar) or hint is Hashable:
        return True
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, member) for member in inner)
    if origin is Literal:
        return any(type(value) is type(member) and value == member for member in inner)
    if origin is typing.ClassVar:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (float, int, np.floating, np.integer)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    kind = origin or hint
    if kind is Callable or kind is typing.get_origin(Callable[..., Any]):
        return callable(value)
    if not isinstance(kind, type):
        return True
    if kind is np.ndarray:  # a mean over tasks of one target is a number
        return isinstance(value, (np.ndarray, np.generic))
    if not isinstance(value, kind) or (kind is Sequence and isinstance(value, str)):
        return False
    return not inner or _members_fit(value, kind, inner)


def _members_fit(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if issubclass(kind, tuple):
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(fits(member, inner[0]) for member in value)
        return len(value) == len(inner) and all(
            fits(member, wanted) for member, wanted in zip(value, inner, strict=True)
        )
    if issubclass(kind, Mapping) and len(inner) == 2:
        return all(fits(key, inner[0]) and fits(member, inner[1]) for key, member in value.items())
    if kind in (list, set, frozenset, Sequence):
        return all(fits(member, inner[0]) for member in value)
    return True
