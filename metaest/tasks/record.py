"""Base classes of objects that never change: read-only arrays, and equality and hash by value."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReadOnly", "Record", "read_only", "set_fields"]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array after making it read-only."""
    array.flags.writeable = False
    return array


def set_fields(record: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass, for its constructor alone."""
    for name, value in values.items():
        object.__setattr__(record, name, value)


class ReadOnly:
    """Base of objects whose arrays stay read-only in unpickled and deep copies, for which numpy drops the flag."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        for value in state.values():
            if isinstance(value, np.ndarray):
                read_only(value)
        self.__dict__.update(state)


class Record(ReadOnly):
    """Base of frozen dataclasses (``@dataclass(frozen=True, eq=False)``) that hold arrays and mappings, and are values.

    Arrays and mappings are copied and read-only from construction on. Two records are equal when they are of one class
    and hold the same numbers (NaN counts as equal to NaN), and equal records have one hash.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                set_fields(self, **{field.name: read_only(value.copy())})
            elif type(value) in (dict, MappingProxyType):
                set_fields(self, **{field.name: MappingProxyType(dict(value))})

    def __getstate__(self) -> dict[str, Any]:
        # a mapping proxy cannot be pickled
        return {name: dict(part) if isinstance(part, MappingProxyType) else part for name, part in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        mappings = {name: MappingProxyType(part) for name, part in state.items() if type(part) is dict}
        super().__setstate__({**state, **mappings})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        return all(_same(getattr(self, name), getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        return hash((type(self), *(_key(getattr(self, field.name)) for field in fields(self))))  # type: ignore[arg-type]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    return bool(one == other)


def _key(value: Any) -> Any:
    """Return what a value is hashed by."""
    if isinstance(value, np.ndarray):
        # adding 0 makes -0.0 and 0.0, which are equal, the same bytes
        return value.shape, (value + 0 if value.dtype.kind in "fiu" else value).tobytes()
    if isinstance(value, Mapping):
        return frozenset(value.items())
    return value
