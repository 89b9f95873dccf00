"""Mappings that nobody changes, for what compares, hashes and is shared by its content."""

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

__all__ = ["FrozenDict", "frozen"]

K = TypeVar("K")
V = TypeVar("V")


class FrozenDict(dict[K, V]):
    """A dict whose entries stay as they are; unlike a view of one, it can be pickled, copied and written as JSON.

    Raises
    ------
    TypeError
        When an entry is set or taken away.
    """

    def _refuse(self, *arguments: Any, **named: Any) -> NoReturn:
        raise TypeError(
            "the mappings of a population are read-only; dataclasses.replace(population, name=...) makes another one."
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type["FrozenDict[K, V]"], tuple[dict[K, V]]]:
        return FrozenDict, (dict(self),)


def frozen(given: Any) -> Any:
    """Return a value of a file with its dicts read-only and its lists as tuples, down to the last one."""
    if isinstance(given, Mapping):
        return FrozenDict({key: frozen(value) for key, value in given.items()})
    return tuple(map(frozen, given)) if isinstance(given, (list, tuple)) else given
