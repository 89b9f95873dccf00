"""Base class of frozen dataclasses that hold arrays: read-only, comparable and hashable by what they hold."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["Record"]


class Record:
    """Base of frozen dataclasses (``@dataclass(frozen=True, eq=False)``) that hold arrays and mappings.

    Arrays are copied and read-only from construction on, and after a pickle or a deep copy as well, for which numpy
    drops the flag. Mappings are copied and read-only too. Two records are equal when they are of one class and hold the
    same numbers (NaN counts as equal to NaN), and equal records have one hash.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            self._set(field.name, _sealed(getattr(self, field.name), copy=True))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        # a mapping proxy cannot be pickled
        return {name: dict(part) if isinstance(part, MappingProxyType) else part for name, part in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self._set(name, _sealed(value, copy=False))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return all(_same(getattr(self, name), getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        return hash((type(self), *(_key(getattr(self, field.name)) for field in fields(self))))  # type: ignore[arg-type]


def _sealed(value: Any, *, copy: bool) -> Any:
    if isinstance(value, np.ndarray):
        array = value.copy() if copy else value
        array.flags.writeable = False
        return array
    if isinstance(value, Mapping) and type(value) in (dict, MappingProxyType):
        return MappingProxyType(dict(value))
    return value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    return bool(one == other)


def _key(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # adding 0 makes -0.0 and 0.0, which are equal, the same bytes
        return value.shape, (value + 0 if value.dtype.kind in "fiu" else value).tobytes()
    if isinstance(value, MappingProxyType):
        return frozenset(value.items())
    return value
