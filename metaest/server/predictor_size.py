"""The arrays of an adapted predictor, by which the server tells how much memory it takes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from metaest.estimators import AdaptedEquation, AdaptedGaussian, AveragedEquation
from metaest.selection import AdaptedAuto

__all__ = ["arrays_of"]


def arrays_of(adapted: Any) -> Iterator[Any]:
    """Yield the arrays and tensors of an adapted predictor beside its model."""
    yield from (adapted.X_support_, adapted.y_support_)
    if isinstance(adapted, AdaptedAuto):
        for member in adapted._predictors:
            # without rows a member is the model itself; a candidate of the user's may be of any class
            if hasattr(member, "X_support_"):
                yield from arrays_of(member)
    elif isinstance(adapted, AveragedEquation):
        for member in adapted.members_:
            yield from arrays_of(member)
    elif isinstance(adapted, AdaptedGaussian):
        yield from (value for value in vars(adapted._condition("adapt")).values() if isinstance(value, np.ndarray))
    elif isinstance(adapted, AdaptedEquation):
        yield from adapted._posterior
        yield from () if adapted._unguarded is None else adapted._unguarded
    else:
        yield from getattr(adapted, "_params", {}).values()
