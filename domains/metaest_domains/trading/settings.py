"""Check the settings of trading functions: whole numbers of days, and numbers in a range."""

from typing import Any

from metaest.tasks.arguments import is_whole
from metaest.tasks.numbers import as_number as number_in_range

__all__ = ["as_cost", "as_days", "as_number"]


def as_days(value: Any, name: str, where: str, *, least: int = 1) -> int:
    """Return a whole number of days."""
    if not is_whole(value) or not least <= value < 2**53:
        raise ValueError(f"{where}: {name} must be a whole number of days, at least {least}, got {value!r}.")
    return int(value)


def as_number(value: Any, name: str, where: str) -> float:
    """Return a finite number above 0."""
    return number_in_range(value, f"{where}: {name}", above=0, wanted="a number above 0")


def as_cost(value: Any, where: str) -> float:
    """Return the cost of a change of position by one, as a share of capital."""
    wanted = "a share of capital of at least 0 and below 1 for a change of position by one (0.0005: 5 basis points)"
    return number_in_range(value, f"{where}: cost", least=0, below=1, wanted=wanted)
