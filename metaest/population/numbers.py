"""Numbers and mappings by name, as a population is given them, checked in words."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["as_float", "as_mapping", "as_names", "as_path", "as_sequence", "as_text"]


def as_float(value: Any, where: str, above: float | None = None) -> float:
    """Return a finite number, or raise an error that begins with `where`."""
    # numpy derives durations from whole numbers
    wrong = isinstance(value, (bool, np.bool_, np.timedelta64))
    if wrong or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{where} must be a number, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (above is not None and not number > above):
        raise ValueError(f"{where} must be finite{'' if above is None else f' and above {above:g}'}, got {value!r}.")
    return number


def as_names(given: Any, where: str) -> dict[str, Any]:
    """Return a mapping by name, an empty one for None, or raise a TypeError."""
    names = as_mapping(given, where)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{where} must be a dict by name, got {given!r}.")
    return names


def as_mapping(given: Any, where: str) -> dict[Any, Any]:
    """Return a mapping, an empty one for None, or raise a TypeError."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{where} must be a dict, got {given!r}.")
    return dict(given or {})


def as_sequence(given: Any, where: str) -> tuple[Any, ...]:
    """Return the members of a list or tuple, or raise a TypeError."""
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"{where} must be a list, got {given!r}.")
    return tuple(given)


def as_path(given: Any) -> Path:
    """Return the path of a file, or raise a TypeError."""
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"path must be a path such as 'population.json', got {given!r}.")
    try:
        usable = b"\0" not in os.fsencode(given)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise ValueError(f"path has a character that no file system takes: {given!r}.")
    return Path(given)


def as_text(value: Any, where: str) -> str:
    """Return a text, or raise a TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{where} must be text, got {value!r}.")
    return value
