r"""A user's equation, written for one task, evaluated for many at once, with its derivatives.

There are three ways. Where every row of the result depends on its own row of X alone ("rows"), the rows of all tasks
are one long X and every constant one long vector: one call of the equation serves all tasks, and one backward pass
gives the whole Jacobian, because the sum of the results has that row's derivative at that row's constant. Where rows
see each other, as in a sum over time, tasks are mapped by ``torch.vmap`` ("vmap"), or taken one after the other
("loop"), and the Jacobian takes one more backward pass for each constant. Tasks stand on the last axis, so that every
operation on the constants runs along memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

__all__ = ["Equation", "EquationMode", "Observations"]

EquationMode = Literal["rows", "vmap", "loop"]


class Observations(NamedTuple):
    """Rows of many tasks, padded to the longest with a valid row of the same task; the tasks along the last axis.

    Attributes
    ----------
    X : Tensor of shape (rows * tasks, features)
        Row r of task t stands at r * tasks + t.
    y : Tensor of shape (rows, tasks)
    mask : Tensor of shape (rows, tasks)
        1 for a row, 0 for padding.
    full : bool
        Whether there is no padding, which saves a multiplication of every row.
    weight : Tensor of shape (rows, tasks) or None
        Above zero: the variance of a row's noise is divided by it. None for ones.
    """

    X: Tensor
    y: Tensor
    mask: Tensor
    full: bool = False
    weight: Tensor | None = None

    @classmethod
    def stack(cls, X: Tensor, y: Tensor, mask: Tensor, weight: Tensor | None = None) -> "Observations":
        """Build from X of shape (tasks, rows, features), y, mask and weight of shape (tasks, rows)."""
        # column by column in memory: an equation reads X[:, j]
        flat = X.permute(2, 1, 0).reshape(X.shape[2], -1)
        weight = None if weight is None else weight.T.contiguous()
        return cls(flat.T, y.T.contiguous(), mask.T.contiguous(), bool((mask == 1).all()), weight)

    def take(self, tasks: Tensor) -> "Observations":
        """Return those of the chosen tasks."""
        columns = self.X.T.reshape(-1, *self.y.shape)[:, :, tasks]
        X = columns.reshape(len(columns), -1).T
        weight = None if self.weight is None else self.weight[:, tasks]
        return Observations(X, self.y[:, tasks], self.mask[:, tasks], self.full, weight)

    def thin(self, most: int) -> "Observations":
        """Return at most so many rows of each task, evenly spread; padding must follow the rows of a task."""
        rows, tasks = self.y.shape
        if rows <= most:
            return self
        sizes = self.mask.sum(dim=0)
        step = torch.arange(most, dtype=sizes.dtype, device=sizes.device)[:, None]
        spread = torch.where(sizes > most, step * (sizes - 1) / max(1, most - 1), torch.minimum(step, sizes - 1))
        number = spread.round().long()  # (most, tasks)
        X = self.X.T.reshape(-1, rows, tasks)
        columns = X.gather(1, number.expand(len(X), -1, -1)).reshape(len(X), -1)
        mask = (step < sizes).to(self.mask)
        weight = None if self.weight is None else self.weight.gather(0, number)
        return Observations(columns.T, self.y.gather(0, number), mask, bool((mask == 1).all()), weight)

    def to(self, dtype: torch.dtype) -> "Observations":
        """Return the same in another floating-point type."""
        weight = None if self.weight is None else self.weight.to(dtype)
        return Observations(self.X.T.to(dtype).T, self.y.to(dtype), self.mask.to(dtype), self.full, weight)

    def masked(self, values: Tensor) -> Tensor:
        """Return values of shape (rows, tasks) with zeros for the padding."""
        return values if self.full else values * self.mask

    def weighed(self, values: Tensor) -> Tensor:
        """Return values of shape (rows, tasks) times the weights of the rows, with zeros for the padding."""
        return self.masked(values if self.weight is None else values * self.weight)

    def by_task(self) -> Tensor:
        """Return X with shape (tasks, rows, features)."""
        rows, tasks = self.y.shape
        return self.X.reshape(rows, tasks, -1).transpose(0, 1)


@dataclass(frozen=True)
class Equation:
    """An equation, the names of its constants, and the way it is evaluated for many tasks.

    Parameters
    ----------
    function : callable
        ``function(X, **constants)`` with X of shape (rows, features) returns (rows,) or (rows, 1).
    names : sequence of str
        Of the constants, in the order of every tensor of constants.
    mode : {"rows", "vmap", "loop"}
        See the module; "loop" is always right.
    """

    function: Callable[..., Tensor]
    names: Sequence[str]
    mode: EquationMode = "loop"

    def __call__(self, constants: Sequence[Tensor], X: Tensor) -> Tensor:
        """Evaluate one X of shape (rows, features) and check what comes back; the result has shape (rows,)."""
        try:
            value = self.function(X, **dict(zip(self.names, constants, strict=True)))
        except IndexError as error:
            raise ValueError(f"the equation reads a column that X does not have; X has {X.shape[1]}.") from error
        except (RuntimeError, TypeError) as error:
            if "in-place" in str(error) or "inplace" in str(error):
                raise ValueError(
                    "the equation changes a constant or X in place (as k *= 2 does); write it with new tensors (k = 2 "
                    "* k)."
                ) from error
            if "numpy" not in str(error):
                raise
            raise TypeError(
                "the equation uses numpy on its constants; write it with torch functions (torch.exp, torch.log, ...)."
            ) from error
        if not isinstance(value, Tensor):
            raise TypeError(
                f"the equation returned {type(value).__name__}; a tensor of shape ({len(X)},) is wanted, made with "
                "torch."
            )
        if value.shape == (len(X), 1):
            value = value[:, 0]
        if value.shape != (len(X),):
            raise ValueError(
                f"the equation returned shape {tuple(value.shape)} for {len(X)} rows; ({len(X)},) is wanted: one "
                "value a row of X."
            )
        if value.dtype != X.dtype:
            raise TypeError(
                f"the equation returned {value.dtype}; {X.dtype} is wanted: make tensors inside it with dtype=X.dtype."
            )
        return value

    def values(self, theta: Tensor, observations: Observations) -> Tensor:
        """Curves of all tasks.

        Parameters
        ----------
        theta : Tensor of shape (constants, tasks)
        observations : Observations

        Returns
        -------
        Tensor of shape (rows, tasks)
        """
        rows, tasks = observations.y.shape
        if self.mode == "rows":
            return self(_for_rows(theta, rows), observations.X).reshape(rows, tasks)
        X = observations.by_task()
        if self.mode == "vmap":
            result: Tensor = vmap(lambda own, X_own: self(own.unbind(0), X_own), in_dims=(1, 0))(theta, X)
            return result.T
        columns = []
        for t in range(tasks):
            own = torch.nonzero(observations.mask[:, t])[:, 0]
            own = own if len(own) else own.new_zeros(1)
            value = self(theta[:, t].unbind(0), X[t, own])
            columns.append(value if len(own) == rows else value.new_zeros(rows).index_copy(0, own, value))
        return torch.stack(columns, dim=1)

    def values_and_slopes(
        self, theta: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Curves of all tasks and their derivatives in every constant.

        Parameters
        ----------
        theta : Tensor of shape (constants, tasks)
        observations : Observations
        differentiable : bool, default=False
            Whether both results can be differentiated again, in `theta` and in whatever it was made of.

        Returns
        -------
        values : Tensor of shape (rows, tasks)
        slopes : list of Tensor of shape (rows, tasks), one for each constant
        """
        rows, tasks = observations.y.shape
        with torch.enable_grad():
            if not differentiable or not theta.requires_grad:
                theta = theta.detach().requires_grad_()
            if self.mode == "rows":
                constants = _for_rows(theta if differentiable else theta.detach(), rows)
                constants = constants if differentiable else [c.requires_grad_() for c in constants]
                values = self(constants, observations.X)
                gradients = _gradients(values.sum(), constants, differentiable)
                if differentiable:
                    _silence_flat_rows(constants, gradients)
                else:
                    values = values.detach()
                return values.reshape(rows, tasks), [g.reshape(rows, tasks) for g in gradients]
            values = self.values(theta, observations)
            # the first backward pass is linear in v, and its derivative in v is the Jacobian, one column a pass
            v = torch.zeros_like(values, requires_grad=True)
            (pulled,) = _gradients(values, [theta], True, grad_outputs=v)
            slopes = []
            for k in range(len(theta)):
                if not pulled.requires_grad:
                    slopes.append(torch.zeros_like(values))
                    continue
                (slope,) = torch.autograd.grad(
                    pulled[k].sum(), v, create_graph=differentiable, retain_graph=True, materialize_grads=True
                )
                slopes.append(slope)
            return values if differentiable else values.detach(), slopes


def _for_rows(theta: Tensor, rows: int) -> list[Tensor]:
    return [value.expand(rows, -1).reshape(-1) for value in theta]


def _silence_flat_rows(constants: list[Tensor], gradients: tuple[Tensor, ...]) -> None:
    """Take a NaN second derivative as zero in rows where no constant moves the curve: (k t)^n at t = 0 is one."""
    flat = torch.stack([gradient.detach() == 0 for gradient in gradients]).all(dim=0)
    if bool(flat.any()):
        for constant in constants:
            if constant.requires_grad:
                constant.register_hook(lambda g: torch.where(flat & torch.isnan(g), 0.0, g))  # type: ignore[no-untyped-call]


def _gradients(
    value: Tensor, inputs: list[Tensor], create_graph: bool, grad_outputs: Tensor | None = None
) -> tuple[Tensor, ...]:
    if not value.requires_grad:  # a guard in the equation returned a plain tensor
        return tuple(torch.zeros_like(own) for own in inputs)
    return torch.autograd.grad(
        value, inputs, grad_outputs=grad_outputs, create_graph=create_graph, materialize_grads=True
    )
