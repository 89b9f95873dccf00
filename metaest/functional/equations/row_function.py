"""Functions of one number of each row that are not made of torch's operations, and give their own derivatives.

The solution of a differential equation, an integral that is read from a table, a special function: an equation calls
such a function as any other, torch differentiates it to any order, and a fit may still compile the equation around it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

__all__ = ["RowFunction", "answered_by", "given_by_columns"]

# stands in for the functions while an equation is traced
_Answer = Callable[["RowFunction", Tensor, tuple[Tensor, ...]], Tensor]
_answer: ContextVar[_Answer | None] = ContextVar("answer", default=None)


class RowFunction(ABC):
    r"""A function :math:`f(x; g)` of one number x of each row that is smooth in x, and of further columns g.

    A subclass defines `derivatives`. The result for a row may depend on the numbers of that row only, and on what the
    object holds, which must not change. Torch then differentiates the function in x to any order, and not in g.

    Examples
    --------
    >>> import torch
    >>> from metaest.functional import RowFunction
    >>> class Power(RowFunction):
    ...     def derivatives(self, number, given, orders):
    ...         (base,) = given
    ...         return [base**number * base.log() ** order for order in orders]
    >>> x = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    >>> value = Power()(x, torch.tensor([3.0], dtype=torch.float64))
    >>> value.item()
    9.0
    >>> value.backward()
    >>> round(x.grad.item(), 6)  # 9 log 3
    9.887511
    """

    @abstractmethod
    def derivatives(self, number: Tensor, given: tuple[Tensor, ...], orders: Sequence[int]) -> list[Tensor]:
        """Return derivatives in the number, without a graph.

        Parameters
        ----------
        number : Tensor of shape (rows,)
        given : tuple of Tensor of shape (rows,)
        orders : sequence of int
            Rising, 0 for the value itself.

        Returns
        -------
        list of Tensor of shape (rows,), one for each of the orders
        """

    def __call__(self, number: Tensor, *given: Tensor) -> Tensor:
        """Return the value in each row.

        Parameters
        ----------
        number : Tensor
        *given : Tensor
            Of any shapes that go together.
        """
        number, *rest = torch.broadcast_tensors(number, *given)  # type: ignore[no-untyped-call]
        answer = _answer.get()
        if answer is not None:
            return answer(self, number, tuple(rest))
        slopes_too = number.requires_grad and torch.is_grad_enabled()
        value: Tensor = _Value.apply(number, self, 0, slopes_too, *rest)[0]  # type: ignore[no-untyped-call]
        return value


@contextmanager
def answered_by(answer: _Answer) -> Iterator[None]:
    """Let ``answer(function, number, given)`` stand in for the row functions that are called meanwhile."""
    token = _answer.set(answer)
    try:
        yield
    finally:
        _answer.reset(token)


def given_by_columns(number: Tensor, columns: Sequence[Tensor]) -> Tensor:
    """Return the first of some columns as a function of a number, the others being its derivatives in that number.

    Derivatives beyond those given are zero.
    """
    value: Tensor = _Columns.apply(number, *columns)  # type: ignore[no-untyped-call]
    return value


class _Value(torch.autograd.Function):
    """A derivative of a row function, of any order, which is differentiable in the number."""

    @staticmethod
    def forward(
        number: Tensor, function: RowFunction, order: int, slopes_too: bool, *given: Tensor
    ) -> tuple[Tensor, Tensor]:
        orders = [order, order + 1] if slopes_too else [order]
        flat = tuple(part.reshape(-1) for part in given)
        value, *slope = function.derivatives(number.reshape(-1), flat, orders)
        slopes = slope[0].reshape(number.shape) if slopes_too else value.new_empty(0)
        return value.reshape(number.shape), slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        number, *ctx.rest = inputs[:4]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(number, output[1], *inputs[4:])

    @staticmethod
    def backward(ctx: Any, of_value: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        number, slope, *given = ctx.saved_tensors
        function, order, slopes_too = ctx.rest
        if not slopes_too or torch.is_grad_enabled():
            again = torch.is_grad_enabled()
            slope = _Value.apply(number, function, order + 1, again, *given)[0]  # type: ignore[no-untyped-call]
        return of_value * slope, None, None, None, *(None for _ in given)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], number: Tensor, function: RowFunction, order: int,
        slopes_too: bool, *given: Tensor,
    ) -> tuple[Any, Any]:  # fmt: skip
        rows = []
        for part, dim in zip((number, *given), (in_dims[0], *in_dims[4:]), strict=True):
            rows.append(part.unsqueeze(0) if dim is None else part.movedim(dim, 0))
        number, *given = torch.broadcast_tensors(*rows)  # type: ignore[no-untyped-call]
        value, slope = _Value.apply(number, function, order, slopes_too, *given)  # type: ignore[no-untyped-call]
        return (value, slope), (0, 0 if slopes_too else None)


class _Columns(torch.autograd.Function):
    """The first of some columns, of which each is the derivative of the one before it."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, *columns: Tensor) -> Tensor:
        ctx.save_for_backward(number, *columns)
        return columns[0].clone()

    @staticmethod
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor | None, ...]:
        number, _, *further = ctx.saved_tensors
        none = [None] * (1 + len(further))
        if not further:
            return torch.zeros_like(of_value), *none
        slope = _Columns.apply(number, *further)  # type: ignore[no-untyped-call]
        return of_value * slope, *none
