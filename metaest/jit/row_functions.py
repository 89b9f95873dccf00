"""Row functions of an equation that is compiled: what they are asked for, and columns that hold what they answer.

The program of an equation takes the value and the derivatives of each row function at a row as further columns of X. A
program of its own tells at which number a row asks for them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import HierarchicalModel, RowFunction
from metaest.functional.equations.row_function import answered_by, given_by_columns
from metaest.jit.errors import UnsupportedError

__all__ = ["Answers", "asked", "called_by", "with_columns"]

Array = NDArray[np.float64]


class Called(NamedTuple):
    """A row function that an equation calls, and how many columns it is given."""

    function: RowFunction
    n_given: int


def called_by(model: HierarchicalModel, phi: Tensor, x: Tensor) -> tuple[Called, ...]:
    """Return the row functions that an equation calls, in that order; none where it cannot be evaluated.

    Parameters
    ----------
    model : HierarchicalModel
    phi : Tensor of shape (constants,)
    x : Tensor of shape (features,)
        A row at which the equation can be evaluated.

    Raises
    ------
    UnsupportedError
        When what a function is asked for depends on the answer of another, or its columns on constants.
    """
    called: list[Called] = []

    def answer(function: RowFunction, number: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        if any(part.requires_grad for part in (number, *given)):
            raise UnsupportedError("a row function is asked for what depends on the answer of another one")
        called.append(Called(function, len(given)))
        [value] = function.derivatives(number.detach(), given, [0])
        return value.detach().requires_grad_()

    with answered_by(answer), torch.enable_grad():
        theta = model.transforms.constrain(phi.detach().double()[:, None])
        try:
            model.equation(list(theta.detach()), x.detach().double()[None])
        except UnsupportedError:
            raise
        except Exception:  # the programs are traced at the same row, and say what is wrong
            return ()
    return tuple(called)


def asked(model: HierarchicalModel) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """Return a function of constants and row that returns what row functions are asked for, one below the other."""

    def of_row(phi: Tensor, X: Tensor) -> list[Tensor]:
        parts: list[Tensor] = []

        def answer(function: RowFunction, number: Tensor, given: tuple[Tensor, ...]) -> Tensor:
            parts.extend([number, *given])
            return torch.ones_like(number)  # what is asked for does not depend on it

        with answered_by(answer), torch.no_grad():
            model.equation(list(model.transforms.constrain(phi)), X.T)
        return [torch.stack(parts)]

    return of_row


def with_columns(function: Callable[[Tensor], Any], X: Tensor, n_features: int, n_called: int) -> Any:
    """Apply a function to the features of X, row functions being answered from the columns after these."""
    if not n_called:
        return function(X)
    columns = iter(X[n_features:].reshape(n_called, -1, *X.shape[1:]))

    def answer(_: RowFunction, number: Tensor, __: tuple[Tensor, ...]) -> Tensor:
        return given_by_columns(number, list(next(columns)))

    with answered_by(answer):
        return function(X[:n_features])


class Answers:
    """The row functions that an equation calls, and what they answer.

    A function may keep what it has worked out for the same tensors, such as places in a table: the same columns are
    given to it as the same tensors, as long as a set of rows lives.

    Parameters
    ----------
    called : sequence of Called

    Attributes
    ----------
    shape : tuple of int
        How many columns each function is given.
    """

    def __init__(self, called: Sequence[Called]) -> None:
        self.called = tuple(called)
        self.shape = tuple(n_given for _, n_given in called)
        sizes = [1 + n_given for n_given in self.shape]
        self._numbers = np.cumsum([0, *sizes])[:-1]
        self._others = np.setdiff1d(np.arange(sum(sizes)), self._numbers)
        self._given: weakref.WeakKeyDictionary[Any, Array] = weakref.WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self.called)

    def columns(self, questions: Array, rows: object, n_orders: int) -> Array:
        """Return value and derivatives of each function at each row, of shape (functions * orders, rows).

        Parameters
        ----------
        questions : ndarray of shape (questions, rows)
            What `asked` returns.
        rows : object
            The set of rows.
        n_orders : int
            1 for values alone.
        """
        given = iter(torch.from_numpy(self._same(questions[self._others], rows)))
        result = np.empty((len(self) * n_orders, questions.shape[1]))
        for k, (function, n_given) in enumerate(self.called):
            number = torch.from_numpy(questions[self._numbers[k]])
            columns = tuple(next(given) for _ in range(n_given))
            with torch.no_grad():
                parts = function.derivatives(number, columns, range(n_orders))
            for order, part in enumerate(parts):
                result[k * n_orders + order] = part.numpy()
        return result

    def _same(self, given: Array, rows: object) -> Array:
        """Return the array that was kept of these rows where it holds the same numbers, and keep this one otherwise."""
        kept = self._given.get(rows)
        if kept is None or not np.array_equal(kept, given):
            self._given[rows] = kept = given
        return kept
