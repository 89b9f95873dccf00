"""Settings of a fit that later calls depend on: a change between the two is an error."""

from collections.abc import Mapping
from typing import Any

__all__ = ["require_unchanged"]


def require_unchanged(now: Mapping[str, Any], fitted: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first setting that differs from its value in the fit."""
    for name in {**now, **fitted}:
        if now.get(name) != fitted.get(name):
            raise ValueError(
                f"{name} is {now.get(name)}, but was {fitted.get(name)} in the fit; fit again to change it."
            )
