"""The method ``with_equation`` of a fitted equation: another equation of the same constants in its place."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.time_varying import replaced

__all__ = ["with_equation"]


class _Model(Protocol):
    """A fitted equation regressor."""

    _fitted: FittedEquation
    _further: Any


M = TypeVar("M", bound=_Model)


def with_equation(self: M, equation: Callable[..., torch.Tensor]) -> M:
    """Return a copy of the fitted model that evaluates another equation of the same constants.

    Parameters
    ----------
    equation : callable
    """
    check_is_fitted(self)
    if self._further:
        raise ValueError("with_equation: this model averages structures, each with the equation of the fit.")
    other, model = copy.copy(self), self._fitted.model
    other._fitted = replace(
        self._fitted,
        model=replace(model, equation=replace(model.equation, function=replaced(model.equation.function, equation))),
    )
    return other
